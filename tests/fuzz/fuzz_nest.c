/* fuzz_nest.c: nest texts are hostile: reading one refuses or gives a nest that prints as a text that reads and prints the same again. */
#include "ir/nest.h"
#include "tests/fuzz/mutate_house.h"

#include <stdlib.h>
#include <string.h>

static const char *print(const aq_nest *n, aq_arena *arena) {
    aq_text t = {.arena = arena};
    const char *text;
    if (aq_print_nest(n, &t) || aq_text_end(&t, &text))
        return NULL;
    return text;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    edit e = edit_open(data, size, max_size, seed);
    mutate_text(&e, 0, e.n, aq_house_words);
    return e.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aq_module m;
    aq_arena arena = {0};
    aq_id id;
    aq_nest *n;
    aq_schedule *s;
    if (aq_module_open(&m, "fuzz") || aq_sym_add(&m, "T", 1, 4096, &id) || aq_sym_add(&m, "B", 1, 64, &id))
        return 0;
    if (aq_read_nest(&m, &arena, "fuzz", (const char *)data, size, &n) == AQ_OK) {
        const char *once = print(n, &arena), *twice;
        if (!once || aq_read_nest(&m, &arena, "printed", once, strlen(once), &n) || !(twice = print(n, &arena)) || strcmp(once, twice))
            abort();
    }
    if (aq_read_schedule(&arena, "fuzz", (const char *)data, size, &s) == AQ_OK) {
        aq_text t = {.arena = &arena};
        const char *text;
        if (aq_print_schedule(s, &t) || aq_text_end(&t, &text) || aq_read_schedule(&arena, "printed", text, strlen(text), &s))
            abort();
    }
    aq_arena_close(&arena);
    aq_module_close(&m);
    return 0;
}
