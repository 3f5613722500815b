/* emit_codes.c: where blocks lie, and the codes and scales of weights, as stored or in panels: code for what ir/block.h's table says. */
#include "codegen/cpu/emit_block.h"

block_form aq_emit_block_form(const aq_nest_buf *b) {
    aq_dtype t = b->type.dtype;
    const aq_dtype_info *info = aq_dtype_of(t);
    if (info->kind != AQ_KIND_WEIGHT)
        return (block_form){.bytes = info->bytes, .elements = info->block, .halves = 1};
    block_form f = {.rule = aq_block_of(t), .is_panel = b->layout == AQ_LAYOUT_PANEL, .panel = aq_panel_of(t)};
    f.is_wide = b->layout == AQ_LAYOUT_WIDE;
    f.wide = aq_wide_of(t);
    f.bytes = f.is_panel ? (int)f.panel.bytes : f.is_wide ? (int)f.wide.bytes : info->bytes;
    f.elements = f.is_wide ? AQ_GROUP : info->block;
    f.halves = f.rule->halves;
    return f;
}

block_place aq_emit_block_place(emitter *e, aq_id buf, const ix *index) {
    const aq_nest_buf *b = &e->n->bufs.at[buf];
    int last = b->type.rank - 1;
    block_form f = aq_emit_block_form(b);
    ix row = last ? index[0] : aq_emit_ix_const(0), groups = aq_emit_ix_const(b->type.dim[last].k / f.elements);
    for (int i = 1; i < last; i++) {
        ix dim = b->type.dim[i].sym ? aq_emit_ix_value(aq_emit_dim(e, b->type.dim[i]), 1, 1) : aq_emit_ix_const(b->type.dim[i].k);
        row = aq_emit_ix_add(e, aq_emit_ix_mul(e, row, dim), index[i]);
    }
    block_place p = {.row = aq_emit_ix_const(0), .k = aq_emit_ix_mod(e, index[last], f.elements)};
    if (f.is_panel || f.is_wide) {
        p.row = aq_emit_ix_mod(e, row, AQ_PANEL_ROWS);
        row = aq_emit_ix_div(e, row, AQ_PANEL_ROWS);
    }
    ix at = aq_emit_ix_add(e, aq_emit_ix_mul(e, row, groups), aq_emit_ix_div(e, index[last], f.elements));
    if (at.vec || at.coef) /* lanes in several blocks: the caller goes lane by lane */
        return p;
    p.group = aq_emit_address(e, buf, at, f.bytes);
    return p;
}

static val and64(emitter *e, val a, int64_t k) {
    return e->l->BuildAnd(e->b, a, k64(e, k), "");
}
static val shift64(emitter *e, val a, int by) {
    return by ? e->l->BuildLShr(e->b, a, k64(e, by), "") : a;
}
static val times64(emitter *e, val a, int64_t by) {
    return e->l->BuildMul(e->b, a, k64(e, by), "");
}
static val at_bytes(emitter *e, val p, val bytes) {
    return e->l->BuildGEP2(e->b, e->i8, p, &bytes, 1, "");
}
static val byte_at(emitter *e, val p, int at, val more) {
    return e->l->BuildZExt(e->b, aq_emit_load_at(e, e->i8, at_bytes(e, aq_emit_step_address(e, p, at), more), 1), e->i32, "");
}
static val i32_of(emitter *e, val a) {
    return e->l->BuildTrunc(e->b, a, e->i32, "");
}

/* (v >> by & mask of `bits`) << up; by: an i64 */
static val bits_of(emitter *e, val v, val by, int bits, int up) {
    v = e->l->BuildLShr(e->b, v, aq_emit_splat(e, i32_of(e, by), lanes_of(e, v)), "");
    v = e->l->BuildAnd(e->b, v, aq_emit_int_like(e, v, (1 << bits) - 1), "");
    return up ? e->l->BuildShl(e->b, v, aq_emit_int_like(e, v, up), "") : v;
}

static val join(emitter *e, val a, val b) {
    return a ? e->l->BuildOr(e->b, a, b, "") : b;
}

val aq_emit_levels(emitter *e, const uint8_t *level, val bytes) {
    int n = lanes_of(e, bytes);
    val k[64];
    for (int i = 0; i < n; i++) /* each sixteen bytes choose among sixteen of their own */
        k[i] = e->l->ConstInt(e->i8, level[i % 16], 0);
    val args[2] = {e->l->ConstVector(k, (unsigned)n), bytes};
    if (n == 64 && !e->target->has_avx512)
        return aq_emit_by_halves(e, "llvm.x86.avx2.pshuf.b", args[0], args[1]);
    return aq_emit_intrinsic(e, n == 64 ? "llvm.x86.avx512.pshuf.b.512" : "llvm.x86.ssse3.pshuf.b.128", NULL, 0, args, 2);
}

