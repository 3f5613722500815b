/* object.h: does an object need anything that the runtime's loader lacks? */
#ifndef AQ_CODEGEN_CPU_OBJECT_H
#define AQ_CODEGEN_CPU_OBJECT_H

#include "ir/status.h"

/* AQ_REFUSED if the object names an undefined symbol (a call to a library, say) or a relocation that runtime/cpu/elf_load.c lacks. */
AQ_MUST_USE aq_status aq_object_check(const unsigned char *bytes, size_t size);

#endif
