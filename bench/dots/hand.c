/* hand.c: the five nests written by hand with AVX-512 intrinsics, on the same buffers and work lists (ir/plan.h, aq_kernel), as the
 * yardstick of risk (a). Compiled by gcc -O3 -march=native. */
#include "bench/dots/hand.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

static inline __m512 bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16));
}

void hand_matvec(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    (void)sym, (void)local;
    enum { D = 2048, N = 4096 };
    for (int64_t i = begin; i < end; i++) {
        int64_t t = i / (N / 64), n = i % (N / 64) * 64;
        const float *x = (const float *)buf[0] + t * D;
        const uint16_t *w = (const uint16_t *)buf[1] + n * D;
        __m512 a[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int d = 0; d < D; d += 4)
#pragma GCC unroll 4
            for (int u = 0; u < 4; u++) {
                __m512 b = _mm512_set1_ps(x[d + u]);
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++)
                    a[k] = _mm512_fmadd_ps(b, bf16(w + (int64_t)k * 16 * D + (d + u) * 16), a[k]);
            }
        for (int k = 0; k < 4; k++)
            _mm512_storeu_ps((float *)buf[2] + t * N + n + 16 * k, a[k]);
    }
}

/* 64 rows of a panel times x * g, scaled by the norm. */
static inline void norm_rows(const float *x, const float *g, const uint16_t *w, __m512 *a) {
    enum { D = 576 };
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int d = 0; d < D; d += 64)
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++) {
            __m512 v = _mm512_loadu_ps(x + d + 16 * u);
            s[u] = _mm512_fmadd_ps(v, v, s[u]);
        }
    float sum = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
    for (int k = 0; k < 4; k++)
        a[k] = _mm512_setzero_ps();
    for (int d = 0; d < D; d += 4)
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++) {
            __m512 b = _mm512_set1_ps(x[d + u] * g[d + u]);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                a[k] = _mm512_fmadd_ps(b, bf16(w + k * 16 * D + (d + u) * 16), a[k]);
        }
    __m512 r = _mm512_set1_ps(1 / sqrtf(sum * 0.001736111111f + 1e-5f));
    for (int k = 0; k < 4; k++)
        a[k] = _mm512_mul_ps(a[k], r);
}

/* One head of 64 turned by its position; the angles as a runtime would keep them: cos and sin computed once a head here. */
static void turn_head(__m512 *a, int pos, const float *cs, const float *sn) {
    (void)pos;
    for (int k = 0; k < 4; k++) {
        __m512 swapped = _mm512_permute_ps(a[k], 0xb1);
        a[k] = _mm512_fmadd_ps(a[k], _mm512_loadu_ps(cs + 16 * k), _mm512_mul_ps(swapped, _mm512_loadu_ps(sn + 16 * k)));
    }
}

void hand_qkv(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    (void)local;
    enum { D = 576 };
    static float cs[64], sn[64];
    static int known = -1;
    const float *x = buf[0], *g = buf[1];
    const int32_t *pos = buf[5], *slot = buf[6];
    (void)sym; /* T = 1 */
    if (known != pos[0]) {
        known = pos[0];
        for (int i = 0; i < 64; i++) {
            double angle = known * pow(10000, -(double)(i / 2 * 2) / 64);
            cs[i] = (float)cos(angle);
            sn[i] = (float)sin(angle) * (i % 2 ? 1 : -1);
        }
    }
    for (int64_t i = begin; i < end; i++) {
        __m512 a[4];
        if (i < 9) {
            norm_rows(x, g, (const uint16_t *)buf[2] + i * 64 * D, a);
            turn_head(a, pos[0], cs, sn);
            for (int k = 0; k < 4; k++)
                _mm512_storeu_ps((float *)buf[7] + i * 64 + 16 * k, a[k]);
        } else if (i < 12) {
            norm_rows(x, g, (const uint16_t *)buf[3] + (i - 9) * 64 * D, a);
            turn_head(a, pos[0], cs, sn);
            float e[64], *to = (float *)buf[8] + ((slot[0] / 64 * 3 + (i - 9)) * 64 * 64 + slot[0] % 64 / 16 * 64 * 16 + slot[0] % 16);
            for (int k = 0; k < 4; k++)
                _mm512_storeu_ps(e + 16 * k, a[k]);
            for (int k = 0; k < 64; k++)
                to[16 * k] = e[k];
        } else {
            norm_rows(x, g, (const uint16_t *)buf[4] + (i - 12) * 64 * D, a);
            float *to = (float *)buf[9] + ((slot[0] / 64 * 3 + (i - 12)) * 64 + slot[0] % 64) * 64;
            for (int k = 0; k < 4; k++)
                _mm512_storeu_ps(to + 16 * k, a[k]);
        }
    }
}

