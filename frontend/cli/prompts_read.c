/* prompts_read.c: the lines of --prompts-file as prompts. What a line does not say the command line says. */
#include "frontend/cli/prompts.h"

#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/lines.h"
#include "frontend/cli/sampling.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static aq_status place_of(aq_prompts *p, uint64_t line, const char **out) {
    return aq_arena_format(&p->arena, out, "%s:%" PRIu64, p->place, line);
}

aq_status aq_prompts_refuse(aq_prompts *p, uint32_t i) {
    const char *place, *at = aq_error();
    AQ_TRY(place_of(p, p->items.at[i].line, &place));
    if (strncmp(at, place, strlen(place)) != 0) {
        aq_status same = aq_fail_prefix(AQ_REFUSED, place);
        (void)same;
        at = aq_error();
    }
    AQ_TRY(aq_arena_string(&p->arena, at, strlen(at), &p->items.at[i].refused));
    p->n_refused++;
    aq_report(AQ_REFUSED, 0);
    return AQ_OK;
}

void aq_prompts_close(aq_prompts *p) {
    for (uint32_t i = 0; i < p->items.n; i++)
        aq_prompt_close(&p->items.at[i].prompt);
    aq_arena_close(&p->arena);
}

/* ---- one line of JSON ---- */

static aq_status number(const cJSON *x, const char *place, double low, double high, int whole, double *out) {
    if (!cJSON_IsNumber(x) || !(x->valuedouble >= low) || !(x->valuedouble <= high) || (whole && x->valuedouble != (double)(int64_t)x->valuedouble))
        return aq_fail(AQ_REFUSED, place, "\"%s\": expected a %snumber from %.17g to %.17g", x->string, whole ? "whole " : "", low, high);
    *out = x->valuedouble;
    return AQ_OK;
}

static aq_status option(const cJSON *x, const char *place, aq_option_id id, double *out) {
    const aq_option *o = aq_option_of(id);
    return number(x, place, o->low, o->high, o->kind == AQ_OPTION_INT, out);
}

static aq_status read_ids(const aq_subject *s, const cJSON *list, const char *place, aq_ids *ids) {
    const cJSON *x;
    int64_t id;
    if (!cJSON_IsArray(list) || !list->child)
        return aq_fail(AQ_REFUSED, place, "\"ids\": expected a list of token ids, not an empty one");
    cJSON_ArrayForEach(x, list) {
        if (!aq_json_whole(x, &id) || id < 0 || id >= s->checkpoint.config.V)
            return aq_fail(AQ_REFUSED, place, "\"ids\": expected whole numbers from 0 to %" PRId64, s->checkpoint.config.V - 1);
        AQ_TRY(aq_ids_push(ids, (int32_t)id));
    }
    return AQ_OK;
}

static aq_status read_messages(aq_prompt *p, const cJSON *list, const char *place) {
    const cJSON *x;
    uint32_t i = 0;
    if (!cJSON_IsArray(list) || !list->child)
        return aq_fail(AQ_REFUSED, place, "\"messages\": expected a list of {\"role\", \"content\"}, not an empty one");
    cJSON_ArrayForEach(x, list) {
        const cJSON *role = aq_json_get(x, "role"), *content = aq_json_get(x, "content");
        aq_chat_role r;
        if (!cJSON_IsString(role) || !cJSON_IsString(content) || !aq_chat_role_read(role->valuestring, &r))
            return aq_fail(AQ_REFUSED, place, "message %" PRIu32 ": expected {\"role\": \"system|user|assistant\", \"content\": \"...\"}", i);
        AQ_TRY(aq_prompt_add(p, r, content->valuestring, aq_json_restore(content->valuestring)));
        i++;
    }
    return AQ_OK;
}

/* A text or a list of texts, beside those that the prompt has. */
static aq_status read_stops(aq_prompt *p, const cJSON *x, const char *place) {
    int n = cJSON_IsArray(x) ? cJSON_GetArraySize(x) : 1;
    aq_bytes *stops;
    AQ_ALLOC(p->arena, stops, p->n_stops + (uint32_t)n + 1);
    memcpy(stops, p->stops, p->n_stops * sizeof *stops);
    p->stops = stops;
    for (const cJSON *one = cJSON_IsArray(x) ? x->child : x; one; one = cJSON_IsArray(x) ? one->next : NULL) {
        aq_bytes *to = &stops[p->n_stops];
        if (!cJSON_IsString(one) || !*one->valuestring)
            return aq_fail(AQ_REFUSED, place, "\"stop\": expected a text or a list of texts, none of them empty");
        *to = (aq_bytes){NULL, (uint32_t)aq_json_restore(one->valuestring)};
        AQ_TRY(aq_arena_string(p->arena, one->valuestring, to->n, &to->s));
        p->n_stops++;
    }
    return AQ_OK;
}

