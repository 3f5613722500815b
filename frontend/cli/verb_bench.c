/* verb_bench.c: `aquila bench`: prompt and decode rates, each beside the share of this machine's limit that it is. The limits are measured in
 * the same run, by the runtime's own loops, with the same number of threads.
 *
 * Limit of decoding: every stored byte of the weights and of the cache in use is read once a token. Limit of a prompt: two operations a matrix
 * element and token, against the peak of the arithmetic that the weights' type and --activations lead to. Tokens are drawn from a fixed
 * seed; before the timed repeats comes one that does not count. */
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/subject.h"
#include "ir/clock.h"
#include "ir/plan.h"
#include "ir/random.h"
#include "runtime/cpu/features.h"
#include "runtime/team.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef struct result {
    int64_t n_prompt, n_gen, depth;
    int threads;
    double rate, deviation, share;
    const char *limit;
} result;

typedef struct bench {
    aq_subject *subject;
    const aq_args *args;
    int32_t *tokens;       /* as many as any feed takes */
    double weight_bytes, matrix_elements, position_bytes; /* read a token; multiplied a token; cache bytes a position */
    aq_rt_peaks peaks;     /* of the number of threads now */
    AQ_VEC(result) results;
} bench;

static int64_t largest(const aq_option_value *v) {
    int64_t most = 0;
    for (uint32_t i = 0; i < v->n_list; i++)
        most = v->numbers[i] > most ? v->numbers[i] : most;
    return most;
}

static aq_status draw_tokens(bench *b, int64_t n) {
    aq_random r = aq_random_open(1);
    AQ_ALLOC(&b->subject->arena, b->tokens, n + 1);
    for (int64_t i = 0; i < n; i++)
        b->tokens[i] = (int32_t)aq_random_below(&r, (uint32_t)b->subject->checkpoint.config.V);
    return AQ_OK;
}

/* From the plan: what a token reads and multiplies. The table of the embedding is read by one row; a tied output is a
 * weight of its own here. */
static void weigh(bench *b) {
    const aq_plan *p = aq_rt_plan_tables(aq_engine_plan(b->subject->engine));
    b->weight_bytes = b->matrix_elements = b->position_bytes = 0;
    for (uint32_t i = 0; i < p->n_weights; i++) {
        const aq_plan_weight *w = &p->weights[i];
        int is_table = !strcmp(p->strings + w->name, "tok_embeddings");
        if (is_table || w->rank != 2)
            continue;
        b->weight_bytes += (double)(w->alias ? p->weights[w->alias - 1].bytes : w->bytes);
        b->matrix_elements += (double)w->dim[0] * (double)w->dim[1];
    }
    for (uint32_t i = 0; i < p->n_states; i++) {
        const aq_plan_state *s = &p->states[i];
        double n = (double)aq_dtype_of((aq_dtype)s->dtype)->bytes;
        for (uint32_t d = 0; d < s->rank; d++)
            n *= s->dim[d].sym ? 1 : (double)s->dim[d].k;
        b->position_bytes += n;
    }
}

/* The arithmetic peak that prompts are measured against, in operations a nanosecond, and its name. */
static double peak_of(const bench *b, const char **name) {
    const aq_plan *p = aq_rt_plan_tables(aq_engine_plan(b->subject->engine));
    const char *activations = b->args->at[AQ_OPT_ACTIVATIONS].n ? aq_arg_text(b->args, AQ_OPT_ACTIVATIONS) : "int16";
    uint64_t blocks = 0, halves = 0, all = 0;
    for (uint32_t i = 0; i < p->n_weights; i++) {
        blocks += aq_dtype_of((aq_dtype)p->weights[i].dtype)->kind == AQ_KIND_WEIGHT ? p->weights[i].bytes : 0;
        halves += p->weights[i].dtype == AQ_BF16 ? p->weights[i].bytes : 0;
        all += p->weights[i].bytes;
    }
    if (halves * 2 > all && !strcmp(activations, "bf16") && b->peaks.bf16_gflops > 0) {
        *name = "bf16_gflops";
        return b->peaks.bf16_gflops;
    }
    int quantised = blocks * 2 > all;
    *name = !quantised || !strcmp(activations, "f32") || !strcmp(activations, "bf16") ? "f32_gflops" : !strcmp(activations, "int8") ? "int8_gops" : "int16_gops";
    return **name == 'f' ? b->peaks.f32_gflops : (*name)[3] == '8' ? b->peaks.int8_gops : b->peaks.int16_gops;
}

