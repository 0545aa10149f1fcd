#!/usr/bin/env bash
# All tests, in two processes side by side: those that share one session of Ray, and the others, of which some start
# clusters of their own. For a quick look: python -m pytest -m "not ray and not own_ray"
set -u
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
status=0
python -m pytest -m "not ray" >"$folder/others" 2>&1 &
others=$!
python -m pytest -m ray 2>&1 | tee "$folder/ray"
[ "${PIPESTATUS[0]}" -eq 0 ] || status=1
wait "$others" || status=1
cat "$folder/others"
# Once more at the end, where it is looked for.
grep -hE "^(FAILED|ERROR)|^[0-9]+ (passed|failed)" "$folder/ray" "$folder/others"
exit $status
