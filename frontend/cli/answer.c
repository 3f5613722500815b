/* answer.c: see answer.h. */
#include "frontend/cli/answer.h"

#include "frontend/cli/common.h"

#include <inttypes.h>
#include <string.h>

double aq_rate(int64_t n, int64_t ns) {
    return ns > 0 ? (double)n * 1e9 / (double)ns : 0;
}

static void set_ids(cJSON *object, const char *name, const aq_ids *ids) {
    cJSON *list = cJSON_AddArrayToObject(object, name);
    for (size_t i = 0; i < ids->n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(ids->at[i]));
}

void aq_answer_json(cJSON *o, const aq_subject *s, const aq_prompt *p, const aq_answer *a) {
    const char *reason = aq_stop_reason_name(a->reason);
    aq_json_set_text(o, "text", a->text ? a->text : s->tokenizer ? "" : NULL, a->n_text);
    set_ids(o, "tokens", &a->tokens);
    cJSON *list = cJSON_AddArrayToObject(o, "logprobs");
    for (size_t i = 0; i < a->tokens.n; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(a->logprobs[i]));
    set_ids(o, "prompt_tokens", &p->ids);
    aq_json_set_text(o, "model_input", p->text.s, p->text.n);
    aq_json_set_string(o, "stop_reason", reason);
}

void aq_timings_json(cJSON *o, const aq_subject *s) {
    const aq_engine_times zero = {0}, *t = s->engine ? aq_engine_timing(s->engine) : &zero;
    cJSON_AddNumberToObject(o, "load_ms", (double)(t->open_ns + t->bind_ns + t->session_ns) / 1e6);
    cJSON_AddNumberToObject(o, "compile_ms", (double)t->compile_ns / 1e6);
}

cJSON *aq_memory_json(const aq_subject *s) {
    cJSON *o = cJSON_CreateObject();
    aq_rt_memory m = {0};
    if (s->engine && aq_engine_plan(s->engine) && aq_engine_memory(s->engine, aq_engine_limits(s->engine), &m) != AQ_OK)
        m = (aq_rt_memory){0};
    aq_json_set_int(o, "peak_bytes", aq_peak_bytes());
    aq_json_set_int(o, "weights_bytes", (int64_t)(m.weights_packed + m.weights_mapped));
    aq_json_set_int(o, "plan_bytes", (int64_t)m.plan);
    return o;
}

void aq_answer_print_ids(const aq_answer *a) {
    for (size_t i = 0; i < a->tokens.n; i++)
        printf("%s%" PRId32, i ? " " : "", a->tokens.at[i]);
}

void aq_answer_doubt(const aq_args *args, int64_t no_numbers) {
    if (no_numbers)
        aq_say(args, 0, "note: the logits of %" PRId64 " token%s are no numbers: the weights are damaged, or too large for the type that they have here", no_numbers,
               no_numbers == 1 ? "" : "s");
}
