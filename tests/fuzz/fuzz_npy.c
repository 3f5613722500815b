/* fuzz_npy.c: any bytes as a .npy file: parsed or refused, nothing else. */
#include "frontend/cli/npy.h"
#include "ir/memory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    aq_npy a;
    long open = aq_mem_open_blocks();
    if (aq_npy_parse("x.npy", bytes, size, &a) == AQ_OK) {
        size_t n = 1;
        for (int i = 0; i < a.rank; i++)
            n *= (size_t)a.dim[i];
        if (n != a.n)
            abort();
        aq_npy_close(&a);
    }
    if (aq_mem_open_blocks() != open)
        abort();
    return 0;
}