/* One measurement: n tokens at once (prompt) or one by one, behind `depth` positions. */
static aq_status once(bench *b, int64_t depth, int64_t n, int is_prompt, int64_t *ns) {
    aq_engine *e = b->subject->engine;
    const float *logits;
    AQ_TRY(aq_engine_truncate(e, 0, depth));
    int64_t start = aq_clock_ns();
    if (is_prompt)
        AQ_TRY(aq_engine_feed(e, 0, b->tokens, n, 1, &logits));
    for (int64_t i = 0; !is_prompt && i < n; i++)
        AQ_TRY(aq_engine_feed(e, 0, b->tokens + i, 1, 1, &logits));
    *ns = aq_clock_ns() - start;
    return AQ_OK;
}

static aq_status measure(bench *b, int threads, int64_t depth, int64_t n, int is_prompt) {
    int64_t repeats = aq_arg_number(b->args, AQ_OPT_REPEAT), ns;
    double sum = 0, squares = 0;
    if (n == 0)
        return AQ_OK;
    AQ_TRY(once(b, depth, is_prompt || n < 8 ? n : 8, is_prompt, &ns));
    for (int64_t i = 0; i < repeats; i++) {
        AQ_TRY(once(b, depth, n, is_prompt, &ns));
        double rate = (double)n * 1e9 / (double)ns;
        sum += rate;
        squares += rate * rate;
    }
    result r = {.n_prompt = is_prompt ? n : 0, .n_gen = is_prompt ? 0 : n, .depth = depth, .threads = threads, .rate = sum / (double)repeats};
    double variance = repeats > 1 ? (squares - sum * r.rate) / (double)(repeats - 1) : 0;
    r.deviation = variance > 0 ? sqrt(variance) : 0;
    if (is_prompt) {
        r.share = r.rate * 2 * b->matrix_elements / 1e9 / peak_of(b, &r.limit);
    } else {
        r.limit = "read_gb_per_s";
        r.share = r.rate * (b->weight_bytes + b->position_bytes * ((double)depth + (double)n / 2)) / 1e9 / b->peaks.read_gb_per_s;
    }
    AQ_PUSH(&b->subject->arena, &b->results, r);
    return AQ_OK;
}

static void print_result(const result *r) {
    char what[64];
    snprintf(what, sizeof what, r->n_prompt ? "prompt %" PRId64 : "decode %" PRId64, r->n_prompt ? r->n_prompt : r->n_gen);
    printf("%-14s %8" PRId64 " %8d %12.2f %10.2f   %5.1f %% of %s\n", what, r->depth, r->threads, r->rate, r->deviation, 100 * r->share, r->limit);
    fflush(stdout);
}

static aq_status with_threads(bench *b, int threads, int json) {
    const aq_option_value *p = &b->args->at[AQ_OPT_BENCH_PROMPT], *n = &b->args->at[AQ_OPT_BENCH_NEW], *d = &b->args->at[AQ_OPT_BENCH_DEPTH];
    int64_t longest = largest(p) > largest(n) ? largest(p) : largest(n);
    const aq_subject_needs needs = {.context = largest(d) + longest, .outputs = 1, .threads = threads};
    AQ_TRY(aq_rt_limits_measure(threads, 0.3, &b->peaks));
    AQ_TRY(aq_subject_start(b->subject, &needs));
    if (!aq_engine_plan(b->subject->engine))
        return aq_fail(AQ_USAGE, NULL, "bench: ref is a yardstick of truth, not of speed: expected a target that code is made for");
    weigh(b);
    for (uint32_t k = 0; k < d->n_list; k++) {
        const float *logits;
        uint32_t before = b->results.n;
        AQ_TRY(aq_engine_truncate(b->subject->engine, 0, 0));
        if (d->numbers[k])
            AQ_TRY(aq_engine_feed(b->subject->engine, 0, b->tokens, d->numbers[k], 1, &logits));
        for (uint32_t i = 0; i < p->n_list; i++)
            AQ_TRY(measure(b, threads, d->numbers[k], p->numbers[i], 1));
        for (uint32_t i = 0; i < n->n_list; i++)
            AQ_TRY(measure(b, threads, d->numbers[k], n->numbers[i], 0));
        for (uint32_t i = before; !json && i < b->results.n; i++)
            print_result(&b->results.at[i]);
    }
    return AQ_OK;
}

