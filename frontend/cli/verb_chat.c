/* verb_chat.c: `aquila chat`: a conversation in one cache: each turn renders the whole history, and generate.c feeds only what the cache does
 * not hold of it. Ctrl-C stops an answer or drops what is being typed; Ctrl-D and /exit end the program. Lines and editing: typed.c, terminal.c;
 * commands: talk_commands.c. */
#include "frontend/cli/answer.h"
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/sampling.h"
#include "frontend/cli/talk.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* --- answers ------------------------------------------------------------------------------------------------------------------------------ */

static int emit(void *user, aq_bytes text) {
    (void)user;
    return aq_output_text(text.s, text.n) || fflush(stdout) != 0;
}

static void answer_json(const aq_talk *t, const aq_answer *a) {
    const char *reason = aq_stop_reason_name(a->reason);
    fputs("{\"text\": ", stdout);
    aq_json_write(stdout, a->text ? a->text : "", a->n_text);
    fputs(", \"stop_reason\": ", stdout);
    aq_json_write(stdout, reason, strlen(reason));
    printf(", \"tokens\": %zu, \"prompt_tokens\": %zu, \"prefilled\": %" PRId64 ", \"left_out\": %" PRIu32 ", \"prefill_tokens_per_s\": %.3f, \"decode_tokens_per_s\": %.3f}\n",
           a->tokens.n, t->prompt.ids.n, a->prefilled, t->prompt.cut, aq_rate(a->prefilled, a->prefill_ns), a->tokens.n ? aq_rate((int64_t)a->tokens.n - 1, a->decode_ns) : 0);
    fflush(stdout);
}

/* -n 0: what would be fed, and nothing is. */
static aq_status say_input(aq_talk *t) {
    if (t->json) {
        fputs("{\"model_input\": ", stdout);
        aq_json_write(stdout, t->prompt.text.s ? t->prompt.text.s : "", t->prompt.text.n);
        fputs(", \"prompt_tokens\": [", stdout);
        for (size_t i = 0; i < t->prompt.ids.n; i++)
            printf("%s%" PRId32, i ? ", " : "", t->prompt.ids.at[i]);
        fputs("]}\n", stdout);
    } else {
        aq_output_text(t->prompt.text.s ? t->prompt.text.s : "", t->prompt.text.n);
        putchar('\n');
    }
    return aq_output_finish();
}

static void count(aq_talk *t, const aq_answer *a) {
    t->last = (aq_tally){1, (int64_t)t->prompt.ids.n, a->reused, a->prefilled, (int64_t)a->tokens.n, a->tokens.n ? (int64_t)a->tokens.n - 1 : 0, a->prefill_ns, a->decode_ns};
    t->all.answers++;
    t->all.prompt += t->last.prompt;
    t->all.reused += t->last.reused;
    t->all.prefilled += t->last.prefilled;
    t->all.tokens += t->last.tokens;
    t->all.steps += t->last.steps;
    t->all.prefill_ns += t->last.prefill_ns;
    t->all.decode_ns += t->last.decode_ns;
}

static void say_cut(aq_talk *t) {
    if (t->prompt.cut > t->told_cut)
        aq_say(t->subject->args, 0, "(the context of %" PRId64 " positions is full: the first %" PRIu32 " messages are left out from now on)", t->context, t->prompt.cut);
    t->told_cut = t->prompt.cut;
}

/* Room for the answer: what -n asks for, but at most half of the context. */
static aq_status encode(aq_talk *t) {
    int64_t reserve = t->max_new < t->context / 2 ? t->max_new : t->context / 2;
    aq_arena_close(&t->scratch);
    AQ_TRY(aq_prompt_encode(t->subject, &t->prompt, (size_t)(t->context - reserve > 1 ? t->context - reserve : 1)));
    say_cut(t);
    return AQ_OK;
}

