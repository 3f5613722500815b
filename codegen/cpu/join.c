/* join.c: the kernels of a model are compiled apart, each in a context of LLVM of its own, so that threads share the work; here their objects
 * become the one of a plan. Sections are not merged, only listed one after the other: the loader places each by itself, and an ELF file
 * may have many of one name. Order: number the sections and symbols, lay the file out, copy, renumber.
 *
 * Cost: under 1 ms for a model. Dropped: a plan with several objects (its format would have changed for what twenty section headers do). */
#include "codegen/cpu/join.h"

#include <elf.h>
#include <string.h>

enum { MOST_SECTIONS = 0xff00 - 4 }; /* numbers from 0xff00 on mean something else */

typedef struct part {
    const unsigned char *bytes;
    Elf64_Ehdr head;
    const Elf64_Shdr *sections;
    const Elf64_Sym *symbols;
    uint32_t n_symbols;
    const char *names;       /* of the symbols */
    size_t names_size;
    uint32_t *section_now;   /* by section: its number in the joined object, 0 = left out */
    uint32_t *symbol_now;    /* by symbol, in the same way */
    size_t names_now;        /* where its names begin */
} part;

typedef struct joiner {
    aq_arena *arena;
    part *parts;
    uint32_t n;
    AQ_VEC(Elf64_Shdr) sections;
    AQ_VEC(Elf64_Sym) symbols;
    uint32_t n_local, symtab;
    unsigned char *out;
    size_t size;
} joiner;

/* Names of what the joined object has, in front of those of the symbols. */
static const char own_names[] = "\0.text\0.rodata\0.rela\0.symtab\0.strtab";
enum { NAME_TEXT = 1, NAME_RODATA = 7, NAME_RELA = 15, NAME_SYMTAB = 21, NAME_STRTAB = 29 };

static aq_status read_part(joiner *j, const aq_object *o, part *p) {
    p->bytes = o->bytes;
    if (o->size < sizeof p->head)
        return aq_fail(AQ_FAILED, NULL, "an object of %zu bytes: expected LLVM to write ELF", o->size);
    memcpy(&p->head, o->bytes, sizeof p->head);
    size_t table = (size_t)p->head.e_shnum * sizeof(Elf64_Shdr);
    if (p->head.e_shoff % 8 || p->head.e_shoff > o->size || o->size - p->head.e_shoff < table)
        return aq_fail(AQ_FAILED, NULL, "an object's section table lies outside of it: expected LLVM to write ELF");
    p->sections = (const Elf64_Shdr *)(const void *)(o->bytes + p->head.e_shoff);
    AQ_ALLOC(j->arena, p->section_now, p->head.e_shnum + 1);
    for (uint32_t i = 1; i < p->head.e_shnum; i++) {
        const Elf64_Shdr *s = &p->sections[i];
        if (s->sh_type != SHT_NOBITS && (s->sh_offset > o->size || s->sh_size > o->size - s->sh_offset))
            return aq_fail(AQ_FAILED, NULL, "section %u of an object lies outside of it: expected LLVM to write ELF", i);
        if (s->sh_type != SHT_SYMTAB || s->sh_link >= p->head.e_shnum)
            continue;
        p->symbols = (const Elf64_Sym *)(const void *)(o->bytes + s->sh_offset);
        p->n_symbols = (uint32_t)(s->sh_size / sizeof(Elf64_Sym));
        p->names = (const char *)o->bytes + p->sections[s->sh_link].sh_offset;
        p->names_size = p->sections[s->sh_link].sh_size;
    }
    AQ_ALLOC(j->arena, p->symbol_now, p->n_symbols + 1);
    return AQ_OK;
}

/* --- numbers ------------------------------------------------------------------------------------------------------------------------- */

