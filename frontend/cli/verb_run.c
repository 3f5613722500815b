/* verb_run.c: `aquila run`: one answer, streamed (several: prompts.c). Order: open the model, encode the prompt, start (compile or take from the cache, bind), then
 * generate. With -n 0 it stops after the prompt. */
#include "frontend/cli/answer.h"
#include "frontend/cli/common.h"
#include "frontend/cli/prompts.h"
#include "frontend/cli/sampling.h"
#include "frontend/cli/switches.h"
#include "ir/clock.h"

#include <inttypes.h>
#include <string.h>

static int emit(void *user, aq_bytes text) {
    (void)user;
    return aq_output_text(text.s, text.n) || fflush(stdout) != 0;
}

static cJSON *timings(const aq_subject *s, const aq_answer *a) {
    cJSON *o = cJSON_CreateObject();
    aq_timings_json(o, s);
    cJSON_AddNumberToObject(o, "prefill_ms", (double)a->prefill_ns / 1e6);
    cJSON_AddNumberToObject(o, "decode_ms", (double)a->decode_ns / 1e6);
    cJSON_AddNumberToObject(o, "prefill_tokens_per_s", aq_rate(a->prefilled, a->prefill_ns));
    cJSON_AddNumberToObject(o, "decode_tokens_per_s", a->tokens.n ? aq_rate((int64_t)a->tokens.n - 1, a->decode_ns) : 0);
    cJSON_AddNumberToObject(o, "first_token_ms", a->first_token_ns ? (double)(a->first_token_ns - s->opened_ns) / 1e6 : 0);
    return o;
}

static aq_status print_json(const aq_subject *s, const aq_prompt *p, const aq_answer *a) {
    cJSON *o = cJSON_CreateObject();
    aq_answer_json(o, s, p, a);
    cJSON_AddItemToObject(o, "timings", timings(s, a));
    cJSON_AddItemToObject(o, "memory", aq_memory_json(s));
    return aq_json_print(o);
}

static void say_timings(const aq_subject *s, const aq_answer *a) {
    if (!s->engine)
        return;
    const aq_engine_times *t = aq_engine_timing(s->engine);
    aq_say(s->args, 1, "load %.1f ms, compile %.1f ms%s, prefill %" PRId64 " tokens %.1f/s, decode %zu tokens %.1f/s, first token after %.1f ms; %s",
           (double)(t->open_ns + t->bind_ns + t->session_ns) / 1e6, (double)t->compile_ns / 1e6, t->compile_ns ? "" : " (cached)", a->prefilled,
           aq_rate(a->prefilled, a->prefill_ns), a->tokens.n, a->tokens.n ? aq_rate((int64_t)a->tokens.n - 1, a->decode_ns) : 0,
           a->first_token_ns ? (double)(a->first_token_ns - s->opened_ns) / 1e6 : 0, aq_stop_reason_name(a->reason));
}

/* AQ_TRACE: the kernels of the last step, layers together. */
static void print_trace(const aq_subject *s) {
    aq_rt_trace_row row[1024];
    uint32_t n = aq_rt_trace_rows(aq_engine_session(s->engine), row, sizeof row / sizeof *row);
    int64_t all = 0;
    for (uint32_t i = 0; i < n; i++)
        all += row[i].ns;
    for (uint32_t i = 0; i < n; i++) {
        int64_t ns = row[i].ns;
        uint32_t count = row[i].count, first = 0;
        while (first < i && strcmp(row[first].kernel, row[i].kernel))
            first++;
        if (first < i)
            continue;
        for (uint32_t k = i + 1; k < n; k++)
            if (!strcmp(row[k].kernel, row[i].kernel)) {
                ns += row[k].ns;
                count += row[k].count;
            }
        fprintf(stderr, "%-32s %5" PRIu32 " times %10.1f us %5.1f %%\n", row[i].kernel, count, (double)ns / 1e3, all ? 100 * (double)ns / (double)all : 0);
    }
}

