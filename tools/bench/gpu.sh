#!/usr/bin/env bash
# The benchmarks of one GPU, in less than ten minutes; needs CUDA and an installed snag_dist, and nothing of a network.
# Writes tools/bench/results/gpu.json.
set -eu
cd "$(dirname "$0")/../.."
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader || true
exec python tools/bench/run.py gpu "$@"