static aq_status add_section(joiner *j, Elf64_Shdr s, uint32_t *out) {
    *out = j->sections.n;
    AQ_PUSH(j->arena, &j->sections, s);
    return j->sections.n < MOST_SECTIONS ? AQ_OK : aq_fail(AQ_REFUSED, NULL, "machine code of more than %d sections: expected fewer kernels", MOST_SECTIONS);
}

/* sh_offset is that in the part, until `copy`. */
static aq_status number_sections(joiner *j, part *p) {
    for (uint32_t i = 1; i < p->head.e_shnum; i++) {
        Elf64_Shdr s = p->sections[i];
        if (!(s.sh_flags & SHF_ALLOC) || !s.sh_size)
            continue;
        s.sh_name = s.sh_flags & SHF_EXECINSTR ? NAME_TEXT : NAME_RODATA;
        s.sh_flags &= ~(uint64_t)SHF_MERGE;
        s.sh_entsize = 0;
        AQ_TRY(add_section(j, s, &p->section_now[i]));
    }
    return AQ_OK;
}

static aq_status number_relocations(joiner *j, part *p) {
    for (uint32_t i = 1; i < p->head.e_shnum; i++) {
        Elf64_Shdr s = p->sections[i];
        if (s.sh_type != SHT_RELA || s.sh_info >= p->head.e_shnum || !p->section_now[s.sh_info])
            continue;
        s.sh_name = NAME_RELA;
        s.sh_info = p->section_now[s.sh_info];
        AQ_TRY(add_section(j, s, &p->section_now[i]));
    }
    return AQ_OK;
}

/* Symbols of sections that stay, and those that nobody defines: aq_object_check names them. */
static aq_status number_symbols(joiner *j, part *p, int global) {
    for (uint32_t i = 1; i < p->n_symbols; i++) {
        Elf64_Sym y = p->symbols[i];
        int undefined = y.st_shndx == SHN_UNDEF;
        if ((ELF64_ST_BIND(y.st_info) != STB_LOCAL) != global || y.st_name >= p->names_size)
            continue;
        if (!undefined && (y.st_shndx >= p->head.e_shnum || !p->section_now[y.st_shndx]))
            continue;
        y.st_shndx = undefined ? SHN_UNDEF : (Elf64_Half)p->section_now[y.st_shndx];
        y.st_name += (uint32_t)p->names_now;
        p->symbol_now[i] = j->symbols.n;
        AQ_PUSH(j->arena, &j->symbols, y);
    }
    return AQ_OK;
}

static aq_status number(joiner *j, size_t *out_names) {
    size_t names = sizeof own_names;
    uint32_t unused;
    AQ_TRY(add_section(j, (Elf64_Shdr){0}, &unused));
    AQ_PUSH(j->arena, &j->symbols, (Elf64_Sym){0});
    for (uint32_t i = 0; i < j->n; i++) {
        j->parts[i].names_now = names;
        AQ_TRY(aq_size_add(names, j->parts[i].names_size, "names of symbols", &names));
        AQ_TRY(number_sections(j, &j->parts[i]));
    }
    for (uint32_t i = 0; i < j->n; i++)
        AQ_TRY(number_relocations(j, &j->parts[i]));
    for (int global = 0; global < 2; global++) {
        for (uint32_t i = 0; i < j->n; i++)
            AQ_TRY(number_symbols(j, &j->parts[i], global));
        j->n_local = global ? j->n_local : j->symbols.n;
    }
    j->symtab = j->sections.n;
    *out_names = names;
    return AQ_OK;
}

/* --- bytes --------------------------------------------------------------------------------------------------------------------------- */

/* Appends behind what is there and says where it begins. */
static size_t put(joiner *j, const void *bytes, size_t size, size_t align) {
    j->size = (j->size + align - 1) / align * align;
    size_t at = j->size;
    memcpy(j->out + at, bytes, size);
    j->size += size;
    return at;
}

