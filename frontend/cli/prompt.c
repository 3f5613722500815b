/* prompt.c: see prompt.h. Order: open, then read (run) or add and encode turn by turn (chat). */
#include "frontend/cli/prompt.h"

#include "frontend/chat/messages.h"
#include "frontend/cli/common.h"
#include "ir/memory.h"

#include <string.h>
#include <unistd.h>

enum { TEXT_LIMIT = 1 << 28, SAMPLING_AQUILA2 = 1 };

static aq_status collect_stops(const aq_subject *s, aq_prompt *p) {
    const aq_option_value *given = &s->args->at[AQ_OPT_STOP];
    AQ_ALLOC(p->arena, p->stops, AQ_CHAT_STOPS + given->n_list);
    for (uint32_t i = 0; i < AQ_CHAT_STOPS && p->template.stops[i]; i++)
        p->stops[p->n_stops++] = (aq_bytes){p->template.stops[i], (uint32_t)strlen(p->template.stops[i])};
    for (uint32_t i = 0; i < given->n_list; i++) {
        if (!*given->list[i])
            return aq_fail(AQ_USAGE, NULL, "--stop: expected a text, not an empty one");
        p->stops[p->n_stops++] = (aq_bytes){given->list[i], (uint32_t)strlen(given->list[i])};
    }
    if (s->tokenizer)
        p->n_stop_ids = aq_chat_stop_ids(&p->template, s->tokenizer, p->stop_ids);
    else if (s->checkpoint.config.eos >= 0)
        p->stop_ids[p->n_stop_ids++] = s->checkpoint.config.eos;
    for (uint32_t i = 0; i < s->checkpoint.config.n_ends; i++)
        p->stop_ids[p->n_stop_ids++] = s->checkpoint.config.ends[i];
    return AQ_OK;
}

static aq_status text_of_id(aq_arena *arena, const aq_tokenizer *t, int32_t id, const char **out) {
    *out = NULL;
    if (!t || id < 0)
        return AQ_OK;
    aq_bytes text = aq_tokenizer_text(t, id);
    return text.n ? aq_arena_string(arena, text.s, text.n, out) : AQ_OK;
}

static aq_status choose_template(const aq_subject *s, aq_prompt *p) {
    aq_chat_choice c = {.wanted = aq_arg_text(s->args, AQ_OPT_TEMPLATE),
                        .known = s->known ? s->known->template : NULL,
                        .jinja = s->checkpoint.chat_template,
                        .place = s->checkpoint.path};
    if (!c.known && aq_arg_given(s->args, AQ_OPT_PROMPT_IDS))
        c.known = "none"; /* ids are what they are */
    if (s->tokenizer) {
        AQ_TRY(text_of_id(p->arena, s->tokenizer, aq_tokenizer_bos(s->tokenizer), &c.bos));
        AQ_TRY(text_of_id(p->arena, s->tokenizer, aq_tokenizer_eos(s->tokenizer), &c.eos));
    }
    return aq_chat_template_open(p->arena, &c, &p->template);
}

aq_status aq_prompt_open(const aq_subject *s, aq_arena *arena, aq_prompt *p) {
    *p = (aq_prompt){.arena = arena};
    p->system = aq_arg_text(s->args, AQ_OPT_SYSTEM);
    p->instruction = aq_arg_text(s->args, AQ_OPT_INSTRUCTION);
    AQ_TRY(choose_template(s, p));
    int is_none = !strcmp(p->template.name, "none"), is_aquila2 = aq_arg_number(s->args, AQ_OPT_SAMPLING) == SAMPLING_AQUILA2;
    p->drop_space = (p->template.flags & AQ_CHAT_COLON) || (is_aquila2 && !is_none);
    p->after = is_aquila2 && !is_none ? " " : NULL;
    return collect_stops(s, p);
}

void aq_prompt_close(aq_prompt *p) {
    aq_ids_close(&p->ids);
}

aq_status aq_prompt_add(aq_prompt *p, aq_chat_role role, const char *text, size_t n) {
    aq_bytes copy = {NULL, (uint32_t)n};
    if (n > TEXT_LIMIT)
        return aq_fail(AQ_REFUSED, NULL, "a message of %zu bytes: expected at most %d", n, TEXT_LIMIT);
    AQ_TRY(aq_arena_string(p->arena, text, n, &copy.s));
    AQ_PUSH(p->arena, &p->messages, ((aq_chat_message){role, copy}));
    return AQ_OK;
}

/* Leaves out what does not fit. What was left out before stays out, and when more must go, a quarter of the room is made: else every turn of
 * a long conversation would begin anew and nothing of it could stay in the cache. */
