/* map.h: what one element of each op means, in f64; shared by everything that interprets. */
#ifndef AQ_CODEGEN_REF_MAP_H
#define AQ_CODEGEN_REF_MAP_H

#include "ir/graph.h"
#include "ir/rope.h"

/* The function of a MAP op on one element (unused operands are ignored); NULL for ops that are no plain map of elements (cast, quantize and
 * rope look at types and neighbours). */
typedef double (*aq_ref_map)(double a, double b, double c);
aq_ref_map aq_ref_map_of(aq_op op);

/* x rounded to the plain type t: floats to nearest even (through f32, which ref's values stand for), integers saturate. */
double aq_ref_round(aq_dtype t, double x);

/* gain * cos and sin of the angle of pair i at position pos (ir/rope.h), in f64, as the emitters have it. (transformers rounds frequency
 * and angle to f32. Both were tried against its logits of SmolLM2: relative errors at 1000 tokens 2.1e-6 with its rounding, 1.1e-6 without;
 * at 1 to 512 tokens the same 4e-7 to 1.6e-6.) */
void aq_ref_rope_turn(const aq_rope *r, int64_t pair, double pos, double *out_cos, double *out_sin);

#endif
