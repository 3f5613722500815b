/* render.c: messages to text in parts, parts to ids. */
#define _GNU_SOURCE
#include "frontend/chat/chat.h"

#include "frontend/reasons.h"

#include <string.h>

static aq_status add(aq_arena *arena, aq_chat_text *out, const char *s, size_t n, int is_template) {
    if (n)
        AQ_PUSH(arena, &out->parts, (aq_chat_part){{s, (uint32_t)n}, is_template});
    return AQ_OK;
}

static aq_status add_fixed(aq_arena *arena, aq_chat_text *out, const char *s) { return add(arena, out, s, strlen(s), 1); }

static aq_status add_text(aq_arena *arena, aq_chat_text *out, const char *s) {
    size_t n = strlen(s);
    if (n >= UINT32_MAX)
        return aq_fail(AQ_REFUSED, NULL, "a text of %zu bytes: less than 4 GiB expected", n);
    return add(arena, out, s, n, 0);
}

static int flag(const aq_chat_template *t, aq_chat_flag f) { return (t->flags & f) != 0; }

/* --- white space at the ends, as Python's str.strip() has it ------------------------------------------------------------------------------ */

/* Bytes of the white space that s[0..n) begins with, 0 if it begins with something else. */
static uint32_t space_at(const char *s, uint32_t n) {
    const unsigned char *c = (const unsigned char *)s;
    if (n && (c[0] == ' ' || (c[0] >= 9 && c[0] <= 13) || (c[0] >= 28 && c[0] <= 31)))
        return 1;
    if (n >= 2 && c[0] == 0xc2 && (c[1] == 0x85 || c[1] == 0xa0))
        return 2;
    if (n < 3)
        return 0;
    uint32_t x = (uint32_t)c[0] << 16 | (uint32_t)c[1] << 8 | c[2];
    int is_space = x == 0xe19a80 || (x >= 0xe28080 && x <= 0xe2808a) || x == 0xe280a8 || x == 0xe280a9 || x == 0xe280af || x == 0xe2819f || x == 0xe38080;
    return is_space ? 3 : 0;
}

static uint32_t space_before(const char *s, uint32_t n) {
    for (uint32_t k = 1; k <= 3 && k <= n; k++)
        if (space_at(s + n - k, k) == k)
            return k;
    return 0;
}

/* White space at both ends of what parts[from, n) say together; parts that nothing is left of go. */
static void trim(aq_chat_text *text, uint32_t from) {
    aq_chat_part *part = text->parts.at;
    uint32_t first = from, k;
    for (; first < text->parts.n; first++) {
        for (aq_bytes *b = &part[first].text; (k = space_at(b->s, b->n)); b->n -= k)
            b->s += k;
        if (part[first].text.n)
            break;
    }
    memmove(part + from, part + first, (text->parts.n - first) * sizeof *part);
    text->parts.n -= first - from;
    for (; text->parts.n > from; text->parts.n--) {
        aq_bytes *b = &part[text->parts.n - 1].text;
        while ((k = space_before(b->s, b->n)))
            b->n -= k;
        if (b->n)
            break;
    }
}

/* --- the head ----------------------------------------------------------------------------------------------------------------------------- */

/* What stands in the place of a system text. is_there 0: nothing. */
typedef struct head {
    aq_bytes text;
    int is_there, is_own;
} head;

static int has_system(const aq_chat_request *r) {
    for (uint32_t i = 0; i < r->n_messages; i++)
        if (r->messages[i].role == AQ_CHAT_SYSTEM)
            return 1;
    return 0;
}

static aq_status find_system(const aq_chat_request *r, const aq_chat_message *message, head *out) {
    const aq_chat_template *t = r->template;
    const char *text = r->system ? r->system : t->system;
    if (message && r->system)
        return aq_fail(AQ_USAGE, NULL, "a system text is given and the messages begin with another: one expected");
    *out = (head){{text, (uint32_t)strlen(text)}, *text || flag(t, AQ_CHAT_SYSTEM_ALWAYS), !r->system};
    if (!r->system && flag(t, AQ_CHAT_SYSTEM_INSTEAD) && has_system(r))
        out->is_there = 0;
    if (message)
        *out = (head){message->text, message->text.n || !flag(t, AQ_CHAT_SKIP_EMPTY_SYSTEM), 0};
    if (!out->is_there || !flag(t, AQ_CHAT_NO_SYSTEM))
        return AQ_OK;
    if (message)
        return aq_refuse(AQ_WHY_CHAT_NO_SYSTEM, NULL, "a system message: template %s has no place for one: expected turns of user and assistant", t->name);
    return aq_fail(AQ_USAGE, NULL, "template %s has no place for a system text: expected none", t->name);
}

