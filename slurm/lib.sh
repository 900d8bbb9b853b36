# How a step starts on the nodes of an allocation; sourced by the sbatch files.
# shellcheck shell=bash

# The checkout that the job was submitted from, whichever one its environment was made for.
export PYTHONPATH=$OMR_ROOT
# Files are UTF-8 in every locale.
export PYTHONUTF8=1

# Where the image keeps the environment of this toolkit's own stages.
: "${OMR_IMAGE_PYTHON:=/opt/omr/venv/bin/python}"
: "${OMR_IMAGE_ENTRY:=/opt/omr/docker/entry.sh}"

omr::fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

# The address under which the other nodes reach this one: what Slurm itself uses for it, unless that is loopback.
omr::address() {
    local name address
    name=$(scontrol show node --oneliner "$SLURMD_NODENAME" | sed -n 's/.* NodeAddr=\([^ ]*\) .*/\1/p')
    address=$(getent ahostsv4 "${name:-$(hostname)}" | awk 'NR == 1 { print $1 }')
    if [[ -z $address || $address == 127.* ]]; then
        address=$(hostname -I | awk '{ print $1 }')
    fi
    printf '%s' "${address:-127.0.0.1}"
}

# A port of this attempt's own, so that what an earlier one left behind does not answer in its place.
omr::port() {
    local -r first=$1
    printf '%s' $((first + (SLURM_JOB_ID * 7 + ${SLURM_RESTART_COUNT:-0}) % 4000))
}

# STEP: one task on every node, in the container if one is set. A task that fails ends the others.
omr::step() {
    STEP=(srun "--nodes=$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 --cpu-bind=none)
    # A step would get one core of the allocation's many otherwise.
    STEP+=("--cpus-per-task=${SLURM_CPUS_ON_NODE:-1}")
    [[ ${GPUS:-0} == 0 ]] || STEP+=("--gpus-per-node=$GPUS")
    [[ -z ${CONTAINER:-} ]] || omr::container
}

# pyxis: no home, every path at its own place, and the environment by name, because the image's own values win
# otherwise. What runs goes through the image's own door, as under docker.
omr::container() {
    STEP+=("--container-image=$CONTAINER" "--container-mounts=${CONTAINER_MOUNTS:?what the container sees}")
    STEP+=(--no-container-mount-home --container-writable "--container-workdir=${CONTAINER_WORKDIR:-$OMR_ROOT}")
    STEP+=("--container-env=${CONTAINER_ENV:?the names of what the container gets}" "$OMR_IMAGE_ENTRY")
}

# STEP and COMMAND: a script of bin/ on the first node, in the image's environment or in this machine's own.
omr::stage() {
    local -r tier=$1 script=$2
    SLURM_JOB_NUM_NODES=1 omr::step
    COMMAND=(env RUNNER=host "$OMR_ROOT/docker/run" "$tier" "$script")
    [[ -z ${CONTAINER:-} ]] || COMMAND=(env RUNNER=host "$OMR_IMAGE_PYTHON" "$OMR_ROOT/$script")
}

# COMMAND: the one-box engine, by torchrun where there is more than one process.
omr::trl() {
    local -r script=$OMR_ROOT/bin/train.py processes=$((SLURM_JOB_NUM_NODES * (GPUS > 0 ? GPUS : 1)))
    COMMAND=("$OMR_ROOT/slurm/torchrun.sh" "$(omr::address)" "$(omr::port 24000)" "$script")
    ((processes > 1)) || omr::stage train bin/train.py
}

# COMMAND: NeMo-RL under Ray. One srun starts Ray on all nodes, runs the driver on the first and stops Ray.
omr::nemo_rl() {
    CONTAINER_WORKDIR=$NEMO_RL
    COMMAND=("$OMR_ROOT/slurm/ray.sh" "$(omr::address)" "$(omr::port 20000)")
    COMMAND+=(uv run --no-sync python "$OMR_ROOT/omr/training/nemo_rl/driver.py" --config "$RUN_DIR/nemo_rl.yaml")
}
