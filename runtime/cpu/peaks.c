/* peaks.c: the limits of this machine, measured: reading memory, and multiply-adds of each kind. Every share of a limit that `bench` prints
 * divides by one of these, measured in the same run, because the same kind of machine differs from day to day.
 *
 * A round gives every worker the same fixed work, of 10 to 20 ms; the best round counts: on a shared machine the others say how busy it is,
 * not what it can do. Compute loops hold 12 independent chains, enough for a latency of 4 cycles and 2 units. */
#include "ir/clock.h"
#include "ir/memory.h"
#include "runtime/aquila_rt.h"
#include "runtime/cpu/features.h"
#include "runtime/team.h"

#include <immintrin.h>
#include <string.h>

enum { CHAINS = 12 };
#define BYTES ((size_t)512 << 20)

/* What a loop leaves behind, so that no compiler drops it. */
typedef struct sink {
    _Alignas(64) unsigned char bytes[64];
} sink;

#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

/* LOOP(name, target, register type, start, instruction on (chain, a, b), store): n turns of CHAINS instructions. */
#define LOOP(name, isa, type, zero, op, keep)                                                                                               \
    __attribute__((target(isa))) static void name(int64_t n, sink *s) {                                                                     \
        type a, b;                                                                                                                          \
        memcpy(&a, s->bytes, sizeof a);                                                                                                     \
        memcpy(&b, s->bytes, sizeof b);                                                                                                     \
        TWELVE(DECLARE_##type)                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                                                   \
            TWELVE(op)                                                                                                                      \
            __asm__ volatile("" : "+x"(a), "+x"(b)); /* not the same product twice */                                                       \
        }                                                                                                                                   \
        type sum = zero;                                                                                                                    \
        TWELVE(keep)                                                                                                                        \
        memcpy(s->bytes, &sum, sizeof sum);                                                                                                 \
    }
/* A chain whose start the compiler does not know: twelve equal ones would be computed once. */
#define CHAIN(type, c, zero)                                                                                                                \
    type c = zero;                                                                                                                          \
    __asm__("" : "+x"(c));
#define DECLARE___m128(i) CHAIN(__m128, c##i, _mm_setzero_ps())
#define DECLARE___m256(i) CHAIN(__m256, c##i, _mm256_setzero_ps())
#define DECLARE___m512(i) CHAIN(__m512, c##i, _mm512_setzero_ps())
#define DECLARE___m512i(i) CHAIN(__m512i, c##i, _mm512_setzero_si512())
#define ADD_128(i) sum = _mm_add_ps(sum, c##i);
#define ADD_256(i) sum = _mm256_add_ps(sum, c##i);
#define ADD_512(i) sum = _mm512_add_ps(sum, c##i);
#define ADD_512I(i) sum = _mm512_add_epi32(sum, c##i);
#define MUL_ADD(i) c##i = _mm_add_ps(c##i, _mm_mul_ps(a, b));
#define FMA_256(i) c##i = _mm256_fmadd_ps(a, b, c##i);
#define FMA_512(i) c##i = _mm512_fmadd_ps(a, b, c##i);
#define DOT_BF16(i) c##i = _mm512_dpbf16_ps(c##i, (__m512bh)a, (__m512bh)b);
#define DOT_I16(i) c##i = _mm512_dpwssd_epi32(c##i, a, b);
#define DOT_I8(i) c##i = _mm512_dpbusd_epi32(c##i, a, b);

LOOP(f32_sse, "sse2", __m128, _mm_setzero_ps(), MUL_ADD, ADD_128)
LOOP(f32_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), FMA_256, ADD_256)
LOOP(f32_avx512, "avx512f", __m512, _mm512_setzero_ps(), FMA_512, ADD_512)
LOOP(bf16_avx512, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), DOT_BF16, ADD_512)
LOOP(int16_avx512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), DOT_I16, ADD_512I)
LOOP(int8_avx512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), DOT_I8, ADD_512I)

