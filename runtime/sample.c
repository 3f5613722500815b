/* sample.c: a token from logits.
 *
 *   order 0: logits / temperature, keep the k largest and all that equal the k-th, softmax, falling order, drop every token whose
 *            cumulative probability before it exceeds top_p, renormalise, draw.
 *   order 1: drop by top_p on the softmax of the raw logits, then the k largest, then temperature, draw.
 * In both what survives is the head of one falling order (equal logits: the lower id first), so both are: take the k largest, sort those,
 * cut. Only without top_k may the head be long: then 1024 are taken, and eight times as many as often as top_p was not reached.
 *
 * Cost (Zen 4, 49152 logits, one thread): see tests/runtime/test_sample.c, which prints it. A token allocates nothing. NaN counts as minus
 * infinity. Sums and exponentials are f64; exp is our own, in vectors, with an error below 2 ulp: libm's scalar one took longer than the
 * rest of the sampling.
 * Dropped: sorting all logits (4 ms), a radix select (no faster than the heap, whose threshold almost every logit fails at once). */
#include "ir/memory.h"
#include "ir/random.h"
#include "runtime/aquila_rt.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { LANES = 8, FIRST_HEAD = 1024 };

typedef float lanes_f32 __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t lanes_i32 __attribute__((vector_size(LANES * 4)));
typedef double lanes_f64 __attribute__((vector_size(LANES * 8)));
typedef int64_t lanes_i64 __attribute__((vector_size(LANES * 8)));

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

struct aq_rt_sampler {
    aq_rt_sampling how;
    int64_t vocab;
    aq_random random;
    candidate *head; /* of vocab */
    float *heap;     /* of vocab */
    double *weight;  /* of vocab */
};

/* ---- reductions over all logits ---- */

/* The largest logit; -inf if there is none but NaN. */
static float largest(const float *x, int64_t n) {
    lanes_f32 m;
    for (int j = 0; j < LANES; j++)
        m[j] = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes_f32 v = *(const lanes_f32 *)(const void *)(x + i);
        lanes_i32 more = v > m; /* false for NaN */
        m = (lanes_f32)((more & (lanes_i32)v) | (~more & (lanes_i32)m));
    }
    float max = -INFINITY;
    for (int j = 0; j < LANES; j++)
        max = m[j] > max ? m[j] : max;
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static int32_t first_of(const float *x, int64_t n, float value) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] == value)
            return (int32_t)i;
    return 0; /* all are NaN */
}

/* exp of each lane, for x <= 0; below -700 as at -700 (1e-304: nothing beside the 1 of the largest), NaN too. x = k ln 2 + r, the Taylor
 * polynomial of e^r to r^12 (|r| <= ln 2 / 2: rest below 2e-16), k added to the exponent. */
static inline __attribute__((always_inline)) void exp_lanes(const lanes_f64 *in, lanes_f64 *out) {
    const double magic = 0x1.8p52; /* adding it rounds to an integer, kept in the low bits */
    lanes_f64 x = *in;
    const lanes_f64 least = (lanes_f64){0} - 700.0;
    lanes_i64 above = x > least;
    x = (lanes_f64)((above & (lanes_i64)x) | (~above & (lanes_i64)least));
    lanes_f64 shifted = x * 0x1.71547652b82fep0 + magic;
    lanes_f64 k = shifted - magic;
    lanes_f64 r = x - k * 0x1.62e42fefa38p-1 - k * 0x1.ef35793c7673p-45;
    lanes_f64 p = r * (1.0 / 479001600) + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    *out = (lanes_f64)((lanes_i64)p + ((lanes_i64)shifted << 52));
}

/* (x - max) * scale, where equal infinities differ by nothing. */
static double distance(float x, float max, double scale) {
    if (x == max)
        return 0;
    return x > -INFINITY ? ((double)x - (double)max) * scale : -INFINITY; /* -inf for NaN too */
}

