/* elf_load.c: places one relocatable ELF object in fresh pages. The bytes may come from a plan file that somebody made, so every offset,
 * size, index and name is checked before it is followed; what the code in it does is another matter (a plan is code: open only what you
 * trust, or what its key signs).
 *
 * Order: header, sections (which are kept, where they go), one mapping, copy, relocate, protect, symbols. Code pages are never writable and
 * executable at once. Cost: 50 us for the kernels of a model. Dropped: sharing one mapping per section (page padding, and distances beyond
 * what PC32 is meant for); dlopen of a temporary file (needs a linker, a writable place, and runs constructors). */
#define _GNU_SOURCE
#include "runtime/cpu/elf_load.h"

#include "ir/memory.h"

#include <elf.h>
#include <string.h>
#include <sys/mman.h>

/* BEFORE: bytes in front of the first function; a compiler's check of calls through pointers (-fsanitize=function) reads there. */
enum { BEFORE = 64, PAGE_BYTES = 4096, MAX_SECTIONS = 65536, MAX_BYTES = 1 << 28 };

typedef struct symbol {
    uint32_t name;
    uint64_t at; /* offset in the mapping */
} symbol;

struct aq_elf {
    unsigned char *base; /* the mapping */
    size_t size, code_size;
    char *names;     /* a copy of the string table */
    symbol *symbols; /* global functions */
    uint32_t n_symbols;
};

typedef struct place {
    uint64_t at; /* offset in the mapping */
    int kept;
} place;

typedef struct loader {
    const char *file;
    const unsigned char *bytes;
    size_t size;
    Elf64_Ehdr head;
    place *places; /* by section */
    aq_elf *elf;
} loader;

#define REFUSE(l, ...) return aq_fail(AQ_REFUSED, (l)->file, __VA_ARGS__)

static Elf64_Shdr section(const loader *l, uint32_t i) {
    Elf64_Shdr s;
    memcpy(&s, l->bytes + l->head.e_shoff + (size_t)i * sizeof s, sizeof s);
    return s;
}

static aq_status check_header(loader *l) {
    if (l->size < sizeof l->head)
        REFUSE(l, "machine code of %zu bytes: expected an ELF header", l->size);
    memcpy(&l->head, l->bytes, sizeof l->head);
    const Elf64_Ehdr *h = &l->head;
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
        h->e_type != ET_REL || h->e_machine != EM_X86_64)
        REFUSE(l, "the machine code is no relocatable x86-64 ELF object");
    if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff > l->size || (l->size - h->e_shoff) / sizeof(Elf64_Shdr) < h->e_shnum ||
        h->e_shnum == 0)
        REFUSE(l, "the section table (%u sections at %llu) lies outside of the object", h->e_shnum, (unsigned long long)h->e_shoff);
    for (uint32_t i = 0; i < h->e_shnum; i++) {
        Elf64_Shdr s = section(l, i);
        if (s.sh_type != SHT_NOBITS && s.sh_type != SHT_NULL && (s.sh_offset > l->size || s.sh_size > l->size - s.sh_offset))
            REFUSE(l, "section %u lies outside of the object", i);
    }
    return AQ_OK;
}

/* Gives every section of one kind (code or constants) its place behind *at. */
static aq_status place_sections(loader *l, int code, uint64_t *at) {
    for (uint32_t i = 1; i < l->head.e_shnum; i++) {
        Elf64_Shdr s = section(l, i);
        if (!(s.sh_flags & SHF_ALLOC) || !s.sh_size || !(s.sh_flags & SHF_EXECINSTR) != !code)
            continue;
        if (s.sh_flags & (SHF_WRITE | SHF_TLS))
            REFUSE(l, "section %u is writable or thread-local: expected code and constants", i);
        if (s.sh_type != SHT_PROGBITS && s.sh_type != SHT_NOBITS && s.sh_type != SHT_X86_64_UNWIND)
            REFUSE(l, "section %u has type %u: expected bits", i, s.sh_type);
        uint64_t align = s.sh_addralign ? s.sh_addralign : 1;
        if (align > PAGE_BYTES || (align & (align - 1)) || s.sh_size > MAX_BYTES)
            REFUSE(l, "section %u has %llu bytes aligned to %llu", i, (unsigned long long)s.sh_size, (unsigned long long)align);
        *at = (*at + align - 1) & ~(align - 1);
        l->places[i] = (place){*at, 1};
        *at += s.sh_size;
        if (*at > MAX_BYTES)
            REFUSE(l, "more than %d bytes of machine code", MAX_BYTES);
    }
    return AQ_OK;
}