/* At most 16 codes as i32, or one. */
static val leveled(emitter *e, const block_form *f, val q) {
    int n = lanes_of(e, q);
    val k[16], bytes = e->l->BuildTrunc(e->b, q, wide(e, e->i8, n), ""), none = e->l->GetPoison(wide(e, e->i8, n ? n : 16));
    for (int i = 0; i < 16; i++)
        k[i] = k32(e, i % (n ? n : 16));
    bytes = n ? e->l->BuildShuffleVector(e->b, bytes, none, e->l->ConstVector(k, 16), "") : e->l->BuildInsertElement(e->b, none, bytes, k64(e, 0), "");
    bytes = aq_emit_levels(e, f->rule->level, bytes);
    bytes = n ? e->l->BuildShuffleVector(e->b, bytes, e->l->GetPoison(wide(e, e->i8, 16)), e->l->ConstVector(k, (unsigned)n), "")
              : e->l->BuildExtractElement(e->b, bytes, k64(e, 0), "");
    return e->l->BuildZExt(e->b, bytes, wide(e, e->i32, n), "");
}

static val less_zero(emitter *e, const block_form *f, val q) {
    if (f->rule->level)
        q = leveled(e, f, q);
    if (f->rule->is_signed) { /* eight bits with their sign */
        q = e->l->BuildShl(e->b, q, aq_emit_int_like(e, q, 24), "");
        return e->l->BuildAShr(e->b, q, aq_emit_int_like(e, q, 24), "");
    }
    return f->rule->zero ? e->l->BuildSub(e->b, q, aq_emit_int_like(e, q, f->rule->zero), "") : q;
}

/* A field of elements from k on, as stored: consecutive bytes with one shift, or single bits. */
static val stored_field(emitter *e, const aq_field *f, val group, val k, int lanes) {
    val from = aq_emit_step_address(e, group, f->at);
    if (f->inner == 1) {
        val word = aq_emit_splat(e, aq_emit_load_at(e, e->i32, from, 1), lanes), by = aq_emit_splat(e, i32_of(e, k), lanes);
        if (lanes)
            by = e->l->BuildAdd(e->b, by, aq_emit_lane_numbers(e, e->i32, lanes), "");
        word = e->l->BuildAnd(e->b, e->l->BuildLShr(e->b, word, by, ""), aq_emit_int_like(e, word, 1), "");
        return e->l->BuildShl(e->b, word, aq_emit_int_like(e, word, f->up), "");
    }
    val at = and64(e, k, f->inner - 1);
    if (f->stride)
        at = e->l->BuildAdd(e->b, at, times64(e, shift64(e, k, f->outer), f->stride), "");
    val q = e->l->BuildZExt(e->b, aq_emit_load_at(e, wide(e, e->i8, lanes), at_bytes(e, from, at), 1), wide(e, e->i32, lanes), "");
    return bits_of(e, q, times64(e, and64(e, shift64(e, k, f->div), f->mod - 1), f->mul), f->bits, f->up);
}

/* The codes of the group of element k of a panel block. */
static val panel_codes(emitter *e, const block_form *f, val group, val k) {
    val p = aq_emit_step_address(e, group, f->panel.codes_at);
    return f->elements == AQ_GROUP ? p : at_bytes(e, p, times64(e, shift64(e, k, 5), f->panel.codes_step));
}

val aq_emit_codes_address(emitter *e, const block_form *f, const block_place *p) {
    return f->is_wide ? p->group : panel_codes(e, f, p->group, aq_emit_ix_scalar(e, p->k));
}

/* Address of the 64 bytes (row 0) and the shift of the four elements 4 * quad .. of a field. */
static val quad_word(emitter *e, int bits, val field, val quad, val *out_shift) {
    *out_shift = times64(e, and64(e, quad, 8 / bits - 1), bits);
    return at_bytes(e, field, times64(e, shift64(e, quad, bits == 8 ? 0 : bits == 4 ? 1 : bits == 2 ? 2 : 3), 64));
}

/* One element, or `lanes` consecutive ones, of row p->row of a panel: four bytes of the row in every 64. */
static val panel_field(emitter *e, const aq_field *f, val field, const block_place *p, val k, int lanes) {
    val row = times64(e, aq_emit_ix_scalar(e, p->row), 4), quad = and64(e, shift64(e, k, 2), 7), shift;
    if (!lanes) {
        val word = at_bytes(e, quad_word(e, f->bits, field, quad, &shift), row);
        return bits_of(e, byte_at(e, word, 0, and64(e, k, 3)), shift, f->bits, f->up);
    }
    val q = e->l->GetUndef(wide(e, e->i32, lanes / 4));
    for (int j = 0; j < lanes / 4; j++) {
        val word = aq_emit_load_at(e, e->i32, at_bytes(e, quad_word(e, f->bits, field, quad, &shift), row), 4);
        word = e->l->BuildLShr(e->b, word, i32_of(e, shift), "");
        q = e->l->BuildInsertElement(e->b, q, word, k64(e, j), "");
        quad = e->l->BuildAdd(e->b, quad, k64(e, 1), "");
    }
    q = e->l->BuildZExt(e->b, e->l->BuildBitCast(e->b, q, wide(e, e->i8, lanes), ""), wide(e, e->i32, lanes), "");
    return bits_of(e, q, k64(e, 0), f->bits, f->up);
}

