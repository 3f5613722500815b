/* terminal.c: libedit behind terminal.h. Order of a character: wait_for_byte, look (is it the beginning or the end of pasted text?), read_character.
 *
 * Pasted text: the terminal is asked to put ESC [200~ and ESC [201~ around it (bracketed paste). What is in between is gathered and becomes part of the
 * line as a whole, line ends and all. Lines are UTF-8, whatever the locale is called.
 *
 * A resized window: terminals break what stands on them anew, so the line that is typed begins as many rows above the cursor as its text takes at the
 * new width. From there it is drawn again. */
#define _GNU_SOURCE
#include "frontend/cli/terminal.h"

#include "frontend/cli/common.h"
#include "frontend/cli/history.h"
#include "ir/memory.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

enum { CTRL_C = 3, CTRL_V = 22, CTRL_Z = 26, ESCAPE = 27, CTRL_BACKSLASH = 28, LONGEST_MARK = 8, MARK_MS = 100, TAB = 8 };

struct aq_terminal {
    EditLine *line;
    History *history;
    aq_history file;
    const char *prompt;
    char *text;           /* the last line */
    int is_bracketed;     /* the terminal marks pasted text */
    int is_pasting, after_return;
    wchar_t *pasted; /* so far */
    size_t n_pasted, pasted_room;
    wchar_t quoted;       /* comes behind a quoted-insert; 0: none */
    int has_guard;        /* a space behind the cursor, see guard */
    char held[LONGEST_MARK]; /* bytes that were looked at and are no mark */
    uint32_t n_held, at_held;
};

static aq_terminal *terminal_of(EditLine *line) {
    void *t = NULL;
    el_get(line, EL_CLIENTDATA, &t);
    return t;
}

static const char *prompt_of(EditLine *line) { return terminal_of(line)->prompt; }

/* --- the window --------------------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t is_resized;

static void note_resize(int signal) {
    (void)signal;
    is_resized = 1;
}

/* Rows between the beginning of the line and its cursor, in a window of that width. */
static int rows_above(const aq_terminal *t, int width) {
    const LineInfoW *l = el_wline(t->line);
    int row = 0, column = (int)strlen(t->prompt);
    for (const wchar_t *c = l->buffer; c < l->cursor; c++) {
        int cells = *c == L'\t' ? TAB - column % TAB : *c < 32 || *c == 127 ? 2 : wcwidth(*c);
        cells = cells > 0 ? cells : 0;
        if (*c == L'\n' || column + cells > width) {
            row++;
            column = 0;
        }
        column += *c == L'\n' ? 0 : cells;
        row += column == width;
        column = column == width ? 0 : column;
    }
    return row;
}

static void draw_again(aq_terminal *t) {
    struct winsize w;
    is_resized = 0;
    if (t->is_bracketed && ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col) {
        int above = rows_above(t, w.ws_col);
        if (above)
            fprintf(stderr, "\033[%dA", above);
        fputs("\r\033[J", stderr);
    } else {
        fputs("\n", stderr);
    }
    el_resize(t->line);
    el_set(t->line, EL_REFRESH);
}

/* --- bytes -------------------------------------------------------------------------------------------------------------------------------- */

/* Waits for a byte with SIGINT (of `kill`) and SIGWINCH let in: outside of this wait they are held back (see aq_terminal_line), so that none is lost
 * between a look at its flag and the read. 1, 0 at the end, -1 interrupted. */
static int wait_for_byte(aq_terminal *t, char *out) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t let_in;
    sigprocmask(SIG_SETMASK, NULL, &let_in);
    sigdelset(&let_in, SIGINT);
    sigdelset(&let_in, SIGWINCH);
    while (!aq_interrupted()) {
        if (is_resized)
            draw_again(t);
        if (ppoll(&in, 1, NULL, &let_in) < 0)
            continue; /* a signal: looked at above */
        ssize_t n = read(STDIN_FILENO, out, 1);
        if (n >= 0 || errno != EINTR)
            return n > 0;
    }
    return -1;
}

static int next_byte(aq_terminal *t, char *out) {
    if (t->at_held == t->n_held)
        return wait_for_byte(t, out);
    *out = t->held[t->at_held++];
    return 1;
}

/* Behind an ESC: 1 if what is there goes on as the mark of pasted text; what was read is held if it does not. */
static int is_mark(aq_terminal *t) {
    const char *mark = t->is_pasting ? "[201~" : "[200~";
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    if (t->at_held < t->n_held)
        return 0; /* looked at before */
    t->at_held = t->n_held = 0;
    for (uint32_t i = 0; mark[i]; i++) {
        char byte;
        if (poll(&in, 1, MARK_MS) <= 0 || read(STDIN_FILENO, &byte, 1) != 1)
            return 0;
        t->held[t->n_held++] = byte;
        if (byte != mark[i])
            return 0;
    }
    t->n_held = 0;
    t->is_pasting = !t->is_pasting;
    return 1;
}

