/* elf_load.h: the only way machine code enters the process: one relocatable x86-64 ELF object, placed and relocated by us. */
#ifndef AQ_RUNTIME_CPU_ELF_LOAD_H
#define AQ_RUNTIME_CPU_ELF_LOAD_H

#include "ir/status.h"

typedef struct aq_elf aq_elf;

/* Copies the sections of the object into fresh pages, applies the relocations and makes the pages read + execute (or read) only; `object`
 * is not needed afterwards. The bytes are hostile: AQ_REFUSED names `file` and what is wrong; AQ_NO_MEMORY. */
AQ_MUST_USE aq_status aq_elf_load(const char *file, const void *object, size_t size, aq_elf **out);

/* The address of a global function of the object; NULL if there is none of that name. */
void *aq_elf_symbol(const aq_elf *elf, const char *name);

void aq_elf_close(aq_elf *elf); /* NULL is fine */

#endif
