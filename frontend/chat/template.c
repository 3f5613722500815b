/* template.c: the table of templates, and which one a checkpoint wants. */
#define _GNU_SOURCE
#include "frontend/chat/chat.h"

#include <ctype.h>
#include <string.h>

#define MODEL(first, second, template)
static const aq_chat_template templates[] = {
#define TEMPLATE(name, system, system_start, system_end, user, assistant, end_even, end_odd, is_colon, is_open_empty, instruction, ...)        \
    {name, system, system_start, system_end, user, assistant, end_even, end_odd, is_colon, is_open_empty, instruction, {__VA_ARGS__}},
#include "frontend/chat/templates.def"
};

#define TEMPLATE(...)
static const struct {
    const char *first, *second, *template;
} models[] = {
#define MODEL(first, second, template) {first, second, template},
#include "frontend/chat/templates.def"
};

const aq_chat_template *aq_chat_template_at(uint32_t i) { return i < sizeof templates / sizeof *templates ? &templates[i] : NULL; }

const aq_chat_template *aq_chat_template_find(const char *name) {
    for (uint32_t i = 0; aq_chat_template_at(i); i++)
        if (strcmp(templates[i].name, name) == 0)
            return &templates[i];
    return NULL;
}

/* Names of checkpoints are written in every way: "AquilaChat2-7B", "aquila_chat2 7b". */
static const char *template_of_model(const char *name) {
    char plain[256];
    size_t n = 0;
    for (const char *c = name; *c && n + 1 < sizeof plain; c++)
        if (!strchr("-_ ", *c))
            plain[n++] = (char)tolower((unsigned char)*c);
    plain[n] = 0;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strstr(plain, models[i].first) && strstr(plain, models[i].second))
            return models[i].template;
    return "none";
}

/* The system text that a chatml Jinja template puts where the messages have none: the text between "<|im_start|>system\n" and
 * "<|im_end|>" if it is written out inside one quoted constant. Jinja itself is not run: a template is a program. */
static aq_status system_of_jinja(aq_arena *arena, const char *jinja, const char **out) {
    static const char start[] = "<|im_start|>system", end[] = "<|im_end|>";
    *out = "";
    for (const char *at = jinja; (at = strstr(at, start));) {
        at += sizeof start - 1;
        const char *text = at[0] == '\n' ? at + 1 : at[0] == '\\' && at[1] == 'n' ? at + 2 : NULL;
        const char *stop = text ? strstr(text, end) : NULL;
        size_t n = stop ? (size_t)(stop - text) : 0;
        if (!n || memchr(text, '\'', n) || memchr(text, '"', n) || memchr(text, '\\', n) || memmem(text, n, "{{", 2) ||
            memmem(text, n, "{%", 2))
            continue; /* put together from parts */
        return aq_arena_string(arena, text, n, out);
    }
    return AQ_OK;
}

static aq_status no_such_template(const char *wanted) {
    char names[300] = "";
    size_t n = 0;
    for (uint32_t i = 0; aq_chat_template_at(i); i++) {
        size_t length = strlen(templates[i].name);
        if (n + length + 3 > sizeof names)
            break;
        if (i) {
            memcpy(names + n, ", ", 2);
            n += 2;
        }
        memcpy(names + n, templates[i].name, length + 1);
        n += length;
    }
    return aq_fail(AQ_USAGE, NULL, "no template is called \"%.60s\": auto, %s expected", wanted, names);
}

aq_status aq_chat_template_open(aq_arena *arena, const char *wanted, const char *model_name, const char *jinja, aq_chat_template *out) {
    int is_chatml = jinja && strstr(jinja, "<|im_start|>");
    const char *name = wanted;
    if (!wanted || strcmp(wanted, "auto") == 0)
        name = is_chatml ? "chatml" : template_of_model(model_name ? model_name : "");
    const aq_chat_template *found = aq_chat_template_find(name);
    if (!found)
        return no_such_template(name);
    aq_chat_template result = *found;
    if (is_chatml && strcmp(found->name, "chatml") == 0)
        AQ_TRY(system_of_jinja(arena, jinja, &result.system));
    *out = result;
    return AQ_OK;
}

int aq_chat_role_read(const char *name, aq_chat_role *out) {
    static const struct {
        const char *name;
        aq_chat_role role;
    } roles[] = {{"system", AQ_CHAT_SYSTEM}, {"user", AQ_CHAT_USER},      {"human", AQ_CHAT_USER},
                 {"gpt", AQ_CHAT_ASSISTANT}, {"assistant", AQ_CHAT_ASSISTANT}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(roles[i].name, name) == 0) {
            *out = roles[i].role;
            return 1;
        }
    return 0;
}

uint32_t aq_chat_stop_ids(const aq_chat_template *template, const aq_tokenizer *t, int32_t *out) {
    int32_t found[AQ_CHAT_STOPS + 2] = {aq_tokenizer_eos(t), aq_tokenizer_unk(t)};
    uint32_t n = 0, n_found = 2;
    if (!aq_tokenizer_is_special(t, found[1]))
        found[1] = -1;
    for (int i = 0; i < AQ_CHAT_STOPS && template->stops[i]; i++)
        found[n_found++] = aq_tokenizer_find(t, template->stops[i], strlen(template->stops[i]));
    for (uint32_t i = 0; i < n_found; i++) {
        int is_new = found[i] >= 0;
        for (uint32_t k = 0; k < n; k++)
            is_new &= out[k] != found[i];
        if (is_new)
            out[n++] = found[i];
    }
    return n;
}
