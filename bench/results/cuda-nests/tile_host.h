/* tile_host.h: part 1 of tile.cuh in plain C++: one fiber a CUDA thread, threads in random order, shared memory poisoned with NaN before each block.
   cp.async happens at once or only at its wait, by a coin, so a missing wait and a refill that comes too early both show.
   Checks indexing, barriers, masks and maths; not the hardware (timing, bank conflicts, the memory model). x86-64 Linux, one block at a time. */
#ifndef AQ_BENCH_RESULTS_CUDA_NESTS_TILE_HOST_H
#define AQ_BENCH_RESULTS_CUDA_NESTS_TILE_HOST_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <functional>
#include <vector>
#define AQ_KERNEL(threads) static void
#define AQ_FN static inline
#define AQ_SHARED(name) unsigned char *name = host_shared
#define AQ_UNROLL
#define AQ_ROLLED

enum { HOST_STACK = 256 << 10, HOST_SHARED = 256 << 10, HOST_THREADS = 1024 };
struct host_copy { void *to; const void *from; int group; };
struct host_gate { int arrived; std::vector<int> waiting; };
struct host_thread { ucontext_t context; char *stack; std::vector<host_copy> copies; int groups; bool done; };
alignas(128) static unsigned char host_shared[HOST_SHARED];
static host_thread host_threads[HOST_THREADS];
static ucontext_t host_main;
static std::vector<int> host_ready;
static host_gate host_block, host_warp[HOST_THREADS / 32];
static unsigned char host_slot[HOST_THREADS][64];
static int host_now, host_count, host_tile[2];
static long host_conflicts;      /* ldmatrix phases whose eight rows do not lie in eight different 16-byte columns of the banks */
static uint64_t host_seed = 1;
static std::function<void()> host_body;

static uint32_t host_random() { host_seed = host_seed * 6364136223846793005ull + 1442695040888963407ull; return (uint32_t)(host_seed >> 33); }
AQ_FN int thread_id() { return host_now; }
AQ_FN int lane_id() { return host_now & 31; }
AQ_FN int warp_id() { return host_now >> 5; }
AQ_FN int tile_id(int dim) { return host_tile[dim]; }
static void host_wait(host_gate &g, int all) {
    int me = host_now;
    g.waiting.push_back(me);
    if (++g.arrived == all) {
        host_ready.insert(host_ready.end(), g.waiting.begin(), g.waiting.end());
        g.waiting.clear(), g.arrived = 0;
    }
    swapcontext(&host_threads[me].context, &host_main);
}
AQ_FN void block_sync() { host_wait(host_block, host_count); }
AQ_FN void warp_gate() { host_wait(host_warp[host_now / 32], 32); }
static void host_enter() { host_body(), host_threads[host_now].done = true; }
/* Runs one block; false if some threads never came to the end (a barrier not reached by all). */
static bool host_run(int threads, int x, int y, std::function<void()> body) {
    host_body = body, host_count = threads, host_tile[0] = x, host_tile[1] = y;
    memset(host_shared, 0xff, sizeof host_shared);
    host_ready.clear(), host_block = host_gate(); for (auto &g : host_warp) g = host_gate();
    for (int i = 0; i < threads; i++) {
        host_thread &t = host_threads[i];
        if (!t.stack) t.stack = (char *)malloc(HOST_STACK);
        getcontext(&t.context), t.context.uc_stack.ss_sp = t.stack, t.context.uc_stack.ss_size = HOST_STACK, t.context.uc_link = &host_main;
        t.copies.clear(), t.groups = 0, t.done = false;
        makecontext(&t.context, host_enter, 0), host_ready.push_back(i);
    }
    int slow = host_random() % (threads / 32);                  /* one warp lags far behind: random order alone is too fair to show a missing barrier */
    while (!host_ready.empty()) {
        size_t i = host_random() % host_ready.size();
        for (int again = 0; again < 16 && host_ready[i] / 32 == slow; again++) i = host_random() % host_ready.size();
        host_now = host_ready[i], host_ready[i] = host_ready.back(), host_ready.pop_back();
        swapcontext(&host_main, &host_threads[host_now].context);
    }
    for (int i = 0; i < threads; i++) if (!host_threads[i].done) return false;
    return true;
}