static aq_status print_json(const bench *b, const char *cpu) {
    cJSON *o = cJSON_CreateObject(), *limits = cJSON_CreateObject(), *list;
    aq_json_set_string(o, "cpu", cpu);
    cJSON_AddNumberToObject(limits, "read_gb_per_s", b->peaks.read_gb_per_s);
    cJSON_AddNumberToObject(limits, "f32_gflops", b->peaks.f32_gflops);
    cJSON_AddNumberToObject(limits, "bf16_gflops", b->peaks.bf16_gflops);
    cJSON_AddNumberToObject(limits, "int16_gops", b->peaks.int16_gops);
    cJSON_AddNumberToObject(limits, "int8_gops", b->peaks.int8_gops);
    cJSON_AddItemToObject(o, "limits", limits);
    list = cJSON_AddArrayToObject(o, "results");
    for (uint32_t i = 0; i < b->results.n; i++) {
        const result *r = &b->results.at[i];
        cJSON *one = cJSON_CreateObject();
        aq_json_set_int(one, "n_prompt", r->n_prompt);
        aq_json_set_int(one, "n_gen", r->n_gen);
        aq_json_set_int(one, "depth", r->depth);
        aq_json_set_int(one, "threads", r->threads);
        cJSON_AddNumberToObject(one, "tokens_per_s", r->rate);
        cJSON_AddNumberToObject(one, "stddev", r->deviation);
        cJSON_AddNumberToObject(one, "share_of_limit", r->share);
        aq_json_set_string(one, "limit", r->limit);
        cJSON_AddItemToArray(list, one);
    }
    return aq_json_print(o);
}

aq_status aq_verb_bench(const aq_args *a) {
    aq_subject s;
    bench b = {.subject = &s, .args = a};
    const aq_option_value *t = &a->at[AQ_OPT_BENCH_THREADS], *d = &a->at[AQ_OPT_BENCH_DEPTH];
    int json = aq_arg_given(a, AQ_OPT_JSON);
    char cpu[64];
    aq_status status;
    int64_t longest = largest(&a->at[AQ_OPT_BENCH_PROMPT]) > largest(&a->at[AQ_OPT_BENCH_NEW]) ? largest(&a->at[AQ_OPT_BENCH_PROMPT])
                                                                                             : largest(&a->at[AQ_OPT_BENCH_NEW]);
    AQ_TRY_GOTO(status, close, aq_subject_open(a, a->operand[0], &s));
    AQ_TRY_GOTO(status, close, draw_tokens(&b, longest > largest(d) ? longest : largest(d)));
    aq_rt_cpu_name(cpu);
    if (!json)
        printf("%s\n%-14s %8s %8s %12s %10s\n", cpu, "", "depth", "threads", "tokens/s", "+-");
    for (uint32_t i = 0; i < (t->n_list ? t->n_list : 1); i++)
        AQ_TRY_GOTO(status, close, with_threads(&b, t->n_list ? (int)t->numbers[i] : aq_team_processors(), json));
    if (json)
        status = print_json(&b, cpu);
    else
        printf("limits of the last: read %.1f GB/s, f32 %.0f, bf16 %.0f GF/s, int16 %.0f, int8 %.0f Gop/s\n", b.peaks.read_gb_per_s, b.peaks.f32_gflops,
               b.peaks.bf16_gflops, b.peaks.int16_gops, b.peaks.int8_gops);
close:
    aq_subject_close(&s);
    return status;
}
