#!/usr/bin/env bash
# slurm/probe.sh FOLDER TOKEN: what `make doctor ASK=1` asks a compute node. It sees the workspace as the login node
# does (slurm/canary.sh), can write there, and says what its clock shows.
set -euo pipefail +C +o posix
unset CDPATH BASH_ENV POSIXLY_CORRECT GREP_OPTIONS && shopt -u expand_aliases # a user's own would change what follows

folder=${1:?usage: slurm/probe.sh FOLDER TOKEN}
token=${2:?usage: slurm/probe.sh FOLDER TOKEN}
name=${SLURMD_NODENAME:-$(hostname)}

"$(dirname -- "${BASH_SOURCE[0]}")/canary.sh" "$folder/question" "$token"
printf '%s\n' "$token" >"$folder/answer" || {
    printf 'error: node %s: cannot write to %s\n' "$name" "$folder" >&2
    exit 1
}
printf 'node %s %s\n' "$name" "$(date +%s.%N)"
