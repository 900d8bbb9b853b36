#!/usr/bin/env bash
# slurm/credentials.sh FILE: the registry's key from the environment into enroot's file; nothing without a key.
set -euo pipefail +C +o posix
unset CDPATH BASH_ENV POSIXLY_CORRECT GREP_OPTIONS && shopt -u expand_aliases # a user's own would change what follows

file=${1:?usage: slurm/credentials.sh FILE}
[[ -n ${NGC_API_KEY:-} ]] || exit 0
umask 077
# The user's name there is this very word.
# shellcheck disable=SC2016
printf 'machine nvcr.io login $oauthtoken password %s\n' "$NGC_API_KEY" >"$file"