/* Elements of one row of a wide block, one after the other: pairs of them lie 64 bytes apart. */
static val wide_codes(emitter *e, const block_place *p, val k, int lanes) {
    val row = times64(e, aq_emit_ix_scalar(e, p->row), 4), q = lanes ? e->l->GetUndef(wide(e, e->i32, lanes)) : NULL;
    for (int i = 0; i < (lanes ? lanes : 1); i++) {
        val at = and64(e, e->l->BuildAdd(e->b, k, k64(e, i), ""), AQ_GROUP - 1);
        val word = e->l->BuildAdd(e->b, times64(e, shift64(e, at, 2), 2), and64(e, at, 1), "");
        word = e->l->BuildAdd(e->b, times64(e, word, 64), times64(e, and64(e, shift64(e, at, 1), 1), 2), "");
        val one = aq_emit_load_at(e, e->i16, at_bytes(e, p->group, e->l->BuildAdd(e->b, word, row, "")), 2);
        one = e->l->BuildSExt(e->b, one, e->i32, "");
        q = lanes ? e->l->BuildInsertElement(e->b, q, one, k64(e, i), "") : one;
    }
    return q;
}

val aq_emit_row_codes(emitter *e, const block_form *f, const block_place *p, val k, int lanes) {
    if (f->is_wide)
        return wide_codes(e, p, k, lanes);
    val q = NULL, codes = f->is_panel ? panel_codes(e, f, p->group, k) : NULL;
    for (int i = 0; i < 2; i++) {
        const aq_field *field = &f->rule->field[i];
        if (!field->bits)
            continue;
        q = join(e, q, codes ? panel_field(e, field, aq_emit_step_address(e, codes, f->panel.field_at[i]), p, k, lanes)
                             : stored_field(e, field, p->group, k, lanes));
    }
    return less_zero(e, f, q);
}

val aq_emit_panel_codes(emitter *e, const block_form *f, const block_place *p, val k) {
    val codes = panel_codes(e, f, p->group, k), q = NULL, shift;
    for (int i = 0; i < 2; i++) {
        const aq_field *field = &f->rule->field[i];
        if (!field->bits)
            continue;
        val word = quad_word(e, field->bits, aq_emit_step_address(e, codes, f->panel.field_at[i]), and64(e, shift64(e, k, 2), 7), &shift);
        shift = e->l->BuildAdd(e->b, shift, times64(e, and64(e, k, 3), 8), "");
        q = join(e, q, bits_of(e, aq_emit_load_at(e, wide(e, e->i32, 16), word, 4), shift, field->bits, field->up));
    }
    return less_zero(e, f, q);
}

/* --- scales ---------------------------------------------------------------------------------------------------------------------- */

static val half_at(emitter *e, val p, int lanes) {
    return e->l->BuildFPExt(e->b, aq_emit_load_at(e, wide(e, e->f16, lanes), p, 2), wide(e, e->f32, lanes), "");
}

static val nibble(emitter *e, val v, int high) {
    return high ? e->l->BuildLShr(e->b, v, aq_emit_int_like(e, v, 4), "") : e->l->BuildAnd(e->b, v, aq_emit_int_like(e, v, 15), "");
}

