#!/usr/bin/env bash
# slurm/torchrun.sh ADDRESS PORT SCRIPT [ARG…]: this node's part of a job of several processes; one task a node.
set -euo pipefail +C +o posix
unset CDPATH BASH_ENV POSIXLY_CORRECT GREP_OPTIONS && shopt -u expand_aliases # a user's own would change what follows

address=${1:?usage: slurm/torchrun.sh ADDRESS PORT SCRIPT [ARG…]}
port=${2:?usage: slurm/torchrun.sh ADDRESS PORT SCRIPT [ARG…]}
shift 2
: "${SLURM_NODEID:?place of this node in the step}"
: "${SLURM_JOB_NUM_NODES:?nodes of the job}"
: "${GPUS:?GPUs a node, 0 for none}"

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=${OMR_VENV:-$root/.venv}/bin/python
if [[ -n ${CONTAINER:-} ]]; then
    python=${OMR_IMAGE_PYTHON:-/opt/omr/venv/bin/python}
else
    "$root/docker/venv" train
fi
exec "$python" -m torch.distributed.run \
    "--nnodes=$SLURM_JOB_NUM_NODES" "--nproc-per-node=$((GPUS > 0 ? GPUS : 1))" "--node-rank=$SLURM_NODEID" \
    "--master-addr=$address" "--master-port=$port" "$@"
