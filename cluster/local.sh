#!/usr/bin/env bash
# A Ray head on this machine, with token authentication, that jobs can be submitted to. Ctrl-C ends it and its workers.
#
#   cluster/local.sh                       # terminal 1
#   source cluster/local.env               # terminal 2: address and token
#   ray job submit --working-dir . -- python jobs/train.py --recipe jobs/recipes/world.toml \
#       --set store="$PWD/stores/world" --set runs="$PWD/runs"
#
# Options of `ray start` may follow its name: cluster/local.sh --num-cpus=2 --port=6380
set -euo pipefail
cd "$(dirname "$0")"
port="${RAY_DASHBOARD_PORT:-8265}"
umask 077
token="$(python -c 'import secrets; print(secrets.token_hex(32))')"
cat > local.env <<EOF
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN=$token
export RAY_API_SERVER_ADDRESS=http://127.0.0.1:$port
EOF
trap 'rm -f local.env' EXIT
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$token"
# `ray job stop` ends a job 3 s after its SIGTERM; a checkpoint may take longer.
export RAY_JOB_STOP_WAIT_TIME_S=120
# All of Ray listens on 127.0.0.1 alone, as it does on macOS.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
# Port 0 lets the agent that takes jobs find a free one: another Ray of this machine may hold the usual one.
ray start --head --block --dashboard-host=127.0.0.1 --dashboard-port="$port" --dashboard-agent-listen-port=0 "$@"
