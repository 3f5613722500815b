/* verb_score.c: `aquila score`: log-probabilities of a given text, token by token, and its perplexity. Fed in parts of PART tokens, each
 * giving the logits of all its positions, so memory does not grow with the text. A text beyond the context goes in windows if --stride says how
 * far apart they begin: each gives what the one before did not, so a token is scored behind at least context - stride others. */
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/subject.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { PART = 128 };

typedef struct best {
    int32_t id;
    float logit;
} best;

typedef struct scores {
    aq_ids ids;
    double *logprobs; /* [0] is not known */
    best *top;
    int64_t n_top;
} scores;

/* The k largest, falling, the lower id first among equals: insertion into a sorted array, as k is small. */
static void find_top(const float *logits, int64_t v, int64_t k, best *top) {
    int64_t n = 0;
    for (int64_t i = 0; i < v; i++) {
        if (n == k && !(logits[i] > top[n - 1].logit))
            continue;
        int64_t at = n < k ? n++ : n - 1;
        for (; at > 0 && logits[i] > top[at - 1].logit; at--)
            top[at] = top[at - 1];
        top[at] = (best){(int32_t)i, logits[i]};
    }
}

static aq_status read_ids(const aq_subject *m, aq_ids *ids) {
    const aq_args *a = m->args;
    const aq_option_value *given = &a->at[AQ_OPT_PROMPT_IDS];
    for (uint32_t i = 0; i < given->n_list; i++) {
        if (given->numbers[i] >= m->checkpoint.config.V)
            return aq_fail(AQ_REFUSED, NULL, "--prompt-ids: %" PRId64 ": expected an id below %" PRId64, given->numbers[i], m->checkpoint.config.V);
        AQ_TRY(aq_ids_push(ids, (int32_t)given->numbers[i]));
    }
    if (given->n)
        return aq_arg_given(a, AQ_OPT_SCORE_FILE) ? aq_fail(AQ_USAGE, NULL, "--prompt-ids and --file: expected one of them") : AQ_OK;
    AQ_TRY(aq_subject_tokenizer(m, ", or --prompt-ids"));
    char *text;
    size_t n;
    const char *path = aq_arg_text(a, AQ_OPT_SCORE_FILE);
    AQ_TRY(aq_file_read(path ? path : "-", (size_t)1 << 28, &text, &n));
    aq_status status = AQ_OK;
    if (aq_tokenizer_adds_bos(m->tokenizer))
        status = aq_ids_push(ids, aq_tokenizer_bos(m->tokenizer));
    if (status == AQ_OK)
        status = aq_tokenizer_encode(m->tokenizer, text, n, 1, ids);
    aq_mem_free(text);
    return status;
}

typedef struct walk { /* how the text is fed */
    int64_t context, stride, part; /* stride: context where one window holds all */
    aq_rt_sampler *sampler;
} walk;

static aq_status plan_walk(const aq_subject *m, const scores *s, walk *w) {
    const aq_args *a = m->args;
    int64_t n = (int64_t)s->ids.n, most = m->checkpoint.config.max_length;
    if (n == 0)
        return aq_fail(AQ_REFUSED, NULL, "nothing to score: expected at least one token");
    w->context = aq_arg_given(a, AQ_OPT_CONTEXT) ? aq_arg_number(a, AQ_OPT_CONTEXT) : most > 0 && most < n ? most : n;
    w->stride = aq_arg_given(a, AQ_OPT_STRIDE) ? aq_arg_number(a, AQ_OPT_STRIDE) : w->context;
    if (n > w->context && !aq_arg_given(a, AQ_OPT_STRIDE))
        return aq_fail(AQ_REFUSED, NULL,
                       "the text has %" PRId64 " tokens: expected at most %" PRId64 ", the context, or --stride N to score it by windows",
                       n, w->context);
    if (w->stride >= w->context && n > w->context)
        return aq_fail(AQ_USAGE, NULL, "--stride %" PRId64 ": expected less than the context of %" PRId64, w->stride, w->context);
    int64_t batch = aq_arg_given(a, AQ_OPT_BATCH) ? aq_arg_number(a, AQ_OPT_BATCH) : PART;
    w->part = batch < PART ? batch : PART;
    w->part = w->part < w->context ? w->part : w->context;
    w->part = w->part < n ? w->part : n;
    return AQ_OK;
}

/* Tokens [begin, end) through an empty sequence; log-probabilities of those from `from` on, and the best of the text's last position. Where none of a
 * part is wanted its logits are not made. */
