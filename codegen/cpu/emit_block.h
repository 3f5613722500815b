/* emit_block.h: where a block of quantised numbers lies, its codes and scales (emit_codes.c); for emit_block.c and emit_dot.c. */
#ifndef AQ_CODEGEN_CPU_EMIT_BLOCK_H
#define AQ_CODEGEN_CPU_EMIT_BLOCK_H

#include "codegen/cpu/emit.h"
#include "ir/block.h"

/* How a buffer keeps its blocks: as stored, 16 rows of a panel, or 16 rows opened. */
typedef struct block_form {
    const aq_block *rule; /* NULL: activations */
    int is_panel, is_wide;
    aq_panel panel;
    aq_wide wide;
    int bytes, elements;  /* of a block */
    int halves;           /* scales of a group of 32 */
} block_form;
block_form aq_emit_block_form(const aq_nest_buf *b);

/* Subscripts split: address of the first lane's block, row within the panel (0 for rows), element within the block. */
typedef struct block_place {
    val group;
    ix row, k;
} block_place;
block_place aq_emit_block_place(emitter *e, aq_id buf, const ix *index);

/* Codes less zero of weights as i32 (wide: times the step of d): one, or `lanes` consecutive elements of a row from k on (within 16 that begin at a multiple of 16;
 * in a panel 8 or 16; wide any). */
val aq_emit_row_codes(emitter *e, const block_form *f, const block_place *p, val k, int lanes);
/* Address of the codes of the group of element p->k in a panel or wide block. */
val aq_emit_codes_address(emitter *e, const block_form *f, const block_place *p);
/* The codes of element k of all 16 rows of a panel. */
val aq_emit_panel_codes(emitter *e, const block_form *f, const block_place *p, val k);
/* Of half `j` (i64) of a block: an element is code * step * d + m. step: i32, NULL: 1; m: NULL: none. Row constant with lanes = 16: of all
 * rows of the panel. */
typedef struct block_scale {
    val d, step, m;
} block_scale;
block_scale aq_emit_block_scale(emitter *e, const block_form *f, const block_place *p, val j, int lanes);

/* Bytes below 16 (<16 x i8> or <64 x i8>) become the levels they choose. */
val aq_emit_levels(emitter *e, const uint8_t *level, val bytes);
/* A call of two vectors of 64 bytes where the processor has only those of 32. */
val aq_emit_by_halves(emitter *e, const char *name, val a, val b);

/* A store of panel blocks into a wide buffer (emit_wide.c). */
void aq_emit_open_store(emitter *e, const aq_stmt *s);

#endif
