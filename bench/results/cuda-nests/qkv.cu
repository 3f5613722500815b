/* norm + q,k,v + rope + append at T = 1: what a CUDA emitter would print for the nest in risk-b.md. Five schedules of one region:
     qkv_bf16_late   bf16 weights; rms late (each warp sums squares beside its dots): no shared memory, no barrier
     qkv_bf16_local  bf16 weights; %n tile in local xor: each block normalises once into shared memory, its first weights already on their way
     qkv_bf16_async  the same, but the weights in flight lie in shared memory (cp.async), not in registers: each lane copies and reads only its own 16 bytes, no barrier
     qkv_q4_cast     q4_0 weights (planes) cast to f32 in registers; %n tile in local xor
     qkv_q4_a16      q4_0 weights against a16 activations (int16, blocks of 32): exact integer dots, sum class "blocks" as on the CPU
   One item = 4 warps x 4 rows of one of wq, wk, wv; d goes over 32 lanes of VEC elements each; STAGES weight loads of 16 bytes a row in flight. */
#include "tile.cuh"
#ifndef D_
#define D_ 4096
#define H_ 32
#define HKV_ 8
#endif
enum { D = D_, H = H_, HKV = HKV_, DH = 128, PAGE = 64, NQ = H * DH, NK = HKV * DH, WARPS = 4, THREADS = 128, R = 4, ROWS = WARPS * R, ITEMS_Q = NQ / ROWS, ITEMS_K = NK / ROWS };
#define EPS 1e-5f

/* phase { tiles n:NQ by 16 | tiles n:NK by 16 | tiles n:NK by 16 }: three trees, equal but for a buffer and the store, printed once */
struct item_of { int tree, row; };
AQ_FN item_of item() {
    int i = tile_id(0), tree = (i >= ITEMS_Q) + (i >= ITEMS_Q + ITEMS_K);
    item_of r = { tree, (i - (tree ? ITEMS_Q + (tree - 1) * ITEMS_K : 0)) * ROWS + warp_id() * R };
    return r;
}
/* store %q = rope(a) | $k[slot] = rope(a) | $v[slot] = a; every lane holds all sums, lane 0 stores */
AQ_FN void finish(item_of at, float (&a)[R], const float *freq, const int *pos, const int *slot, float *q, bf16 *k, bf16 *v) {
    if (at.tree < 2) {
        AQ_UNROLL for (int r = 0; r < R; r += 2) rotate(a[r], a[r + 1], (float)pos[0] * freq[(at.row + r) % DH / 2]);
    }
    if (lane_id() != 0) return;
    if (at.tree == 0) { f32x4 o = { { a[0], a[1], a[2], a[3] } }; *(f32x4 *)(q + at.row) = o; }
    else store_paged4<HKV, PAGE, DH>(at.tree == 1 ? k : v, slot[0], at.row, a);
}
/* local %n = x * g * rsqrt(mean(x * x) + eps) */
template <int VEC> AQ_FN void norm_local(row_shared<VEC> n, float *part, const float *x, const float *g) {
    f32x4 xv[D / 4 / THREADS], gv[D / 4 / THREADS];
    float s = 0.0f;
    AQ_UNROLL for (int i = 0; i < D / 4 / THREADS; i++) xv[i] = load_keep(x + 4 * (thread_id() + i * THREADS)), gv[i] = load_keep(g + 4 * (thread_id() + i * THREADS));
    AQ_UNROLL for (int i = 0; i < D / 4 / THREADS; i++) AQ_UNROLL for (int j = 0; j < 4; j++) s = fma_(xv[i].v[j], xv[i].v[j], s);
    s = rsqrt_(block_sum<WARPS>(s, part) * (1.0f / D) + EPS);
    AQ_UNROLL for (int i = 0; i < D / 4 / THREADS; i++) {
        AQ_UNROLL for (int j = 0; j < 4; j++) xv[i].v[j] *= gv[i].v[j] * s;
        row_put(n, thread_id() + i * THREADS, xv[i]);
    }
}

