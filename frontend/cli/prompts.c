/* prompts.c: see prompts.h. Order: open the model, read and encode every line, start the engine in the size that they need, answer, print.
 * Answers are kept until all are there (or, with --stream-json, printed as they finish, in that order). */
#include "frontend/cli/prompts.h"

#include "frontend/cli/answer.h"
#include "frontend/cli/common.h"
#include "ir/clock.h"

#include <inttypes.h>
#include <string.h>

enum { SEQUENCES = 16 };

typedef struct work {
    aq_subject subject;
    aq_prompts prompts;
    aq_batch batch;
    int no_memory; /* a line of --stream-json could not be made */
} work;

/* ---- what is said ---- */

static cJSON *item_json(const work *w, uint32_t i) {
    const aq_prompts_item *item = &w->prompts.items.at[i];
    const aq_answer *a = &w->batch.jobs[i].answer;
    cJSON *o = cJSON_CreateObject();
    aq_json_set_int(o, "line", (int64_t)item->line);
    if (item->refused) {
        aq_json_set_string(o, "error", item->refused);
        return o;
    }
    aq_answer_json(o, &w->subject, &item->prompt, a);
    cJSON *t = cJSON_AddObjectToObject(o, "timings");
    cJSON_AddNumberToObject(t, "prefill_ms", (double)a->prefill_ns / 1e6);
    cJSON_AddNumberToObject(t, "decode_ms", (double)a->decode_ns / 1e6);
    return o;
}

static int64_t new_tokens(const work *w) {
    int64_t n = 0;
    for (uint32_t i = 0; i < w->batch.n_jobs; i++)
        n += (int64_t)w->batch.jobs[i].answer.tokens.n;
    return n;
}

/* One line at once, so that a reader can follow. */
static void stream_item(void *user, uint32_t i) {
    work *w = user;
    cJSON *o = item_json(w, i);
    char *text = o ? cJSON_PrintUnformatted(o) : NULL;
    cJSON_Delete(o);
    w->no_memory |= !text;
    if (!text)
        return;
    printf("%s\n", text);
    fflush(stdout);
    cJSON_free(text);
}

static aq_status print_json(const work *w) {
    const aq_batch *b = &w->batch;
    cJSON *o = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(o, "answers"), *t;
    for (uint32_t i = 0; i < b->n_jobs; i++)
        cJSON_AddItemToArray(list, item_json(w, i));
    t = cJSON_AddObjectToObject(o, "timings");
    aq_timings_json(t, &w->subject);
    cJSON_AddNumberToObject(t, "answers_ms", (double)b->ns / 1e6);
    aq_json_set_int(t, "steps", b->steps);
    aq_json_set_int(t, "prompt_tokens", b->prompt_tokens);
    aq_json_set_int(t, "new_tokens", new_tokens(w));
    cJSON_AddNumberToObject(t, "tokens_per_s", aq_rate(b->prompt_tokens + new_tokens(w), b->ns));
    cJSON_AddNumberToObject(t, "new_tokens_per_s", aq_rate(new_tokens(w), b->ns));
    cJSON_AddItemToObject(o, "memory", aq_memory_json(&w->subject));
    return aq_json_print(o);
}

static void print_text(const work *w) {
    for (uint32_t i = 0; i < w->batch.n_jobs; i++) {
        const aq_prompts_item *item = &w->prompts.items.at[i];
        const aq_answer *a = &w->batch.jobs[i].answer;
        printf("%s==> line %" PRIu64 " <==\n", i ? "\n" : "", item->line);
        if (item->refused)
            continue;
        if (w->subject.tokenizer)
            (void)aq_output_text(a->text, a->n_text); /* aq_output_finish tells */
        else
            aq_answer_print_ids(a);
        putchar('\n');
    }
}

static aq_status print(work *w) {
    const aq_args *args = w->subject.args;
    if (aq_arg_given(args, AQ_OPT_STREAM_JSON)) {
        if (w->no_memory)
            return aq_fail(AQ_NO_MEMORY, NULL, "no memory for a line of JSON");
    } else if (aq_arg_given(args, AQ_OPT_JSON)) {
        AQ_TRY(print_json(w));
    } else {
        print_text(w);
    }
    AQ_TRY(aq_output_finish());
    const aq_batch *b = &w->batch;
    int64_t no_numbers = 0;
    for (uint32_t i = 0; i < b->n_jobs; i++)
        no_numbers += b->jobs[i].answer.no_numbers;
    aq_answer_doubt(args, no_numbers);
    aq_say(args, 1, "%" PRIu32 " prompts of %" PRId64 " tokens, %" PRId64 " new tokens in %" PRId64 " steps, %.1f ms: %.1f new tokens/s",
           w->prompts.items.n - w->prompts.n_refused, b->prompt_tokens, new_tokens(w), b->steps, (double)b->ns / 1e6, aq_rate(new_tokens(w), b->ns));
    if (aq_interrupted())
        return aq_fail(AQ_INTERRUPTED, NULL, "interrupted");
    if (w->prompts.n_refused)
        return aq_fail(AQ_REFUSED, NULL, "%s", ""); /* each was told */
    return AQ_OK;
}

