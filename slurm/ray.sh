#!/usr/bin/env bash
# slurm/ray.sh ADDRESS PORT COMMAND [ARG…]: this node's part of a Ray cluster; one task a node, COMMAND on the first.
#
# Ray runs code for whoever reaches its ports: a token of this attempt's own is asked for, and the dashboard is off.
set -euo pipefail +C +o posix
unset CDPATH BASH_ENV POSIXLY_CORRECT GREP_OPTIONS && shopt -u expand_aliases # a user's own would change what follows

address=${1:?usage: slurm/ray.sh ADDRESS PORT COMMAND [ARG…]}
port=${2:?usage: slurm/ray.sh ADDRESS PORT COMMAND [ARG…]}
shift 2
: "${SLURM_JOB_ID:?the job}"
: "${SLURM_JOB_NUM_NODES:?nodes of the job}"
: "${SLURM_NODEID:?place of this node in the step}"
: "${RAY_AUTH_TOKEN_PATH:?the file with the token of this attempt}"
: "${GPUS:?GPUs a node, 0 for none}"

export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
# A folder of this attempt's own, the same on every node: what another attempt or another user left is not seen.
# Ray makes socket paths below it, which must stay short.
export RAY_TMPDIR=${RAY_TMPDIR:-/tmp}/omr-ray-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
mkdir -p "${RAY_TMPDIR%/*}"
mkdir -m 700 "$RAY_TMPDIR" 2>/dev/null || true # another task of this attempt's, where nodes share it
# Made by another user beforehand, it would be theirs to read. Gone again is no fault: that other task has ended.
if [[ -e $RAY_TMPDIR && ! -O $RAY_TMPDIR ]]; then
    printf 'error: %s belongs to another user; remove it, or set RAY_TMPDIR to a folder of your own\n' "$RAY_TMPDIR" >&2
    exit 1
fi
trap 'rm -rf "$RAY_TMPDIR"' EXIT
# Many nodes pull their first files at once.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-900}
export RAY_raylet_start_wait_time_s=${RAY_raylet_start_wait_time_s:-300}

ray=(ray)
if command -v uv >/dev/null && [[ -n ${NEMO_RL:-} && -d $NEMO_RL ]]; then
    cd "$NEMO_RL"
    ray=(uv run --no-sync ray)
fi
start=("--num-gpus=$GPUS" --disable-usage-stats)
# Only the node that has it may be told about the dashboard; the others' start would fail.
((SLURM_NODEID > 0)) || start+=(--include-dashboard=false)
"${ray[@]}" symmetric-run "--address=$address:$port" "--min-nodes=$SLURM_JOB_NUM_NODES" "${start[@]}" -- "$@"

# A node whose Ray fails to start ends with code 0, and the first would wait for it in vain.
if ((SLURM_NODEID > 0)) && (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then
    printf 'error: node %s left the Ray cluster while it runs\n' "${SLURMD_NODENAME:-$(hostname)}" >&2
    exit 1
fi