static aq_status add_system(aq_arena *arena, const aq_chat_template *t, const head *h, aq_chat_text *out) {
    if (!h->is_there)
        return AQ_OK;
    AQ_TRY(add_fixed(arena, out, t->system_start));
    uint32_t from = out->parts.n;
    AQ_TRY(add(arena, out, h->text.s, h->text.n, h->is_own));
    if (flag(t, AQ_CHAT_TRIM_SYSTEM))
        trim(out, from);
    return add_fixed(arena, out, t->system_end);
}

static aq_status add_instruction(aq_arena *arena, const aq_chat_request *r, aq_chat_text *out) {
    const aq_chat_template *t = r->template;
    if (!r->instruction || !*r->instruction)
        return AQ_OK;
    if (!t->instruction)
        return aq_fail(AQ_USAGE, NULL, "template %s has no place for an instruction: aquila-chat or bair_v1 expected", t->name);
    AQ_TRY(add_fixed(arena, out, t->instruction));
    AQ_TRY(add_text(arena, out, r->instruction));
    return add_fixed(arena, out, t->user_end);
}

/* --- turns -------------------------------------------------------------------------------------------------------------------------------- */

static aq_status add_open_turn(aq_arena *arena, const aq_chat_template *t, aq_chat_role role, aq_chat_text *out) {
    const char *prefix = role == AQ_CHAT_USER ? t->user : t->open ? t->open : t->assistant;
    size_t n = strlen(prefix);
    return add(arena, out, prefix, flag(t, AQ_CHAT_COLON) && n && prefix[n - 1] == ' ' ? n - 1 : n, 1);
}

/* Behind the last "</think>": what a model thought is not part of the conversation. */
static aq_bytes after_think(aq_bytes text) {
    static const char end[] = "</think>";
    const char *found = text.s, *at;
    while ((at = memmem(found, text.n - (size_t)(found - text.s), end, sizeof end - 1)))
        found = at + sizeof end - 1;
    return (aq_bytes){found, text.n - (uint32_t)(found - text.s)};
}

typedef struct place {
    uint32_t position; /* among the turns */
    int is_last;
} place;

static aq_status check_turn(const aq_chat_template *t, const aq_chat_message *m, place at) {
    aq_chat_role wanted = at.position % 2 ? AQ_CHAT_ASSISTANT : AQ_CHAT_USER;
    if (m->role == AQ_CHAT_SYSTEM && !flag(t, AQ_CHAT_SYSTEM_ANYWHERE))
        return aq_refuse(AQ_WHY_CHAT_SYSTEM_LATE, NULL, "a system message after the first: template %s has a place for it only at the front", t->name);
    if (flag(t, AQ_CHAT_ALTERNATE) && m->role != wanted)
        return aq_refuse(AQ_WHY_CHAT_TURNS, NULL, "turn %u is not the %s's: template %s wants user and assistant in turn", at.position,
                         at.position % 2 ? "assistant" : "user", t->name);
    return AQ_OK;
}

static aq_status add_turn(aq_arena *arena, const aq_chat_template *t, const aq_chat_message *m, place at, const head *h, aq_chat_text *out) {
    int is_user = m->role == AQ_CHAT_USER;
    AQ_TRY(check_turn(t, m, at));
    if (m->role == AQ_CHAT_SYSTEM)
        return add_system(arena, t, &(head){m->text, m->text.n || !flag(t, AQ_CHAT_SKIP_EMPTY_SYSTEM), 0}, out);
    if (m->text.n == 0 && (flag(t, AQ_CHAT_OPEN_EMPTY) || (at.is_last && !is_user)))
        return add_open_turn(arena, t, m->role, out);
    AQ_TRY(add_fixed(arena, out, is_user ? t->user : t->assistant));
    uint32_t from = out->parts.n;
    if (is_user && ((flag(t, AQ_CHAT_SYSTEM_FIRST) && at.position == 0) || (flag(t, AQ_CHAT_SYSTEM_LAST) && at.is_last)))
        AQ_TRY(add_system(arena, t, h, out));
    aq_bytes text = !is_user && flag(t, AQ_CHAT_AFTER_THINK) ? after_think(m->text) : m->text;
    AQ_TRY(add(arena, out, text.s, text.n, 0));
    if (flag(t, is_user ? AQ_CHAT_TRIM_USER : AQ_CHAT_TRIM_ASSISTANT))
        trim(out, from);
    int is_even = flag(t, AQ_CHAT_BY_POSITION) ? at.position % 2 == 0 : is_user;
    const char *end = is_even ? t->user_end : t->assistant_end;
    size_t n = strlen(end);
    return add(arena, out, end, n - (at.is_last && !is_user && n && flag(t, AQ_CHAT_BARE_LAST)), 1);
}