/* The steps of a stored block: block.c says which bits they are. */
static void stored_steps(emitter *e, const block_form *f, val group, val j, val *step, val *minus) {
    int at = f->rule->steps_at;
    *minus = NULL;
    if (f->rule->steps == AQ_STEPS_NIBBLES) {
        val b = byte_at(e, group, at, j);
        *step = nibble(e, b, 0);
        *minus = nibble(e, b, 1);
    } else if (f->rule->steps == AQ_STEPS_SIX) {
        val low = bits_of(e, byte_at(e, group, at, and64(e, j, 7)), times64(e, shift64(e, j, 3), 4), 4, 0);
        val high = bits_of(e, byte_at(e, group, at + 8, and64(e, j, 3)), times64(e, shift64(e, j, 2), 2), 2, 4);
        *step = e->l->BuildSub(e->b, join(e, low, high), k32(e, 32), "");
    } else if (f->rule->steps == AQ_STEPS_EIGHT) {
        val low = bits_of(e, byte_at(e, group, at + 2, shift64(e, j, 1)), times64(e, and64(e, j, 1), 4), 4, 0);
        val high = bits_of(e, byte_at(e, group, at, shift64(e, j, 2)), times64(e, and64(e, j, 3), 2), 2, 4);
        *step = e->l->BuildSub(e->b, join(e, low, high), k32(e, 32), "");
    } else if (f->rule->steps == AQ_STEPS_SIX_MIN) {
        val upper = e->l->BuildICmp(e->b, LLVMIntUGE, j, k64(e, 4), ""), rest = byte_at(e, group, at + 8, and64(e, j, 3)), *out[2] = {step, minus};
        for (int i = 0; i < 2; i++) {
            val b = byte_at(e, group, at + 4 * i, and64(e, j, 3));
            val wide_step = join(e, nibble(e, rest, i), bits_of(e, b, k64(e, 6), 2, 4));
            *out[i] = e->l->BuildSelect(e->b, upper, wide_step, bits_of(e, b, k64(e, 0), 6, 0), "");
        }
    } else
        *step = e->l->BuildSExt(e->b, aq_emit_load_at(e, e->i8, at_bytes(e, aq_emit_step_address(e, group, at), j), 1), e->i32, "");
}

static val bytes_as_i32(emitter *e, val p, int lanes, int is_signed) {
    val v = aq_emit_load_at(e, wide(e, e->i8, lanes), p, 1);
    return is_signed ? e->l->BuildSExt(e->b, v, wide(e, e->i32, lanes), "") : e->l->BuildZExt(e->b, v, wide(e, e->i32, lanes), "");
}

static void panel_steps(emitter *e, const block_form *f, const block_place *p, val j, int lanes, val *step, val *minus) {
    val at = aq_emit_step_address(e, at_bytes(e, p->group, times64(e, j, f->panel.steps_step)), f->panel.steps_at);
    if (!lanes)
        at = at_bytes(e, at, aq_emit_ix_scalar(e, p->row));
    *step = bytes_as_i32(e, at, lanes, f->rule->steps == AQ_STEPS_SIX || f->rule->steps == AQ_STEPS_BYTES || f->rule->steps == AQ_STEPS_EIGHT);
    *minus = NULL;
    if (f->rule->steps == AQ_STEPS_NIBBLES) {
        *minus = nibble(e, *step, 1);
        *step = nibble(e, *step, 0);
    } else if (f->rule->steps == AQ_STEPS_SIX_MIN)
        *minus = bytes_as_i32(e, aq_emit_step_address(e, at, AQ_PANEL_ROWS), lanes, 0);
}

static block_scale wide_scale(emitter *e, const block_form *f, const block_place *p, val j, int lanes) {
    val base = lanes ? p->group : at_bytes(e, p->group, times64(e, aq_emit_ix_scalar(e, p->row), 4));
    block_scale s = {.d = aq_emit_load_at(e, wide(e, e->f32, lanes), aq_emit_step_address(e, base, f->wide.d_at), 4)};
    if (f->wide.m_at >= 0) {
        val at = aq_emit_step_address(e, base, f->wide.m_at);
        if (f->halves == 2)
            at = at_bytes(e, at, times64(e, and64(e, j, 1), 64));
        s.m = aq_emit_load_at(e, wide(e, e->f32, lanes), at, 4);
    }
    return s;
}

block_scale aq_emit_block_scale(emitter *e, const block_form *f, const block_place *p, val j, int lanes) {
    if (f->is_wide)
        return wide_scale(e, f, p, j, lanes);
    int m_at = f->is_panel ? f->panel.m_at : f->rule->m_at;
    val base = aq_emit_step_address(e, p->group, f->is_panel ? f->panel.d_at : f->rule->d_at), minus;
    if (f->is_panel && !lanes)
        base = at_bytes(e, base, times64(e, aq_emit_ix_scalar(e, p->row), 2));
    block_scale s = {.d = half_at(e, base, lanes)};
    if (m_at >= 0)
        s.m = half_at(e, aq_emit_step_address(e, base, m_at - (f->is_panel ? f->panel.d_at : f->rule->d_at)), lanes);
    if (!f->rule->steps)
        return s;
    if (f->is_panel)
        panel_steps(e, f, p, j, lanes, &s.step, &minus);
    else
        stored_steps(e, f, p->group, j, &s.step, &minus);
    if (aq_block_steps_scale(f->rule)) { /* exact: 11 bits times 6 */
        s.d = e->l->BuildFMul(e->b, s.d, aq_emit_f32(e, s.step), "");
        s.step = NULL;
    }
    if (s.m) {
        minus = e->l->BuildSub(e->b, e->l->ConstNull(e->l->TypeOf(minus)), minus, "");
        s.m = e->l->BuildFMul(e->b, s.m, aq_emit_f32(e, minus), "");
    }
    return s;
}
