/* template.c: the table of templates, and which one a checkpoint wants. */
#define _GNU_SOURCE
#include "frontend/chat/chat.h"

#include "frontend/chat/recognise.h"
#include "frontend/reasons.h"

#include <stdio.h>
#include <string.h>

static const aq_chat_template templates[] = {
#define TEMPLATE(name, flags, start, system, system_start, system_end, user, user_end, assistant, assistant_end, open, instruction, ...)              \
    {name, flags, start, system, system_start, system_end, user, user_end, assistant, assistant_end, open, instruction, {__VA_ARGS__}},
#include "frontend/chat/templates.def"
};

const aq_chat_template *aq_chat_template_at(uint32_t i) { return i < sizeof templates / sizeof *templates ? &templates[i] : NULL; }

const aq_chat_template *aq_chat_template_find(const char *name) {
    for (uint32_t i = 0; aq_chat_template_at(i); i++)
        if (strcmp(templates[i].name, name) == 0)
            return &templates[i];
    return NULL;
}

/* "auto, aquila-chat, ...": all names. */
static void list_names(char *out, size_t room) {
    size_t n = (size_t)snprintf(out, room, "auto");
    for (uint32_t i = 0; aq_chat_template_at(i) && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, ", %s", templates[i].name);
}

static aq_status no_such_template(const char *wanted) {
    char names[600];
    list_names(names, sizeof names);
    return aq_fail(AQ_USAGE, NULL, "no template is called \"%.60s\": %s expected", wanted, names);
}

static aq_status unknown_template(const char *place) {
    char names[600];
    list_names(names, sizeof names);
    return aq_refuse(AQ_WHY_CHAT_UNKNOWN, place, "its chat template is none that is known here: expected --template with one of %s", names + strlen("auto, "));
}

/* s with the texts of bos and eos put in. */
static aq_status fill_in(aq_arena *arena, const aq_chat_choice *c, const char **s) {
    const char *texts[] = {c->bos ? c->bos : "", c->eos ? c->eos : ""};
    size_t n = 0;
    char *copy;
    if (!*s || !strpbrk(*s, "\1\2"))
        return AQ_OK;
    for (const char *at = *s; *at; at++)
        n += *at == 1 || *at == 2 ? strlen(texts[*at - 1]) : 1;
    AQ_ALLOC(arena, copy, n + 1);
    char *to = copy;
    for (const char *at = *s; *at; at++) {
        if (*at == 1 || *at == 2)
            to = stpcpy(to, texts[*at - 1]);
        else
            *to++ = *at;
    }
    *s = copy;
    return AQ_OK;
}

aq_status aq_chat_template_open(aq_arena *arena, const aq_chat_choice *c, aq_chat_template *out) {
    int is_auto = !c->wanted || strcmp(c->wanted, "auto") == 0;
    const char *own = NULL, *system = NULL;
    if (c->jinja)
        AQ_TRY(aq_chat_recognise(arena, c->jinja, &own, &system));
    if (is_auto && c->jinja && !own && !c->known)
        return unknown_template(c->place);
    const char *name = !is_auto ? c->wanted : own ? own : c->known ? c->known : "none";
    const aq_chat_template *found = aq_chat_template_find(name);
    if (!found)
        return no_such_template(name);
    aq_chat_template t = *found;
    if (own && system && !strcmp(own, name))
        t.system = system;
    const char **texts[] = {&t.start, &t.system_start, &t.system_end, &t.user, &t.user_end, &t.assistant, &t.assistant_end, &t.open};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        AQ_TRY(fill_in(arena, c, texts[i]));
    *out = t;
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