/* Why an answer ends in the middle of a sentence. */
static void say_end(const aq_talk *t, const aq_answer *a, int kept, int is_taken_back) {
    const aq_args *args = t->subject->args;
    aq_answer_doubt(args, a->no_numbers);
    if (a->reason == AQ_STOP_INTERRUPTED)
        aq_say(args, 0, kept ? "(stopped)" : is_taken_back ? "(stopped before the answer began: the question is taken back)" : "(stopped before the answer began: all stays as it was)");
    else if (a->reason == AQ_STOP_LENGTH && !t->json && (int64_t)a->tokens.n < t->max_new)
        aq_say(args, 0, "(the answer is cut: the context of %" PRId64 " positions is full)", t->context);
    else if (a->reason == AQ_STOP_LENGTH && !t->json)
        aq_say(args, 0, "(the answer is cut after %" PRId64 " tokens: -n)", t->max_new);
}

static aq_status finish(aq_talk *t, const aq_answer *a, uint32_t otherwise, int *out_keep) {
    if (t->json)
        answer_json(t, a);
    else { /* now, before anything goes to standard error */
        putchar('\n');
        AQ_TRY(aq_output_finish());
    }
    count(t, a);
    *out_keep = a->tokens.n || a->reason != AQ_STOP_INTERRUPTED;
    say_end(t, a, *out_keep, otherwise < t->prompt.messages.n);
    return *out_keep ? aq_prompt_add(&t->prompt, AQ_CHAT_ASSISTANT, a->text ? a->text : "", a->n_text) : AQ_OK;
}

aq_status aq_talk_answer(aq_talk *t, uint32_t otherwise) {
    aq_answer a = {0};
    int keep = 0;
    aq_status status;
    AQ_TRY_GOTO(status, close, encode(t));
    if (t->max_new == 0) {
        status = say_input(t);
        goto close;
    }
    const aq_generation g = {.engine = t->subject->engine,
                             .tokenizer = t->subject->tokenizer,
                             .sampler = t->sampler,
                             .stop_ids = t->prompt.stop_ids,
                             .n_stop_ids = t->prompt.n_stop_ids,
                             .stops = t->prompt.stops,
                             .n_stops = t->prompt.n_stops,
                             .max_new = t->max_new,
                             .drop_space = t->prompt.drop_space,
                             .emit = t->json ? NULL : emit};
    AQ_TRY_GOTO(status, close, aq_generate(&g, t->prompt.ids.at, t->prompt.ids.n, &t->held, &a));
    status = finish(t, &a, otherwise, &keep);
close:
    if (!keep)
        t->prompt.messages.n = otherwise; /* what a new answer would have stood in the place of is there still */
    aq_interrupt_forget();
    aq_answer_close(&a);
    return status;
}

/* --- the loop ----------------------------------------------------------------------------------------------------------------------------- */

static aq_status say(aq_talk *t, const char *text, size_t n) {
    if (!strcmp(t->prompt.template.name, "none"))
        t->prompt.messages.n = 0; /* no conversation: every message is completed on its own */
    uint32_t before = t->prompt.messages.n;
    AQ_TRY(aq_prompt_add(&t->prompt, AQ_CHAT_USER, text, n));
    return aq_talk_answer(t, before);
}

/* Who sent a line and reads lines must not wait for an answer that does not come. */
static void say_failure(const aq_talk *t, aq_status status) {
    if (t->json) {
        fputs("{\"error\": ", stdout);
        aq_json_write(stdout, aq_error(), strlen(aq_error()));
        fputs("}\n", stdout);
        fflush(stdout);
    }
    aq_report(status, aq_arg_given(t->subject->args, AQ_OPT_VERBOSE));
}

/* Every message is answered or obeyed. What goes wrong in a turn is told and does not end the conversation, but for lost memory or output. */
static aq_status loop(aq_talk *t) {
    char *text;
    size_t n;
    while (!t->done) {
        aq_status status = aq_typed_next(&t->typed, &text, &n);
        if (status == AQ_INTERRUPTED && t->typed.terminal) {
            fputs("\n(Ctrl-D or /exit leaves)\n", stderr);
            continue;
        }
        AQ_TRY(status);
        if (!text) { /* the shell goes on in a line of its own */
            fputs(t->typed.terminal ? "\n" : "", stderr);
            break;
        }
        status = *text == '/' ? aq_talk_obey(t, text) : say(t, text, n);
        if (status == AQ_REFUSED || status == AQ_USAGE || (status == AQ_FAILED && *aq_error()))
            say_failure(t, status);
        else if (status != AQ_OK)
            return status;
    }
    return AQ_OK;
}

