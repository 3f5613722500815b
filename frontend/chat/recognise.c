/* recognise.c: which template a checkpoint's own chat template is, by pieces of its text (forms.def). A Jinja template is a program; running
 * it would be a language in the house for the sake of texts that differ in spelling only. So it is brought to one spelling first:
 *   outside of {{ }} and {% %}  what Jinja prints of it (trim_blocks, lstrip_blocks, {%- and -%}), comments left out
 *   inside, outside of quotes   no white space; x.name for x['name']
 *   inside of quotes            ' for ", \n for a line end, everything else as it is
 * Then the pieces that make a form must be there, and every block of the template must be one that is known in templates of that form
 * (blocks.def): who has put in a sentence, a trim or a condition has another template, and that is refused.
 * Tried: substrings of the raw text: the same template comes with ' and ", with \n and line ends, with and without spaces. Pieces alone: of
 * templates with one random change 12 in 100 were taken for what they had been. */
#include "frontend/chat/recognise.h"

#include <ctype.h>
#include <string.h>

enum { PIECES = 6, MOST_BLOCKS = 128, LONGEST = 1 << 20 /* real ones have up to 10 KB */ };

static const struct form {
    const char *template;
    const char *needs[PIECES];
} forms[] = {
#define FORM(template, ...) {template, {__VA_ARGS__}},
#include "frontend/chat/forms.def"
};

static const struct block {
    const char *template; /* "": any */
    const char *texts[MOST_BLOCKS];
} blocks[] = {
#define BLOCKS(template, ...) {template, {__VA_ARGS__}},
#include "frontend/chat/blocks.def"
};

typedef struct writer {
    char *at;
    size_t n;
} writer;

static void put(writer *w, char c) { w->at[w->n++] = c; }

/* White space that was printed last goes: all of it, or only that between a line's beginning and a block. */
static void strip(writer *w, int all) {
    size_t n = w->n;
    while (n && (all ? isspace((unsigned char)w->at[n - 1]) : w->at[n - 1] == ' ' || w->at[n - 1] == '\t'))
        n--;
    if (all || n == 0 || w->at[n - 1] == '\n')
        w->n = n;
}

/* s is behind a quote: its text up to the closing one. Returns what is behind that. */
static const char *quoted(writer *w, const char *s, char quote) {
    put(w, '\'');
    for (; *s && *s != quote; s++) {
        if (*s == '\\' && s[1])
            put(w, *s++);
        else if (*s == '\'' || *s == '\n')
            put(w, '\\');
        put(w, *s == '\n' ? 'n' : *s);
    }
    put(w, '\'');
    return *s ? s + 1 : s;
}

/* ['name'] at s: its name and what is behind it, or NULL. */
static const char *member(const char *s, const char **name, size_t *n) {
    if (s[0] != '[' || (s[1] != '\'' && s[1] != '"'))
        return NULL;
    *name = s + 2;
    *n = 0;
    while (isalnum((unsigned char)(*name)[*n]) || (*name)[*n] == '_')
        ++*n;
    return *n && (*name)[*n] == s[1] && (*name)[*n + 1] == ']' ? *name + *n + 2 : NULL;
}

/* s is behind the end of a block of that kind: what is not printed is passed over. */
static const char *behind_end(const char *s, char kind, int minus) {
    if (kind != '{' && *s == '\n' && !minus)
        return s + 1;
    while (minus && isspace((unsigned char)*s))
        s++;
    return s;
}

/* s is behind {{ or {%, which is written already: up to and with its end. */
static const char *block(writer *w, const char *s, char kind) {
    char end = kind == '{' ? '}' : '%';
    while (*s) {
        const char *name, *behind;
        size_t n;
        int minus = *s == '-' && s[1] == end && s[2] == '}';
        s += minus;
        if (*s == end && s[1] == '}') {
            put(w, *s);
            put(w, '}');
            return behind_end(s + 2, kind, minus);
        }
        if (*s == '\'' || *s == '"') {
            s = quoted(w, s + 1, *s);
        } else if ((behind = member(s, &name, &n))) {
            put(w, '.');
            memcpy(w->at + w->n, name, n);
            w->n += n;
            s = behind;
        } else {
            if (!isspace((unsigned char)*s))
                put(w, *s);
            s++;
        }
    }
    return s;
}

static const char *comment(const char *s) {
    const char *end = strstr(s, "#}");
    return end ? behind_end(end + 2, '#', end[-1] == '-') : s + strlen(s);
}

aq_status aq_chat_spelling(aq_arena *arena, const char *jinja, const char **out) {
    writer w = {0};
    size_t room;
    AQ_TRY(aq_size_mul(strlen(jinja), 2, "a chat template", &room));
    AQ_ALLOC(arena, w.at, room + 3); /* a line end in quotes becomes two characters, an open quote at the end gets its other one */
    for (const char *s = jinja; *s;) {
        if (s[0] != '{' || (s[1] != '{' && s[1] != '%' && s[1] != '#')) {
            put(&w, *s++);
            continue;
        }
        char kind = s[1];
        int minus = s[2] == '-';
        if (minus || kind != '{')
            strip(&w, minus);
        s += 2 + (minus || s[2] == '+');
        if (kind == '#') {
            s = comment(s);
            continue;
        }
        put(&w, '{');
        put(&w, kind);
        s = block(&w, s, kind);
    }
    put(&w, 0);
    *out = w.at;
    return AQ_OK;
}