static inline __m512 exp512(__m512 x) {
    x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(89)), _mm512_set1_ps(-105));
    __m512 k = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fmadd_ps(k, _mm512_set1_ps(-0.693359375f), x);
    r = _mm512_fmadd_ps(k, _mm512_set1_ps(2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.f / 720);
    static const float c[] = {1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1, 1};
    for (int i = 0; i < 6; i++)
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c[i]));
    return _mm512_scalef_ps(p, k);
}

void hand_gate(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    (void)local;
    enum { D = 576, N = 1536 };
    int64_t T = sym[1], nt = (T + 5) / 6;
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / nt * 32, t = i % nt * 6;
        const float *x[6];
        for (int r = 0; r < 6; r++)
            x[r] = (const float *)buf[0] + (t + r < T ? t + r : T - 1) * D;
        const uint16_t *w1 = (const uint16_t *)buf[1] + n * D, *w3 = (const uint16_t *)buf[2] + n * D;
        __m512 a[6][2], b[6][2];
#pragma GCC unroll 6
        for (int r = 0; r < 6; r++)
            a[r][0] = a[r][1] = b[r][0] = b[r][1] = _mm512_setzero_ps();
        for (int d = 0; d < D; d++) {
            __m512 p0 = bf16(w1 + d * 16), p1 = bf16(w1 + 16 * D + d * 16), q0 = bf16(w3 + d * 16), q1 = bf16(w3 + 16 * D + d * 16);
#pragma GCC unroll 6
            for (int r = 0; r < 6; r++) {
                __m512 v = _mm512_set1_ps(x[r][d]);
                a[r][0] = _mm512_fmadd_ps(v, p0, a[r][0]);
                a[r][1] = _mm512_fmadd_ps(v, p1, a[r][1]);
                b[r][0] = _mm512_fmadd_ps(v, q0, b[r][0]);
                b[r][1] = _mm512_fmadd_ps(v, q1, b[r][1]);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < 6; r++)
            for (int k = 0; k < 2 && t + r < T; k++) {
                __m512 e = _mm512_add_ps(_mm512_set1_ps(1), exp512(_mm512_sub_ps(_mm512_setzero_ps(), a[r][k])));
                _mm512_storeu_ps((float *)buf[3] + (t + r) * N + n + 16 * k, _mm512_mul_ps(_mm512_div_ps(a[r][k], e), b[r][k]));
            }
    }
}

void hand_attend(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    (void)sym, (void)local;
    const int32_t *pages = buf[3], *pos = buf[4];
    for (int64_t i = begin; i < end; i++) {
        int64_t t = i / 3, g = i % 3;
        const float *q = (const float *)buf[0] + t * 576 + g * 192;
        float m[3] = {-INFINITY, -INFINITY, -INFINITY}, l[3] = {0}, p[3][64];
        __m512 o[3][4];
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 4; k++)
                o[j][k] = _mm512_setzero_ps();
        for (int s0 = 0; s0 <= pos[t]; s0 += 64) {
            const float *kp = (const float *)buf[1] + ((int64_t)pages[s0 / 64] * 3 + g) * 4096,
                        *vp = (const float *)buf[2] + ((int64_t)pages[s0 / 64] * 3 + g) * 4096;
            __m512 sc[3][4];
            for (int j = 0; j < 3; j++)
                for (int k = 0; k < 4; k++)
                    sc[j][k] = _mm512_setzero_ps();
            for (int d = 0; d < 64; d++)
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++) {
                    __m512 kv = _mm512_loadu_ps(kp + k * 1024 + d * 16);
#pragma GCC unroll 3
                    for (int j = 0; j < 3; j++)
                        sc[j][k] = _mm512_fmadd_ps(_mm512_set1_ps(q[j * 64 + d]), kv, sc[j][k]);
                }
            int left = pos[t] + 1 - s0;
            left = left > 64 ? 64 : left;
            for (int j = 0; j < 3; j++) {
                __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
                for (int k = 0; k < 4; k++) {
                    __mmask16 in = left >= 16 * k + 16 ? 0xffff : left <= 16 * k ? 0 : (__mmask16)((1u << (left - 16 * k)) - 1);
                    sc[j][k] = _mm512_mask_mul_ps(_mm512_set1_ps(-INFINITY), in, sc[j][k], _mm512_set1_ps(0.125f));
                    top = _mm512_max_ps(top, sc[j][k]);
                }
                float old = m[j];
                m[j] = fmaxf(old, _mm512_reduce_max_ps(top));
                for (int k = 0; k < 4; k++) {
                    sc[j][k] = exp512(_mm512_sub_ps(sc[j][k], _mm512_set1_ps(m[j])));
                    sum = _mm512_add_ps(sum, sc[j][k]);
                    _mm512_storeu_ps(p[j] + 16 * k, sc[j][k]);
                }
                __m512 f = exp512(_mm512_set1_ps(old - m[j]));
                l[j] = l[j] * _mm512_cvtss_f32(f) + _mm512_reduce_add_ps(sum);
                for (int k = 0; k < 4; k++)
                    o[j][k] = _mm512_mul_ps(o[j][k], f);
            }
            for (int s = 0; s < left; s++)
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++) {
                    __m512 v = _mm512_loadu_ps(vp + s * 64 + 16 * k);
#pragma GCC unroll 3
                    for (int j = 0; j < 3; j++)
                        o[j][k] = _mm512_fmadd_ps(_mm512_set1_ps(p[j][s]), v, o[j][k]);
                }
        }
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 4; k++)
                _mm512_storeu_ps((float *)buf[5] + t * 576 + g * 192 + j * 64 + 16 * k, _mm512_div_ps(o[j][k], _mm512_set1_ps(l[j])));
    }
}