static int is_none(const aq_chat_template *t) { return strcmp(t->name, "none") == 0; }

static aq_status render_none(aq_arena *arena, const aq_chat_request *r, aq_chat_text *out) {
    if ((r->instruction && *r->instruction) || (r->system && r->system[0]))
        return aq_fail(AQ_USAGE, NULL, "template none feeds the text as it is: no system text and no instruction expected");
    if (r->n_messages > 1)
        return aq_refuse(AQ_WHY_CHAT_NONE, NULL, "%u messages: template none takes one text: a conversation needs a template (--template)", r->n_messages);
    return r->n_messages ? add(arena, out, r->messages[0].text.s, r->messages[0].text.n, 1) : AQ_OK;
}

aq_status aq_chat_render(aq_arena *arena, const aq_chat_request *r, aq_chat_text *out) {
    const aq_chat_template *t = r->template;
    *out = (aq_chat_text){0};
    if (is_none(t))
        return render_none(arena, r, out);
    uint32_t first = r->n_messages && r->messages[0].role == AQ_CHAT_SYSTEM;
    head h;
    AQ_TRY(find_system(r, first ? &r->messages[0] : NULL, &h));
    AQ_TRY(add_fixed(arena, out, t->start));
    if (!flag(t, AQ_CHAT_SYSTEM_FIRST) && !flag(t, AQ_CHAT_SYSTEM_LAST))
        AQ_TRY(add_system(arena, t, &h, out));
    AQ_TRY(add_instruction(arena, r, out));
    for (uint32_t i = first; i < r->n_messages; i++)
        AQ_TRY(add_turn(arena, t, &r->messages[i], (place){i - first, i + 1 == r->n_messages}, &h, out));
    const aq_chat_message *last = r->n_messages ? &r->messages[r->n_messages - 1] : NULL;
    int is_open = last && last->role == AQ_CHAT_ASSISTANT && last->text.n == 0;
    if (!is_open)
        AQ_TRY(add_open_turn(arena, t, AQ_CHAT_ASSISTANT, out));
    return r->after ? add_fixed(arena, out, r->after) : AQ_OK;
}

aq_status aq_chat_join(aq_arena *arena, const aq_chat_text *text, aq_bytes *out) {
    size_t n = 0;
    char *s;
    for (uint32_t i = 0; i < text->parts.n; i++)
        AQ_TRY(aq_size_add(n, text->parts.at[i].text.n, "text", &n));
    if (n >= UINT32_MAX)
        return aq_fail(AQ_REFUSED, NULL, "a conversation of %zu bytes: less than 4 GiB expected", n);
    AQ_ALLOC(arena, s, n + 1);
    size_t at = 0;
    for (uint32_t i = 0; i < text->parts.n; i++) {
        memcpy(s + at, text->parts.at[i].text.s, text->parts.at[i].text.n);
        at += text->parts.at[i].text.n;
    }
    *out = (aq_bytes){s, (uint32_t)n};
    return AQ_OK;
}

static aq_status encode(const aq_tokenizer *t, const aq_chat_text *text, aq_arena *arena, aq_ids *ids) {
    aq_bytes joined;
    aq_open_text *open;
    uint32_t n_open = 0;
    AQ_TRY(aq_chat_join(arena, text, &joined));
    AQ_ALLOC(arena, open, text->parts.n);
    size_t at = 0;
    for (uint32_t i = 0; i < text->parts.n; i++) {
        size_t end = at + text->parts.at[i].text.n;
        if (text->parts.at[i].is_template && n_open && open[n_open - 1].end == at)
            open[n_open - 1].end = end;
        else if (text->parts.at[i].is_template)
            open[n_open++] = (aq_open_text){at, end};
        at = end;
    }
    size_t before = ids->n;
    int32_t bos = aq_tokenizer_bos(t);
    if (aq_tokenizer_adds_bos(t))
        AQ_TRY(aq_ids_push(ids, bos));
    AQ_TRY(aq_tokenizer_encode_open(t, joined.s, joined.n, open, n_open, ids));
    if (aq_tokenizer_adds_bos(t) && ids->n > before + 1 && ids->at[before + 1] == bos) {
        memmove(ids->at + before, ids->at + before + 1, (ids->n - before - 1) * sizeof *ids->at);
        ids->n--;
    }
    return AQ_OK;
}

aq_status aq_chat_encode(const aq_tokenizer *t, const aq_chat_text *text, aq_ids *ids) {
    aq_arena arena = {0};
    size_t before = ids->n;
    aq_status status = encode(t, text, &arena, ids);
    aq_arena_close(&arena);
    if (status != AQ_OK)
        ids->n = before;
    return status;
}
