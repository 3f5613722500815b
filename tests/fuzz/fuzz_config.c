/* fuzz_config.c: any bytes as config.json: refused in one line, or figures inside their bounds. */
#include "frontend/import/internal.h"
#include "tests/fuzz/mutate.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    static const char *const words[] = {
#define FIGURE(member, kind, hf, flagai, gguf) "\"" hf "\": ", "\"" flagai "\": ",
#include "frontend/import/figures.def"
#undef FIGURE
        "\"model_type\": \"llama\"", "\"tie_word_embeddings\": true", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}",
        "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"beta_fast\": 9, \"truncate\": false, \"mscale\": 1, \"mscale_all_dim\": 0.5}",
        "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, \"original_max_position_embeddings\": 9}",
        "\"multiple_of\": 256", "null",
        "true", "[", "]", "{", "}", ",", ":", "\"\"", NULL};
    edit e = edit_open(data, size, max_size, seed);
    mutate_text(&e, 0, e.n, words);
    return e.n;
}

static int inside(int64_t x) { return x >= 1 && x <= 1 << 24; }

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    aq_arena arena = {0};
    aq_config c;
    aq_naming naming;
    aq_status status = aq_config_parse(&arena, "f", (const char *)bytes, n, &c, &naming);
    if (status != AQ_OK && (status != AQ_REFUSED || strchr(aq_error(), '\n')))
        abort();
    if (status == AQ_OK && !(inside(c.D) && inside(c.L) && inside(c.H) && inside(c.HKV) && inside(c.DH) && inside(c.F) && inside(c.V) &&
                             inside(c.max_length) && c.H % c.HKV == 0 && c.DH % 2 == 0 && c.eps > 0 && c.theta > 0 && c.scaling_factor > 0 &&
                             c.bos < c.V && c.eos < c.V && c.pad < c.V))
        abort();
    aq_rope rope = status == AQ_OK ? aq_config_rope(&c) : (aq_rope){0};
    if (status == AQ_OK && aq_rope_wrong(&rope))
        abort();
    aq_arena_close(&arena);
    return 0;
}