typedef struct round_work {
    void (*loop)(int64_t n, sink *s);
    int64_t n;
    const unsigned char *memory; /* reading instead */
    int workers;
} round_work;

typedef uint64_t lanes __attribute__((vector_size(64))); /* sums wrap */

static void read_all(const unsigned char *at, size_t bytes, sink *s) {
    lanes sum[4] = {{0}};
    for (size_t i = 0; i + 4 * sizeof(lanes) <= bytes; i += 4 * sizeof(lanes))
        for (size_t k = 0; k < 4; k++)
            sum[k] += *(const lanes *)(const void *)(at + i + k * sizeof(lanes));
    sum[0] += sum[1] + sum[2] + sum[3];
    memcpy(s->bytes, &sum[0], sizeof s->bytes);
}

static void work(void *user, int worker) {
    const round_work *w = user;
    sink s = {{0}};
    size_t part = BYTES / (size_t)w->workers & ~(size_t)255;
    if (w->memory)
        read_all(w->memory + (size_t)worker * part, part, &s);
    else
        w->loop(w->n, &s);
    __asm__ volatile("" : : "r"(&s) : "memory");
}

static void touch(void *user, int worker) {
    const round_work *w = user;
    size_t part = BYTES / (size_t)w->workers & ~(size_t)255;
    memset((void *)(uintptr_t)(w->memory + (size_t)worker * part), 1, part);
}

/* The shortest round within `seconds`, in ns. */
static double best_round(aq_team *team, round_work *w, double seconds) {
    int64_t start = aq_clock_ns(), end = start + (int64_t)(seconds * 1e9), best = INT64_MAX;
    for (int64_t then = start; then < end;) {
        aq_team_run(team, work, w);
        int64_t now = aq_clock_ns();
        best = now - then < best ? now - then : best;
        then = now;
    }
    return (double)best;
}

/* Operations a ns of all workers. */
static double rate(aq_team *team, void (*loop)(int64_t, sink *), int lanes_of_op, double seconds) {
    round_work w = {.loop = loop, .n = 1 << 20, .workers = aq_team_size(team)};
    if (!loop)
        return 0;
    return 2.0 * lanes_of_op * CHAINS * (double)w.n * w.workers / best_round(team, &w, seconds);
}

static aq_status measure(aq_team *team, double seconds, aq_rt_peaks *out) {
    void *memory;
    AQ_TRY(aq_mem_map(BYTES, &memory));
    round_work w = {.memory = memory, .workers = aq_team_size(team)};
    aq_team_run(team, touch, &w);
    out->read_gb_per_s = (double)(BYTES / (size_t)w.workers & ~(size_t)255) * w.workers / best_round(team, &w, seconds);
    aq_mem_unmap(memory, BYTES);
    int wide = aq_rt_cpu_has(AQ_CPU_avx512f), vnni = wide && aq_rt_cpu_has(AQ_CPU_avx512_vnni);
    int avx2 = aq_rt_cpu_has(AQ_CPU_avx2) && aq_rt_cpu_has(AQ_CPU_fma);
    out->f32_gflops = rate(team, wide ? f32_avx512 : avx2 ? f32_avx2 : f32_sse, wide ? 16 : avx2 ? 8 : 4, seconds);
    out->bf16_gflops = rate(team, wide && aq_rt_cpu_has(AQ_CPU_avx512_bf16) ? bf16_avx512 : NULL, 32, seconds);
    out->int16_gops = rate(team, vnni ? int16_avx512 : NULL, 32, seconds);
    out->int8_gops = rate(team, vnni ? int8_avx512 : NULL, 64, seconds);
    return AQ_OK;
}

aq_status aq_rt_limits_measure(int threads, double seconds, aq_rt_peaks *out) {
    aq_rt_peaks p = {0};
    aq_team *team;
    AQ_TRY(aq_team_open(threads, &team));
    aq_status status = measure(team, seconds, &p);
    aq_team_close(team);
    if (status == AQ_OK)
        *out = p;
    return status;
}
