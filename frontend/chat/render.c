/* render.c: messages to text in parts, parts to ids, and how much history fits. */
#include "frontend/chat/chat.h"

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

static aq_status add_system(aq_arena *arena, const aq_chat_template *t, aq_bytes text, int is_own, aq_chat_text *out) {
    AQ_TRY(add_fixed(arena, out, t->system_start));
    AQ_TRY(add(arena, out, text.s, text.n, is_own));
    return add_fixed(arena, out, t->system_end);
}

/* System text and instruction. A system message at the front is given as `message`. */
static aq_status add_head(aq_arena *arena, const aq_chat_request *r, const aq_chat_message *message, aq_chat_text *out) {
    const aq_chat_template *t = r->template;
    const char *text = r->system ? r->system : t->system;
    if (message && r->system)
        return aq_fail(AQ_USAGE, NULL, "a system text is given and the messages begin with another: one expected");
    if (message)
        AQ_TRY(add_system(arena, t, message->text, 0, out));
    else if (text[0])
        AQ_TRY(add_system(arena, t, (aq_bytes){text, (uint32_t)strlen(text)}, !r->system, out));
    if (!r->instruction)
        return AQ_OK;
    if (!t->instruction)
        return aq_fail(AQ_USAGE, NULL, "template %s has no place for an instruction: aquila-chat or bair_v1 expected", t->name);
    AQ_TRY(add_fixed(arena, out, t->instruction));
    AQ_TRY(add_text(arena, out, r->instruction));
    return add_fixed(arena, out, t->end_even);
}

static aq_status add_open_turn(aq_arena *arena, const aq_chat_template *t, aq_chat_role role, aq_chat_text *out) {
    const char *prefix = role == AQ_CHAT_USER ? t->user : t->assistant;
    size_t n = strlen(prefix);
    return add(arena, out, prefix, t->is_colon && n && prefix[n - 1] == ' ' ? n - 1 : n, 1);
}

static aq_status add_turn(aq_arena *arena, const aq_chat_template *t, const aq_chat_message *m, uint32_t position, int is_last,
                          aq_chat_text *out) {
    if (m->role == AQ_CHAT_SYSTEM) {
        if (!t->system_start[0])
            return aq_fail(AQ_USAGE, NULL, "a system message after the first: template %s has a place for it only at the front", t->name);
        return add_system(arena, t, m->text, 0, out);
    }
    if (m->text.n == 0 && (t->is_open_empty || (is_last && m->role == AQ_CHAT_ASSISTANT)))
        return add_open_turn(arena, t, m->role, out);
    AQ_TRY(add_fixed(arena, out, m->role == AQ_CHAT_USER ? t->user : t->assistant));
    AQ_TRY(add(arena, out, m->text.s, m->text.n, 0));
    return add_fixed(arena, out, position % 2 ? t->end_odd : t->end_even);
}

static int is_none(const aq_chat_template *t) { return strcmp(t->name, "none") == 0; }

static aq_status render_none(aq_arena *arena, const aq_chat_request *r, aq_chat_text *out) {
    if (r->instruction || (r->system && r->system[0]))
        return aq_fail(AQ_USAGE, NULL, "template none feeds the text as it is: no system text and no instruction expected");
    if (r->n_messages > 1)
        return aq_fail(AQ_USAGE, NULL, "template none takes one text, not %u messages: a conversation needs a template", r->n_messages);
    return r->n_messages ? add(arena, out, r->messages[0].text.s, r->messages[0].text.n, 1) : AQ_OK;
}

aq_status aq_chat_render(aq_arena *arena, const aq_chat_request *r, aq_chat_text *out) {
    *out = (aq_chat_text){0};
    if (is_none(r->template))
        return render_none(arena, r, out);
    uint32_t first = r->n_messages && r->messages[0].role == AQ_CHAT_SYSTEM;
    AQ_TRY(add_head(arena, r, first ? &r->messages[0] : NULL, out));
    for (uint32_t i = first; i < r->n_messages; i++)
        AQ_TRY(add_turn(arena, r->template, &r->messages[i], i - first, i + 1 == r->n_messages, out));
    const aq_chat_message *last = r->n_messages ? &r->messages[r->n_messages - 1] : NULL;
    int is_open = last && last->role == AQ_CHAT_ASSISTANT && last->text.n == 0;
    return is_open ? AQ_OK : add_open_turn(arena, r->template, AQ_CHAT_ASSISTANT, out);
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
