/* emit_dot_piece.c: what the fast dot of blocks is made of: integer dot products of vectors, and the pieces that come out of the words of a
 * panel. Levels: vpermw makes pairs of 16 bits in 7 instructions a word of 8 codes (q4_0's shifts and masks: 6), which is memory speed: iq4_nl at
 * T = 1 122 Gop/s, 34 GB/s. Dropped where there is AVX-512: vpshufb, and masks for its bytes, 9 instructions, 102 Gop/s; panels of q8_0's form with
 * the levels in them: the same values, twice the bytes, so 66 Gop/s from memory.
 * Tried and dropped for two fields: shifting and masking both for every piece (joined bytes first are 13 to 17 % faster at T = 1). */
#include "codegen/cpu/emit_dot.h"

/* --- integer dot products of vectors --------------------------------------------------------------------------------------------- */

static val call(emitter *e, const char *name, val a, val b, val c) {
    val args[3] = {a, b, c};
    return aq_emit_intrinsic(e, name, NULL, 0, args, c ? 3 : 2);
}

val aq_emit_by_halves(emitter *e, const char *name, val a, val b) {
    val lo = call(e, name, aq_emit_half_of(e, a, 0), aq_emit_half_of(e, b, 0), NULL);
    val hi = call(e, name, aq_emit_half_of(e, a, 1), aq_emit_half_of(e, b, 1), NULL), k[64];
    int n = 2 * lanes_of(e, lo);
    for (int i = 0; i < n; i++)
        k[i] = k32(e, i);
    return e->l->BuildShuffleVector(e->b, lo, hi, e->l->ConstVector(k, (unsigned)n), "");
}

static val plus(emitter *e, val acc, val v) {
    return acc ? e->l->BuildAdd(e->b, acc, v, "") : v;
}

/* acc + pairs of 16-bit integers, a and b as <16 x i32>; acc NULL = 0 */
static val dot_pairs(emitter *e, val acc, val a, val b) {
    if (acc && e->target->has_vnni)
        return call(e, "llvm.x86.avx512.vpdpwssd.512", acc, a, b);
    a = aq_emit_as_lanes(e, a, e->i16, 32);
    b = aq_emit_as_lanes(e, b, e->i16, 32);
    if (e->target->has_avx512)
        return plus(e, acc, call(e, "llvm.x86.avx512.pmaddw.d.512", a, b, NULL));
    return plus(e, acc, aq_emit_by_halves(e, "llvm.x86.avx2.pmadd.wd", a, b));
}

/* acc + quads of bytes, a unsigned (at most 63 without VNNI: pairs must not saturate), b signed */
static val dot_quads(emitter *e, val acc, val a, val b) {
    if (e->target->has_vnni)
        return call(e, "llvm.x86.avx512.vpdpbusd.512", acc ? acc : e->l->ConstNull(wide(e, e->i32, 16)), a, b);
    a = aq_emit_as_lanes(e, a, e->i8, 64);
    b = aq_emit_as_lanes(e, b, e->i8, 64);
    val pairs =
        e->target->has_avx512 ? call(e, "llvm.x86.avx512.pmaddubs.w.512", a, b, NULL) : aq_emit_by_halves(e, "llvm.x86.avx2.pmadd.ub.sw", a, b);
    val ones = aq_emit_splat(e, e->l->ConstInt(e->i16, 1, 0), 32);
    if (e->target->has_avx512)
        return plus(e, acc, call(e, "llvm.x86.avx512.pmaddw.d.512", pairs, ones, NULL));
    return plus(e, acc, aq_emit_by_halves(e, "llvm.x86.avx2.pmadd.wd", pairs, ones));
}

/* --- unpacking ------------------------------------------------------------------------------------------------------------------- */

static val shift_right(emitter *e, val v, int by) {
    return by ? e->l->BuildLShr(e->b, v, aq_emit_int_like(e, v, by), "") : v;
}
static val mask_with(emitter *e, val v, int64_t m) {
    return e->l->BuildAnd(e->b, v, aq_emit_int_like(e, v, m), "");
}

static val shift_words(emitter *e, val v, int left, int right) {
    v = aq_emit_as_lanes(e, v, e->i16, 32);
    if (left)
        v = e->l->BuildShl(e->b, v, aq_emit_splat(e, e->l->ConstInt(e->i16, (unsigned)left, 0), 32), "");
    v = e->l->BuildAShr(e->b, v, aq_emit_splat(e, e->l->ConstInt(e->i16, (unsigned)right, 0), 32), "");
    return aq_emit_as_lanes(e, v, e->i32, 16);
}

dot_plan aq_emit_dot_plan(const emitter *e, const side *w, const side *a) {
    const aq_block *r = w->form.rule;
    if (w->form.is_wide) /* pairs of 16 bits, whatever they meet */
        return (dot_plan){.widen_act = a->dtype == AQ_A8};
    int by_words = r->level && e->target->has_avx512;
    if (a->dtype == AQ_A16 && by_words)
        return (dot_plan){.by_words = 1};
    if (a->dtype == AQ_A16) {
        int each = a->n > 2 * w->n; /* 10 scalar instructions a row against 16 vector ones a panel */
        return (dot_plan){.zero = each ? 0 : r->zero, .take_off = each ? r->zero : 0};
    }
    if (e->target->has_vnni || !(r->is_signed || r->level)) /* else pairs of products must fit 16 bits */
        return (dot_plan){.quads = 1, .zero = r->is_signed ? 128 : r->zero, .flip = r->is_signed};
    return (dot_plan){.widen_act = 1, .take_off = by_words ? 0 : r->zero, .by_words = by_words};
}

