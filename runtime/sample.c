/* sample.c: a token from logits.
 *
 *   order 0: logits / temperature, keep the k largest and all that equal the k-th, softmax, falling order, drop every token whose
 *            cumulative probability before it exceeds top_p, renormalise, draw.
 *   order 1: drop every token whose cumulative probability before it, by the raw logits, reaches top_p (the first stays), then the k largest,
 *            then temperature, draw.
 * In both what survives is the head of one falling order (equal logits: the lower id first), so both are: take the k largest, sort those,
 * cut. Only without top_k may the head be long: then 1024 are taken, and eight times as many as often as top_p was not reached.
 *
 * Cost: a few passes over the logits (scan.c); tests/runtime/test_sample.c prints what each way takes. A token allocates nothing. NaN
 * counts as minus infinity. Sums and exponentials are f64.
 * Dropped: sorting all logits (4 ms of 49152). */
#include "ir/memory.h"
#include "ir/random.h"
#include "runtime/aquila_rt.h"
#include "runtime/scan.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { FIRST_HEAD = 1024 };

struct aq_rt_sampler {
    aq_rt_sampling how;
    int64_t vocab;
    aq_random random;
    const aq_scan *scan;
    aq_candidate *head; /* of vocab */
    float *heap;        /* of vocab */
    double *weight;     /* of vocab */
};

/* (x - max) * scale, where equal infinities differ by nothing. */
static double distance(float x, float max, double scale) {
    if (x == max)
        return 0;
    return x > -INFINITY ? ((double)x - (double)max) * scale : -INFINITY; /* -inf for NaN too */
}

/* The sum over all logits of exp((x - max) * scale); weight (may be NULL) gets each of them. */
static double sum_all(const aq_rt_sampler *s, const float *x, float max, double scale, double *weight) {
    double all = 0;
    if (!isinf(max))
        return s->scan->sum_exp(x, s->vocab, max, scale, weight);
    for (int64_t i = 0; i < s->vocab; i++) { /* differences mean nothing: the largest share everything; nothing but NaN and -inf: all do */
        double w = x[i] == max || max < 0 ? 1 : 0;
        all += w;
        if (weight)
            weight[i] = w;
    }
    return all;
}

/* ---- the head of the falling order ---- */

static int before(aq_candidate a, aq_candidate b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

/* Heapsort: in place (qsort of libc allocates), no bad case. */
static void sort_falling(aq_candidate *c, int64_t n) {
    for (int64_t left = n / 2, right = n; right > 1;) {
        aq_candidate x;
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
    float least = k < s->vocab ? s->scan->kth_largest(x, s->vocab, k, s->heap) : -INFINITY;
    int64_t n = 0;
    if (least > -INFINITY)
        n = s->scan->gather(x, s->vocab, least, s->head);
    else
        for (; n < s->vocab; n++) /* NaN too */
            s->head[n] = (aq_candidate){x[n] == x[n] ? x[n] : -INFINITY, (int32_t)n};
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
    int meets = s->how.order == 1; /* to meet the bound is enough */
    for (int64_t i = 0; i < n; i++) {
        if (sum > bound || (meets && i && sum >= bound))
            return i;
        sum += s->weight[i];
    }
    return n == s->vocab || sum > bound || (meets && sum >= bound) ? n : 0;
}

static int32_t sample(aq_rt_sampler *s, const float *x, float max) {
    int by_k = s->how.top_k > 0 && s->how.top_k < s->vocab, by_p = s->how.top_p < 1;
    double scale = s->how.temperature > 1e-300 ? 1 / s->how.temperature : 1e300, first = s->how.order ? 1 : scale;
    if (!by_k && !by_p) {
        double all = 0;
        sum_all(s, x, max, scale, s->weight);
        for (int64_t i = 0; i < s->vocab; i++)
            all += s->weight[i];
        return (int32_t)draw(s, s->weight, s->vocab, all);
    }
    int64_t k = by_k ? s->how.top_k : FIRST_HEAD, n, kept;
    double all = by_p && (!by_k || s->how.order) ? sum_all(s, x, max, first, NULL) : 0;
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

static double logprob(const aq_rt_sampler *s, const float *logits, float max, int32_t id) {
    return distance(logits[id], max, 1) - log(sum_all(s, logits, max, 1, NULL));
}

int32_t aq_rt_sample(aq_rt_sampler *s, const float *logits, double *out_logprob) {
    float max = s->scan->largest(logits, s->vocab);
    int32_t id = s->how.temperature > 0 ? sample(s, logits, max) : (int32_t)s->scan->find(logits, s->vocab, max);
    if (out_logprob)
        *out_logprob = logprob(s, logits, max, id);
    return id;
}

double aq_rt_logprob(const aq_rt_sampler *s, const float *logits, int32_t id) { return logprob(s, logits, s->scan->largest(logits, s->vocab), id); }

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
    size_t n = ((size_t)vocab + 7) / 8 * 8, head = (sizeof(aq_rt_sampler) + 63) & ~(size_t)63;
    AQ_TRY(aq_mem_alloc(head + n * (sizeof(double) + sizeof(aq_candidate) + sizeof(float)), &at));
    aq_rt_sampler *s = at;
    s->how = *how;
    s->vocab = vocab;
    s->random = aq_random_open(how->seed);
    s->scan = aq_scan_here();
    s->weight = (void *)((char *)at + head);
    s->head = (void *)(s->weight + n);
    s->heap = (void *)(s->head + n);
    *out = s;
    return AQ_OK;
}

void aq_rt_sampler_close(aq_rt_sampler *s) { aq_mem_free(s); }