/* Sum of exp((x - max) * scale); weight (may be NULL) gets each of them. Lane j sums the elements j mod LANES, then a tree. */
static double sum_exp(const float *x, int64_t n, float max, double scale, double *weight) {
    lanes_f64 sum = {0}, e;
    if (isinf(max)) { /* differences mean nothing: the largest share everything */
        double all = 0;
        for (int64_t i = 0; i < n; i++) {
            double w = x[i] == max || max < 0 ? 1 : 0;
            all += w;
            if (weight)
                weight[i] = w;
        }
        return all;
    }
    for (int64_t i = 0; i < n; i += LANES) {
        lanes_f32 v;
        int64_t left = n - i < LANES ? n - i : LANES;
        if (left == LANES)
            v = *(const lanes_f32 *)(const void *)(x + i);
        else
            for (int j = 0; j < LANES; j++)
                v[j] = j < left ? x[i + j] : -INFINITY;
        lanes_f64 d = (__builtin_convertvector(v, lanes_f64) - (double)max) * scale;
        exp_lanes(&d, &e);
        sum += e;
        if (weight)
            memcpy(weight + i, &e, (size_t)left * sizeof *weight);
    }
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/* ---- the head of the falling order ---- */

static void sift_down(float *heap, int64_t n, int64_t i) { /* smallest on top */
    float x = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[child] >= x)
            break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

static float ordered(float x) { return x == x ? x : -INFINITY; }

/* The k-th largest logit, 1 <= k <= n. Almost every logit is below the threshold, so LANES of them are passed at a look. */
static float kth_largest(const float *x, int64_t n, int64_t k, float *heap) {
    for (int64_t i = 0; i < k; i++)
        heap[i] = ordered(x[i]);
    for (int64_t i = k / 2; i-- > 0;)
        sift_down(heap, k, i);
    for (int64_t i = k; i < n; i++) {
        if (i + LANES <= n) {
            lanes_i32 more = *(const lanes_f32 *)(const void *)(x + i) > heap[0];
            int64_t any[LANES / 2];
            memcpy(any, &more, sizeof any);
            if (!(any[0] | any[1] | any[2] | any[3])) {
                i += LANES - 1;
                continue;
            }
        }
        if (x[i] > heap[0]) {
            heap[0] = x[i];
            sift_down(heap, k, 0);
        }
    }
    return heap[0];
}

static int before(candidate a, candidate b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

/* Heapsort: in place (qsort of libc allocates), no bad case. */
static void sort_falling(candidate *c, int64_t n) {
    for (int64_t left = n / 2, right = n; right > 1;) {
        candidate x;
        if (left > 0) {
            x = c[--left];
        } else {
            x = c[--right];
            c[right] = c[0];
        }
        int64_t i = left;
        for (int64_t child; (child = 2 * i + 1) < right; i = child) {
            child += child + 1 < right && before(c[child], c[child + 1]);
            if (!before(x, c[child]))
                break;
            c[i] = c[child];
        }
        c[i] = x;
    }
}

/* s->head = the k largest and those that equal the k-th, in falling order; how many. */
static int64_t take_head(aq_rt_sampler *s, const float *x, int64_t k) {
    int64_t n = 0;
    float least = k < s->vocab ? kth_largest(x, s->vocab, k, s->heap) : -INFINITY;
    for (int64_t i = 0; i < s->vocab; i++)
        if (x[i] >= least || least == -INFINITY)
            s->head[n++] = (candidate){ordered(x[i]), (int32_t)i};
    sort_falling(s->head, n);
    return n;
}

/* ---- draws ---- */

/* From the first n weights, whose sum in this order is `all`. */
static int64_t draw(aq_rt_sampler *s, const double *weight, int64_t n, double all) {
    double u = aq_random_unit(&s->random) * all, sum = 0;
    int64_t last = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += weight[i];
        if (weight[i] > 0)
            last = i;
        if (u < sum)
            return i;
    }
    return last; /* u is within a rounding error of the sum */
}

/* Weights of the first n of the head; their sum. */
static double weigh(aq_rt_sampler *s, int64_t n, float max, double scale) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += s->weight[i] = exp(distance(s->head[i].logit, max, scale));
    return sum;
}