static aq_status score_window(aq_subject *m, const walk *w, scores *s, int64_t begin, int64_t end, int64_t from) {
    int64_t v = m->checkpoint.config.V, n = (int64_t)s->ids.n;
    AQ_TRY(aq_engine_truncate(m->engine, 0, 0));
    for (int64_t at = begin; at < end; at += w->part) {
        const float *logits;
        int64_t count = end - at < w->part ? end - at : w->part, first = from - 1 > at ? from - 1 - at : 0, wanted = count > first ? count - first : 0;
        AQ_TRY(aq_engine_feed(m->engine, 0, s->ids.at + at, count, wanted, &logits));
        for (int64_t i = 0; i < wanted && at + first + i + 1 < end; i++) {
            int64_t of = at + first + i + 1;
            s->logprobs[of] = aq_rt_logprob(w->sampler, logits + i * v, s->ids.at[of]);
        }
        if (at + count == n && wanted)
            find_top(logits + (wanted - 1) * v, v, s->n_top, s->top);
    }
    return AQ_OK;
}

static aq_status score(aq_subject *m, scores *s) {
    int64_t n = (int64_t)s->ids.n;
    walk w;
    AQ_TRY(plan_walk(m, s, &w));
    const aq_subject_needs needs = {.context = w.context, .batch = w.part, .outputs = w.part};
    AQ_TRY(aq_subject_start(m, &needs));
    AQ_TRY(aq_rt_sampler_open(&(aq_rt_sampling){0}, m->checkpoint.config.V, &w.sampler));
    aq_status status = AQ_OK;
    for (int64_t begin = 0, done = 0; done < n && status == AQ_OK; begin += w.stride) {
        int64_t end = n - begin < w.context ? n : begin + w.context;
        status = score_window(m, &w, s, begin, end, done > 1 ? done : 1);
        done = end;
    }
    aq_rt_sampler_close(w.sampler);
    return status;
}

static double perplexity(const scores *s) {
    double sum = 0;
    for (size_t i = 1; i < s->ids.n; i++)
        sum += s->logprobs[i];
    return s->ids.n > 1 ? exp(-sum / (double)(s->ids.n - 1)) : NAN;
}

static aq_status print_json(const scores *s) {
    cJSON *o = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(o, "tokens");
    for (size_t i = 0; i < s->ids.n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(s->ids.at[i]));
    list = cJSON_AddArrayToObject(o, "logprobs");
    cJSON_AddItemToArray(list, cJSON_CreateNull());
    for (size_t i = 1; i < s->ids.n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(s->logprobs[i]));
    if (s->ids.n > 1)
        cJSON_AddNumberToObject(o, "perplexity", perplexity(s));
    else
        cJSON_AddNullToObject(o, "perplexity");
    list = cJSON_AddArrayToObject(o, "top_logits");
    for (int64_t i = 0; i < s->n_top; i++) {
        cJSON *one = cJSON_CreateObject();
        aq_json_set_int(one, "id", s->top[i].id);
        cJSON_AddNumberToObject(one, "logit", s->top[i].logit);
        cJSON_AddItemToArray(list, one);
    }
    return aq_json_print(o);
}

static void print(const aq_subject *m, const scores *s) {
    for (size_t i = 0; aq_arg_given(m->args, AQ_OPT_VERBOSE) && i < s->ids.n; i++) {
        aq_bytes text = m->tokenizer ? aq_tokenizer_text(m->tokenizer, s->ids.at[i]) : (aq_bytes){"", 0};
        printf("%" PRId32 "\t%.4f\t", s->ids.at[i], i ? s->logprobs[i] : NAN);
        aq_json_write(stdout, text.s, text.n);
        putchar('\n');
    }
    for (int64_t i = 0; i < s->n_top; i++)
        printf("%" PRId32 "\t%.6g\n", s->top[i].id, (double)s->top[i].logit);
    printf("%zu tokens, perplexity %.4f\n", s->ids.n, perplexity(s));
}

aq_status aq_verb_score(const aq_args *a) {
    aq_subject m;
    aq_arena arena = {0};
    scores s = {.n_top = aq_arg_number(a, AQ_OPT_TOP_LOGITS)};
    aq_status status;
    void *block;
    AQ_TRY_GOTO(status, close, aq_subject_open(a, a->operand[0], &m));
    AQ_TRY_GOTO(status, close, read_ids(&m, &s.ids));
    s.n_top = s.n_top < m.checkpoint.config.V ? s.n_top : m.checkpoint.config.V;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, s.ids.n + 1, sizeof *s.logprobs, &block));
    s.logprobs = block;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, (size_t)s.n_top + 1, sizeof *s.top, &block));
    s.top = block;
    AQ_TRY_GOTO(status, close, score(&m, &s));
    if (aq_arg_given(a, AQ_OPT_JSON))
        status = print_json(&s);
    else
        print(&m, &s);
close:
    aq_ids_close(&s.ids);
    aq_arena_close(&arena);
    aq_subject_close(&m);
    return status;
}
