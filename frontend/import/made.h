/* made.h: tensors that are made when their rows are asked for, so that a model of any size is never in memory twice: random weights
 * (random.c), another type (retype.c), merged adapters (lora_merge.c). Each maker begins with this structure; makers live in the arena of the
 * checkpoint and may start from another tensor, which may be made as well. */
#ifndef AQ_FRONTEND_IMPORT_MADE_H
#define AQ_FRONTEND_IMPORT_MADE_H

#include "frontend/import/import.h"

typedef struct aq_tensor_maker {
    /* Rows [first, first + count) as they would be stored; of a vector: elements. Called by several threads at once; the same bytes however
     * the rows are divided. */
    aq_status (*rows)(const struct aq_tensor_maker *m, int64_t first, int64_t count, void *out);
    uint64_t content[2]; /* names what is made: the recipe and the contents it starts from */
} aq_tensor_maker;

/* What turned the content a maker starts from into its own; a number once given is never given again, since cache files are named by it. */
typedef enum aq_made_recipe { AQ_MADE_RETYPED = 1, AQ_MADE_MERGED = 2 } aq_made_recipe;

/* *t, whose rows are whole blocks of `to` (of a vector: one element each), has from now on the type `to` and the rows of `maker`, whose content, of what it starts from,
 * gets the recipe. maker must live as long as the checkpoint. AQ_REFUSED: its bytes overflow. */
AQ_MUST_USE aq_status aq_tensor_become(aq_tensor *t, aq_dtype to, aq_made_recipe recipe, aq_tensor_maker *maker);

/* The bytes of one row (of a vector: one element). */
static inline size_t aq_tensor_row_bytes(const aq_tensor *t) { return t->bytes / (size_t)t->dim[0]; }

/* Copies or makes rows. */
AQ_MUST_USE aq_status aq_tensor_read(const aq_tensor *t, int64_t first, int64_t count, void *out);
/* Rows of a file that were read and are not needed again no longer count as memory (aq_file_forget_at). */
void aq_tensor_forget(const aq_tensor *t, int64_t first, int64_t count);

/* Names the contents of a tensor of c: its maker's name; of a file: size, time of change and samples. Not the recipe of layouts. */
void aq_tensor_content(const aq_checkpoint *c, const aq_tensor *t, uint64_t out[2]);
/* Not 0: changes when the file that holds the tensor's bytes does. 0: it is in no file. */
uint64_t aq_tensor_stamp(const aq_checkpoint *c, const aq_tensor *t);

/* Every made tensor into memory that close frees: for whoever needs all bytes at once. AQ_NO_MEMORY beforehand if less is free. */
AQ_MUST_USE aq_status aq_checkpoint_make(aq_checkpoint *c, int threads);

#endif
