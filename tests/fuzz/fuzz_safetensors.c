/* fuzz_safetensors.c: any bytes as a safetensors file of a model of width 2. */
#include "frontend/import/internal.h"
#include "tests/fuzz/mutate_safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    static const char *const words[] = {"\"dtype\":\"F16\"", "\"dtype\":\"BF16\"", "\"dtype\":\"F32\"", "\"dtype\":\"I32\"", "\"shape\":[2,2]", "\"shape\":[]",
                                        "\"data_offsets\":[0,0]", "\"data_offsets\":[0,16]", "\"__metadata__\":{}", "\"lm_head.weight\":",
                                        "\"model.layers.0.self_attn.q_proj.weight\":", "null", "{", "}", "[", "]", ",", ":", NULL};
    edit e = edit_open(data, size, max_size, seed);
    mutate_safetensors(&e, words);
    return e.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    aq_checkpoint c = {.path = "f", .config = {.name = "", .family = "llama", .D = 2, .L = 1, .H = 1, .HKV = 1, .DH = 2, .F = 2, .V = 2, .tied = n % 2}};
    aq_file file = {.bytes = bytes, .size = n};
    aq_stored_list stored = {0};
    volatile unsigned sum = 0;
    aq_status status = aq_safetensors_read(&c.arena, "f", &file, &stored);
    for (uint32_t i = 0; status == AQ_OK && i < stored.n; i++)
        sum += stored.at[i].data[0] + stored.at[i].data[stored.at[i].bytes - 1];
    if (status == AQ_OK)
        status = aq_import_bind(&c, &stored, "f");
    if (status != AQ_OK && (status != AQ_REFUSED || strchr(aq_error(), '\n')))
        abort();
    aq_checkpoint_close(&c);
    return 0;
}
