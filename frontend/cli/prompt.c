/* prompt.c: see prompt.h. Order: open, then read (run) or add and encode turn by turn (chat). */
#include "frontend/cli/prompt.h"

#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "ir/memory.h"

#include <string.h>
#include <unistd.h>

enum { TEXT_LIMIT = 1 << 28 };

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
    return AQ_OK;
}

aq_status aq_prompt_open(const aq_subject *s, aq_arena *arena, aq_prompt *p) {
    *p = (aq_prompt){.arena = arena};
    p->system = aq_arg_text(s->args, AQ_OPT_SYSTEM);
    p->instruction = aq_arg_text(s->args, AQ_OPT_INSTRUCTION);
    AQ_TRY(aq_chat_template_open(arena, aq_arg_text(s->args, AQ_OPT_TEMPLATE), s->checkpoint.config.name,
                                 s->checkpoint.chat_template, &p->template));
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

aq_status aq_prompt_encode(const aq_subject *s, aq_prompt *p, size_t budget) {
    if (!s->tokenizer)
        return aq_fail(AQ_USAGE, NULL, "%s has no tokenizer: expected --tokenizer FOLDER, or --prompt-ids", s->args->operand[0]);
    aq_chat_request request = {&p->template, p->system, p->instruction, p->messages.at, p->messages.n}, cut;
    aq_chat_text text = {0};
    uint32_t first = 0;
    if (budget && p->messages.n > 1) {
        AQ_TRY(aq_chat_fit(s->tokenizer, &request, budget, &first));
        AQ_TRY(aq_chat_cut(p->arena, &request, first, &cut));
        request = cut;
    }
    AQ_TRY(aq_chat_render(p->arena, &request, &text));
    AQ_TRY(aq_chat_join(p->arena, &text, &p->text));
    p->ids.n = 0;
    return aq_chat_encode(s->tokenizer, &text, &p->ids);
}

/* --messages FILE. */
static aq_status read_messages(aq_prompt *p, const char *path) {
    const char *place = strcmp(path, "-") ? path : "standard input";
    char *bytes;
    size_t n;
    cJSON *list = NULL;
    const cJSON *item;
    aq_status status;
    AQ_TRY(aq_file_read(path, TEXT_LIMIT, &bytes, &n));
    AQ_TRY_GOTO(status, close, aq_json_parse(place, bytes, n, &list));
    if (!cJSON_IsArray(list) || !list->child)
        AQ_TRY_GOTO(status, close, aq_fail(AQ_REFUSED, place, "expected a list of {\"role\", \"content\"}, not an empty one"));
    uint32_t i = 0;
    cJSON_ArrayForEach(item, list) {
        const cJSON *role = aq_json_get(item, "role"), *content = aq_json_get(item, "content");
        aq_chat_role r;
        if (!cJSON_IsString(role) || !cJSON_IsString(content) || !aq_chat_role_read(role->valuestring, &r))
            AQ_TRY_GOTO(status, close, aq_fail(AQ_REFUSED, place, "message %u: expected {\"role\": \"system|user|assistant\", \"content\": \"...\"}", i));
        AQ_TRY_GOTO(status, close, aq_prompt_add(p, r, content->valuestring, strlen(content->valuestring)));
        i++;
    }
close:
    cJSON_Delete(list);
    aq_mem_free(bytes);
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
        AQ_TRY(read_messages(p, aq_arg_text(a, AQ_OPT_MESSAGES)));
    else if (operand && strcmp(a->operand[1], "-"))
        AQ_TRY(aq_prompt_add(p, AQ_CHAT_USER, a->operand[1], strlen(a->operand[1])));
    else if (!given && isatty(STDIN_FILENO))
        return aq_fail(AQ_USAGE, NULL, "no prompt: expected aquila run MODEL PROMPT, --prompt-file, or text on standard input");
    else
        AQ_TRY(read_text(p, operand || !given ? "-" : aq_arg_text(a, AQ_OPT_PROMPT_FILE)));
    return aq_prompt_encode(s, p, 0);
}
