/* fuzz_elf.c: any bytes as an object of machine code: loaded or refused. The code is never called. Seeds: objects that the emitter made. */
#include "runtime/cpu/elf_load.h"

#include <stddef.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    aq_elf *elf = NULL;
    if (aq_elf_load("fuzz", data, size, &elf) == AQ_OK) {
        (void)aq_elf_symbol(elf, "r.p0");
        aq_elf_close(elf);
    }
    return 0;
}