static int fits(const struct form *f, const char *text) {
    for (int i = 0; i < PIECES && f->needs[i]; i++)
        if (!strstr(text, f->needs[i]))
            return 0;
    return 1;
}

/* at is inside of quotes: where the closing one stands. */
static const char *closing_quote(const char *at) {
    while (*at && *at != '\'')
        at += at[0] == '\\' && at[1] ? 2 : 1;
    return at;
}

/* at is behind an opening quote: whether the constant and then `after` end there, at s + n. */
static int ends_constant(const char *at, const char *after, const char *s, size_t n) {
    const char *quote = closing_quote(at);
    size_t m = strlen(after);
    return quote + 1 + m == s + n && !memcmp(quote + 1, after, m);
}

static int begins(const char *s, const char *with) { return !strncmp(s, with, strlen(with)); }

/* Length of the block or of the text between blocks at s. */
static size_t block_length(const char *s) {
    const char *at = s + 2;
    if (!begins(s, "{{") && !begins(s, "{%")) {
        for (at = s; *at && !begins(at, "{{") && !begins(at, "{%"); at++)
            ;
        return (size_t)(at - s);
    }
    for (char end = s[1] == '{' ? '}' : '%'; *at && !(*at == end && at[1] == '}'); at++)
        if (*at == '\'')
            at = closing_quote(at + 1), at -= !*at;
    return (size_t)(at - s) + (*at ? 2 : 0);
}

/* What raises an error prints nothing; constant system texts of chatml are own_system's. */
static int is_known(const char *template, const char *s, size_t n) {
    static const char raise[] = "{{raise_exception('", system[] = "{{'<|im_start|>system\\n";
    if (begins(s, raise) && ends_constant(s + sizeof raise - 1, ")}}", s, n))
        return 1;
    if (begins(s, system) && !strcmp(template, "chatml") && ends_constant(s + sizeof system - 1, "}}", s, n))
        return 1;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (*blocks[i].template && strcmp(blocks[i].template, template))
            continue;
        for (const char *const *text = blocks[i].texts; *text; text++)
            if (strlen(*text) == n && !memcmp(*text, s, n))
                return 1;
    }
    return 0;
}

/* Every block of the template stands in one of that form; a line end behind everything is not printed. */
static int holds_only_known(const char *template, const char *text) {
    size_t n;
    for (const char *s = text; *s; s += n) {
        n = block_length(s);
        if (!is_known(template, s, n) && strcmp(s, "\n"))
            return 0;
    }
    return 1;
}

static aq_status unquote(aq_arena *arena, const char *s, size_t n, const char **out) {
    char *copy;
    size_t k = 0;
    AQ_ALLOC(arena, copy, n + 1);
    for (size_t i = 0; i < n; i++) {
        int escaped = s[i] == '\\';
        i += (size_t)escaped;
        copy[k++] = escaped && s[i] == 'n' ? '\n' : escaped && s[i] == 't' ? '\t' : s[i];
    }
    copy[k] = 0;
    *out = copy;
    return AQ_OK;
}

/* The system text that a chatml template puts where the messages have none: "" or what stands in one quoted constant. *known 0: it is put
 * together in another way. What it does with the messages' own text, or where tools are given, is not looked at. */
static aq_status own_system(aq_arena *arena, const char *text, const char **out, int *known) {
    static const char start[] = "'<|im_start|>system\\n", end[] = "<|im_end|>\\n";
    size_t tail = sizeof end - 1;
    *out = "";
    *known = 1;
    for (const char *at = text, *quote; *known && (at = strstr(at, start)); at = quote) {
        const char *before = at - strlen("{%iftools%}{{");
        at += sizeof start - 1;
        quote = closing_quote(at);
        size_t n = (size_t)(quote - at);
        if (n >= tail && !memcmp(quote - tail, end, tail))
            AQ_TRY(unquote(arena, at, n - tail, out));
        else
            *known = n == 0 && (begins(quote, "'+message.content") || begins(quote, "'+messages[0].content") || (before >= text && begins(before, "{%iftools%}{{")));
    }
    return AQ_OK;
}

aq_status aq_chat_recognise(aq_arena *arena, const char *jinja, const char **name, const char **system) {
    const char *text;
    int known = 1;
    *name = NULL;
    *system = NULL;
    if (strlen(jinja) > LONGEST)
        return AQ_OK;
    AQ_TRY(aq_chat_spelling(arena, jinja, &text));
    for (size_t i = 0; i < sizeof forms / sizeof *forms && !*name; i++)
        if (fits(&forms[i], text) && holds_only_known(forms[i].template, text))
            *name = forms[i].template;
    if (*name && !strcmp(*name, "chatml"))
        AQ_TRY(own_system(arena, text, system, &known));
    if (!known)
        *name = NULL;
    return AQ_OK;
}
