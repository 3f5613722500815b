#!/bin/sh
# A full run of the fuzz targets: sh tests/fuzz/full.sh [TARGET...]. Each (fuzz_gguf, ...; default all) is built with the debug preset and tries
# AQ_FUZZ_RUNS inputs (default 1000000), from its seeds and from what earlier runs found (kept in build/fuzz/full/TARGET). A row of
# tests/fuzz/ledger.tsv says what was tried: target, date, commit, executions, findings. AQ_FUZZ_BUILD: another build folder, taken as it is.
# Exit 1 if something was found; the input is then build/fuzz/full/TARGET-*, the log beside it.
# Freed memory is kept from use for 16 MiB of further frees, not 256: an input's own blocks all stay within it, and an input takes 3/4 of the time.
set -u
cd "$(dirname "$0")/../.." || exit 1
runs=${AQ_FUZZ_RUNS:-1000000}
build=${AQ_FUZZ_BUILD:-}
if [ -z "$build" ]; then
    build=build/debug
    cmake --preset debug >/dev/null && cmake --build --preset debug >/dev/null || { echo "the debug build failed"; exit 1; }
fi
work=build/fuzz/full ledger=tests/fuzz/ledger.tsv found=0
mkdir -p "$work"
[ $# -gt 0 ] || set -- $(cd "$build" && ls -1 fuzz_* | grep -v '\.')
commit=${AQ_FUZZ_COMMIT:-$(git rev-parse --short HEAD)}
export ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=0:quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1
for target; do
    seeds=tests/fuzz/corpus/${target#fuzz_}
    [ -d "$seeds" ] || seeds=
    mkdir -p "$work/$target"
    "$build/$target" -runs="$runs" -rss_limit_mb=4096 -timeout=20 -print_final_stats=1 -artifact_prefix="$work/$target-" "$work/$target" $seeds \
        </dev/null >"$work/$target.log" 2>&1
    status=$?
    tried=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log" | tail -n 1)
    if [ $status -eq 0 ]; then findings=none; else findings=$(sed -n 's/^SUMMARY: //p' "$work/$target.log" | tail -n 1); found=1; fi
    printf '%s\t%s\t%s\t%s\t%s\n' "$target" "$(date -u +%Y-%m-%d)" "$commit" "${tried:-0}" "${findings:-exit $status}" >>"$ledger"
    echo "$target: ${tried:-0} inputs tried, found: ${findings:-exit $status}"
done
echo "in all, by the ledger:"
awk -F'\t' 'NR > 1 { n[$1] += $4 } END { for (t in n) printf "%-20s %d\n", t, n[t] }' "$ledger" | sort
[ $found -eq 0 ]
