#!/bin/sh
# From a bare Debian 12 to an answer: sh models/quickstart.sh "What is the capital of France?"
# Installs what is missing, builds the program, fetches SmolLM2-135M, answers; what is done already is not done again. The answer
# alone goes to standard output, progress to standard error, the chatter of the tools to build/quickstart.log.
set -eu
if [ $# -lt 1 ]; then
    echo "usage: sh models/quickstart.sh PROMPT [options of aquila run]" >&2
    exit 2
fi
here=$(pwd)
cd "$(dirname "$0")/.."
mkdir -p build
AQ_LOG=$(pwd)/build/quickstart.log
export AQ_LOG
failed() {
    echo "quickstart: $1 failed; the end of $AQ_LOG:" >&2
    tail -n 15 "$AQ_LOG" >&2
    exit 1
}

# A finished build answers at once; Ninja rebuilds it only where a source is newer.
if [ ! -x build/release/aquila ] || ! cmake --build --preset release >>"$AQ_LOG" 2>&1; then
    sh models/install.sh build fetch || failed "installing"
    echo "building build/release/aquila" >&2
    cmake --preset release >>"$AQ_LOG" 2>&1 || failed "configuring"
    cmake --build --preset release >>"$AQ_LOG" 2>&1 || failed "building"
fi
model=$(sh models/fetch_smollm2.sh) || failed "fetching the model"

program=$(pwd)/build/release/aquila
prompt=$1
shift
cd "$here"
# Greedy: so small a model answers best when nothing is drawn. Options of the caller come later and win.
exec "$program" run "$model" "$prompt" --temperature 0 "$@"
