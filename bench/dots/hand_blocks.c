/* hand_blocks.c: a bf16 dot that nests do not have: weights dequantised into bf16 pairs by panels of 32 rows, then vdpbf16ps against
 * activations rounded to bf16. Only to decide risk (c). */
#include "bench/dots/hand.h"

#include <immintrin.h>
#include <stdlib.h>

/* y[T,N] = x[T,K] w[N,K]^T; w: f32 values of the weights, row-major; y has rows of `row` (dequantising is counted: one pass of 32 rows, as
 * the emitter would do it). panel: room for 32 * K bf16; xb: T * K bf16 of x. */
__attribute__((target("avx512f,avx512bf16,avx512vl,avx512bw"))) void
hand_bf16_panel(const uint16_t *xb, const float *w, float *y, uint16_t *panel, int64_t T, int64_t N, int64_t K, int64_t row) {
    for (int64_t n = 0; n < N; n += 32) {
        for (int64_t r = 0; r < 32; r++)
            for (int64_t k = 0; k < K; k += 2)
                for (int64_t b = 0; b < 2; b++) {
                    union {
                        float f;
                        uint32_t u;
                    } v = {w[(n + r) * K + k + b]};
                    panel[(k / 2 * 32 + r) * 2 + b] = (uint16_t)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
                }
        for (int64_t t = 0; t < T; t += 8) {
            __m512 a[8][2];
            const uint16_t *x[8];
#pragma GCC unroll 8
            for (int r = 0; r < 8; r++) {
                a[r][0] = a[r][1] = _mm512_setzero_ps();
                x[r] = xb + (t + r < T ? t + r : T - 1) * K;
            }
            for (int64_t k = 0; k < K; k += 2) {
                __m512bh p = (__m512bh)_mm512_loadu_si512(panel + k * 32), q = (__m512bh)_mm512_loadu_si512(panel + k * 32 + 32);
#pragma GCC unroll 8
                for (int r = 0; r < 8; r++) {
                    __m512bh v = (__m512bh)_mm512_set1_epi32(*(const int32_t *)(const void *)(x[r] + k));
                    a[r][0] = _mm512_dpbf16_ps(a[r][0], v, p);
                    a[r][1] = _mm512_dpbf16_ps(a[r][1], v, q);
                }
            }
            for (int r = 0; r < 8 && t + r < T; r++)
                for (int k = 0; k < 2; k++)
                    _mm512_storeu_ps(y + (t + r) * row + n + 16 * k, a[r][k]);
        }
    }
}
