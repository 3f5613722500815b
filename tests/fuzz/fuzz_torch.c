/* fuzz_torch.c: any bytes as a torch archive of a model of width 2: refused in one line with a reason, or tensors that can be read at both ends.
 * Its mutator: mutate_torch.h. */
#include "frontend/import/internal.h"
#include "tests/fuzz/mutate_torch.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t most, unsigned int seed) { return mutate_torch(bytes, n, most, seed); }

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    aq_checkpoint c = {.path = "f", .config = {.name = "", .family = "llama", .D = 2, .L = 1, .H = 1, .HKV = 1, .DH = 2, .F = 2, .V = 2, .tied = n % 2}};
    aq_file file = {.bytes = bytes, .size = n};
    aq_stored_list stored = {0};
    volatile unsigned sum = 0;
    aq_status status = aq_torch_read(&c.arena, "f", &file, &stored);
    for (uint32_t i = 0; status == AQ_OK && i < stored.n; i++)
        sum += stored.at[i].data[0] + stored.at[i].data[stored.at[i].bytes - 1];
    if (status == AQ_OK)
        status = aq_import_bind(&c, &stored, "f");
    if (status != AQ_OK && (status != AQ_REFUSED || strchr(aq_error(), '\n') || aq_error_reason() == 0))
        abort();
    aq_checkpoint_close(&c);
    return 0;
}