/* --history FILE|none, else beside the cached plans. */
static aq_status history_path(aq_talk *t, const aq_subject *s, const char **out) {
    const char *given = aq_arg_text(s->args, AQ_OPT_HISTORY);
    *out = given && strcmp(given, "none") ? given : NULL;
    if (given || !s->cache || aq_file_make_folder(s->cache) != AQ_OK)
        return AQ_OK;
    return aq_arena_format(&t->arena, out, "%s/chat_history", s->cache);
}

/* A name out of a file, before a terminal sees it. */
static int is_printable(const char *s) {
    const char *at = s;
    while ((unsigned char)*at >= 32 && *at != 127)
        at++;
    return *s && !*at;
}

static aq_status greet(aq_talk *t, const aq_subject *s) {
    const aq_args *a = s->args;
    const char *name = is_printable(s->checkpoint.config.name) ? s->checkpoint.config.name : a->operand[0];
    if (t->typed.terminal && !strcmp(t->prompt.template.name, "none"))
        aq_say(a, 0, "%s, no template: every message is completed on its own; /help lists commands", name);
    else if (t->typed.terminal)
        aq_say(a, 0, "%s, template %s; /help lists commands", name, t->prompt.template.name);
    return aq_arg_given(a, AQ_OPT_MESSAGES) ? aq_talk_load(t, aq_arg_text(a, AQ_OPT_MESSAGES), 0) : AQ_OK;
}

static aq_status open_talk(aq_talk *t, aq_subject *s) {
    const aq_subject_needs needs = {.outputs = 1};
    const char *history, *note;
    const aq_args *a = s->args;
    AQ_TRY(aq_subject_tokenizer(s, ""));
    t->json = aq_arg_given(a, AQ_OPT_JSON);
    t->max_new = aq_max_new_of(a);
    AQ_TRY(aq_prompt_open(s, &t->arena, &t->prompt));
    t->prompt.keep_room = 1;
    t->prompt.scratch = &t->scratch;
    if (t->max_new > 0) {
        AQ_TRY(aq_subject_start(s, &needs));
        t->context = aq_engine_limits(s->engine)->context;
    } else {
        t->context = aq_arg_given(a, AQ_OPT_CONTEXT) ? aq_arg_number(a, AQ_OPT_CONTEXT) : s->checkpoint.config.max_length;
    }
    AQ_TRY(aq_sampler_of(a, s->checkpoint.config.V, &t->sampler));
    AQ_TRY(history_path(t, s, &history));
    AQ_TRY(aq_typed_open(isatty(STDIN_FILENO) && !t->json, history, &note, &t->typed));
    if (note)
        aq_say(a, 0, "no history: %s", note);
    if (t->typed.terminal)
        aq_interrupt_patiently();
    return greet(t, s);
}

aq_status aq_verb_chat(const aq_args *a) {
    aq_subject s;
    aq_talk t = {.subject = &s};
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_subject_open(a, a->operand[0], &s));
    AQ_TRY_GOTO(status, close, open_talk(&t, &s));
    status = loop(&t);
close:;
    aq_status kept = aq_typed_close(&t.typed);
    if (status == AQ_OK && kept != AQ_OK) {
        aq_say(a, 0, "the history is not kept: %s", aq_error());
        kept = AQ_OK;
    }
    aq_rt_sampler_close(t.sampler);
    aq_ids_close(&t.held.ids);
    aq_prompt_close(&t.prompt);
    aq_subject_close(&s);
    aq_arena_close(&t.arena);
    aq_arena_close(&t.scratch);
    return status;
}