static void ask_for_marks(const aq_terminal *t, int on) {
    if (t->is_bracketed)
        fputs(on ? "\033[?2004h" : "\033[?2004l", stderr);
}

/* SIGTSTP, SIGQUIT: what the key would do if it were none while a line is typed. */
static void leave_terminal(aq_terminal *t, int signal) {
    ask_for_marks(t, 0);
    el_set(t->line, EL_PREP_TERM, 0);
    raise(signal);
    el_set(t->line, EL_PREP_TERM, 1);
    ask_for_marks(t, 1);
    el_set(t->line, EL_REFRESH);
}

/* At the end of a line libedit draws a character without asking where it leads to, and a line end there leaves its idea of the screen: with a space behind the
 * cursor, for that one moment, it draws the whole. */
static void guard(aq_terminal *t, int on) {
    const LineInfo *l = el_line(t->line);
    if (on == t->has_guard || (on && l->cursor != l->lastchar))
        return;
    t->has_guard = on;
    if (on && el_insertstr(t->line, " ") == 0) {
        el_cursor(t->line, -1);
    } else if (!on) {
        el_cursor(t->line, 1);
        el_deletestr(t->line, 1);
    }
}

/* A character of pasted text; 0: no memory. */
static int keep_pasted(aq_terminal *t, wchar_t c) {
    void *block = t->pasted;
    if (t->n_pasted == t->pasted_room) {
        size_t room = 2 * t->pasted_room + 256;
        if (aq_mem_resize(&block, t->pasted_room * sizeof c, room * sizeof c) != AQ_OK)
            return 0;
        t->pasted = block;
        t->pasted_room = room;
    }
    t->pasted[t->n_pasted++] = c;
    return 1;
}

/* A control character inside of pasted text: line ends are one character, tabs stay, the others are passed over. */
static int keep_control(aq_terminal *t, char byte) {
    int is_second = byte == '\n' && t->after_return;
    t->after_return = byte == '\r';
    return is_second || (byte != '\n' && byte != '\r' && byte != '\t') || keep_pasted(t, byte == '\t' ? L'\t' : L'\n');
}

/* The whole pasted text goes into the line at once, but for its last character: that one comes through a quoted-insert, and all is drawn then. (Through
 * libedit one by one, every line end would draw all lines before it.) 1 if there is something. */
static int give_pasted(aq_terminal *t, wchar_t *out) {
    if (!t->n_pasted)
        return 0;
    t->quoted = t->pasted[--t->n_pasted];
    t->pasted[t->n_pasted] = 0;
    if (t->n_pasted && el_winsertstr(t->line, t->pasted) != 0)
        return 0;
    t->n_pasted = 0;
    guard(t, 1);
    *out = CTRL_V;
    return 1;
}

/* The line is dropped, as by Ctrl-C: half of a text is nobody's message. */
static int no_memory(void) {
    aq_interrupt_note();
    return -1;
}

/* libedit's way to read a character: bytes up to a whole one of the locale; what is none is passed over. While a line is typed Ctrl-C, Ctrl-Z and
 * Ctrl-\ come as characters: as signals they would come with the kernel's emptying of both queues, and what was printed or typed around
 * them would be lost, and a read that poll had promised would block. (Functions bound to the keys would do; libedit leaks their names.) */
static int read_character(EditLine *line, wchar_t *out) {
    aq_terminal *t = terminal_of(line);
    mbstate_t state = {0};
    char byte;
    if (t->quoted) {
        *out = t->quoted;
        t->quoted = 0;
        return 1;
    }
    guard(t, 0);
    for (;;) {
        int got = next_byte(t, &byte);
        if (got != 1)
            return got;
        if (byte == CTRL_C) {
            t->is_pasting = 0;
            t->n_pasted = 0;
            aq_interrupt_note();
            return -1;
        }
        if (byte == ESCAPE && t->is_bracketed && is_mark(t)) {
            if (!t->is_pasting && give_pasted(t, out))
                return 1;
            continue;
        }
        if (t->is_pasting && ((unsigned char)byte < 32 || byte == 127)) {
            if (!keep_control(t, byte))
                return no_memory();
            continue;
        }
        t->after_return = 0;
        if (byte == CTRL_Z || byte == CTRL_BACKSLASH) {
            leave_terminal(t, byte == CTRL_Z ? SIGTSTP : SIGQUIT);
            continue;
        }
        size_t n = mbrtowc(out, &byte, 1, &state);
        if (n != (size_t)-1 && n != (size_t)-2) {
            if (!t->is_pasting)
                return 1;
            if (!keep_pasted(t, *out))
                return no_memory();
        }
        if (n == (size_t)-1)
            memset(&state, 0, sizeof state);
    }
}

/* --- lines -------------------------------------------------------------------------------------------------------------------------------- */

