/* fuzz_gguf.c: any bytes as a GGUF file: refused in one line, or a whole model whose tensors and strings can all be read. */
#include "frontend/import/gguf.h"
#include "tests/fuzz/mutate_gguf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    edit e = edit_open(data, size, max_size, seed);
    return mutate_gguf(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    aq_checkpoint c = {.path = "f"};
    aq_file file = {.bytes = bytes, .size = n};
    aq_status status = aq_gguf_open(&c, &file);
    volatile unsigned sum = 0;
    if (status != AQ_OK && (status != AQ_REFUSED || strchr(aq_error(), '\n')))
        abort();
    for (uint32_t i = 0; status == AQ_OK && i < c.n_tensors; i++) {
        const unsigned char *p = c.tensors[i].data;
        sum += p[0] + p[c.tensors[i].bytes - 1] + aq_checkpoint_find(&c, c.tensors[i].name)->rank;
    }
    for (uint32_t i = 0; status == AQ_OK && i < c.tokenizer.n_merges; i++)
        for (uint32_t k = 0; k < c.tokenizer.merges[i].n; k++)
            sum += (unsigned char)c.tokenizer.merges[i].s[k];
    aq_checkpoint_close(&c);
    return 0;
}