/* ---- what is done ---- */

/* Prompts that no context would hold go at once; *out_context: what the others need. */
static aq_status fit(work *w, int64_t *out_context) {
    const aq_args *args = w->subject.args;
    int given = aq_arg_given(args, AQ_OPT_CONTEXT);
    int64_t most = given ? aq_arg_number(args, AQ_OPT_CONTEXT) : w->subject.checkpoint.config.max_length;
    *out_context = 1;
    for (uint32_t i = 0; i < w->prompts.items.n; i++) {
        aq_prompts_item *item = &w->prompts.items.at[i];
        int64_t n = (int64_t)item->prompt.ids.n;
        if (item->refused)
            continue;
        if (n > most) {
            aq_status told = aq_fail(AQ_REFUSED, NULL, "the prompt has %" PRId64 " tokens: expected at most %" PRId64 "%s", n, most, given ? " (--context)" : "");
            (void)told;
            AQ_TRY(aq_prompts_refuse(&w->prompts, i));
            continue;
        }
        item->max_new = item->max_new < most - n ? item->max_new : most - n;
        *out_context = n + item->max_new > *out_context ? n + item->max_new : *out_context;
    }
    return AQ_OK;
}

static void fill_job(const work *w, const aq_prompts_item *item, aq_job *j) {
    *j = (aq_job){.g = aq_run_generation(&w->subject, &item->prompt, item->max_new),
                  .how = item->how,
                  .prompt = item->prompt.ids.at,
                  .n = item->prompt.ids.n,
                  .is_left_out = item->refused != NULL || item->max_new == 0,
                  .answer = {.reason = AQ_STOP_LENGTH}};
}

static aq_status answer(work *w) {
    const aq_args *args = w->subject.args;
    uint32_t n = w->prompts.items.n, asked = 0;
    int64_t context;
    AQ_TRY(fit(w, &context));
    AQ_ALLOC(&w->prompts.arena, w->batch.jobs, n);
    w->batch.n_jobs = n;
    for (uint32_t i = 0; i < n; i++) {
        fill_job(w, &w->prompts.items.at[i], &w->batch.jobs[i]);
        asked += !w->batch.jobs[i].is_left_out;
        if (w->prompts.items.at[i].refused && w->batch.finished)
            w->batch.finished(w->batch.user, i);
    }
    if (!asked)
        return AQ_OK;
    int64_t sequences = aq_arg_given(args, AQ_OPT_ANSWERS) ? aq_arg_number(args, AQ_OPT_ANSWERS) : SEQUENCES;
    const aq_subject_needs needs = {.context = context, .sequences = sequences < asked ? sequences : asked};
    AQ_TRY(aq_subject_start(&w->subject, &needs));
    w->batch.engine = w->subject.engine;
    w->batch.vocab = w->subject.checkpoint.config.V;
    return aq_batch_run(&w->batch);
}

static aq_status check_options(const aq_args *a) {
    if (a->n_operands > 1 || aq_arg_given(a, AQ_OPT_PROMPT_FILE) || aq_arg_given(a, AQ_OPT_MESSAGES) || aq_arg_given(a, AQ_OPT_PROMPT_IDS))
        return aq_fail(AQ_USAGE, NULL, "--prompts-file and another prompt: expected one of them");
    return AQ_OK;
}

aq_status aq_prompts_run(const aq_args *args) {
    work w = {0};
    aq_status status;
    w.batch.user = &w;
    w.batch.finished = aq_arg_given(args, AQ_OPT_STREAM_JSON) ? stream_item : NULL;
    AQ_TRY(check_options(args));
    AQ_TRY_GOTO(status, close, aq_subject_open(args, args->operand[0], &w.subject));
    AQ_TRY_GOTO(status, close, aq_prompts_read(&w.subject, aq_arg_text(args, AQ_OPT_PROMPTS_FILE), &w.prompts));
    AQ_TRY_GOTO(status, close, answer(&w));
    status = print(&w);
close:
    for (uint32_t i = 0; i < w.batch.n_jobs; i++)
        aq_answer_close(&w.batch.jobs[i].answer);
    aq_prompts_close(&w.prompts);
    aq_subject_close(&w.subject);
    return status;
}