static aq_status read_member(const aq_subject *s, const cJSON *x, const char *place, aq_prompts_item *item, int *asked) {
    const char *key = x->string;
    double v = 0;
    aq_prompt *p = &item->prompt;
    int asks = !strcmp(key, "prompt") || !strcmp(key, "messages") || !strcmp(key, "ids");
    if (asks && (*asked)++)
        return aq_fail(AQ_REFUSED, place, "\"%s\": expected one of \"prompt\", \"messages\" and \"ids\"", key);
    if (!strcmp(key, "prompt")) {
        if (!cJSON_IsString(x))
            return aq_fail(AQ_REFUSED, place, "\"prompt\": expected a text");
        return aq_prompt_add(p, AQ_CHAT_USER, x->valuestring, aq_json_restore(x->valuestring));
    }
    if (!strcmp(key, "messages"))
        return read_messages(p, x, place);
    if (!strcmp(key, "ids"))
        return read_ids(s, x, place, &p->ids);
    if (!strcmp(key, "stop"))
        return read_stops(p, x, place);
    static const struct {
        const char *key;
        aq_option_id id;
    } options[] = {{"max_new_tokens", AQ_OPT_MAX_NEW}, {"temperature", AQ_OPT_TEMPERATURE}, {"top_k", AQ_OPT_TOP_K}, {"top_p", AQ_OPT_TOP_P}, {"seed", AQ_OPT_SEED}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (strcmp(key, options[i].key))
            continue;
        AQ_TRY(option(x, place, options[i].id, &v));
        switch (options[i].id) {
        case AQ_OPT_MAX_NEW: item->max_new = (int64_t)v; break;
        case AQ_OPT_TEMPERATURE: item->how.temperature = v; break;
        case AQ_OPT_TOP_K: item->how.top_k = (int64_t)v; break;
        case AQ_OPT_TOP_P: item->how.top_p = v; break;
        default: item->how.seed = (uint64_t)v; break;
        }
        return AQ_OK;
    }
    return aq_fail(AQ_REFUSED, place, "\"%.60s\" is unknown: expected prompt, messages, ids, max_new_tokens, temperature, top_k, top_p, seed, stop", key);
}

static aq_status read_json(const aq_subject *s, const char *place, char *line, size_t n, aq_prompts_item *item) {
    cJSON *tree;
    const cJSON *x;
    int asked = 0;
    AQ_TRY(aq_json_line_parse(place, line, n, &tree));
    aq_status status = cJSON_IsObject(tree) ? AQ_OK : aq_fail(AQ_REFUSED, place, "expected an object, {\"prompt\": \"...\"}");
    for (x = tree->child; x && status == AQ_OK; x = x->next)
        status = read_member(s, x, place, item, &asked);
    if (status == AQ_OK && !asked)
        status = aq_fail(AQ_REFUSED, place, "asks nothing: expected \"prompt\", \"messages\" or \"ids\"");
    cJSON_Delete(tree);
    return status;
}

/* ---- lines ---- */

static aq_status read_line(const aq_subject *s, aq_prompts *p, int is_json, char *line, size_t n, aq_prompts_item *item) {
    const char *place;
    AQ_TRY(place_of(p, item->line, &place));
    AQ_TRY(is_json ? read_json(s, place, line, n, item) : aq_prompt_add(&item->prompt, AQ_CHAT_USER, line, n));
    if (!item->prompt.ids.n)
        AQ_TRY(aq_prompt_encode(s, &item->prompt, 0));
    if (!item->prompt.ids.n)
        return aq_fail(AQ_REFUSED, place, "the prompt is empty: expected at least one token");
    return AQ_OK;
}

static aq_status read_lines(const aq_subject *s, aq_prompts *p, aq_lines *lines) {
    aq_rt_sampling how;
    char *line;
    size_t n;
    AQ_TRY(aq_sampling_of(s->args, &how));
    for (int is_json = 0;;) {
        AQ_TRY(aq_lines_next(lines, &line, &n));
        if (!line)
            return AQ_OK;
        if (n && line[n - 1] == '\r')
            line[--n] = 0;
        if (strspn(line, " \t") == n)
            continue;
        if (!p->items.n)
            is_json = line[strspn(line, " \t")] == '{';
        AQ_PUSH(&p->arena, &p->items, ((aq_prompts_item){.line = lines->number, .how = how, .max_new = aq_max_new_of(s->args)}));
        aq_prompts_item *item = &p->items.at[p->items.n - 1];
        AQ_TRY(aq_prompt_open(s, &p->arena, &item->prompt));
        aq_status status = read_line(s, p, is_json, line, n, item);
        if (status == AQ_REFUSED)
            status = aq_prompts_refuse(p, p->items.n - 1);
        AQ_TRY(status);
    }
}

aq_status aq_prompts_read(const aq_subject *s, const char *path, aq_prompts *p) {
    aq_lines lines;
    *p = (aq_prompts){.place = strcmp(path, "-") ? path : "standard input"};
    AQ_TRY(aq_lines_open(path, &lines));
    aq_status status = read_lines(s, p, &lines);
    aq_lines_close(&lines);
    if (status == AQ_OK && !p->items.n)
        return aq_fail(AQ_REFUSED, p->place, "no prompt in it: expected one a line");
    return status;
}