static aq_status map_sections(loader *l) {
    uint64_t at = BEFORE;
    AQ_TRY(place_sections(l, 1, &at));
    at = at == BEFORE ? 0 : at; /* no code */
    at = (at + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    l->elf->code_size = at;
    AQ_TRY(place_sections(l, 0, &at));
    if (!at)
        REFUSE(l, "the object holds no code");
    void *base;
    AQ_TRY(aq_mem_map(at, &base));
    l->elf->base = base;
    l->elf->size = at;
    for (uint32_t i = 1; i < l->head.e_shnum; i++) {
        Elf64_Shdr s = section(l, i);
        if (l->places[i].kept && s.sh_type != SHT_NOBITS)
            memcpy(l->elf->base + l->places[i].at, l->bytes + s.sh_offset, s.sh_size);
    }
    return AQ_OK;
}

/* --- symbols --------------------------------------------------------------------------------------------------------------------- */

/* Where symbol `index` of the table lies in the mapping. */
static aq_status resolve(const loader *l, const Elf64_Shdr *table, uint64_t index, uint64_t *out) {
    Elf64_Sym y;
    if (index >= table->sh_size / sizeof y)
        REFUSE(l, "symbol %llu is past the end of the table", (unsigned long long)index);
    memcpy(&y, l->bytes + table->sh_offset + index * sizeof y, sizeof y);
    if (y.st_shndx >= l->head.e_shnum || !l->places[y.st_shndx].kept)
        REFUSE(l, "symbol %llu is not defined in this object", (unsigned long long)index);
    if (y.st_value > section(l, y.st_shndx).sh_size)
        REFUSE(l, "symbol %llu lies outside of its section", (unsigned long long)index);
    *out = l->places[y.st_shndx].at + y.st_value;
    return AQ_OK;
}

static aq_status read_symbols(loader *l, const Elf64_Shdr *table) {
    if (l->elf->symbols)
        REFUSE(l, "two symbol tables");
    if (table->sh_link >= l->head.e_shnum || section(l, table->sh_link).sh_type != SHT_STRTAB)
        REFUSE(l, "the symbol table has no names");
    Elf64_Shdr names = section(l, table->sh_link);
    uint64_t n = table->sh_size / sizeof(Elf64_Sym);
    void *copy, *symbols;
    AQ_TRY(aq_mem_alloc(names.sh_size + 1, &copy)); /* zeroed: ends with a NUL whatever the object holds */
    l->elf->names = copy;
    memcpy(copy, l->bytes + names.sh_offset, names.sh_size);
    AQ_TRY(aq_mem_alloc(n * sizeof(symbol) + 1, &symbols));
    l->elf->symbols = symbols;
    for (uint64_t i = 1; i < n; i++) {
        Elf64_Sym y;
        memcpy(&y, l->bytes + table->sh_offset + i * sizeof y, sizeof y);
        if (ELF64_ST_TYPE(y.st_info) != STT_FUNC || ELF64_ST_BIND(y.st_info) != STB_GLOBAL)
            continue;
        symbol *s = &l->elf->symbols[l->elf->n_symbols];
        AQ_TRY(resolve(l, table, i, &s->at));
        if (y.st_name >= names.sh_size || !(section(l, y.st_shndx).sh_flags & SHF_EXECINSTR))
            REFUSE(l, "function %llu has no name or is no code", (unsigned long long)i);
        s->name = y.st_name;
        l->elf->n_symbols++;
    }
    return AQ_OK;
}

/* --- relocations ----------------------------------------------------------------------------------------------------------------- */

static aq_status patch(const loader *l, uint32_t type, unsigned char *where, uint64_t value, uint64_t pc) {
    uint64_t relative = value - pc;
    uint32_t word;
    switch (type) {
    case R_X86_64_PC32:
    case R_X86_64_PLT32:
        if ((int64_t)relative != (int32_t)relative)
            REFUSE(l, "a relative address does not fit 32 bits");
        word = (uint32_t)relative;
        memcpy(where, &word, 4);
        return AQ_OK;
    case R_X86_64_32:
    case R_X86_64_32S:
        if (type == R_X86_64_32 ? value != (uint32_t)value : (int64_t)value != (int32_t)value)
            REFUSE(l, "an absolute address does not fit 32 bits: expected position-independent code");
        word = (uint32_t)value;
        memcpy(where, &word, 4);
        return AQ_OK;
    case R_X86_64_64:
        memcpy(where, &value, 8);
        return AQ_OK;
    case R_X86_64_PC64:
        memcpy(where, &relative, 8);
        return AQ_OK;
    default:
        REFUSE(l, "relocation type %u: expected one of PC32 PLT32 32 32S 64 PC64", type);
    }
}

static aq_status relocate(const loader *l, uint32_t index) {
    Elf64_Shdr s = section(l, index);
    if (s.sh_info >= l->head.e_shnum || !l->places[s.sh_info].kept)
        return AQ_OK; /* of debugging sections and the like */
    if (s.sh_type == SHT_REL || s.sh_link >= l->head.e_shnum || section(l, s.sh_link).sh_type != SHT_SYMTAB)
        REFUSE(l, "relocations of section %u: expected RELA with a symbol table", s.sh_info);
    Elf64_Shdr table = section(l, s.sh_link), target = section(l, s.sh_info);
    for (uint64_t i = 0; i < s.sh_size / sizeof(Elf64_Rela); i++) {
        Elf64_Rela r;
        memcpy(&r, l->bytes + s.sh_offset + i * sizeof r, sizeof r);
        uint32_t type = ELF64_R_TYPE(r.r_info);
        uint64_t symbol_at = 0, width = type == R_X86_64_64 || type == R_X86_64_PC64 ? 8 : 4;
        if (target.sh_size < width || r.r_offset > target.sh_size - width)
            REFUSE(l, "relocation %llu lies outside of section %u", (unsigned long long)i, s.sh_info);
        AQ_TRY(resolve(l, &table, ELF64_R_SYM(r.r_info), &symbol_at));
        unsigned char *where = l->elf->base + l->places[s.sh_info].at + r.r_offset;
        uint64_t value = (uint64_t)(uintptr_t)l->elf->base + symbol_at + (uint64_t)r.r_addend;
        AQ_TRY(patch(l, type, where, value, (uint64_t)(uintptr_t)where));
    }
    return AQ_OK;
}

static aq_status load(loader *l) {
    AQ_TRY(check_header(l));
    void *p;
    AQ_TRY(aq_mem_alloc(l->head.e_shnum * sizeof(place), &p));
    l->places = p;
    AQ_TRY(map_sections(l));
    for (uint32_t i = 1; i < l->head.e_shnum; i++) {
        Elf64_Shdr s = section(l, i);
        if (s.sh_type == SHT_SYMTAB)
            AQ_TRY(read_symbols(l, &s));
        if (s.sh_type == SHT_RELA || s.sh_type == SHT_REL)
            AQ_TRY(relocate(l, i));
    }
    aq_elf *elf = l->elf;
    if ((elf->code_size && mprotect(elf->base, elf->code_size, PROT_READ | PROT_EXEC)) ||
        (elf->size > elf->code_size && mprotect(elf->base + elf->code_size, elf->size - elf->code_size, PROT_READ)))
        return aq_fail(AQ_FAILED, l->file, "the system does not let code pages become executable");
    return AQ_OK;
}

aq_status aq_elf_load(const char *file, const void *object, size_t size, aq_elf **out) {
    void *p;
    AQ_TRY(aq_mem_alloc(sizeof(aq_elf), &p));
    loader l = {.file = file, .bytes = object, .size = size, .elf = p};
    aq_status status = load(&l);
    aq_mem_free(l.places);
    if (status == AQ_OK)
        *out = l.elf;
    else
        aq_elf_close(l.elf);
    return status;
}

void *aq_elf_symbol(const aq_elf *elf, const char *name) {
    for (uint32_t i = 0; i < elf->n_symbols; i++)
        if (!strcmp(elf->names + elf->symbols[i].name, name))
            return elf->base + elf->symbols[i].at;
    return NULL;
}

void aq_elf_close(aq_elf *elf) {
    if (!elf)
        return;
    aq_mem_unmap(elf->base, elf->size);
    aq_mem_free(elf->names);
    aq_mem_free(elf->symbols);
    aq_mem_free(elf);
}
