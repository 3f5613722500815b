/* emit_block.h: where a block of quantised numbers lies; shared by emit_block.c and emit_dot.c. */
#ifndef AQ_CODEGEN_CPU_EMIT_BLOCK_H
#define AQ_CODEGEN_CPU_EMIT_BLOCK_H

#include "codegen/cpu/emit.h"

/* The layout of one group: a block of a row, or 16 rows of a panel. */
typedef struct block_form {
    int bytes, q_at, d_at, m_at; /* m_at -1: none */
    int nibbles, zero;           /* 4-bit; what is taken off */
    int words;                   /* 32-bit words of quants a row */
} block_form;
block_form aq_emit_block_form(const aq_nest_buf *b);

/* Subscripts split: group address of the first lane, row within the panel (0 for rows), element within the block. */
typedef struct block_place {
    val group;
    ix row, k;
} block_place;
block_place aq_emit_block_place(emitter *e, aq_id buf, const ix *index);

#endif
