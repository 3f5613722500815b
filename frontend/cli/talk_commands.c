/* talk_commands.c: the commands inside of `chat`. */
#include "frontend/cli/answer.h"
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/talk.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <string.h>

static aq_status help(aq_talk *t, const char *rest);

/* The conversation is another one now: where its history began to fit means nothing any more. */
static void start_anew(aq_talk *t) {
    t->prompt.first = 0;
    t->told_cut = 0;
    t->prompt.place = NULL;
}

static void forget(aq_talk *t) {
    t->prompt.messages.n = 0;
    start_anew(t);
}

static aq_status reset(aq_talk *t, const char *rest) {
    (void)rest;
    forget(t);
    aq_say(t->subject->args, 0, "the conversation starts again");
    return AQ_OK;
}

static aq_status set_system(aq_talk *t, const char *rest) {
    AQ_TRY(aq_arena_string(&t->arena, rest, strlen(rest), &t->prompt.system));
    forget(t);
    aq_say(t->subject->args, 0, "%s; the conversation starts again", *rest ? "new system text" : "no system text");
    return AQ_OK;
}

/* --- files -------------------------------------------------------------------------------------------------------------------------------- */

static void add_message(cJSON *list, const char *role, const char *text, size_t n) {
    cJSON *one = cJSON_CreateObject();
    aq_json_set_string(one, "role", role);
    aq_json_set_text(one, "content", text, n);
    cJSON_AddItemToArray(list, one);
}

static aq_status save(aq_talk *t, const char *rest) {
    static const char *const roles[] = {"system", "user", "assistant"};
    if (!*rest)
        return aq_fail(AQ_USAGE, NULL, "/save: expected /save FILE");
    if (!t->prompt.messages.n && !t->prompt.system)
        return aq_fail(AQ_USAGE, NULL, "/save: nothing was said yet");
    cJSON *list = cJSON_CreateArray();
    if (t->prompt.system)
        add_message(list, roles[AQ_CHAT_SYSTEM], t->prompt.system, strlen(t->prompt.system));
    for (uint32_t i = 0; i < t->prompt.messages.n; i++) {
        const aq_chat_message *m = &t->prompt.messages.at[i];
        add_message(list, roles[m->role], m->text.s, m->text.n);
    }
    char *text = cJSON_Print(list);
    cJSON_Delete(list);
    if (!text)
        return aq_fail(AQ_NO_MEMORY, NULL, "no memory for the JSON document");
    aq_status status = aq_output_file(rest, text, strlen(text));
    cJSON_free(text);
    if (status == AQ_OK)
        aq_say(t->subject->args, 0, "%" PRIu32 " messages saved; --messages or /load %s goes on from there", t->prompt.messages.n, rest);
    return status;
}

aq_status aq_talk_load(aq_talk *t, const char *path, int replaces_system) {
    aq_prompt *p = &t->prompt;
    if (!strcmp(path, "-"))
        return aq_fail(AQ_USAGE, NULL, "messages from standard input: expected a file, since what is said comes from there");
    AQ_TRY(aq_prompt_load(p, path));
    start_anew(t);
    const char *system = NULL;
    if (p->messages.at[0].role == AQ_CHAT_SYSTEM) {
        if (p->system && !replaces_system)
            return aq_fail(AQ_USAGE, NULL, "a system text is given and %s begins with another: one expected", path);
        system = p->messages.at[0].text.s;
        memmove(p->messages.at, p->messages.at + 1, --p->messages.n * sizeof *p->messages.at);
    }
    if (system || replaces_system)
        p->system = system;
    int is_open = p->messages.n && p->messages.at[p->messages.n - 1].role == AQ_CHAT_USER;
    aq_say(t->subject->args, 0, "%" PRIu32 " messages%s", p->messages.n, is_open ? "; the last is a question: /retry answers it" : "");
    return AQ_OK;
}

static aq_status load(aq_talk *t, const char *rest) {
    if (!*rest)
        return aq_fail(AQ_USAGE, NULL, "/load: expected /load FILE");
    return aq_talk_load(t, rest, 1);
}

/* --- turns -------------------------------------------------------------------------------------------------------------------------------- */

static int ends_with(const aq_talk *t, aq_chat_role role) {
    uint32_t n = t->prompt.messages.n;
    return n && t->prompt.messages.at[n - 1].role == role;
}

static aq_status retry(aq_talk *t, const char *rest) {
    (void)rest;
    uint32_t before = t->prompt.messages.n;
    t->prompt.messages.n -= (uint32_t)ends_with(t, AQ_CHAT_ASSISTANT);
    if (ends_with(t, AQ_CHAT_USER))
        return aq_talk_answer(t, before);
    t->prompt.messages.n = before;
    return aq_fail(AQ_USAGE, NULL, "/retry: there is no question yet");
}

