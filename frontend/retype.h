/* retype.h: the matrices of a checkpoint in another type. */
#ifndef AQ_FRONTEND_RETYPE_H
#define AQ_FRONTEND_RETYPE_H

#include "frontend/import/import.h"

/* Every tensor of two axes becomes `to`, made row by row when its rows are asked for (import/made.h): nothing is converted now, and the
 * checkpoint takes no more memory than before. Vectors (norms) stay. AQ_REFUSED: rows do not divide into blocks of `to`. */
AQ_MUST_USE aq_status aq_checkpoint_retype(aq_checkpoint *c, aq_dtype to);

#endif
