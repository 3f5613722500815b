/* map.c: one line an op: the reference's meaning of every elementwise op, from the maths. */
#include "codegen/ref/map.h"

#include <math.h>

#define MAP_OF(op, value)                                                                                                                  \
    static double map_##op(double a, double b, double c) {                                                                                 \
        (void)a, (void)b, (void)c;                                                                                                         \
        return value;                                                                                                                      \
    }
MAP_OF(add, a + b)
MAP_OF(sub, a - b)
MAP_OF(mul, a *b)
MAP_OF(div, a / b)
MAP_OF(maximum, a != a || a > b ? a : b)
MAP_OF(minimum, a != a || a < b ? a : b)
MAP_OF(neg, -a)
MAP_OF(exp, exp(a))
MAP_OF(log, log(a))
MAP_OF(sqrt, sqrt(a))
MAP_OF(rsqrt, 1 / sqrt(a))
MAP_OF(sigmoid, 1 / (1 + exp(-a)))
MAP_OF(silu, a / (1 + exp(-a)))
MAP_OF(tanh, tanh(a))
MAP_OF(le, a <= b ? 1 : 0)
MAP_OF(select, a != 0 ? b : c)
MAP_OF(idiv, floor(a / b))
MAP_OF(imod, a - b * floor(a / b))

aq_ref_map aq_ref_map_of(aq_op op) {
    switch (op) {
#define CASE(op)                                                                                                                           \
    case AQ_OP_##op: return map_##op;
        CASE(add) CASE(sub) CASE(mul) CASE(div) CASE(maximum) CASE(minimum) CASE(neg) CASE(exp) CASE(log) CASE(sqrt) CASE(rsqrt)
        CASE(sigmoid) CASE(silu) CASE(tanh) CASE(le) CASE(select) CASE(idiv) CASE(imod)
    default: return NULL;
    }
}

double aq_ref_round(aq_dtype t, double x) {
    float f = (float)x;
    switch (t) {
    case AQ_F32: return (double)f;
    case AQ_BF16: return (double)aq_bf16_to_f32(aq_f32_to_bf16(f));
    case AQ_F16: return (double)aq_f16_to_f32(aq_f32_to_f16(f));
    case AQ_I8: return x != x ? 0 : x < INT8_MIN ? INT8_MIN : x > INT8_MAX ? INT8_MAX : rint(x);
    case AQ_I32: return x != x ? 0 : x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : rint(x);
    default: return x;
    }
}

void aq_ref_rope_turn(const aq_rope *r, int64_t pair, double pos, double *out_cos, double *out_sin) {
    double angle = aq_rope_angle(r, pair, pos);
    *out_cos = r->gain * cos(angle);
    *out_sin = r->gain * sin(angle);
}
