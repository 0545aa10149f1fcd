#!/usr/bin/env bash
# The benchmarks of one GPU, in less than ten minutes, or they are ended; needs CUDA and an installed snag_dist, and
# nothing of a network. Writes tools/bench/results/gpu.json. Seconds of each part are printed when it is done.
# Uses the active environment, or the .venv that make has made.
set -eu
cd "$(dirname "$0")/../.."
limit=600
environment=${VIRTUAL_ENV:-${CONDA_PREFIX:-.venv}}
if [ -x "$environment/bin/python" ]; then python=$environment/bin/python; else python=python; fi
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader || true
fi
status=0
timeout --kill-after=10 "$limit" "$python" tools/bench/run.py gpu "$@" || status=$?
echo "gpu: $SECONDS s of $limit" >&2
[ "$status" -ne 124 ] || echo "gpu: not done in $limit s, ended; the parts above were, and nothing was recorded" >&2
exit "$status"
