/* emit_math.c: functions of numbers, for scalars and vectors alike, without a library: each is right to about 1e-7 of its value (checked in
 * tests/cpu/test_math.c over their whole range). Coefficients are Taylor's where the range is short enough, else Cephes' (public domain
 * figures of the minimax polynomials of expf, sinf, cosf, tanhf). */
#include "codegen/cpu/emit.h"

#include <math.h>

static val like(emitter *e, val x, double c) {
    return aq_emit_const_like(e, x, c);
}
static val mul(emitter *e, val a, val b) {
    return e->l->BuildFMul(e->b, a, b, "");
}
static val add(emitter *e, val a, val b) {
    return e->l->BuildFAdd(e->b, a, b, "");
}
static val sub(emitter *e, val a, val b) {
    return e->l->BuildFSub(e->b, a, b, "");
}
static val divide(emitter *e, val a, val b) {
    return e->l->BuildFDiv(e->b, a, b, "");
}
static val choose(emitter *e, val c, val a, val b) {
    return e->l->BuildSelect(e->b, c, a, b, "");
}
static val compare(emitter *e, LLVMRealPredicate p, val a, double b) {
    return e->l->BuildFCmp(e->b, p, a, like(e, a, b), "");
}

/* c[0] x^(n-1) + .. + c[n-1] */
static val polynomial(emitter *e, val x, const double *c, int n) {
    val p = like(e, x, c[0]);
    for (int i = 1; i < n; i++)
        p = aq_emit_fma(e, p, x, like(e, x, c[i]));
    return p;
}

static val unary(emitter *e, const char *name, val x) {
    typ t = e->l->TypeOf(x);
    return aq_emit_intrinsic(e, name, &t, 1, &x, 1);
}

val aq_emit_sqrt(emitter *e, val x) {
    return unary(e, "llvm.sqrt", x);
}
static val nearest(emitter *e, val x) {
    return unary(e, "llvm.roundeven", x);
}
static val absolute(emitter *e, val x) {
    return unary(e, "llvm.fabs", x);
}

/* p * 2^k for whole k in -300 .. 300, k as f32: in two halves, so that results below the normal range come out rounded. */
static val scale(emitter *e, val p, val k) {
    int lanes = lanes_of(e, p);
    if (e->target->has_avx512 && lanes == 16) { /* one instruction, the same results */
        val args[5] = {p, k, e->l->ConstNull(e->l->TypeOf(p)), e->l->ConstInt(e->i16, 0xffff, 0), k32(e, 4)};
        return aq_emit_intrinsic(e, "llvm.x86.avx512.mask.scalef.ps.512", NULL, 0, args, 5);
    }
    val n = e->l->BuildFPToSI(e->b, k, wide(e, e->i32, lanes), "");
    val half = e->l->BuildAShr(e->b, n, aq_emit_int_like(e, n, 1), ""), rest = e->l->BuildSub(e->b, n, half, "");
    val part[2] = {half, rest};
    for (int i = 0; i < 2; i++) {
        val bits = e->l->BuildShl(e->b, e->l->BuildAdd(e->b, part[i], aq_emit_int_like(e, n, 127), ""), aq_emit_int_like(e, n, 23), "");
        p = mul(e, p, aq_emit_cast_type(e, bits, e->f32));
    }
    return p;
}

/* x = k ln 2 + r, |r| <= ln 2 / 2; e^r by its series to r^7. */
val aq_emit_exp(emitter *e, val x) {
    static const double c[] = {1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1};
    /* Past these the result is inf or 0 anyway; a NaN passes both selects. */
    x = choose(e, compare(e, LLVMRealOGT, x, 89), like(e, x, 89), x);
    x = choose(e, compare(e, LLVMRealOLT, x, -105), like(e, x, -105), x);
    val k = nearest(e, mul(e, x, like(e, x, 1.4426950408889634)));
    val r = aq_emit_fma(e, k, like(e, x, -0.693359375), x);
    r = aq_emit_fma(e, k, like(e, x, 2.12194440054690583e-4), r);
    return scale(e, polynomial(e, r, c, 8), k);
}