void hand_q4_1(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    (void)sym, (void)local;
    enum { N = 12288, B = 18 };
    const __m512i low = _mm512_set1_epi32(0x000f000f);
    for (int64_t i = begin; i < end; i++) {
        int64_t t = i / (N / 32), n = i % (N / 32) * 32;
        const unsigned char *x = (const unsigned char *)buf[0] + t * B * 72, *w = (const unsigned char *)buf[1] + n / 16 * B * 320;
        __m512 acc[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int b = 0; b < B; b++)
#pragma GCC unroll 2
            for (int k = 0; k < 2; k++) {
                const unsigned char *p = w + (k * B + b) * 320, *a = x + b * 72;
                __m512i s[4];
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) {
                    __m512i q = _mm512_loadu_si512(p + 64 * j);
                    int32_t v[4];
                    memcpy(v, a + 8 + 16 * j, 16);
                    s[j] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), _mm512_and_si512(q, low), _mm512_set1_epi32(v[0]));
                    s[j] = _mm512_dpwssd_epi32(s[j], _mm512_and_si512(_mm512_srli_epi32(q, 4), low), _mm512_set1_epi32(v[2]));
                    s[j] = _mm512_dpwssd_epi32(s[j], _mm512_and_si512(_mm512_srli_epi32(q, 8), low), _mm512_set1_epi32(v[1]));
                    s[j] = _mm512_dpwssd_epi32(s[j], _mm512_and_si512(_mm512_srli_epi32(q, 12), low), _mm512_set1_epi32(v[3]));
                }
                __m512i sum = _mm512_add_epi32(_mm512_add_epi32(s[0], s[1]), _mm512_add_epi32(s[2], s[3]));
                __m512 d = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p + 256))),
                       m = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p + 288)));
                float da, sa;
                memcpy(&da, a, 4);
                memcpy(&sa, a + 4, 4);
                acc[k] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(d, _mm512_set1_ps(da)), acc[k]);
                acc[k] = _mm512_fmadd_ps(m, _mm512_set1_ps(sa), acc[k]);
            }
        for (int k = 0; k < 2; k++)
            _mm512_storeu_ps((float *)buf[2] + t * N + n + 16 * k, acc[k]);
    }
}

/* --- what the machine offers ------------------------------------------------------------------------------------------------------ */

#define SIXTEEN(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define ZERO(i) __m512i c##i = _mm512_setzero_si512();
#define LIMIT(name, instruction, per_turn)                                                                                                 \
    double name(int64_t turns) {                                                                                                           \
        __m512i a = _mm512_setzero_si512();                                                                                                \
        SIXTEEN(ZERO)                                                                                                                      \
        for (int64_t k = 0; k < turns; k++) {                                                                                              \
            SIXTEEN(instruction)                                                                                                           \
        }                                                                                                                                  \
        return (double)turns * 16 * per_turn;                                                                                              \
    }
#define FMA(i) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(c##i) : "v"(a));
#define I16(i) __asm__ volatile("vpdpwssd %1, %1, %0" : "+v"(c##i) : "v"(a));
#define I8(i) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(c##i) : "v"(a));
#define BF16(i) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(c##i) : "v"(a));
LIMIT(limit_fma, FMA, 32)
LIMIT(limit_i16, I16, 64)
LIMIT(limit_i8, I8, 128)
LIMIT(limit_bf16, BF16, 64)

int64_t limit_read(const void *p, int64_t bytes) {
    __m512i a[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int64_t i = 0; i < bytes; i += 256)
        for (int k = 0; k < 4; k++)
            a[k] = _mm512_xor_si512(a[k], _mm512_loadu_si512((const char *)p + i + 64 * k));
    return _mm512_reduce_add_epi64(_mm512_xor_si512(_mm512_xor_si512(a[0], a[1]), _mm512_xor_si512(a[2], a[3])));
}
