/* json.c: see json.h. cJSON reports neither the reason of a failure nor running out of memory: the hooks remember the second, and
 * the parse end it gives is turned into a line and a column. */
#include "frontend/import/json.h"

#include "frontend/reasons.h"
#include "ir/memory.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local int out_of_memory;

static void *take(size_t size) {
    void *p;
    if (aq_mem_alloc(size, &p) == AQ_OK)
        return p;
    out_of_memory = 1;
    return NULL;
}

static void install_hooks(void) {
    cJSON_Hooks hooks = {.malloc_fn = take, .free_fn = aq_mem_free};
    cJSON_InitHooks(&hooks);
}

aq_status aq_json_parse(const char *file, const char *text, size_t n, cJSON **out) {
    pthread_once(&once, install_hooks);
    out_of_memory = 0;
    const char *end = text;
    cJSON *root = n ? cJSON_ParseWithLengthOpts(text, n, &end, 0) : NULL;
    if (!root && out_of_memory)
        return AQ_NO_MEMORY; /* the door has set the message */
    while (root && end < text + n && strchr(" \t\r\n", *end) && *end)
        end++;
    if (root && end == text + n) {
        *out = root;
        return AQ_OK;
    }
    cJSON_Delete(root);
    size_t line = 1, column = 1;
    for (const char *p = text; p < end && p < text + n; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    char place[512];
    snprintf(place, sizeof place, "%.440s:%zu:%zu", file, line, column);
    return root ? aq_refuse(AQ_WHY_JSON_REST, place, "text after the JSON value: expected the end of the file")
                : aq_refuse(AQ_WHY_JSON, place, "not JSON: expected a value here");
}

const cJSON *aq_json_get(const cJSON *object, const char *key) { return cJSON_GetObjectItemCaseSensitive(object, key); }

int aq_json_whole(const cJSON *x, int64_t *out) {
    if (!cJSON_IsNumber(x) || !(fabs(x->valuedouble) <= 0x1p53) || x->valuedouble != floor(x->valuedouble))
        return 0;
    *out = (int64_t)x->valuedouble;
    return 1;
}