/* Quad n of a field, each code in a byte of its own at its place. */
static val bytes_of(emitter *e, const aq_field *f, val word, int n) {
    int by = f->bits * (n % (8 / f->bits)) - f->up;
    val v = by < 0 ? e->l->BuildShl(e->b, word, aq_emit_int_like(e, word, -by), "") : shift_right(e, word, by);
    return mask_with(e, v, (int32_t)((((1u << f->bits) - 1) << f->up) * 0x01010101u));
}

/* The codes of quad n as bytes, or their levels; made once for both halves of it. */
static val quad_of(emitter *e, const side *w, val *word, int n, int half) {
    const aq_block *r = w->form.rule;
    if (half == 0) {
        word[2] = bytes_of(e, &r->field[0], word[0], n);
        if (r->field[1].bits)
            word[2] = e->l->BuildOr(e->b, word[2], bytes_of(e, &r->field[1], word[1], n), "");
        if (r->level)
            word[2] = aq_emit_as_lanes(e, aq_emit_levels(e, r->level, aq_emit_as_lanes(e, word[2], e->i8, 64)), e->i32, 16);
    }
    return word[2];
}

/* Every other byte as 16 bits: from one field straight out of its word, from two, or levels, through the joined bytes (one operation less). */
static val pair_of(emitter *e, const side *w, val *word, int n, int half) {
    const aq_field *f = &w->form.rule->field[0];
    int by = f->bits * (n % (8 / f->bits)) + 8 * half, two = w->form.rule->field[1].bits || w->form.rule->level;
    val v = two ? quad_of(e, w, word, n, half) : word[0];
    if (half && (two || by + f->bits == 16)) { /* the top of 16 bits: nothing to mask */
        v = aq_emit_as_lanes(e, v, e->i16, 32);
        v = e->l->BuildLShr(e->b, v, aq_emit_splat(e, e->l->ConstInt(e->i16, (unsigned)(two ? 8 : by), 0), 32), "");
        return aq_emit_as_lanes(e, v, e->i32, 16);
    }
    return two ? mask_with(e, v, 0x00ff00ff) : mask_with(e, shift_right(e, v, by), (int64_t)((1 << f->bits) - 1) * 0x00010001);
}

/* vpermw looks at five bits of each word: a code and one bit of what stands above it, so all levels are there twice and nothing is masked. */
static val pair_of_levels(emitter *e, const aq_block *r, val word, int n, int half) {
    val k[32], code = aq_emit_as_lanes(e, shift_right(e, word, 4 * (n % 2) + 8 * half), e->i16, 32);
    for (int i = 0; i < 32; i++)
        k[i] = e->l->ConstInt(e->i16, (unsigned long long)(r->level[i % 16] - r->zero), 1);
    return aq_emit_as_lanes(e, call(e, "llvm.x86.avx512.permvar.hi.512", e->l->ConstVector(k, 32), code, NULL), e->i32, 16);
}

val aq_emit_piece(emitter *e, const side *w, const dot_plan *p, val *word, int n, int half) {
    const aq_block *r = w->form.rule;
    if (p->quads && p->flip)
        return e->l->BuildXor(e->b, word[0], aq_emit_int_like(e, word[0], (int32_t)0x80808080), "");
    if (p->quads)
        return quad_of(e, w, word, n, half);
    if (r->is_signed)
        return shift_words(e, word[0], half == 0 ? 8 : 0, 8);
    if (p->by_words)
        return pair_of_levels(e, r, word[0], n, half);
    val v = pair_of(e, w, word, n, half);
    if (!p->take_off)
        return v;
    v = aq_emit_as_lanes(e, v, e->i16, 32);
    v = e->l->BuildSub(e->b, v, aq_emit_splat(e, e->l->ConstInt(e->i16, (unsigned)p->take_off, 0), 32), "");
    return aq_emit_as_lanes(e, v, e->i32, 16);
}

void aq_emit_load_words(emitter *e, const side *w, int i, int n, int is_first, val *word) {
    for (int k = 0; k < 2 && !w->form.is_wide; k++) {
        int bits = w->form.rule->field[k].bits;
        if (bits && (is_first || n % (8 / bits) == 0))
            word[k] = aq_emit_load_at(e, wide(e, e->i32, 16), aq_emit_step_address(e, w->codes[i], w->form.panel.field_at[k] + n * bits / 8 * 64), 4);
    }
}

val aq_emit_wide_piece(emitter *e, const side *w, int i, int n, int half) {
    return aq_emit_load_at(e, wide(e, e->i32, 16), aq_emit_step_address(e, w->codes[i], (2 * n + half) * 64), 4);
}

val aq_emit_spread_act(emitter *e, const side *a, const dot_plan *p, int position, int n, int half) {
    int word = a->dtype == AQ_A16 ? 2 * n + half : n;
    val v = aq_emit_load_at(e, e->i32, aq_emit_step_address(e, a->place[position].group, 8 + 4 * word), 4);
    v = aq_emit_splat(e, v, 16);
    return p->widen_act ? shift_words(e, v, half == 0 ? 8 : 0, 8) : v;
}

val aq_emit_dot_add(emitter *e, const dot_plan *p, val acc, val piece, val act) {
    return p->quads ? dot_quads(e, acc, piece, act) : dot_pairs(e, acc, piece, act);
}
