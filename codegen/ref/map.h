/* map.h: what one element of each op means, in f64; shared by everything that interprets. */
#ifndef AQ_CODEGEN_REF_MAP_H
#define AQ_CODEGEN_REF_MAP_H

#include "ir/graph.h"

/* The function of a MAP op on one element (unused operands are ignored); NULL for ops that are no plain map of elements (cast, quantize and
 * rope look at types and neighbours). */
typedef double (*aq_ref_map)(double a, double b, double c);
aq_ref_map aq_ref_map_of(aq_op op);

/* x rounded to the plain type t: floats to nearest even (through f32, which ref's values stand for), integers saturate. */
double aq_ref_round(aq_dtype t, double x);

/* cos and sin of the angle of pair i of `dim` elements at position pos. As transformers computes it, all in f32:
 * inv = 1 / theta^(2i/dim), divided by factor; angle = inv * pos; cos and sin of that f32, rounded to f32. */
void aq_ref_rope_angle(double theta, double factor, int64_t dim, int64_t i, double pos, double *out_cos, double *out_sin);

#endif
