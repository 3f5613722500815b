/* object.c: the compile fails, not the run, when LLVM makes of a nest what the loader cannot place: a call to a library function, a
 * relocation of another kind. The bytes are LLVM's own, so this is a check of a result and no parser of hostile files (that is the loader),
 * but it stays inside them all the same. */
#include "codegen/cpu/object.h"

#include <elf.h>
#include <string.h>

static int section(const unsigned char *bytes, size_t size, size_t i, Elf64_Shdr *out) {
    Elf64_Ehdr h;
    memcpy(&h, bytes, sizeof h);
    if (i >= h.e_shnum || h.e_shoff > size || (size - h.e_shoff) / sizeof *out <= i)
        return 0;
    memcpy(out, bytes + h.e_shoff + i * sizeof *out, sizeof *out);
    return out->sh_type == SHT_NOBITS || (out->sh_offset <= size && out->sh_size <= size - out->sh_offset);
}

static const char *symbol_name(const unsigned char *bytes, size_t size, const Elf64_Shdr *symtab, uint32_t at) {
    Elf64_Shdr names;
    if (!section(bytes, size, symtab->sh_link, &names) || at >= names.sh_size ||
        !memchr(bytes + names.sh_offset + at, 0, names.sh_size - at))
        return "?";
    return (const char *)bytes + names.sh_offset + at;
}

static aq_status check_symbols(const unsigned char *bytes, size_t size, const Elf64_Shdr *s) {
    for (size_t i = 1; i < s->sh_size / sizeof(Elf64_Sym); i++) {
        Elf64_Sym y;
        memcpy(&y, bytes + s->sh_offset + i * sizeof y, sizeof y);
        if (y.st_shndx == SHN_UNDEF)
            return aq_fail(AQ_REFUSED, NULL, "the machine code calls %s: expected code that needs no library",
                           symbol_name(bytes, size, s, y.st_name));
    }
    return AQ_OK;
}

static aq_status check_relocations(const unsigned char *bytes, const Elf64_Shdr *s) {
    for (size_t i = 0; i < s->sh_size / sizeof(Elf64_Rela); i++) {
        Elf64_Rela r;
        memcpy(&r, bytes + s->sh_offset + i * sizeof r, sizeof r);
        uint32_t type = ELF64_R_TYPE(r.r_info);
        if (type != R_X86_64_PC32 && type != R_X86_64_PLT32 && type != R_X86_64_64 && type != R_X86_64_PC64)
            return aq_fail(AQ_REFUSED, NULL, "the machine code needs relocation type %u: expected PC32, PLT32, 64 or PC64", type);
    }
    return AQ_OK;
}

aq_status aq_object_check(const unsigned char *bytes, size_t size) {
    Elf64_Shdr s;
    if (size < sizeof(Elf64_Ehdr))
        return aq_fail(AQ_REFUSED, NULL, "the object is %zu bytes: expected an ELF header", size);
    for (size_t i = 0; section(bytes, size, i, &s); i++) {
        if (s.sh_type == SHT_SYMTAB)
            AQ_TRY(check_symbols(bytes, size, &s));
        if (s.sh_type == SHT_RELA)
            AQ_TRY(check_relocations(bytes, &s));
    }
    return AQ_OK;
}
