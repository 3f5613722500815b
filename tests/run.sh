#!/bin/sh
# Runs every test: sh tests/run.sh. Installs what is missing (root or sudo), builds debug with the address and undefined-behaviour
# sanitizers, then: ctest, the fuzz targets (their seeds, then AQ_FUZZ_SECONDS of search each, 20 by default), the checks of
# tests/tidy, the release program, the team under the thread sanitizer. The last line is "N passed, N failed"; exit 1 if one failed.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$(pwd)
seconds=${AQ_FUZZ_SECONDS:-20}
mkdir -p build
AQ_LOG=$root/build/tests.log
: >"$AQ_LOG"
export AQ_LOG
passed=0 failed=0 bad=

pass() { passed=$((passed + 1)); }
fail() { # NAME [FILE to show the end of]
    failed=$((failed + 1))
    bad="$bad $1"
    echo "FAILED: $1"
    if [ $# -gt 1 ]; then tail -n 30 "$2"; fi
}
finish() {
    [ -z "$bad" ] || echo "failed:$bad"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}
section() { echo "== $1"; }

section "install"
if ! sh models/install.sh build fetch test; then
    fail install "$AQ_LOG"
    finish
fi

# The real model, where the network gives it; without it the tests that need it say so and pass.
if [ -z "${AQ_TEST_MODEL:-}" ]; then
    if AQ_TEST_MODEL=$(sh models/fetch_smollm2.sh 2>>"$AQ_LOG"); then
        export AQ_TEST_MODEL
    else
        unset AQ_TEST_MODEL
        echo "no model to be had: the tests on real weights are left out"
    fi
fi

build() { # PRESET [TARGET...]
    preset=$1
    shift
    if cmake --preset "$preset" >build/"$preset".log 2>&1 &&
       cmake --build --preset "$preset" ${1:+--target "$@"} >>build/"$preset".log 2>&1; then
        return 0
    fi
    fail "build-$preset" build/"$preset".log
    return 1
}
# Counts one ctest run: its summary line is "P% tests passed, F tests failed out of N".
count() { # NAME LOG
    total=$(sed -n 's/.*tests passed, .* out of \([0-9]*\)$/\1/p' "$2")
    broken=$(sed -n 's/.*tests passed, \([0-9]*\) tests* failed out of .*/\1/p' "$2")
    if [ -z "$total" ]; then
        grep -q 'No tests were found' "$2" || fail "$1" "$2"
        return
    fi
    passed=$((passed + total - broken))
    if [ "$broken" -ne 0 ]; then
        failed=$((failed + broken))
        grep -v -E '^ *[0-9]+/[0-9]+ Test .* Passed|^ +Start ' "$2" | tail -n 200
        bad="$bad $(sed -n 's/^\t *[0-9]* - \(.*\) (.*$/\1/p' "$2" | tr '\n' ' ')"
    fi
    sed -n '/tests passed/p;/Total Test time/p' "$2"
}

section "debug build (address and undefined-behaviour sanitizers)"
if build debug; then
    section "ctest"
    ctest --test-dir build/debug -j "$(nproc)" --output-on-failure >build/ctest.log 2>&1
    count ctest build/ctest.log

    section "fuzz (${seconds} s each)"
    rm -rf build/fuzz
    mkdir -p build/fuzz
    # One target: replay its seeds, then search, from the same random numbers each time (tests/fuzz/full.sh takes others). What it finds and its log
    # stay in build/fuzz; a small finding is printed too, so that a log alone is enough to have it again.
    cat >build/fuzz/one.sh <<'EOS'
name=$1 seconds=$2 work=build/fuzz/$1
seeds=tests/fuzz/corpus/${name#fuzz_}
mkdir -p "$work/found"
export ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1
if { [ ! -d "$seeds" ] || build/debug/"$name" -rss_limit_mb=4096 -timeout=20 "$seeds"/* </dev/null; } >"$work/log" 2>&1 &&
   build/debug/"$name" -rss_limit_mb=4096 -timeout=20 -seed=1 -max_total_time="$seconds" -print_final_stats=1 \
       -artifact_prefix="$work/" "$work/found" $([ -d "$seeds" ] && echo "$seeds") </dev/null >>"$work/log" 2>&1; then
    echo passed >"$work/verdict"
else
    for found in "$work"/crash-* "$work"/timeout-* "$work"/oom-* "$work"/leak-*; do
        if [ -f "$found" ] && [ "$(wc -c <"$found")" -le 4096 ]; then echo "$found, base64:" && base64 -w 0 "$found" && echo; fi
    done >>"$work/log"
fi
EOS
    targets=$(cd build/debug && ls -1 fuzz_* 2>/dev/null | grep -v '\.' || true)
    printf '%s\n' $targets | xargs -r -P 2 -I{} sh build/fuzz/one.sh {} "$seconds"
    for target in $targets; do
        if [ -f build/fuzz/"$target"/verdict ]; then
            pass
            echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' build/fuzz/"$target"/log | tail -n 1) inputs tried"
        else
            fail "$target" build/fuzz/"$target"/log
        fi
    done
fi

section "tidy"
python3 tests/tidy/tidy.py >build/tidy.log 2>&1
cat build/tidy.log
passed=$((passed + $(grep -c '^ok ' build/tidy.log)))
broken=$(grep -c '^not ok ' build/tidy.log)
failed=$((failed + broken))
[ "$broken" -eq 0 ] || bad="$bad $(sed -n 's/^not ok \([^:]*\).*/tidy:\1/p' build/tidy.log | tr '\n' ' ')"
grep -q '^1\.\.' build/tidy.log || fail tidy

section "release build${AQ_TEST_MODEL:+, real model}"
if build release && [ -x build/release/aquila ]; then
    for script in tests/*/test_*.py; do
        name=release-$(basename "$script" .py)
        if AQ_PROGRAM=build/release/aquila python3 "$script" >build/"$name".log 2>&1; then
            pass
            grep -v -E '^(-*|OK.*|Ran .*|)$' build/"$name".log
        else
            fail "$name" build/"$name".log
        fi
    done
    if [ -n "${AQ_TEST_MODEL:-}" ]; then
        if build/release/aquila run "$AQ_TEST_MODEL" "What is the capital of France?" --temperature 0 -v >build/smoke.log 2>&1 &&
           grep -q Paris build/smoke.log; then pass; cat build/smoke.log
        else fail release-answer build/smoke.log; fi
    fi
fi

if ls tests/runtime/test_team.c >/dev/null 2>&1; then
    section "thread sanitizer"
    if build thread test_runtime_team; then
        ctest --test-dir build/thread -R '^runtime_team$' --output-on-failure >build/thread-ctest.log 2>&1
        count thread build/thread-ctest.log
    fi
fi
finish
