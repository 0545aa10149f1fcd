#!/usr/bin/env bash
# Format, lint, types and the direction of imports; all of them run, and any failure fails the whole.
set -u
cd "$(dirname "$0")/.."
status=0
run() { echo "== $*"; "$@" || status=1; }
run ruff format --check .
run ruff check .
run pyright
run lint-imports
exit $status