static aq_status enter(void *user, const char *text) {
    HistEvent event;
    aq_terminal *t = user;
    history(t->history, &event, H_ENTER, text);
    return AQ_OK;
}

static aq_status open_line(aq_terminal *t) {
    HistEvent event;
    const char *name = NULL;
    /* In the locale C a line editor would drop every Chinese character. */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
    t->prompt = "";
    t->line = el_init("aquila", stdin, stderr, stderr);
    t->history = history_init();
    if (!t->line || !t->history)
        return aq_fail(AQ_FAILED, NULL, "the terminal cannot be set up for line editing");
    history(t->history, &event, H_SETSIZE, AQ_HISTORY_ENTRIES);
    history(t->history, &event, H_SETUNIQUE, 1);
    el_set(t->line, EL_CLIENTDATA, t);
    el_set(t->line, EL_PROMPT, prompt_of);
    el_set(t->line, EL_EDITOR, "emacs");
    el_set(t->line, EL_SIGNAL, 0);
    el_set(t->line, EL_SETTY, "-d", "-isig", NULL);
    el_set(t->line, EL_SETTY, "-x", "+noflsh", NULL); /* while an answer is given, Ctrl-C throws away nothing that was printed or typed */
    el_set(t->line, EL_GETCFN, read_character);
    el_set(t->line, EL_HIST, history, t->history);
    /* What is put in front of wide characters is drawn wrong by moving them: without these strings the rest of the row is written. */
    static const char *const moving[] = {"ic", "IC", "im", "dc", "DC"};
    for (size_t i = 0; i < sizeof moving / sizeof *moving; i++)
        el_set(t->line, EL_SETTC, moving[i], "", NULL);
    t->is_bracketed = el_get(t->line, EL_TERMINAL, &name) == 0 && name && strcmp(name, "dumb");
    ask_for_marks(t, 1);
    sigaction(SIGWINCH, &(struct sigaction){.sa_handler = note_resize, .sa_flags = SA_RESTART}, NULL);
    return AQ_OK;
}

aq_status aq_terminal_open(const char *path, const char **out_note, aq_terminal **out) {
    void *block;
    *out_note = NULL;
    AQ_TRY(aq_mem_alloc(sizeof(aq_terminal), &block));
    aq_terminal *t = block;
    *t = (aq_terminal){0};
    aq_status status = open_line(t);
    if (status == AQ_OK) {
        aq_history_open(path, &t->file);
        aq_status read = aq_history_read(&t->file, enter, t);
        *out_note = read == AQ_OK ? NULL : aq_error();
        *out = t;
        return AQ_OK;
    }
    aq_status closed = aq_terminal_close(t);
    return closed == AQ_OK ? status : closed;
}

aq_status aq_terminal_line(aq_terminal *t, const char *prompt, const char **text, size_t *n) {
    sigset_t held_back, old;
    int length = 0;
    *text = NULL;
    *n = 0;
    t->prompt = prompt;
    aq_status kept = aq_history_write(&t->file); /* now, since a terminal may be closed any time */
    (void)kept;                                  /* what cannot be written waits, and is said at the end */
    sigemptyset(&held_back);
    sigaddset(&held_back, SIGINT);
    sigaddset(&held_back, SIGWINCH);
    sigprocmask(SIG_BLOCK, &held_back, &old);
    el_resize(t->line); /* while the answer came */
    is_resized = 0;
    el_set(t->line, EL_PREP_TERM, 1); /* before the prompt: el_gets itself does it after, and what is typed between is handled in the wrong mode */
    const char *line = el_gets(t->line, &length);
    sigprocmask(SIG_SETMASK, &old, NULL);
    int interrupted = aq_interrupted();
    aq_interrupt_forget();
    if (interrupted) { /* Ctrl-C, perhaps a moment too late for an answer */
        el_reset(t->line);
        t->quoted = 0;
        return AQ_INTERRUPTED;
    }
    if (!line || length <= 0)
        return AQ_OK;
    while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
        length--;
    void *copy;
    aq_mem_free(t->text);
    t->text = NULL;
    AQ_TRY(aq_mem_alloc((size_t)length + 1, &copy));
    t->text = copy;
    memcpy(t->text, line, (size_t)length);
    t->text[length] = 0;
    *text = t->text;
    *n = (size_t)length;
    return AQ_OK;
}

aq_status aq_terminal_remember(aq_terminal *t, const char *text) {
    AQ_TRY(enter(t, text));
    return aq_history_add(&t->file, text);
}

aq_status aq_terminal_close(aq_terminal *t) {
    if (!t)
        return AQ_OK;
    aq_status status = aq_history_write(&t->file);
    aq_history_close(&t->file);
    if (t->line) {
        ask_for_marks(t, 0);
        el_end(t->line);
    }
    if (t->history)
        history_end(t->history);
    aq_mem_free(t->text);
    aq_mem_free(t->pasted);
    aq_mem_free(t);
    return status;
}
