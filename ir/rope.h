/* rope.h: what the attributes of `rope` say, for everything that checks, interprets or emits it. */
#ifndef AQ_IR_ROPE_H
#define AQ_IR_ROPE_H

#include "ir/nest.h"

typedef struct aq_rope {
    double theta, factor; /* pair i of dim / 2 turns by theta^(-2i/dim) a position; the position is divided by factor ... */
    double low, high;     /* ... wholly for frequencies up to low, not at all from high on, in part between; both 0: for all wholly */
    double ramp;          /* the part between grows 0: with the frequency (llama3), 1: with its logarithm (yarn) */
    double gain;          /* what is turned is multiplied by it (yarn's attention factor) */
    int64_t dim;          /* 0: the whole last axis; who asks for frequencies puts its size here */
} aq_rope;

aq_rope aq_rope_of_node(const aq_module *m, const aq_node *n);
aq_rope aq_rope_of_expr(const aq_nest *n, const aq_expr *e);

/* NULL, or what is expected of the attributes (dim apart). */
const char *aq_rope_wrong(const aq_rope *r);

/* Is the factor in the frequencies (there is a band), or are positions divided by it? */
int aq_rope_has_band(const aq_rope *r);

/* Radians a position by which pair i turns, in f64. Without a band that is theta^(-2i/dim), for a position that was divided by factor; with one
 * f * (s + (1 - s) / factor), s the part of f = theta^(-2i/dim) between low and high. Sources: the configuration of Llama 3.1 (bands of wave
 * lengths), Peng et al., YaRN (2309.00071), section 3.2, with a ramp over the pairs as its authors' code has it. */
double aq_rope_frequency(const aq_rope *r, int64_t pair);

/* The angle of pair i at a position. */
double aq_rope_angle(const aq_rope *r, int64_t pair, double pos);

#endif