static aq_status undo(aq_talk *t, const char *rest) {
    (void)rest;
    if (!t->prompt.messages.n)
        return aq_fail(AQ_USAGE, NULL, "/undo: nothing was said yet");
    t->prompt.messages.n -= (uint32_t)ends_with(t, AQ_CHAT_ASSISTANT);
    t->prompt.messages.n -= (uint32_t)ends_with(t, AQ_CHAT_USER);
    start_anew(t);
    aq_say(t->subject->args, 0, "the last question and its answer are taken back: %" PRIu32 " messages are left", t->prompt.messages.n);
    return AQ_OK;
}

/* --- figures ------------------------------------------------------------------------------------------------------------------------------ */

static double decode_rate(const aq_tally *t) { return aq_rate(t->steps, t->decode_ns); }

static aq_status stats_json(const aq_talk *t) {
    cJSON *o = cJSON_CreateObject();
    const struct {
        const char *name;
        const aq_tally *of;
    } parts[] = {{"last", &t->last}, {"all", &t->all}};
    for (int i = 0; i < 2; i++) {
        cJSON *one = cJSON_AddObjectToObject(o, parts[i].name);
        const aq_tally *of = parts[i].of;
        aq_json_set_int(one, "answers", of->answers);
        aq_json_set_int(one, "prompt_tokens", of->prompt);
        aq_json_set_int(one, "reused", of->reused);
        aq_json_set_int(one, "prefilled", of->prefilled);
        aq_json_set_int(one, "tokens", of->tokens);
        cJSON_AddNumberToObject(one, "prefill_tokens_per_s", aq_rate(of->prefilled, of->prefill_ns));
        cJSON_AddNumberToObject(one, "decode_tokens_per_s", decode_rate(of));
    }
    aq_json_set_int(o, "messages", t->prompt.messages.n);
    aq_json_set_int(o, "left_out", t->prompt.cut);
    aq_json_set_int(o, "cache_positions", (int64_t)t->held.ids.n);
    aq_json_set_int(o, "context", t->context);
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    if (!text)
        return aq_fail(AQ_NO_MEMORY, NULL, "no memory for the JSON document");
    printf("{\"stats\": %s}\n", text);
    cJSON_free(text);
    return aq_output_finish();
}

static void say_tally(const aq_talk *t, const char *what, const aq_tally *of) {
    aq_say(t->subject->args, 0,
           "%s: %" PRId64 " tokens of conversation, %" PRId64 " of them found in the cache, %" PRId64 " fed at %.1f/s; %" PRId64
           " tokens of answer at %.1f/s",
           what, of->prompt, of->reused, of->prefilled, aq_rate(of->prefilled, of->prefill_ns), of->tokens, decode_rate(of));
}

static aq_status stats(aq_talk *t, const char *rest) {
    (void)rest;
    if (t->json)
        return stats_json(t);
    aq_say(t->subject->args, 0, "%" PRIu32 " messages, %" PRIu32 " of them left out; the cache holds %zu of %" PRId64 " positions",
           t->prompt.messages.n, t->prompt.cut, t->held.ids.n, t->context);
    say_tally(t, "the last answer", &t->last);
    say_tally(t, "all answers", &t->all);
    return AQ_OK;
}

static aq_status leave(aq_talk *t, const char *rest) {
    (void)rest;
    t->done = 1;
    return AQ_OK;
}

static const struct command {
    const char *name, *doc;
    aq_status (*run)(aq_talk *t, const char *rest);
} commands[] = {{"/help", "this list", help},
                {"/reset", "forget the conversation", reset},
                {"/system", "TEXT: another system text; the conversation starts again", set_system},
                {"/save", "FILE: the conversation as JSON, for /load and --messages", save},
                {"/load", "FILE: go on with a conversation that was saved", load},
                {"/retry", "another answer to the last question", retry},
                {"/undo", "take back the last question and its answer", undo},
                {"/stats", "tokens, rates, use of the cache", stats},
                {"/exit", "leave (also Ctrl-D)", leave}};

static aq_status help(aq_talk *t, const char *rest) {
    (void)rest;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        aq_say(t->subject->args, 0, "%-8s %s", commands[i].name, commands[i].doc);
    aq_say(t->subject->args, 0, "A line that ends in \\ goes on in the next; \"\"\" begins and ends a text of many lines. Ctrl-C stops an answer, Ctrl-\\ the program.");
    return AQ_OK;
}

aq_status aq_talk_obey(aq_talk *t, const char *line) {
    size_t n = strcspn(line, " \t\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strlen(commands[i].name) == n && !memcmp(commands[i].name, line, n))
            return commands[i].run(t, line + n + strspn(line + n, " \t\n"));
    return aq_fail(AQ_USAGE, NULL, "%.*s: no such command: /help lists them; with a space before it, it is a message", (int)(n < 40 ? n : 40), line);
}
