/* verb_chat.c: `aquila chat`: a conversation in one cache: each turn renders the whole history, and generate.c feeds only what the cache does
 * not hold of it. Ctrl-C stops an answer or drops a line; Ctrl-D and /exit end the program. */
#define _GNU_SOURCE
#include "frontend/cli/common.h"
#include "frontend/cli/generate.h"
#include "frontend/cli/json.h"
#include "frontend/cli/lines.h"
#include "frontend/cli/prompt.h"
#include "frontend/cli/sampling.h"
#include "ir/memory.h"

#include <errno.h>
#include <histedit.h>
#include <inttypes.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

typedef struct talk {
    aq_subject *subject;
    aq_arena arena;
    aq_prompt prompt;
    aq_held held;
    aq_rt_sampler *sampler;
    EditLine *line;        /* NULL: not a terminal */
    History *history;
    int64_t tokens, ns, prefilled, prefill_ns; /* for /stats */
    int done;
} talk;

static const char *line_prompt(EditLine *line) {
    (void)line;
    return "> ";
}

/* Waits for a byte with SIGINT (of `kill`) let in: outside of this wait it is held back (see edit_line), so that none is lost between a look
 * at the flag and the read. 1, 0 at the end, -1 interrupted. */
static int wait_for_byte(char *out) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t let_in;
    sigprocmask(SIG_SETMASK, NULL, &let_in);
    sigdelset(&let_in, SIGINT);
    while (!aq_interrupted()) {
        if (ppoll(&in, 1, NULL, &let_in) < 0)
            continue; /* a signal: looked at above; a resized window asks nothing of us */
        ssize_t n = read(STDIN_FILENO, out, 1);
        if (n >= 0 || errno != EINTR)
            return n > 0;
    }
    return -1;
}

static void suspend(EditLine *line) {
    el_set(line, EL_PREP_TERM, 0);
    raise(SIGTSTP);
    el_set(line, EL_PREP_TERM, 1);
    el_set(line, EL_REFRESH);
}

/* libedit's way to read a character: bytes up to a whole one of the locale; what is none is passed over. While a line is typed Ctrl-C and
 * Ctrl-Z come as characters: as signals they would come with the kernel's emptying of both queues, and what was printed or typed around
 * them would be lost, and a read that poll had promised would block. (Functions bound to the keys would do; libedit leaks their names.) */
static int read_character(EditLine *line, wchar_t *out) {
    enum { CTRL_C = 3, CTRL_Z = 26 };
    mbstate_t state = {0};
    char byte;
    for (;;) {
        int got = wait_for_byte(&byte);
        if (got != 1)
            return got;
        if (byte == CTRL_C) {
            aq_interrupt_note();
            return -1;
        }
        if (byte == CTRL_Z) {
            suspend(line);
            continue;
        }
        size_t n = mbrtowc(out, &byte, 1, &state);
        if (n != (size_t)-1 && n != (size_t)-2)
            return 1;
        if (n == (size_t)-1)
            memset(&state, 0, sizeof state);
    }
}

static const char *edit_line(EditLine *line, int *n) {
    sigset_t interrupt, old;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &old);
    el_set(line, EL_PREP_TERM, 1); /* before the prompt: el_gets itself does it after, and what is typed between is handled in the wrong mode */
    const char *text = el_gets(line, n);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return text;
}

static aq_status open_line(talk *t) {
    HistEvent event;
    if (!isatty(STDIN_FILENO) || aq_arg_given(t->subject->args, AQ_OPT_JSON))
        return AQ_OK;
    /* Lines are UTF-8, whatever the locale is called: in the locale C a line editor would drop every Chinese character. */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
    t->line = el_init("aquila", stdin, stderr, stderr);
    t->history = history_init();
    if (!t->line || !t->history)
        return aq_fail(AQ_FAILED, NULL, "the terminal cannot be set up for line editing");
    history(t->history, &event, H_SETSIZE, 500);
    el_set(t->line, EL_PROMPT, line_prompt);
    el_set(t->line, EL_EDITOR, "emacs");
    el_set(t->line, EL_SIGNAL, 0);
    el_set(t->line, EL_SETTY, "-d", "-isig", NULL);
    el_set(t->line, EL_GETCFN, read_character);
    el_set(t->line, EL_HIST, history, t->history);
    return AQ_OK;
}

static void close_line(talk *t) {
    if (t->line)
        el_end(t->line);
    if (t->history)
        history_end(t->history);
}

/* --- answers ------------------------------------------------------------------------------------------------------------------------------ */

