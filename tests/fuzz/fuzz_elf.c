/* fuzz_elf.c: any bytes as a plan's machine code: refused in one line, or placed; then its functions can be looked up (not called: what the
 * code does is another matter). */
#include "ir/memory.h"
#include "runtime/cpu/elf_load.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static const char *const names[] = {"tiny_embed", "tiny_sum", "tiny_head", "", "no such function"};
    aq_elf *elf = NULL;
    char *tight = malloc(n ? n : 1); /* ends where the bytes end, for the sanitizer */
    if (n)
        memcpy(tight, bytes, n);
    aq_status status = aq_elf_load("f", tight, n, &elf);
    if (status != AQ_OK && ((status != AQ_REFUSED && status != AQ_NO_MEMORY) || strchr(aq_error(), '\n')))
        abort();
    free(tight); /* not needed any more */
    volatile unsigned sum = 0;
    for (size_t i = 0; status == AQ_OK && i < sizeof names / sizeof *names; i++) {
        const unsigned char *at = aq_elf_symbol(elf, names[i]);
        if (at)
            sum += *at;
    }
    aq_elf_close(elf);
    if (aq_mem_open_blocks())
        abort();
    return 0;
}
