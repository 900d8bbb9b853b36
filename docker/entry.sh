#!/usr/bin/env bash
# docker/entry.sh COMMAND [ARG…]: the way into our images, the same under docker, podman and pyxis.
#
# What the user's .env says wins over what the image's own ENV says, a user id without a home gets one, and the
# command then takes this process's place, so that signals and exit codes are its own.
set -euo pipefail +C +o posix
unset CDPATH BASH_ENV POSIXLY_CORRECT GREP_OPTIONS && shopt -u expand_aliases # a user's own would change what follows

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Caches (the hub's, torch's, Triton's) go where the user may write; in a container of one's own /tmp is private.
if [[ ! -w ${HOME:-/nowhere} ]]; then
    HOME=/tmp/home-$(id -u)
    mkdir -m 700 "$HOME" 2>/dev/null || true
    [[ -O $HOME ]] || HOME=$(mktemp -d)
fi
# Python asks for a user's name, and a mapped id has none in the image's /etc/passwd.
USER=${USER:-$(id -un 2>/dev/null || echo "user$(id -u)")}
LOGNAME=${LOGNAME:-$USER}
export HOME USER LOGNAME PYTHONUTF8=1

# `uv run` would bring NeMo-RL's environment up to date first; who may not write there uses it as it was built.
if [[ -d /opt/nemo_rl_venv && ! -w /opt/nemo_rl_venv ]]; then
    export UV_NO_SYNC=${UV_NO_SYNC:-1} UV_CACHE_DIR=${UV_CACHE_DIR:-$HOME/.cache/uv}
fi

# The packages are the image's, the code is the run's: made for each other, or refused.
if [[ -n ${OMR_LOCKS:-} && -n ${OMR_IMAGE_LOCKS:-} && $OMR_LOCKS != "$OMR_IMAGE_LOCKS" ]]; then
    printf 'error: the image has other packages than the code of this run is made for; %s\n' \
        'build it anew from that code (make image, make sqsh), or set CONTAINER to the image of then' >&2
    exit 1
fi

# A Slurm job runs the code of its run or of its checkout, which is mounted (OMR_ROOT), not the image's copy of it.
[[ -z ${OMR_ROOT:-} ]] || export PYTHONPATH=$OMR_ROOT${PYTHONPATH:+:$PYTHONPATH}

(($#)) || set -- bash
exec "$root/venv/bin/python" -P -m omr.settings exec "$@"