AQ_KERNEL(THREADS) qkv_bf16_late(const float *x, const float *g, const bf16 *wq, const bf16 *wk, const bf16 *wv, const float *freq, const int *pos, const int *slot, float *q, bf16 *k, bf16 *v) {
    enum { VEC = 8, STEP = 32 * VEC, STAGES = 4 };
    item_of at = item();
    const bf16 *w = (at.tree == 0 ? wq : at.tree == 1 ? wk : wv) + (long)at.row * D + lane_id() * VEC;
    float a[R] = { 0 }, s = 0.0f;
    vec16 b[STAGES][R];
    AQ_UNROLL for (int i = 0; i < STAGES - 1; i++) AQ_UNROLL for (int r = 0; r < R; r++) b[i][r] = load_stream(w + r * D + i * STEP);
    AQ_ROLLED for (int d0 = 0; d0 < D; d0 += STAGES * STEP) {
        AQ_UNROLL for (int i = 0; i < STAGES; i++) {
            int d = d0 + i * STEP, ahead = d + (STAGES - 1) * STEP;
            float xv[VEC], gv[VEC];
            if (ahead < D) { AQ_UNROLL for (int r = 0; r < R; r++) b[(i + STAGES - 1) % STAGES][r] = load_stream(w + r * D + ahead); }
            row_load<VEC>(x + d + lane_id() * VEC, xv), row_load<VEC>(g + d + lane_id() * VEC, gv);
            AQ_UNROLL for (int j = 0; j < VEC; j++) s = fma_(xv[j], xv[j], s), xv[j] *= gv[j];
            AQ_UNROLL for (int r = 0; r < R; r++) a[r] = dot_part(xv, b[i][r], a[r]);
        }
    }
    warp_sum(a);
    s = rsqrt_(warp_sum(s) * (1.0f / D) + EPS);
    AQ_UNROLL for (int r = 0; r < R; r++) a[r] *= s;
    finish(at, a, freq, pos, slot, q, k, v);
}

AQ_KERNEL(THREADS) qkv_bf16_local(const float *x, const float *g, const bf16 *wq, const bf16 *wk, const bf16 *wv, const float *freq, const int *pos, const int *slot, float *q, bf16 *k, bf16 *v) {
    enum { VEC = 8, STEP = 32 * VEC, STAGES = 4 };
    AQ_SHARED(shared);
    row_shared<VEC> n = { (float *)shared };
    item_of at = item();
    const bf16 *w = (at.tree == 0 ? wq : at.tree == 1 ? wk : wv) + (long)at.row * D + lane_id() * VEC;
    float a[R] = { 0 };
    vec16 b[STAGES][R];
    AQ_UNROLL for (int i = 0; i < STAGES - 1; i++) AQ_UNROLL for (int r = 0; r < R; r++) b[i][r] = load_stream(w + r * D + i * STEP);
    norm_local(n, n.p + D, x, g);
    block_sync();
    AQ_ROLLED for (int d0 = 0; d0 < D; d0 += STAGES * STEP) {
        AQ_UNROLL for (int i = 0; i < STAGES; i++) {
            int d = d0 + i * STEP, ahead = d + (STAGES - 1) * STEP;
            float xv[VEC];
            if (ahead < D) { AQ_UNROLL for (int r = 0; r < R; r++) b[(i + STAGES - 1) % STAGES][r] = load_stream(w + r * D + ahead); }
            row_get(n, d + lane_id() * VEC, xv);
            AQ_UNROLL for (int r = 0; r < R; r++) a[r] = dot_part(xv, b[i][r], a[r]);
        }
    }
    warp_sum(a);
    finish(at, a, freq, pos, slot, q, k, v);
}

AQ_KERNEL(THREADS) qkv_bf16_async(const float *x, const float *g, const bf16 *wq, const bf16 *wk, const bf16 *wv, const float *freq, const int *pos, const int *slot, float *q, bf16 *k, bf16 *v) {
    enum { VEC = 8, STEP = 32 * VEC, STAGES = 4 };
    AQ_SHARED(shared);
    row_shared<VEC> n = { (float *)shared };
    vec16 *b = (vec16 *)(n.p + D + WARPS) + warp_id() * (STAGES * R * 32) + lane_id();
    item_of at = item();
    const bf16 *w = (at.tree == 0 ? wq : at.tree == 1 ? wk : wv) + (long)at.row * D + lane_id() * VEC;
    float a[R] = { 0 };
    AQ_UNROLL for (int i = 0; i < STAGES - 1; i++) {
        AQ_UNROLL for (int r = 0; r < R; r++) cp_async16(b + (i * R + r) * 32, w + r * D + i * STEP);
        cp_commit();
    }
    norm_local(n, n.p + D, x, g);
    block_sync();
    AQ_ROLLED for (int d0 = 0; d0 < D; d0 += STAGES * STEP) {
        AQ_UNROLL for (int i = 0; i < STAGES; i++) {
            int d = d0 + i * STEP, ahead = d + (STAGES - 1) * STEP;
            float xv[VEC];
            cp_wait<STAGES - 2>();
            if (ahead < D) { AQ_UNROLL for (int r = 0; r < R; r++) cp_async16(b + ((i + STAGES - 1) % STAGES * R + r) * 32, w + r * D + ahead); }
            cp_commit();
            row_get(n, d + lane_id() * VEC, xv);
            AQ_UNROLL for (int r = 0; r < R; r++) a[r] = dot_part(xv, b[(i * R + r) * 32], a[r]);
        }
    }
    warp_sum(a);
    finish(at, a, freq, pos, slot, q, k, v);
}

/* layout planes: u8 q[N][D/2], then f16 d[N][D/32] */
struct planes { const unsigned char *q; const u16 *d; };
AQ_FN planes rows_of(const unsigned char *w, int n_rows, int row) {
    planes p = { w + (long)row * (D / 2) + lane_id() * 16, (const u16 *)(w + (long)n_rows * (D / 2)) + (long)row * (D / 32) + lane_id() };
    return p;
}

