/* json.c: see json.h. cJSON reports neither the reason of a failure nor running out of memory: the hooks remember the second, and
 * the parse end it gives is turned into a line and a column.
 *
 * Its memory: a value takes 64 bytes, and `0,` is a value, so a file could ask for 40 times its size: what a parse takes is bounded. A piece each
 * from ir/memory.h would take twice as much again; here they are cut from chunks, which go when their last piece is freed (a tree belongs to one
 * thread). Llama 3's tokenizer.json, 17 MB in the newer form of merges, takes 81 MB of the 91 it may. */
#include "frontend/import/json.h"

#include "frontend/reasons.h"
#include "ir/memory.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_CHUNK = 4096, LARGEST_CHUNK = 256 << 10, LARGE = FIRST_CHUNK / 4 };

typedef struct chunk {
    size_t used, size; /* bytes, this head included */
    size_t live;       /* pieces */
} chunk;

/* Stands before each piece. */
typedef struct head {
    chunk *from;
} head;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local struct {
    chunk *current;
    size_t next_size;   /* of a chunk */
    size_t taken, most; /* bytes of chunks since the parse began, and the bound; most 0: none */
    int out_of_memory, too_large;
} heap;

static chunk *open_chunk(size_t piece) {
    void *p;
    size_t size = heap.next_size < FIRST_CHUNK ? FIRST_CHUNK : heap.next_size;
    if (piece > LARGE)
        size = piece + sizeof(chunk); /* alone */
    else
        heap.next_size = size < LARGEST_CHUNK ? size * 2 : size;
    if (heap.most && size > heap.most - heap.taken) {
        heap.too_large = 1;
        return NULL;
    }
    if (aq_mem_alloc(size, &p) != AQ_OK) {
        heap.out_of_memory = 1;
        return NULL;
    }
    heap.taken += heap.most ? size : 0;
    chunk *c = p;
    *c = (chunk){.used = sizeof *c, .size = size};
    return c;
}

static void *take(size_t size) {
    if (size > PTRDIFF_MAX / 2)
        return NULL;
    size_t piece = (sizeof(head) + size + 7) & ~(size_t)7;
    chunk *c = heap.current;
    if (!c || c->size - c->used < piece) {
        c = open_chunk(piece);
        if (!c)
            return NULL;
        if (piece <= LARGE)
            heap.current = c;
    }
    head *h = (head *)(void *)((char *)c + c->used);
    h->from = c;
    c->used += piece;
    c->live++;
    return h + 1;
}

static void give(void *p) {
    if (!p)
        return;
    chunk *c = ((head *)p - 1)->from;
    if (--c->live)
        return;
    if (heap.current == c)
        heap.current = NULL;
    aq_mem_free(c);
}

static void install_hooks(void) {
    cJSON_Hooks hooks = {.malloc_fn = take, .free_fn = give};
    cJSON_InitHooks(&hooks);
}

static cJSON *parse(const char *text, size_t n, const char **end) {
    pthread_once(&once, install_hooks);
    heap.out_of_memory = heap.too_large = 0;
    heap.taken = heap.next_size = 0;
    heap.most = ((size_t)40 << 20) + 3 * n;
    cJSON *root = n ? cJSON_ParseWithLengthOpts(text, n, end, 0) : NULL;
    heap.most = 0;
    return root;
}

aq_status aq_json_parse(const char *file, const char *text, size_t n, cJSON **out) {
    const char *end = text;
    cJSON *root = parse(text, n, &end);
    if (!root && heap.out_of_memory)
        return AQ_NO_MEMORY; /* the door has set the message */
    if (!root && heap.too_large)
        return aq_refuse(AQ_WHY_JSON_MEMORY, file, "so many values in %zu bytes of JSON: expected what takes at most 40 MiB and 3 times as many bytes", n);
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
