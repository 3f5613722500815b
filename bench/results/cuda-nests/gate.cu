/* gate + up + silu * mul at T = 512 with mma: what a CUDA emitter would print. h[t,f] = silu(r[t] * dot(x[t], w1[f])) * (r[t] * dot(x[t], w3[f])).
   x is x*g as bf16 and r the row factor, both made by the phase before (rms late: the factor is applied after the dot).
   schedule cuda { t 128 tiles, 64 warps, 16 mma; f 128 tiles, 32 warps, 8 mma; d BK for, 16 mma; warps 2 4; %x, @w1, @w3 local xor stages STAGES; %h local xor } */
#include "tile.cuh"
#ifndef D_
#define D_ 4096
#define F_ 11008
#endif
#ifndef BK_
#define BK_ 64
#define STAGES_ 3
#endif
enum { D = D_, F = F_, BK = BK_, STAGES = STAGES_, BT = 128, BF = 128, WT = 64, WF = 32, WARPS_F = BF / WF, THREADS = 256 };

AQ_KERNEL(THREADS) gate_up(const bf16 *x, const float *r, const bf16 *w1, const bf16 *w3, bf16 *h, int T) {
    typedef tile_shared<BT, BK> tile_x;
    typedef tile_shared<BF, BK> tile_w;
    enum { STAGE = tile_x::bytes + 2 * tile_w::bytes };
    AQ_SHARED(shared);
    int t0 = tile_id(0) * BT, f0 = tile_id(1) * BF, wt = warp_id() / WARPS_F * WT, wf = warp_id() % WARPS_F * WF;   /* t fastest: the blocks of one weight tile run together */
    x += (long)t0 * D, w1 += (long)f0 * D, w3 += (long)f0 * D;
    frag_c<WT, WF> a, b;
    zero(a), zero(b);
    AQ_UNROLL for (int i = 0; i < STAGES - 1; i++) {
        tile_x px = { (bf16 *)(shared + i * STAGE) };
        tile_w p1 = { px.p + BT * BK }, p3 = { p1.p + BF * BK };
        tile_copy<THREADS>(px, x + i * BK, D, T - t0), tile_copy<THREADS>(p1, w1 + i * BK, D, BF), tile_copy<THREADS>(p3, w3 + i * BK, D, BF);
        cp_commit();
    }
    int use = 0, fill = STAGES - 1;
    AQ_ROLLED for (int d = 0; d < D; d += BK) {
        int ahead = d + (STAGES - 1) * BK;
        tile_x ux = { (bf16 *)(shared + use * STAGE) }, px = { (bf16 *)(shared + fill * STAGE) };
        tile_w u1 = { ux.p + BT * BK }, u3 = { u1.p + BF * BK }, p1 = { px.p + BT * BK }, p3 = { p1.p + BF * BK };
        cp_wait<STAGES - 2>();
        block_sync();
        if (ahead < D) tile_copy<THREADS>(px, x + ahead, D, T - t0), tile_copy<THREADS>(p1, w1 + ahead, D, BF), tile_copy<THREADS>(p3, w3 + ahead, D, BF);
        cp_commit();
        AQ_UNROLL for (int e = 0; e < BK / 8; e += 2) {
            frag_a<WT> fx;
            frag_b<WF> f1, f3;
            load(fx, ux, wt, e), load(f1, u1, wf, e), load(f3, u3, wf, e);
            mma(a, fx, f1), mma(b, fx, f3);
        }
        use = use + 1 == STAGES ? 0 : use + 1, fill = fill + 1 == STAGES ? 0 : fill + 1;
    }
    frag_rows<WT> row;
    load_rows(row, r + t0 + wt, T - t0 - wt);
    map(a, b, row, [](float gate, float up, float f) { return silu(gate * f) * (up * f); });
    tile_shared<BT, BF> sh = { (bf16 *)shared };
    cp_wait<0>();
    block_sync();
    store(sh, wt, wf, a);
    block_sync();
    tile_write<THREADS>(h + (long)t0 * F + f0, F, sh, T - t0);
}
