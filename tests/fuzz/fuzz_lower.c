/* fuzz_lower.c: any text that reads goes through the whole pipeline, and its regions through the default schedule and lower: refused in one line,
 * or a module that verifies, prints and reads again. The first byte picks the target; behind a zero byte stands what --edits would give: schedules
 * and nests for its kernels. Sizes are bounded so that nothing runs long: no code is made. */
#include "codegen/codegen.h"
#include "frontend/compile.h"
#include "ir/memory.h"
#include "passes/passes.h"
#include "tests/fuzz/mutate_house.h"
#include "tests/fuzz/sections.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *target;
    int64_t lo, hi;
} ways[] = {{"ref", 1, 64}, {"cpu:v3", 1, 1}, {"cpu:v4+vnni", 1, 1}, {"cpu:v4+bf16+vnni", 9, 1 << 20}};

static aq_status read_again(const aq_module *m, aq_arena *arena) {
    aq_text text = {.arena = arena};
    const char *chars;
    aq_module again;
    AQ_TRY(aq_print_module(m, &text));
    AQ_TRY(aq_text_end(&text, &chars));
    aq_status status = aq_read_module("again", chars, strlen(chars), NULL, 0, &again);
    if (status == AQ_OK)
        aq_module_close(&again);
    if (status == AQ_REFUSED)
        abort(); /* what was printed does not read */
    return status;
}

static aq_status through(aq_module *m, int way, const char *edits_text, aq_arena *arena) {
    const aq_compile_options co = {0};
    aq_pass_options o;
    aq_target t;
    aq_edits edits = {0};
    aq_kernels kernels = {.edits = &edits};
    for (uint32_t i = 0; i < m->weights.n; i++) {
        aq_type *type = &m->values.at[m->weights.at[i].value].type;
        if (type->dtype == AQ_DTYPE_NONE)
            type->dtype = AQ_F32;
    }
    AQ_TRY(aq_target_parse(ways[way].target, &t));
    AQ_TRY(aq_compile_pass_options(&t, &co, ways[way].lo, ways[way].hi, &o));
    AQ_TRY(aq_edits_open(arena, "edits", edits_text, &edits));
    AQ_TRY(aq_verify_module(m));
    AQ_TRY(aq_pipeline_run(m, &o, NULL, NULL, NULL, NULL, NULL, NULL));
    AQ_TRY(read_again(m, arena));
    for (uint32_t g = 0; g < m->graphs.n && !t.is_ref; g++)
        AQ_TRY(aq_compile_kernels(m, m->graphs.at[g], &t, ways[way].lo, ways[way].hi, "f", arena, &kernels));
    return aq_edits_all_used(&edits);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    edit e = edit_open(data, size, max_size, seed);
    if (size < 2)
        return LLVMFuzzerMutate(data, size, max_size);
    const uint8_t *zero = memchr(data + 1, 0, size - 1);
    size_t text = zero ? (size_t)(zero - data) : size;
    data[0] = roll(&e, 8) ? data[0] : (uint8_t)roll(&e, 4);
    if (zero && text + 1 < size && roll(&e, 2))
        mutate_text(&e, text + 1, e.n, aq_house_words);
    else if (text > 1)
        mutate_text(&e, 1, text, aq_house_words);
    return e.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aq_arena arena = {0};
    aq_module m;
    if (size < 2 || size > 1 << 14)
        return 0;
    const char *at = (const char *)data + 1, *end = (const char *)data + size, *edits;
    aq_bytes text = next_section(&at, end);
    need(aq_arena_string(&arena, at, (size_t)(end - at), &edits) == AQ_OK);
    if (aq_read_module("fuzz.aq", text.s, text.n, NULL, 0, &m) == AQ_OK) {
        aq_status status = through(&m, data[0] % 4, edits, &arena);
        if (status != AQ_OK && (status == AQ_FAILED || !*aq_error() || strchr(aq_error(), '\n')))
            abort(); /* a fault of ours, or not one line */
        aq_module_close(&m);
    }
    aq_arena_close(&arena);
    if (aq_mem_open_blocks())
        abort();
    return 0;
}