AQ_KERNEL(THREADS) qkv_q4_cast(const float *x, const float *g, const unsigned char *wq, const unsigned char *wk, const unsigned char *wv, const float *freq, const int *pos, const int *slot, float *q, bf16 *k, bf16 *v) {
    enum { VEC = 32, STEP = 32 * VEC, STAGES = 3, STEPS = D / STEP };
    AQ_SHARED(shared);
    row_shared<VEC> n = { (float *)shared };
    item_of at = item();
    planes w = at.tree == 0 ? rows_of(wq, NQ, at.row) : rows_of(at.tree == 1 ? wk : wv, NK, at.row);
    float a[R] = { 0 };
    vec16 b[STAGES][R];
    u16 c[STAGES][R];
    AQ_UNROLL for (int i = 0; i < STAGES - 1 && i < STEPS; i++) AQ_UNROLL for (int r = 0; r < R; r++) b[i][r] = load_stream(w.q + r * (D / 2) + i * 512), c[i][r] = load_stream2(w.d + r * (D / 32) + i * 32);
    norm_local(n, n.p + D, x, g);
    block_sync();
    AQ_UNROLL for (int i = 0; i < STEPS; i++) {
        int ahead = i + STAGES - 1;
        float xv[VEC];
        if (ahead < STEPS) { AQ_UNROLL for (int r = 0; r < R; r++) b[ahead % STAGES][r] = load_stream(w.q + r * (D / 2) + ahead * 512), c[ahead % STAGES][r] = load_stream2(w.d + r * (D / 32) + ahead * 32); }
        row_get(n, i * STEP + lane_id() * VEC, xv);
        AQ_UNROLL for (int r = 0; r < R; r++) a[r] = dot_part(xv, b[i % STAGES][r], c[i % STAGES][r], a[r]);
    }
    warp_sum(a);
    finish(at, a, freq, pos, slot, q, k, v);
}

AQ_KERNEL(THREADS) qkv_q4_a16(const float *x, const float *g, const unsigned char *wq, const unsigned char *wk, const unsigned char *wv, const float *freq, const int *pos, const int *slot, float *q, bf16 *k, bf16 *v) {
    enum { VEC = 32, STEP = 32 * VEC, STAGES = 4, STEPS = D / STEP };
    AQ_SHARED(shared);
    act_shared n = { (u32 *)shared, (float *)(shared + D * 2), (int *)(shared + D * 2 + D / 8) };
    item_of at = item();
    planes w = at.tree == 0 ? rows_of(wq, NQ, at.row) : rows_of(at.tree == 1 ? wk : wv, NK, at.row);
    float a[R] = { 0 };
    vec16 b[STAGES][R];
    u16 c[STAGES][R];
    AQ_UNROLL for (int i = 0; i < STAGES - 1 && i < STEPS; i++) AQ_UNROLL for (int r = 0; r < R; r++) b[i][r] = load_stream(w.q + r * (D / 2) + i * 512), c[i][r] = load_stream2(w.d + r * (D / 32) + i * 32);
    {   /* local %n = quantize(x * g * rsqrt(..)) {dtype=a16}: eight threads share a block of 32 */
        f32x4 xv[D / 4 / THREADS], gv[D / 4 / THREADS];
        float s = 0.0f;
        AQ_UNROLL for (int i = 0; i < D / 4 / THREADS; i++) xv[i] = load_keep(x + 4 * (thread_id() + i * THREADS)), gv[i] = load_keep(g + 4 * (thread_id() + i * THREADS));
        AQ_UNROLL for (int i = 0; i < D / 4 / THREADS; i++) AQ_UNROLL for (int j = 0; j < 4; j++) s = fma_(xv[i].v[j], xv[i].v[j], s);
        s = rsqrt_(block_sum<WARPS>(s, (float *)(n.sum + D / 32)) * (1.0f / D) + EPS);
        AQ_UNROLL for (int i = 0; i < D / 4 / THREADS; i++) {
            AQ_UNROLL for (int j = 0; j < 4; j++) xv[i].v[j] *= gv[i].v[j] * s;
            act_put(n, thread_id() + i * THREADS, xv[i]);
        }
    }
    block_sync();
    AQ_UNROLL for (int i = 0; i < STEPS; i++) {
        int ahead = i + STAGES - 1;
        act_block xv;
        if (ahead < STEPS) { AQ_UNROLL for (int r = 0; r < R; r++) b[ahead % STAGES][r] = load_stream(w.q + r * (D / 2) + ahead * 512), c[ahead % STAGES][r] = load_stream2(w.d + r * (D / 32) + ahead * 32); }
        act_get(n, i * 32 + lane_id(), xv);
        AQ_UNROLL for (int r = 0; r < R; r++) a[r] = dot_part(xv, b[i % STAGES][r], c[i % STAGES][r], a[r]);
    }
    warp_sum(a);
    finish(at, a, freq, pos, slot, q, k, v);
}
