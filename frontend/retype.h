/* retype.h: --weights-type: every matrix of a checkpoint turned into another type, in memory. */
#ifndef AQ_FRONTEND_RETYPE_H
#define AQ_FRONTEND_RETYPE_H
#include "frontend/import/import.h"
/* Tensors of two axes get `to` (decoded exactly, encoded by the rule of dtype.h); vectors stay. The tensors table of c is replaced; the bytes
 * live in c->memory until close. Rows whose length is no multiple of the block are refused. `threads` share the rows. */
AQ_MUST_USE aq_status aq_checkpoint_retype(aq_checkpoint *c, aq_dtype to, int threads);
#endif