aq_generation aq_run_generation(const aq_subject *s, const aq_prompt *p, int64_t max_new) {
    return (aq_generation){.tokenizer = s->tokenizer,
                           .stop_ids = p->stop_ids,
                           .n_stop_ids = p->n_stop_ids,
                           .stops = p->stops,
                           .n_stops = p->n_stops,
                           .max_new = max_new,
                           .drop_space = p->drop_space};
}

static aq_status answer(aq_subject *s, const aq_prompt *p, aq_answer *out) {
    const aq_args *args = s->args;
    int64_t max_new = aq_max_new_of(args), most = s->checkpoint.config.max_length, n = (int64_t)p->ids.n;
    if (!aq_arg_given(args, AQ_OPT_CONTEXT) && n + max_new > most)
        max_new = n < most ? most - n : 1; /* a prompt that is too long is refused by aq_generate */
    const aq_subject_needs needs = {.context = n + max_new < most ? n + max_new : most, .outputs = 1};
    AQ_TRY(aq_subject_start(s, &needs));
    aq_rt_sampler *sampler;
    int trace = aq_switch(AQ_SWITCH_AQ_TRACE) && aq_engine_session(s->engine);
    if (trace)
        aq_rt_trace(aq_engine_session(s->engine), 1);
    AQ_TRY(aq_sampler_of(args, s->checkpoint.config.V, &sampler));
    aq_generation g = aq_run_generation(s, p, max_new);
    g.engine = s->engine;
    g.sampler = sampler;
    g.emit = aq_arg_given(args, AQ_OPT_JSON) ? NULL : emit;
    aq_held held = {0};
    aq_status status = aq_generate(&g, p->ids.at, p->ids.n, &held, out);
    if (trace)
        print_trace(s);
    aq_ids_close(&held.ids);
    aq_rt_sampler_close(sampler);
    return status;
}

static aq_status print_answer(const aq_subject *s, const aq_prompt *p, const aq_answer *a) {
    if (aq_arg_given(s->args, AQ_OPT_JSON))
        AQ_TRY(print_json(s, p, a));
    else if (!s->tokenizer)
        aq_answer_print_ids(a);
    if (!aq_arg_given(s->args, AQ_OPT_JSON)) { /* now, before anything goes to standard error */
        putchar('\n');
        AQ_TRY(aq_output_finish());
    }
    aq_answer_doubt(s->args, a->no_numbers);
    say_timings(s, a);
    return a->reason == AQ_STOP_INTERRUPTED && aq_interrupted() ? aq_fail(AQ_INTERRUPTED, NULL, "interrupted") : AQ_OK;
}

aq_status aq_verb_run(const aq_args *args) {
    if (aq_arg_given(args, AQ_OPT_PROMPTS_FILE))
        return aq_prompts_run(args);
    aq_subject s;
    aq_arena arena = {0};
    aq_prompt p = {0};
    aq_answer a = {.reason = AQ_STOP_LENGTH};
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_subject_open(args, args->operand[0], &s));
    AQ_TRY_GOTO(status, close, aq_prompt_open(&s, &arena, &p));
    AQ_TRY_GOTO(status, close, aq_prompt_read(&s, &p));
    if (aq_max_new_of(args) > 0) {
        AQ_TRY_GOTO(status, close, answer(&s, &p, &a));
    } else if (!aq_arg_given(args, AQ_OPT_JSON)) {
        aq_output_text(p.text.s ? p.text.s : "", p.text.n);
        for (size_t i = 0; !p.text.s && i < p.ids.n; i++)
            printf("%s%" PRId32, i ? " " : "", p.ids.at[i]);
    }
    status = print_answer(&s, &p, &a);
close:
    aq_answer_close(&a);
    aq_prompt_close(&p);
    aq_subject_close(&s);
    aq_arena_close(&arena);
    return status;
}
