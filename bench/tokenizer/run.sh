#!/bin/sh
# run.sh TOKENIZER-FOLDER TEXT...: builds bench.c (release flags) and compares; PYTHON names an interpreter with tiktoken and tokenizers.
set -e
here=$(dirname "$0"); root=$here/../..
out=$(mktemp -d); trap 'rm -rf "$out"' EXIT
cc -O3 -I"$root" -o "$out/bench" "$here/bench.c" "$root"/frontend/tokenizer/*.c "$root"/frontend/import/json.c "$root"/frontend/import/read.c \
  "$root"/ir/*.c -lcjson -lutf8proc -lpcre2-8 -lxxhash -lm
"${PYTHON:-python3}" "$here/compare.py" "$out/bench" "$@"