static int emit(void *user, aq_bytes text) {
    (void)user;
    return fwrite(text.s, 1, text.n, stdout) != text.n || fflush(stdout) != 0;
}

static void answer_json(const aq_answer *a) {
    const char *reason = aq_stop_reason_name(a->reason);
    fputs("{\"text\": ", stdout);
    aq_json_write(stdout, a->text ? a->text : "", a->n_text);
    fputs(", \"stop_reason\": ", stdout);
    aq_json_write(stdout, reason, strlen(reason));
    printf(", \"tokens\": %zu, \"prefilled\": %" PRId64 "}\n", a->tokens.n, a->prefilled);
    fflush(stdout);
}

static aq_status answer(talk *t, const char *text, size_t n) {
    const aq_args *args = t->subject->args;
    int64_t max_new = aq_arg_number(args, AQ_OPT_MAX_NEW), context = aq_engine_limits(t->subject->engine)->context;
    int json = aq_arg_given(args, AQ_OPT_JSON);
    aq_answer a = {0};
    AQ_TRY(aq_prompt_add(&t->prompt, AQ_CHAT_USER, text, n));
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_prompt_encode(t->subject, &t->prompt, (size_t)(context - max_new > 1 ? context - max_new : 1)));
    const aq_generation g = {.engine = t->subject->engine,
                             .tokenizer = t->subject->tokenizer,
                             .sampler = t->sampler,
                             .stop_ids = t->prompt.stop_ids,
                             .n_stop_ids = t->prompt.n_stop_ids,
                             .stops = t->prompt.stops,
                             .n_stops = t->prompt.n_stops,
                             .max_new = max_new,
                             .drop_space = t->prompt.drop_space,
                             .emit = json ? NULL : emit};
    AQ_TRY_GOTO(status, close, aq_generate(&g, t->prompt.ids.at, t->prompt.ids.n, &t->held, &a));
    if (json)
        answer_json(&a);
    else { /* now, before anything goes to standard error */
        putchar('\n');
        AQ_TRY_GOTO(status, close, aq_output_finish());
    }
    t->tokens += (int64_t)a.tokens.n;
    t->ns += a.decode_ns;
    t->prefilled += a.prefilled;
    t->prefill_ns += a.prefill_ns;
    status = aq_prompt_add(&t->prompt, AQ_CHAT_ASSISTANT, a.text ? a.text : "", a.n_text);
    if (a.reason == AQ_STOP_INTERRUPTED)
        aq_say(args, 0, "(stopped)");
close:
    if (status != AQ_OK && !a.text)
        t->prompt.messages.n--; /* a turn that failed is not part of the conversation */
    aq_interrupt_forget();
    aq_answer_close(&a);
    return status;
}

/* --- commands ----------------------------------------------------------------------------------------------------------------------------- */

static aq_status help(talk *t, const char *rest);

static aq_status reset(talk *t, const char *rest) {
    (void)rest;
    t->prompt.messages.n = 0;
    return AQ_OK;
}

static aq_status set_system(talk *t, const char *rest) {
    AQ_TRY(aq_arena_string(&t->arena, rest, strlen(rest), &t->prompt.system));
    t->prompt.messages.n = 0;
    aq_say(t->subject->args, 0, "new system text; the conversation starts again");
    return AQ_OK;
}

static void add_message(cJSON *list, const char *role, const char *text, size_t n) {
    cJSON *one = cJSON_CreateObject();
    aq_json_set_text(one, "role", role, strlen(role));
    aq_json_set_text(one, "content", text, n);
    cJSON_AddItemToArray(list, one);
}

static aq_status save(talk *t, const char *rest) {
    static const char *const roles[] = {"system", "user", "assistant"};
    if (!*rest)
        return aq_fail(AQ_USAGE, NULL, "/save: expected /save FILE");
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
    return status;
}

static aq_status stats(talk *t, const char *rest) {
    (void)rest;
    aq_say(t->subject->args, 0, "%" PRIu32 " messages, %zu positions held of %" PRId64 "; prefill %" PRId64 " tokens %.1f/s; decode %" PRId64 " tokens %.1f/s",
           t->prompt.messages.n, t->held.ids.n, aq_engine_limits(t->subject->engine)->context, t->prefilled,
           t->prefill_ns ? (double)t->prefilled * 1e9 / (double)t->prefill_ns : 0, t->tokens, t->ns ? (double)t->tokens * 1e9 / (double)t->ns : 0);
    return AQ_OK;
}

