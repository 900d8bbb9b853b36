#!/usr/bin/env bash
# slurm/canary.sh FILE TOKEN: does this node see the shared folder, the image, the mounts and its GPUs? One task a node.
set -euo pipefail +C +o posix
unset CDPATH BASH_ENV POSIXLY_CORRECT GREP_OPTIONS && shopt -u expand_aliases # a user's own would change what follows

file=${1:?usage: slurm/canary.sh FILE TOKEN}
token=${2:?usage: slurm/canary.sh FILE TOKEN}
: "${GPUS:?GPUs a node, 0 for none}"

fail() {
    printf 'error: node %s: %s\n' "${SLURMD_NODENAME:-$(hostname)}" "$1" >&2
    exit 1
}

[[ -r $file && $(<"$file") == "$token" ]] ||
    fail "does not see $file as the first node wrote it; the workspace must be on a file system that all nodes share"
if [[ ${CONTAINER:-} == /* && ! -r $CONTAINER ]]; then
    fail "cannot read the image $CONTAINER; put it on a shared file system"
fi
IFS=, read -ra mounts <<<"${MOUNTS:-}"
for mount in "${mounts[@]}"; do
    [[ -e ${mount%%:*} ]] || fail "has no ${mount%%:*}, which MOUNTS names"
done
if ((GPUS > 0)); then
    command -v nvidia-smi >/dev/null || fail "has no nvidia-smi, but $GPUS GPUs are asked for"
    found=$(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l)
    ((found >= GPUS)) || fail "has $found GPUs, $GPUS are asked for"
fi
