#!/bin/sh
# Builds llama.cpp for this processor from the source that the PyPI package llama-cpp-python carries: install_llamacpp.sh DIR [VERSION].
# Needs pip, cmake, ninja, a C++ compiler. Prints the folder of its programs; the second time only that. Some ten minutes on two cores.
set -eu
dir=${1:?usage: install_llamacpp.sh DIR [VERSION]} version=${2:-}
package=llama-cpp-python${version:+==$version}
programs="llama-bench llama-quantize llama-completion llama-perplexity"

mkdir -p "$dir"
cd "$dir"
if ! ls llama_cpp_python-*.tar.gz >/dev/null 2>&1; then
    python3 -m pip download -q --no-deps --no-binary :all: -d . "$package" >&2
fi
archive=$(ls llama_cpp_python-*.tar.gz | sort -V | tail -n 1)
source=${archive%.tar.gz}/vendor/llama.cpp
[ -d "$source" ] || tar xf "$archive"
bin=$PWD/$source/build/bin
if [ ! -x "$bin/llama-perplexity" ]; then
    cmake -S "$source" -B "$source/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_EXAMPLES=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF >&2
    # shellcheck disable=SC2086
    ninja -C "$source/build" $programs >&2
fi
echo "$bin"