AQ_FN float as_float(u32 u) { float f; memcpy(&f, &u, 4); return f; }
AQ_FN u32 as_bits(float f) { u32 u; memcpy(&u, &f, 4); return u; }
AQ_FN float shfl_xor(float v, int m) {
    memcpy(host_slot[host_now], &v, 4), warp_gate();
    memcpy(&v, host_slot[host_now ^ m], 4), warp_gate();
    return v;
}
AQ_FN void host_aligned(const void *p, int n) { if ((uintptr_t)p % n) fprintf(stderr, "misaligned access\n"), abort(); }
AQ_FN vec16 load_stream(const void *p) { vec16 r; host_aligned(p, 16), memcpy(&r, p, 16); return r; }
AQ_FN u16 load_stream2(const void *p) { u16 r; host_aligned(p, 2), memcpy(&r, p, 2); return r; }
AQ_FN f32x4 load_keep(const float *p) { f32x4 r; host_aligned(p, 16), memcpy(&r, p, 16); return r; }
static void host_copy_now(const host_copy &c) { if (c.from) memcpy(c.to, c.from, 16); else memset(c.to, 0, 16); }
AQ_FN void cp_async16(void *shared, const void *global, bool valid) {
    host_thread &t = host_threads[host_now];
    host_copy c = { shared, valid ? global : NULL, t.groups };
    host_aligned(shared, 16), host_aligned(global, 16);
    if (host_random() & 1) host_copy_now(c); else t.copies.push_back(c);
}
AQ_FN void cp_async16(void *shared, const void *global) { cp_async16(shared, global, true); }
AQ_FN void cp_commit() { host_threads[host_now].groups++; }
template <int N> AQ_FN void cp_wait() {
    host_thread &t = host_threads[host_now];
    std::vector<host_copy> left;
    for (auto &c : t.copies) if (c.group < t.groups - N) host_copy_now(c); else left.push_back(c);
    t.copies.swap(left);
}
AQ_FN void ldmatrix4(u32 r[4], const void *row) {
    unsigned char seen = 0, column = (unsigned char)((uintptr_t)row / 16 % 8);
    host_aligned(row, 16), memcpy(host_slot[host_now], row, 16), host_slot[host_now][16] = column, warp_gate();
    for (int i = 0; i < 8; i++) seen |= 1 << host_slot[(host_now & ~7) + i][16];
    host_conflicts += seen != 255;
    for (int m = 0; m < 4; m++) memcpy(r + m, host_slot[(host_now & ~31) + 8 * m + lane_id() / 4] + lane_id() % 4 * 4, 4);
    warp_gate();
}
AQ_FN void mma16816(float c[4], const u32 a[4], const u32 b[2]) {
    int g = lane_id() / 4, t = lane_id() % 4, w = host_now & ~31;
    memcpy(host_slot[host_now], a, 16), memcpy(host_slot[host_now] + 16, b, 8), warp_gate();
    for (int e = 0; e < 4; e++) for (int k = 0; k < 16; k++) {
        uint16_t x, y;                                          /* element (row g + 8(e/2), k) of a, (k, column 2t + e%2) of b */
        memcpy(&x, host_slot[w + g * 4 + k % 8 / 2] + 4 * (e / 2 + 2 * (k / 8)) + 2 * (k % 2), 2);
        memcpy(&y, host_slot[w + (2 * t + e % 2) * 4 + k % 8 / 2] + 16 + 4 * (k / 8) + 2 * (k % 2), 2);
        c[e] += as_float((u32)x << 16) * as_float((u32)y << 16);
    }
    warp_gate();
}
AQ_FN u32 host_bf16(float f) { u32 u = as_bits(f); return f != f ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16; }
AQ_FN u32 pack_bf16(float lo, float hi) { return host_bf16(lo) | host_bf16(hi) << 16; }
AQ_FN float f16_to_f32(u16 h) {
    int e = h >> 10 & 31, m = h & 1023;
    float f = e == 0 ? ldexpf(m, -24) : e == 31 ? (m ? NAN : INFINITY) : ldexpf(1024 + m, e - 25);
    return h >> 15 ? -f : f;
}
template <bool HIGH> AQ_FN void nibble_pair(u32 w, float &a, float &b) {
    w >>= HIGH ? 4 : 0;
    a = (float)(int)(w & 15) - 8, b = (float)(int)(w >> 16 & 15) - 8;
}
AQ_FN int dot2_low(u32 x, u32 w, int a) { return a + (int16_t)x * (int)(w & 255) + (int16_t)(x >> 16) * (int)(w >> 8 & 255); }
AQ_FN int dot2_high(u32 x, u32 w, int a) { return dot2_low(x, w >> 16, a); }
AQ_FN float rsqrt_(float x) { return 1 / sqrtf(x); }
AQ_FN float exp2_(float x) { return exp2f(x); }
AQ_FN float fma_(float a, float b, float c) { return fmaf(a, b, c); }
AQ_FN float rint_(float x) { return rintf(x); }
AQ_FN float max_(float a, float b) { return fmaxf(a, b); }
AQ_FN float abs_(float a) { return fabsf(a); }
AQ_FN float divide_(float a, float b) { return a / b; }

#endif
