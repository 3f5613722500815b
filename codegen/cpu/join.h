/* join.h: one relocatable object out of several. */
#ifndef AQ_CODEGEN_CPU_JOIN_H
#define AQ_CODEGEN_CPU_JOIN_H

#include "ir/arena.h"

typedef struct aq_object {
    unsigned char *bytes;
    size_t size;
} aq_object;

/* The sections of all objects (LLVM's, x86-64, relocatable) that hold code, constants or their relocations, in one object, in `arena`; symbols
 * keep their names. What else was in them (notes, names of files) is left out. Same objects, same bytes. */
AQ_MUST_USE aq_status aq_objects_join(const aq_object *in, uint32_t n, aq_arena *arena, unsigned char **out, size_t *out_size);

#endif