/* x = 2^k m, m in sqrt(1/2) .. sqrt(2); log m = 2 artanh s, s = (m - 1) / (m + 1), by its series. */
val aq_emit_log(emitter *e, val x) {
    static const double c[] = {2.0 / 11, 2.0 / 9, 2.0 / 7, 2.0 / 5, 2.0 / 3};
    val tiny = compare(e, LLVMRealOLT, x, 1.17549435e-38);
    val y = choose(e, tiny, mul(e, x, like(e, x, 33554432)), x);
    val bits = aq_emit_cast_type(e, y, e->i32);
    val from = e->l->BuildSub(e->b, bits, aq_emit_int_like(e, bits, 0x3f3504f3), ""); /* sqrt(1/2) becomes 0 */
    val k = e->l->BuildAShr(e->b, from, aq_emit_int_like(e, bits, 23), "");
    val m = e->l->BuildSub(e->b, bits, e->l->BuildShl(e->b, k, aq_emit_int_like(e, bits, 23), ""), "");
    m = aq_emit_cast_type(e, m, e->f32);
    val power = aq_emit_f32(e, k);
    power = sub(e, power, choose(e, tiny, like(e, x, 25), like(e, x, 0)));
    val s = divide(e, sub(e, m, like(e, x, 1)), add(e, m, like(e, x, 1))), z = mul(e, s, s);
    val p = aq_emit_fma(e, mul(e, s, z), polynomial(e, z, c, 5), mul(e, power, like(e, x, -2.12194440054690583e-4)));
    p = add(e, p, add(e, s, s));
    val r = aq_emit_fma(e, power, like(e, x, 0.693359375), p);
    r = choose(e, compare(e, LLVMRealOEQ, x, 0), like(e, x, -INFINITY), r);
    r = choose(e, compare(e, LLVMRealOEQ, x, INFINITY), x, r);
    return choose(e, compare(e, LLVMRealULT, x, 0), like(e, x, NAN), r);
}

val aq_emit_sigmoid(emitter *e, val x) {
    val one = like(e, x, 1);
    return divide(e, one, add(e, one, aq_emit_exp(e, e->l->BuildFNeg(e->b, x, ""))));
}

val aq_emit_tanh(emitter *e, val x) {
    static const double c[] = {-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1};
    val a = absolute(e, x), z = mul(e, x, x), one = like(e, x, 1);
    val small = aq_emit_fma(e, mul(e, polynomial(e, z, c, 5), z), x, x);
    val t = aq_emit_exp(e, add(e, a, a));
    val big = sub(e, one, divide(e, like(e, x, 2), add(e, t, one)));
    typ types[1] = {e->l->TypeOf(x)};
    val args[2] = {big, x};
    big = aq_emit_intrinsic(e, "llvm.copysign", types, 1, args, 2);
    big = choose(e, e->l->BuildFCmp(e->b, LLVMRealUNO, x, x, ""), x, big);
    return choose(e, compare(e, LLVMRealOLT, a, 0.625), small, big);
}

static val double_like(emitter *e, val x, double c) {
    return aq_emit_splat(e, e->l->ConstReal(e->f64, c), lanes_of(e, x));
}

static val fma_double(emitter *e, val a, val b, val c) {
    typ t = e->l->TypeOf(a);
    val args[3] = {a, b, c};
    return aq_emit_intrinsic(e, "llvm.fma", &t, 1, args, 3);
}

/* The angle in f64 less the nearest multiple of pi/2 (two-part, fused: exact enough for 1e8), then f32. */
void aq_emit_sincos(emitter *e, val angle, val *out_sin, val *out_cos) {
    static const double cs[] = {-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1};
    static const double cc[] = {2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2};
    int lanes = lanes_of(e, angle);
    val k = nearest(e, mul(e, angle, double_like(e, angle, 0.63661977236758134)));
    val minus = e->l->BuildFNeg(e->b, k, "");
    val r = fma_double(e, minus, double_like(e, angle, 1.5707963267948966), angle);
    r = fma_double(e, minus, double_like(e, angle, 6.123233995736766e-17), r);
    val x = e->l->BuildFPTrunc(e->b, r, wide(e, e->f32, lanes), ""), z = mul(e, x, x);
    val q = e->l->BuildFPToSI(e->b, k, wide(e, e->i32, lanes), "");
    val s = aq_emit_fma(e, mul(e, polynomial(e, z, cs, 3), z), x, x);
    val c = aq_emit_fma(e, mul(e, z, z), polynomial(e, z, cc, 3), aq_emit_fma(e, z, like(e, x, -0.5), like(e, x, 1)));
    val zero = e->l->ConstNull(e->l->TypeOf(q)), one = aq_emit_int_like(e, q, 1), two = aq_emit_int_like(e, q, 2);
    val odd = e->l->BuildICmp(e->b, LLVMIntNE, e->l->BuildAnd(e->b, q, one, ""), zero, "");
    val sine = choose(e, odd, c, s), cosine = choose(e, odd, s, c);
    val flip_s = e->l->BuildAnd(e->b, q, two, ""), flip_c = e->l->BuildAnd(e->b, e->l->BuildAdd(e->b, q, one, ""), two, "");
    val thirty = aq_emit_int_like(e, q, 30); /* bit 1 to the sign */
    val *out[2] = {out_sin, out_cos}, value[2] = {sine, cosine}, flip[2] = {flip_s, flip_c};
    for (int i = 0; i < 2; i++) {
        val bits = aq_emit_cast_type(e, value[i], e->i32);
        *out[i] = aq_emit_cast_type(e, e->l->BuildXor(e->b, bits, e->l->BuildShl(e->b, flip[i], thirty, ""), ""), e->f32);
    }
}