static aq_status cut_history(const aq_subject *s, aq_prompt *p, aq_arena *arena, size_t budget, aq_chat_request *request) {
    uint32_t first = 0;
    aq_chat_request cut = *request;
    p->first = p->first < p->messages.n ? p->first : 0;
    AQ_TRY(aq_chat_cut(arena, request, p->first, &cut));
    AQ_TRY(aq_chat_fit(s->tokenizer, &cut, budget, &first));
    if (first && (!p->keep_room || aq_chat_fit(s->tokenizer, request, budget - budget / 4, &p->first) != AQ_OK))
        AQ_TRY(aq_chat_fit(s->tokenizer, request, budget, &p->first));
    AQ_TRY(aq_chat_cut(arena, request, p->first, &cut));
    p->cut = request->n_messages - cut.n_messages;
    *request = cut;
    return AQ_OK;
}

aq_status aq_prompt_encode(const aq_subject *s, aq_prompt *p, size_t budget) {
    AQ_TRY(aq_subject_tokenizer(s, ", or --prompt-ids"));
    aq_arena *arena = p->scratch ? p->scratch : p->arena;
    aq_chat_request request = {&p->template, p->system, p->instruction, p->messages.at, p->messages.n, p->after};
    aq_chat_text text = {0};
    aq_status status = AQ_OK;
    p->cut = 0;
    if (budget && p->messages.n > 1)
        status = cut_history(s, p, arena, budget, &request);
    if (status == AQ_OK)
        status = aq_chat_render(arena, &request, &text);
    if (status == AQ_REFUSED && p->place)
        return aq_fail_prefix(status, p->place);
    AQ_TRY(status);
    AQ_TRY(aq_chat_join(arena, &text, &p->text));
    p->ids.n = 0;
    return aq_chat_encode(s->tokenizer, &text, &p->ids);
}

aq_status aq_prompt_load(aq_prompt *p, const char *path) {
    char *bytes;
    size_t n;
    AQ_TRY(aq_file_read(path, TEXT_LIMIT, &bytes, &n));
    const char *place = strcmp(path, "-") ? path : "standard input";
    aq_status status = aq_chat_messages_read(p->arena, place, bytes, n, &p->messages);
    aq_mem_free(bytes);
    if (status == AQ_OK)
        status = aq_arena_string(p->arena, place, strlen(place), &p->place);
    return status;
}

static aq_status read_text(aq_prompt *p, const char *path) {
    char *bytes;
    size_t n;
    AQ_TRY(aq_file_read(path, TEXT_LIMIT, &bytes, &n));
    aq_status status = aq_prompt_add(p, AQ_CHAT_USER, bytes, n);
    aq_mem_free(bytes);
    return status;
}

static aq_status read_ids(const aq_subject *s, aq_prompt *p) {
    const aq_option_value *v = &s->args->at[AQ_OPT_PROMPT_IDS];
    for (uint32_t i = 0; i < v->n_list; i++) {
        if (v->numbers[i] >= s->checkpoint.config.V)
            return aq_fail(AQ_REFUSED, NULL, "--prompt-ids: %lld: expected an id below %lld", (long long)v->numbers[i], (long long)s->checkpoint.config.V);
        AQ_TRY(aq_ids_push(&p->ids, (int32_t)v->numbers[i]));
    }
    return AQ_OK;
}

aq_status aq_prompt_read(const aq_subject *s, aq_prompt *p) {
    const aq_args *a = s->args;
    int operand = a->n_operands > 1;
    int given = operand + aq_arg_given(a, AQ_OPT_PROMPT_FILE) + aq_arg_given(a, AQ_OPT_MESSAGES) + aq_arg_given(a, AQ_OPT_PROMPT_IDS);
    if (given > 1)
        return aq_fail(AQ_USAGE, NULL, "several prompts: expected one of PROMPT, --prompt-file, --messages, --prompt-ids");
    if (aq_arg_given(a, AQ_OPT_PROMPT_IDS))
        return read_ids(s, p);
    if (aq_arg_given(a, AQ_OPT_MESSAGES))
        AQ_TRY(aq_prompt_load(p, aq_arg_text(a, AQ_OPT_MESSAGES)));
    else if (operand && strcmp(a->operand[1], "-"))
        AQ_TRY(aq_prompt_add(p, AQ_CHAT_USER, a->operand[1], strlen(a->operand[1])));
    else if (!given && isatty(STDIN_FILENO))
        return aq_fail(AQ_USAGE, NULL, "no prompt: expected aquila run MODEL PROMPT, --prompt-file, or text on standard input");
    else
        AQ_TRY(read_text(p, operand || !given ? "-" : aq_arg_text(a, AQ_OPT_PROMPT_FILE)));
    return aq_prompt_encode(s, p, 0);
}
