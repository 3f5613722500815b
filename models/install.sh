#!/bin/sh
# Installs what is missing of models/packages.txt: install.sh KIND... (build, fetch, test). Says nothing where nothing is missing.
# Chatter goes to AQ_LOG (default: standard error).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
log=${AQ_LOG:-/dev/stderr}

missing=
for kind in "$@"; do
    while read -r what package probe; do
        [ "$what" = "$kind" ] || continue
        if [ "$probe" = - ]; then
            dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
        else
            command -v "$probe" >/dev/null 2>&1 || missing="$missing $package"
        fi
    done <"$root/models/packages.txt"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "missing packages, and neither root nor sudo to install them: apt-get install$missing" >&2
        exit 4
    fi
    as_root="sudo -n"
    sudo -n true 2>/dev/null || as_root=sudo
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
if ! { $as_root apt-get -q update && $as_root apt-get -q install -y --no-install-recommends $missing; } >>"$log" 2>&1 </dev/null; then
    echo "apt-get could not install:$missing (see $log)" >&2
    exit 4
fi