/* How many of the head survive top_p, given the sum of all weights; 0: the head is too short to tell. */
static int64_t cut(const aq_rt_sampler *s, int64_t n, double all) {
    double sum = 0, bound = s->how.top_p * all;
    for (int64_t i = 0; i < n; i++) {
        if (sum > bound)
            return i;
        sum += s->weight[i];
    }
    return n == s->vocab || sum > bound ? n : 0;
}

static int32_t sample(aq_rt_sampler *s, const float *x, float max) {
    int by_k = s->how.top_k > 0 && s->how.top_k < s->vocab, by_p = s->how.top_p < 1;
    double scale = s->how.temperature > 1e-300 ? 1 / s->how.temperature : 1e300, first = s->how.order ? 1 : scale;
    if (!by_k && !by_p) {
        double all = 0;
        sum_exp(x, s->vocab, max, scale, s->weight);
        for (int64_t i = 0; i < s->vocab; i++)
            all += s->weight[i];
        return (int32_t)draw(s, s->weight, s->vocab, all);
    }
    int64_t k = by_k ? s->how.top_k : FIRST_HEAD, n, kept;
    double all = by_p && (!by_k || s->how.order) ? sum_exp(x, s->vocab, max, first, NULL) : 0;
    for (;; k *= 8) {
        k = k < s->vocab ? k : s->vocab;
        kept = n = take_head(s, x, k);
        double sum = weigh(s, n, max, first);
        if (by_p)
            kept = cut(s, n, all > 0 ? all : sum);
        if (kept || by_k)
            break;
    }
    if (!kept)
        kept = n; /* top_p reaches beyond the k largest */
    double rest = weigh(s, kept, max, scale);
    return s->head[draw(s, s->weight, kept, rest)].id;
}

int32_t aq_rt_sample(aq_rt_sampler *s, const float *logits, double *out_logprob) {
    float max = largest(logits, s->vocab);
    int32_t id = s->how.temperature > 0 ? sample(s, logits, max) : first_of(logits, s->vocab, max);
    if (out_logprob)
        *out_logprob = distance(logits[id], max, 1) - log(sum_exp(logits, s->vocab, max, 1, NULL));
    return id;
}

/* ---- open and close ---- */

static aq_status check(const aq_rt_sampling *how, int64_t vocab) {
    if (vocab < 1 || vocab > INT32_MAX)
        return aq_fail(AQ_REFUSED, NULL, "a vocabulary of %" PRId64 ": expected 1 to 2^31-1", vocab);
    if (!(how->temperature >= 0) || isinf(how->temperature))
        return aq_fail(AQ_USAGE, NULL, "temperature %g: expected 0 or more", how->temperature);
    if (!(how->top_p >= 0))
        return aq_fail(AQ_USAGE, NULL, "top-p %g: expected 0 to 1", how->top_p);
    if (how->top_k < 0)
        return aq_fail(AQ_USAGE, NULL, "top-k %" PRId64 ": expected 0 (all) or more", how->top_k);
    if (how->order != 0 && how->order != 1)
        return aq_fail(AQ_USAGE, NULL, "order %d of the filters: expected 0 or 1", how->order);
    return AQ_OK;
}

aq_status aq_rt_sampler_open(const aq_rt_sampling *how, int64_t vocab, aq_rt_sampler **out) {
    void *at;
    AQ_TRY(check(how, vocab));
    size_t n = ((size_t)vocab + LANES - 1) / LANES * LANES, head = (sizeof(aq_rt_sampler) + 63) & ~(size_t)63;
    AQ_TRY(aq_mem_alloc(head + n * (sizeof(double) + sizeof(candidate) + sizeof(float)), &at));
    aq_rt_sampler *s = at;
    s->how = *how;
    s->vocab = vocab;
    s->random = aq_random_open(how->seed);
    s->weight = (void *)((char *)at + head);
    s->head = (void *)(s->weight + n);
    s->heap = (void *)(s->head + n);
    *out = s;
    return AQ_OK;
}

void aq_rt_sampler_close(aq_rt_sampler *s) { aq_mem_free(s); }