static void copy_sections(joiner *j, const part *p) {
    for (uint32_t i = 1; i < p->head.e_shnum; i++) {
        if (!p->section_now[i])
            continue;
        Elf64_Shdr *s = &j->sections.at[p->section_now[i]];
        if (s->sh_type == SHT_NOBITS)
            continue;
        s->sh_offset = put(j, p->bytes + s->sh_offset, s->sh_size, 16);
        s->sh_link = s->sh_type == SHT_RELA ? j->symtab : 0;
        for (size_t k = 0; s->sh_type == SHT_RELA && k < s->sh_size / sizeof(Elf64_Rela); k++) {
            Elf64_Rela r;
            unsigned char *at = j->out + s->sh_offset + k * sizeof r;
            memcpy(&r, at, sizeof r);
            uint64_t symbol = ELF64_R_SYM(r.r_info);
            r.r_info = ELF64_R_INFO((uint64_t)(symbol < p->n_symbols ? p->symbol_now[symbol] : 0), ELF64_R_TYPE(r.r_info));
            memcpy(at, &r, sizeof r);
        }
    }
}

static aq_status copy(joiner *j, size_t names_size) {
    Elf64_Ehdr head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_REL, .e_machine = EM_X86_64,
                       .e_version = EV_CURRENT, .e_ehsize = sizeof head, .e_shentsize = sizeof(Elf64_Shdr)};
    put(j, &head, sizeof head, 1);
    for (uint32_t i = 0; i < j->n; i++)
        copy_sections(j, &j->parts[i]);
    size_t symbols_size = j->symbols.n * sizeof(Elf64_Sym), at = put(j, j->symbols.at, symbols_size, 16);
    AQ_PUSH(j->arena, &j->sections, (Elf64_Shdr){.sh_name = NAME_SYMTAB, .sh_type = SHT_SYMTAB, .sh_offset = at, .sh_size = symbols_size, .sh_link = j->symtab + 1,
                                                 .sh_info = j->n_local, .sh_addralign = 8, .sh_entsize = sizeof(Elf64_Sym)});
    at = put(j, own_names, sizeof own_names, 1);
    for (uint32_t i = 0; i < j->n; i++)
        put(j, j->parts[i].names, j->parts[i].names_size, 1);
    AQ_PUSH(j->arena, &j->sections, (Elf64_Shdr){.sh_name = NAME_STRTAB, .sh_type = SHT_STRTAB, .sh_offset = at, .sh_size = names_size, .sh_addralign = 1});
    head.e_shoff = put(j, j->sections.at, j->sections.n * sizeof(Elf64_Shdr), 16);
    head.e_shnum = (Elf64_Half)j->sections.n;
    head.e_shstrndx = (Elf64_Half)(j->sections.n - 1);
    memcpy(j->out, &head, sizeof head);
    return AQ_OK;
}

aq_status aq_objects_join(const aq_object *in, uint32_t n, aq_arena *arena, unsigned char **out, size_t *out_size) {
    joiner j = {.arena = arena, .n = n};
    size_t names, room;
    AQ_ALLOC(arena, j.parts, n + 1);
    for (uint32_t i = 0; i < n; i++)
        AQ_TRY(read_part(&j, &in[i], &j.parts[i]));
    AQ_TRY(number(&j, &names));
    room = sizeof(Elf64_Ehdr) + names + j.symbols.n * sizeof(Elf64_Sym) + 64;
    AQ_TRY(aq_size_add(room, (j.sections.n + 2) * (sizeof(Elf64_Shdr) + 16), "machine code", &room));
    for (uint32_t i = 1; i < j.sections.n; i++)
        if (j.sections.at[i].sh_type != SHT_NOBITS)
            AQ_TRY(aq_size_add(room, j.sections.at[i].sh_size, "machine code", &room));
    AQ_ALLOC(arena, j.out, room);
    AQ_TRY(copy(&j, names));
    *out = j.out;
    *out_size = j.size;
    return AQ_OK;
}
