#!/bin/sh
# Builds and runs the measurements of design risks (a) and (c). usage: sh bench/dots/run.sh [a|c]; needs build/release (cmake --preset release).
set -e
cd "$(dirname "$0")/../.."
lib=build/release
out=$lib/bench-dots
mkdir -p $out
which=${1:-a}
cc=${CC:-cc}
$cc -O3 -march=native -I. -c bench/dots/hand.c -o $out/hand.o
$cc -O3 -march=native -I. -c bench/dots/hand_blocks.c -o $out/hand_blocks.o
$cc -std=gnu11 -O2 -I. bench/dots/risk_$which.c $out/hand.o $out/hand_blocks.o $lib/libaq_codegen.a $lib/libaq_runtime.a $lib/libaq_ir.a -o $out/risk_$which -lcmocka -lm -ldl -lpthread
grep -m1 "model name" /proc/cpuinfo
$out/risk_$which bench/dots
