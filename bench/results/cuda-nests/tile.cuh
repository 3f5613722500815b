/* tile.cuh: the tile vocabulary that emitted CUDA text calls; a kernel body holds no asm and no intrinsic, only these words and plain C arithmetic.
   Part 1, primitives: PTX here, or a second implementation in tile_host.h (fibers on a CPU) when this is compiled as plain C++.
   Part 2, tiles: written once on top of part 1, so what the CPU checks is the text the GPU runs.
   Everything is sized by template arguments and unrolled: arrays live in registers or the build of the kernel is refused (no LDL/STL in the SASS). */
#pragma once
typedef unsigned int u32;
typedef unsigned short u16;
struct bf16 { u16 bits; };
struct alignas(16) vec16 { u32 w[4]; };                     /* 16 bytes: what one lane loads at once */
struct alignas(16) f32x4 { float v[4]; };

#ifdef __CUDACC__
#define AQ_KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define AQ_FN static __device__ __forceinline__
#define AQ_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#define AQ_UNROLL _Pragma("unroll")
#define AQ_ROLLED _Pragma("unroll 1")
AQ_FN int thread_id() { return threadIdx.x; }
AQ_FN int lane_id() { return threadIdx.x & 31; }
AQ_FN int warp_id() { return threadIdx.x >> 5; }
AQ_FN int tile_id(int dim) { return dim ? blockIdx.y : blockIdx.x; }
AQ_FN void block_sync() { __syncthreads(); }
AQ_FN float shfl_xor(float v, int m) { return __shfl_xor_sync(0xffffffffu, v, m); }
AQ_FN float as_float(u32 u) { return __uint_as_float(u); }
AQ_FN u32 as_bits(float f) { return __float_as_uint(f); }
/* read once: past L1, a whole 128-byte line into L2 */
AQ_FN vec16 load_stream(const void *p) {
    vec16 r;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(r.w[0]), "=r"(r.w[1]), "=r"(r.w[2]), "=r"(r.w[3]) : "l"(p));
    return r;
}
AQ_FN u16 load_stream2(const void *p) { u16 r; asm volatile("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(r) : "l"(p)); return r; }
AQ_FN f32x4 load_keep(const float *p) {                     /* read by every block: kept */
    f32x4 r;
    asm("ld.global.nc.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(r.v[0]), "=f"(r.v[1]), "=f"(r.v[2]), "=f"(r.v[3]) : "l"(p));
    return r;
}
AQ_FN u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }
AQ_FN void cp_async16(void *shared, const void *global, bool valid) {            /* not valid: zeros */
    int n = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" :: "r"(shared_address(shared)), "l"(global), "r"(n) : "memory");
}
AQ_FN void cp_async16(void *shared, const void *global) { asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" :: "r"(shared_address(shared)), "l"(global) : "memory"); }
AQ_FN void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> AQ_FN void cp_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }
AQ_FN void ldmatrix4(u32 r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
AQ_FN void mma16816(float c[4], const u32 a[4], const u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
AQ_FN u32 pack_bf16(float lo, float hi) { u32 r; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r; }
AQ_FN float f16_to_f32(u16 h) { float r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h)); return r; }
/* low or high nibbles of bytes 0 and 2, minus 8, exactly: 0x6400|q is the f16 1024+q, 0x6400|16q is 1024+16q */
template <bool HIGH> AQ_FN void nibble_pair(u32 w, float &a, float &b) {
    u32 m, r;
    u16 lo, hi;
    if (HIGH) {
        asm("lop3.b32 %0, %1, 0x00f000f0, 0x64006400, 0xea;" : "=r"(m) : "r"(w));
        asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(m), "r"(0x2c002c00u), "r"(0xd480d480u));      /* x/16 - 72 */
    } else {
        asm("lop3.b32 %0, %1, 0x000f000f, 0x64006400, 0xea;" : "=r"(m) : "r"(w));
        asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(m), "r"(0xe408e408u));                             /* x - 1032 */
    }
    asm("mov.b32 {%0,%1}, %2;" : "=h"(lo), "=h"(hi) : "r"(r));
    a = f16_to_f32(lo), b = f16_to_f32(hi);
}
AQ_FN int dot2_low(u32 x, u32 w, int a) { int r; asm("dp2a.lo.s32.u32 %0, %1, %2, %3;" : "=r"(r) : "r"(x), "r"(w), "r"(a)); return r; }    /* int16 pair . bytes 0, 1 */
AQ_FN int dot2_high(u32 x, u32 w, int a) { int r; asm("dp2a.hi.s32.u32 %0, %1, %2, %3;" : "=r"(r) : "r"(x), "r"(w), "r"(a)); return r; }   /* int16 pair . bytes 2, 3 */
AQ_FN float rsqrt_(float x) { float y; asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y * __fmaf_rn(-0.5f * x * y, y, 1.5f); }   /* no call, no branch */
AQ_FN float exp2_(float x) { float r; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
AQ_FN float fma_(float a, float b, float c) { return __fmaf_rn(a, b, c); }
AQ_FN float rint_(float x) { return rintf(x); }
AQ_FN float max_(float a, float b) { return fmaxf(a, b); }
AQ_FN float abs_(float a) { return fabsf(a); }
AQ_FN float divide_(float a, float b) { return __fdividef(a, b); }
#else
#include "tile_host.h"
#endif

/* ---- maps ---- */
AQ_FN float bf16_low(u32 w) { return as_float(w << 16); }
AQ_FN float bf16_high(u32 w) { return as_float(w & 0xffff0000u); }
AQ_FN bf16 to_bf16(float f) { bf16 r; r.bits = (u16)pack_bf16(f, 0.0f); return r; }
AQ_FN float silu(float x) { return divide_(x, 1.0f + exp2_(-1.4426950408889634f * x)); }
/* Own sine and cosine: CUDA's sinf keeps its slow path's table in local memory, which reads as a spill. Three-part pi/2, good for |x| up to 1e5;
   polynomials of degree 7 and 8 on [-pi/4, pi/4], error about 1 unit in the last place (coefficients: Cephes sinf, cosf). */
AQ_FN void sincos_(float x, float &s, float &c) {
    float k = rint_(x * 0.63661977236758134f);
    float r = fma_(k, -1.5707963705062866f, x);
    r = fma_(k, 4.371138828673793e-08f, r);
    r = fma_(k, 1.7151245100058819e-15f, r);
    float z = r * r;
    float sn = fma_(fma_(fma_(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f) * z, r, r);
    float cs = fma_(fma_(fma_(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f) * z, z, fma_(-0.5f, z, 1.0f));
    int q = (int)k;
    float a = q & 1 ? cs : sn, b = q & 1 ? sn : cs;
    s = q & 2 ? -a : a;
    c = (q + 1) & 2 ? -b : b;
}
AQ_FN void rotate(float &a, float &b, float angle) {        /* interleaved pair (2i, 2i+1) */
    float s, c, t;
    sincos_(angle, s, c);
    t = a * c - b * s, b = a * s + b * c, a = t;
}

/* ---- reductions: the tree is part of the sum class: lane^16, ^8, .. ^1, then warps 0..n-1 in order; every lane gets the sum ---- */
AQ_FN float warp_sum(float v) {
    AQ_UNROLL for (int m = 16; m; m >>= 1) v += shfl_xor(v, m);
    return v;
}
template <int R> AQ_FN void warp_sum(float (&a)[R]) { AQ_UNROLL for (int r = 0; r < R; r++) a[r] = warp_sum(a[r]); }
template <int WARPS> AQ_FN float block_sum(float v, float *shared) {             /* shared: WARPS floats, free after the next block_sync */
    float t = 0.0f;
    v = warp_sum(v);
    if (lane_id() == 0) shared[warp_id()] = v;
    block_sync();
    AQ_UNROLL for (int w = 0; w < WARPS; w++) t += shared[w];
    return t;
}

/* ---- a row kept in shared memory as f32; VEC floats belong to one lane. 16-byte chunk c lies at c ^ (c / 8 % per), per = VEC/4 chunks a lane:
   eight lanes reading chunk h of their own VEC floats then touch eight different bank groups ---- */
template <int VEC> struct row_shared {
    float *p;
    AQ_FN int place(int chunk) { const int per = VEC / 4; return (chunk ^ ((chunk >> 3) & (per - 1))) * 4; }
};
template <int VEC> AQ_FN void row_put(row_shared<VEC> s, int chunk, f32x4 v) { *(f32x4 *)(s.p + row_shared<VEC>::place(chunk)) = v; }
template <int VEC> AQ_FN void row_get(row_shared<VEC> s, int d, float (&x)[VEC]) {
    AQ_UNROLL for (int h = 0; h < VEC / 4; h++) {
        f32x4 t = *(const f32x4 *)(s.p + row_shared<VEC>::place(d / 4 + h));
        AQ_UNROLL for (int i = 0; i < 4; i++) x[4 * h + i] = t.v[i];
    }
}
template <int VEC> AQ_FN void row_load(const float *p, float (&x)[VEC]) {
    AQ_UNROLL for (int h = 0; h < VEC / 4; h++) {
        f32x4 t = load_keep(p + 4 * h);
        AQ_UNROLL for (int i = 0; i < 4; i++) x[4 * h + i] = t.v[i];
    }
}

/* ---- one lane's part of a dot; order: element 0 upward, one accumulator ---- */
AQ_FN float dot_part(const float (&x)[8], vec16 w, float a) {                    /* bf16 x 8 */
    AQ_UNROLL for (int i = 0; i < 4; i++) a = fma_(x[2 * i], bf16_low(w.w[i]), a), a = fma_(x[2 * i + 1], bf16_high(w.w[i]), a);
    return a;
}
/* one q4_0 block (32 weights, byte j holds elements j and j+16); the block's scale multiplies its sum once */
AQ_FN float dot_part(const float (&x)[32], vec16 w, u16 scale, float a) {
    float s = 0.0f, p, q;
    AQ_UNROLL for (int i = 0; i < 4; i++) {
        AQ_UNROLL for (int b = 0; b < 2; b++) {
            u32 v = w.w[i] >> 8 * b;
            nibble_pair<false>(v, p, q);
            s = fma_(x[4 * i + b], p, s), s = fma_(x[4 * i + b + 2], q, s);
            nibble_pair<true>(v, p, q);
            s = fma_(x[16 + 4 * i + b], p, s), s = fma_(x[16 + 4 * i + b + 2], q, s);
        }
    }
    return fma_(s, f16_to_f32(scale), a);
}

/* ---- a row of a16 blocks in shared memory: int16 in plain order, 16-byte chunk h of block b at h ^ (b/2 % 4) so that reading chunk h of 8 blocks hits all banks;
   the scale and the integer sum of each block beside it (the sum takes q4_0's -8 out of the inner loop, exactly) ---- */
struct act_shared { u32 *q; float *scale; int *sum; };
struct act_block { u32 q[16]; float scale; int sum; };
AQ_FN int act_place(int block, int chunk) { return block * 16 + (chunk ^ ((block >> 1) & 3)) * 4; }
AQ_FN void act_put(act_shared s, int quad, f32x4 v) {       /* elements 4*quad..+3; the eight lanes of a block call together */
    float m = 0.0f, t = 0.0f, inv;
    int block = quad / 8, e = quad % 8;
    u32 q[2];
    AQ_UNROLL for (int i = 0; i < 4; i++) m = max_(m, abs_(v.v[i]));
    AQ_UNROLL for (int i = 4; i; i >>= 1) m = max_(m, shfl_xor(m, i));
    inv = m > 0.0f ? divide_(32767.0f, m) : 0.0f;
    AQ_UNROLL for (int i = 0; i < 4; i++) v.v[i] = rint_(v.v[i] * inv), t += v.v[i];              /* below 2^24: the f32 sum is exact */
    AQ_UNROLL for (int i = 4; i; i >>= 1) t += shfl_xor(t, i);
    AQ_UNROLL for (int i = 0; i < 2; i++) q[i] = ((u32)(int)v.v[2 * i] & 0xffffu) | (u32)(int)v.v[2 * i + 1] << 16;
    u32 *p = s.q + act_place(block, e / 2) + e % 2 * 2;
    p[0] = q[0], p[1] = q[1];
    if (e == 0) s.scale[block] = m * (1.0f / 32767.0f), s.sum[block] = (int)t;
}
AQ_FN void act_get(act_shared s, int block, act_block &x) {
    AQ_UNROLL for (int h = 0; h < 4; h++) {
        vec16 t = *(const vec16 *)(s.q + act_place(block, h));
        AQ_UNROLL for (int i = 0; i < 4; i++) x.q[4 * h + i] = t.w[i];
    }
    x.scale = s.scale[block], x.sum = s.sum[block];
}
/* q4_0 . a16: the exact integer dot of the block, then one fused multiply-add */
AQ_FN float dot_part(const act_block &x, vec16 w, u16 scale, float a) {
    int s = -8 * x.sum;
    AQ_UNROLL for (int i = 0; i < 4; i++) {
        u32 lo = w.w[i] & 0x0f0f0f0fu, hi = w.w[i] >> 4 & 0x0f0f0f0fu;
        s = dot2_low(x.q[2 * i], lo, s), s = dot2_high(x.q[2 * i + 1], lo, s);
        s = dot2_low(x.q[8 + 2 * i], hi, s), s = dot2_high(x.q[9 + 2 * i], hi, s);
    }
    return fma_((float)s, f16_to_f32(scale) * x.scale, a);
}

/* ---- paged cache [page, kv head, PAGE, DH]; slot = page * PAGE + place ---- */
template <int HKV, int PAGE, int DH> AQ_FN void store_paged4(bf16 *cache, int slot, int n, const float (&v)[4]) {
    long at = (((long)(slot / PAGE) * HKV + n / DH) * PAGE + slot % PAGE) * DH + n % DH;
    u32 *p = (u32 *)(cache + at);
    struct alignas(8) two { u32 a, b; } t = { pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]) };
    *(two *)p = t;
}

/* ---- shared bf16 tile of R rows x C columns (C 32, 64 or 128): 16-byte chunks swizzled so that both the copy in and ldmatrix hit all banks ---- */
template <int R, int C> struct tile_shared {
    bf16 *p;
    enum { rows = R, columns = C, bytes = R * C * 2, chunks = C / 8 };
    AQ_FN int place(int r, int chunk) { const int line = C < 64 ? r * C / 64 : r; return r * C + (chunk ^ (line & (chunks < 8 ? chunks - 1 : 7))) * 8; }
};
template <int THREADS, int R, int C> AQ_FN void tile_copy(tile_shared<R, C> s, const bf16 *g, long stride, int valid_rows) {   /* asynchronous; commit it */
    typedef tile_shared<R, C> T;
    AQ_UNROLL for (int i = 0; i < R * T::chunks / THREADS; i++) {
        int n = thread_id() + i * THREADS, r = n / T::chunks, c = n % T::chunks;
        cp_async16(s.p + T::place(r, c), g + (r < valid_rows ? r : 0) * stride + c * 8, r < valid_rows);
    }
}
template <int THREADS, int R, int C> AQ_FN void tile_write(bf16 *g, long stride, tile_shared<R, C> s, int valid_rows) {        /* shared to global, 16 bytes a lane */
    typedef tile_shared<R, C> T;
    AQ_UNROLL for (int i = 0; i < R * T::chunks / THREADS; i++) {
        int n = thread_id() + i * THREADS, r = n / T::chunks, c = n % T::chunks;
        if (r < valid_rows) *(vec16 *)(g + r * stride + c * 8) = *(const vec16 *)(s.p + T::place(r, c));
    }
}

/* ---- register fragments of mma m16n8k16, one warp ---- */
template <int M> struct frag_a { u32 r[M / 16][4]; };
template <int N> struct frag_b { u32 r[N / 8][2]; };
template <int M, int N> struct frag_c { float v[M / 16][N / 8][4]; };            /* v[i][j][e]: row 16i + lane/4 + 8(e/2), column 8j + 2(lane%4) + e%2 */
template <int M, int N> AQ_FN void zero(frag_c<M, N> &c) {
    AQ_UNROLL for (int i = 0; i < M / 16; i++) AQ_UNROLL for (int j = 0; j < N / 8; j++) AQ_UNROLL for (int e = 0; e < 4; e++) c.v[i][j][e] = 0.0f;
}
template <int M, int R, int C> AQ_FN void load(frag_a<M> &a, tile_shared<R, C> s, int row, int chunk) {
    AQ_UNROLL for (int i = 0; i < M / 16; i++) ldmatrix4(a.r[i], s.p + tile_shared<R, C>::place(row + 16 * i + (lane_id() & 15), chunk + (lane_id() >> 4)));
}
template <int N, int R, int C> AQ_FN void load(frag_b<N> &b, tile_shared<R, C> s, int row, int chunk) {       /* weights [n, k] */
    AQ_UNROLL for (int j = 0; j < N / 16; j++) ldmatrix4(b.r[2 * j], s.p + tile_shared<R, C>::place(row + 16 * j + (lane_id() & 7) + (lane_id() >> 4) * 8, chunk + ((lane_id() >> 3) & 1)));
}
template <int M, int N> AQ_FN void mma(frag_c<M, N> &c, const frag_a<M> &a, const frag_b<N> &b) {
    AQ_UNROLL for (int i = 0; i < M / 16; i++) AQ_UNROLL for (int j = 0; j < N / 8; j++) mma16816(c.v[i][j], a.r[i], b.r[j]);
}
template <int M> struct frag_rows { float v[M / 16][2]; };                       /* a value with one number a row, as frag_c holds its rows */
template <int M> AQ_FN void load_rows(frag_rows<M> &r, const float *g, int valid_rows) {
    AQ_UNROLL for (int i = 0; i < M / 16; i++) AQ_UNROLL for (int h = 0; h < 2; h++) {
        int row = 16 * i + lane_id() / 4 + 8 * h;
        r.v[i][h] = row < valid_rows ? g[row] : 0.0f;
    }
}
template <int M, int N, class F> AQ_FN void map(frag_c<M, N> &a, const frag_c<M, N> &b, const frag_rows<M> &r, F f) {   /* a = f(a, b, r) */
    AQ_UNROLL for (int i = 0; i < M / 16; i++) AQ_UNROLL for (int j = 0; j < N / 8; j++) AQ_UNROLL for (int e = 0; e < 4; e++)
        a.v[i][j][e] = f(a.v[i][j][e], b.v[i][j][e], r.v[i][e / 2]);
}
template <int M, int N, int R, int C> AQ_FN void store(tile_shared<R, C> s, int row, int column, const frag_c<M, N> &c) {
    AQ_UNROLL for (int i = 0; i < M / 16; i++) AQ_UNROLL for (int j = 0; j < N / 8; j++) AQ_UNROLL for (int h = 0; h < 2; h++)
        *(u32 *)(s.p + tile_shared<R, C>::place(row + 16 * i + lane_id() / 4 + 8 * h, column / 8 + j) + 2 * (lane_id() % 4)) = pack_bf16(c.v[i][j][2 * h], c.v[i][j][2 * h + 1]);
}