static aq_status leave(talk *t, const char *rest) {
    (void)rest;
    t->done = 1;
    return AQ_OK;
}

static const struct command {
    const char *name, *doc;
    aq_status (*run)(talk *t, const char *rest);
} commands[] = {{"/help", "this list", help},
                {"/reset", "forget the conversation", reset},
                {"/system", "TEXT: another system text; the conversation starts again", set_system},
                {"/save", "FILE: the conversation as JSON, for --messages", save},
                {"/stats", "tokens and rates", stats},
                {"/exit", "leave (also Ctrl-D)", leave}};

static aq_status help(talk *t, const char *rest) {
    (void)rest;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        aq_say(t->subject->args, 0, "%-8s %s", commands[i].name, commands[i].doc);
    return AQ_OK;
}

static aq_status obey(talk *t, const char *line) {
    size_t n = strcspn(line, " ");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strlen(commands[i].name) == n && !memcmp(commands[i].name, line, n))
            return commands[i].run(t, line + n + strspn(line + n, " "));
    return aq_fail(AQ_USAGE, NULL, "%.*s: no such command: /help lists them", (int)(n < 40 ? n : 40), line);
}

/* --- the loop ----------------------------------------------------------------------------------------------------------------------------- */

/* One line, answered or obeyed. What goes wrong in a turn is told and does not end the conversation, but for lost memory or output. */
static aq_status turn(talk *t, char *line) {
    size_t n = strlen(line);
    while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
        line[--n] = 0;
    if (!n)
        return AQ_OK;
    aq_status status = *line == '/' ? obey(t, line) : answer(t, line, n);
    if (status == AQ_REFUSED || status == AQ_USAGE || status == AQ_FAILED) {
        aq_report(status, aq_arg_given(t->subject->args, AQ_OPT_VERBOSE));
        return AQ_OK;
    }
    return status;
}

static aq_status typed_lines(talk *t) {
    HistEvent event;
    int n;
    const char *line;
    while (!t->done) {
        char *copy;
        void *block;
        line = edit_line(t->line, &n);
        int interrupted = aq_interrupted();
        aq_interrupt_forget();
        if (interrupted) { /* Ctrl-C, a moment too late for the answer: the line is dropped, the conversation kept */
            el_reset(t->line);
            fputs("\n(Ctrl-D or /exit leaves)\n", stderr);
            continue;
        }
        if (!line || n <= 0)
            break;
        history(t->history, &event, H_ENTER, line);
        AQ_TRY(aq_mem_alloc((size_t)n + 1, &block));
        copy = block;
        memcpy(copy, line, (size_t)n);
        aq_status status = turn(t, copy);
        aq_mem_free(block);
        AQ_TRY(status);
    }
    return AQ_OK;
}

static aq_status piped_lines(talk *t) {
    aq_lines lines;
    char *line;
    size_t n;
    AQ_TRY(aq_lines_open("-", &lines));
    aq_status status = AQ_OK;
    while (!t->done && (status = aq_lines_next(&lines, &line, &n)) == AQ_OK && line)
        AQ_TRY_GOTO(status, close, turn(t, line));
close:
    aq_lines_close(&lines);
    return status;
}

aq_status aq_verb_chat(const aq_args *a) {
    aq_subject s;
    talk t = {.subject = &s};
    const aq_subject_needs needs = {.outputs = 1};
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_subject_open(a, a->operand[0], &s));
    if (!s.tokenizer)
        AQ_TRY_GOTO(status, close, aq_fail(AQ_USAGE, NULL, "%s has no tokenizer: expected --tokenizer FOLDER", a->operand[0]));
    AQ_TRY_GOTO(status, close, aq_prompt_open(&s, &t.arena, &t.prompt));
    AQ_TRY_GOTO(status, close, aq_subject_start(&s, &needs));
    AQ_TRY_GOTO(status, close, aq_sampler_of(s.args, s.checkpoint.config.V, &t.sampler));
    AQ_TRY_GOTO(status, close, open_line(&t));
    if (t.line)
        aq_say(a, 0, "%s, template %s; /help lists commands", *s.checkpoint.config.name ? s.checkpoint.config.name : a->operand[0], t.prompt.template.name);
    status = t.line ? typed_lines(&t) : piped_lines(&t);
close:
    close_line(&t);
    aq_rt_sampler_close(t.sampler);
    aq_ids_close(&t.held.ids);
    aq_prompt_close(&t.prompt);
    aq_subject_close(&s);
    aq_arena_close(&t.arena);
    return status;
}
