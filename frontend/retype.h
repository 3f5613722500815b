/* retype.h: the tensors of a checkpoint in another type. */
#ifndef AQ_FRONTEND_RETYPE_H
#define AQ_FRONTEND_RETYPE_H

#include "frontend/import/import.h"

/* Do the rows of t divide into blocks of `to`? AQ_REFUSED says what to use instead. */
AQ_MUST_USE aq_status aq_tensor_fits(const aq_checkpoint *c, const aq_tensor *t, aq_dtype to);

/* Every tensor of two axes becomes `to`, made row by row when its rows are asked for (import/made.h): nothing is converted now, and the
 * checkpoint takes no more memory than before. Vectors (norms) stay, but what is f64 becomes f32 in any case (AQ_DTYPE_NONE: only that).
 * AQ_REFUSED: rows do not divide into blocks of `to`. */
AQ_MUST_USE aq_status aq_checkpoint_retype(aq_checkpoint *c, aq_dtype to);

#endif
