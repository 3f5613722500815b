/* messages.c: a conversation as JSON: a list of {"role", "content"}. The text is hostile: it is looked through once before it becomes a
 * tree, because a tree of single digits takes 40 times the memory of its text. */
#include "frontend/chat/messages.h"

#include "frontend/import/json.h"
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <stdio.h>
#include <string.h>

enum { MOST_VALUES = 400000 /* of 64 bytes each */ };

/* UTF-8, no \u0000 (a C string would end there), not too many values. */
static aq_status look_through(const char *place, const char *s, size_t n) {
    size_t values = 0, line = 1;
    int in_string = 0;
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t c;
        if (!(k = (size_t)aq_utf8_decode(s + i, n - i, &c)))
            return aq_refuse(AQ_WHY_MESSAGES_UTF8, place, "line %zu, byte %zu of the file is not UTF-8: expected JSON in UTF-8", line, i + 1);
        line += c == '\n';
        if (in_string && c == '\\') {
            if (n - i >= 6 && !memcmp(s + i, "\\u0000", 6))
                return aq_refuse(AQ_WHY_MESSAGES_NUL, place, "line %zu: \\u0000 in a text: expected text without it", line);
            k += i + k < n && (s[i + k] == '"' || s[i + k] == '\\');
        }
        in_string ^= c == '"';
        values += !in_string && (c == ',' || c == ':' || c == '[' || c == '{');
    }
    if (values > MOST_VALUES)
        return aq_refuse(AQ_WHY_MESSAGES_MANY, place, "%zu values: expected at most %d", values, MOST_VALUES);
    return AQ_OK;
}

/* The member of that name; *times says how often it is there. */
static const cJSON *member(const cJSON *object, const char *name, int *times) {
    const cJSON *x, *found = NULL;
    *times = 0;
    cJSON_ArrayForEach(x, object) {
        if (strcmp(x->string, name))
            continue;
        found = found ? found : x;
        ++*times;
    }
    return found;
}

static aq_status read_one(aq_arena *arena, const char *place, const cJSON *item, aq_chat_message *out) {
    int n_role, n_content;
    if (!cJSON_IsObject(item))
        return aq_refuse(AQ_WHY_MESSAGE_OBJECT, place, "no JSON object: expected {\"role\": ..., \"content\": ...}");
    const cJSON *role = member(item, "role", &n_role), *content = member(item, "content", &n_content);
    if (n_role > 1 || n_content > 1)
        return aq_refuse(AQ_WHY_MESSAGE_TWICE, place, "\"%s\" occurs twice: expected once", n_role > 1 ? "role" : "content");
    if (!cJSON_IsString(role) || !aq_chat_role_read(role->valuestring, &out->role))
        return aq_refuse(AQ_WHY_MESSAGE_ROLE, place, "%s \"role\": expected \"system\", \"user\" or \"assistant\"",
                         !role                  ? "no"
                         : cJSON_IsString(role) ? "an unknown"
                                                : "no text in");
    if (!cJSON_IsString(content))
        return aq_refuse(AQ_WHY_MESSAGE_CONTENT, place, "%s \"content\": expected a text", content ? "no text in" : "no");
    size_t n = strlen(content->valuestring);
    out->text = (aq_bytes){NULL, (uint32_t)n};
    return aq_arena_string(arena, content->valuestring, n, &out->text.s);
}

static aq_status read_list(aq_arena *arena, const char *place, const cJSON *root, aq_chat_messages *out) {
    const cJSON *item;
    char where[560];
    uint32_t i = 0;
    if (!cJSON_IsArray(root))
        return aq_refuse(AQ_WHY_MESSAGES_LIST, place, "no JSON list: expected a list of {\"role\", \"content\"}");
    if (!root->child)
        return aq_refuse(AQ_WHY_MESSAGES_EMPTY, place, "an empty list: expected at least one message");
    cJSON_ArrayForEach(item, root) {
        aq_chat_message m;
        snprintf(where, sizeof where, "%.512s:message %u", place, i++);
        AQ_TRY(read_one(arena, where, item, &m));
        AQ_PUSH(arena, out, m);
    }
    return AQ_OK;
}

aq_status aq_chat_messages_read(aq_arena *arena, const char *place, const char *bytes, size_t n, aq_chat_messages *out) {
    cJSON *root;
    aq_chat_messages list = {0};
    AQ_TRY(look_through(place, bytes, n));
    AQ_TRY(aq_json_parse(place, bytes, n, &root));
    aq_status status = read_list(arena, place, root, &list);
    cJSON_Delete(root);
    if (status == AQ_OK)
        *out = list;
    return status;
}
