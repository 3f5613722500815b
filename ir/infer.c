/* infer.c: the type of a node's results from its inputs: one rule for each word of the `infer` column of ops.def, reached through a table
 * made from that column, so an op without a rule does not compile. A rule reads its attributes through attr() and friends, which note what
 * was read: an attribute nobody read is refused, so no second list says which op takes which.
 *
 * Dtypes: maps and reductions give f32 (f64 if an input is f64; i32 where all inputs are i32 and the op allows it); only cast and quantize
 * make narrow types. A number adapts to the other inputs. Weights whose dtype is not bound yet count as floats, so binding them later
 * changes no type. */
#include "ir/infer.h"

#include <math.h>
#include <string.h>

/* --- helpers of the rules -------------------------------------------------------------------------------------------------------- */

const aq_value *aq_rule_in(const aq_rule *c, int i) { return &c->m->values.at[aq_node_in(c->m, c->n)[i]]; }

aq_status aq_rule_refuse(const aq_rule *c, const char *expected) {
    char a[AQ_DESCRIBE], text[700] = "";
    size_t used = 0;
    for (int i = 0; i < c->n->n_in && i < AQ_MAX_IN; i++) {
        aq_describe_value(c->m, aq_node_in(c->m, c->n)[i], a, sizeof a);
        size_t n = strlen(a), gap = i ? 2 : 0;
        if (used + gap + n >= sizeof text)
            break;
        memcpy(text + used, ", ", gap);
        memcpy(text + used + gap, a, n + 1);
        used += gap + n;
    }
    return aq_fail_node(c->m, c->n, "%s: expected %s", text, expected);
}

const aq_attr *aq_rule_attr(aq_rule *c, aq_attr_key key) {
    c->read |= UINT32_C(1) << key;
    return aq_node_attr(c->m, c->n, key);
}

aq_status aq_rule_num(aq_rule *c, aq_attr_key key, double otherwise, double lo, double hi, double *out) {
    const aq_attr *a = aq_rule_attr(c, key);
    double x = a ? a->num : otherwise;
    if (!(x >= lo && x <= hi))
        return aq_fail_node(c->m, c->n, "attribute %s is %s: expected a number from %g to %g", aq_attr_name(key), a ? "out of range" : "missing", lo, hi);
    if (out)
        *out = x;
    return AQ_OK;
}

aq_status aq_rule_int(aq_rule *c, aq_attr_key key, double otherwise, int64_t lo, int64_t hi, int64_t *out) {
    double x = 0;
    AQ_TRY(aq_rule_num(c, key, otherwise, (double)lo, (double)hi, &x));
    if (x != floor(x))
        return aq_fail_node(c->m, c->n, "attribute %s is %g: expected a whole number", aq_attr_name(key), x);
    *out = (int64_t)x;
    return AQ_OK;
}

int aq_is_float(const aq_value *v) {
    return !v->type.is_batch && (v->type.dtype == AQ_DTYPE_NONE || aq_dtype_of(v->type.dtype)->kind == AQ_KIND_FLOAT);
}
static int is_const(const aq_value *v) { return v->kind == AQ_VALUE_CONST; }
static int is_i32(const aq_value *v) { return !v->type.is_batch && v->type.dtype == AQ_I32; }
static int is_plain(const aq_value *v) { return aq_is_float(v) || (!v->type.is_batch && aq_dtype_of(v->type.dtype)->kind == AQ_KIND_INT); }

/* --- maps ------------------------------------------------------------------------------------------------------------------------- */

/* Ops that also work on i32; INDEX ops work on nothing else. */
static int takes_ints(aq_op op) {
    switch (op) {
    case AQ_OP_add: case AQ_OP_sub: case AQ_OP_mul: case AQ_OP_maximum: case AQ_OP_minimum: case AQ_OP_neg: case AQ_OP_le: case AQ_OP_select: return 1;
    default: return (aq_op_of(op)->traits & AQ_INDEX) != 0;
    }
}

static int broadcast(aq_type *to, const aq_type *from) {
    int more = from->rank - to->rank;
    if (more > 0) {
        memmove(to->dim + more, to->dim, (size_t)to->rank * sizeof *to->dim);
        for (int i = 0; i < more; i++)
            to->dim[i] = aq_dim_const(1);
        to->rank = from->rank;
    }
    for (int i = 0; i < from->rank; i++) {
        aq_dim *d = &to->dim[to->rank - from->rank + i], one = aq_dim_const(1);
        if (aq_dim_same(*d, one))
            *d = from->dim[i];
        else if (!aq_dim_same(*d, from->dim[i]) && !aq_dim_same(from->dim[i], one))
            return 0;
    }
    return 1;
}

aq_status aq_rule_like(aq_rule *c, aq_type *out) {
    aq_type t = {.dtype = AQ_F32};
    int floats = 0, ints = 0, doubles = 0, n = c->n->n_in, is_index = (aq_op_of(c->n->op)->traits & AQ_INDEX) != 0;
    for (int i = 0; i < n; i++) {
        const aq_value *v = aq_rule_in(c, i);
        if (!is_const(v) && !aq_is_float(v) && !is_i32(v))
            return aq_rule_refuse(c, "plain numbers (a block type is read by cast, rows or dot)");
        if (!broadcast(&t, &v->type))
            return aq_rule_refuse(c, "shapes that broadcast: trailing axes equal, or 1");
        if (c->n->op == AQ_OP_select && i == 0)
            continue; /* the condition has no say in the type */
        floats += !is_const(v) && aq_is_float(v);
        ints += !is_const(v) && is_i32(v);
        doubles += !is_const(v) && v->type.dtype == AQ_F64;
    }
    if (ints && floats)
        return aq_rule_refuse(c, "all i32 or all floats: cast one of them");
    if ((ints && !takes_ints(c->n->op)) || (is_index && floats))
        return aq_rule_refuse(c, is_index ? "i32" : "floats");
    for (int i = 0; i < n && (ints || is_index); i++) {
        const aq_value *v = aq_rule_in(c, i);
        if (is_const(v) && (v->number != rint(v->number) || fabs(v->number) > INT32_MAX))
            return aq_rule_refuse(c, "a whole number beside i32");
        if (is_index && i == 1 && is_const(v) && v->number < 1)
            return aq_rule_refuse(c, "a divisor of 1 or more");
    }
    t.dtype = (ints || is_index) && c->n->op != AQ_OP_le ? AQ_I32 : doubles && c->n->op != AQ_OP_le ? AQ_F64 : AQ_F32;
    *out = t;
    return AQ_OK;
}

aq_status aq_rule_cast(aq_rule *c, aq_type *out) {
    const aq_attr *a = aq_rule_attr(c, AQ_ATTR_dtype);
    aq_dtype to = a && a->num > 0 && a->num < AQ_DTYPE_COUNT ? (aq_dtype)a->num : AQ_DTYPE_NONE;
    if (to == AQ_DTYPE_NONE || aq_dtype_of(to)->kind == AQ_KIND_WEIGHT || aq_dtype_of(to)->kind == AQ_KIND_ACT)
        return aq_fail_node(c->m, c->n, "attribute dtype is %s: expected a plain type", a ? aq_dtype_of(to)->name : "missing");
    if (aq_rule_in(c, 0)->type.is_batch)
        return aq_rule_refuse(c, "a tensor");
    *out = aq_rule_in(c, 0)->type;
    out->dtype = to;
    return AQ_OK;
}

aq_status aq_rule_quantize(aq_rule *c, aq_type *out) {
    const aq_attr *a = aq_rule_attr(c, AQ_ATTR_dtype);
    aq_dtype to = a && a->num > 0 && a->num < AQ_DTYPE_COUNT ? (aq_dtype)a->num : AQ_DTYPE_NONE;
    const aq_type *x = &aq_rule_in(c, 0)->type;
    if (to == AQ_DTYPE_NONE || aq_dtype_of(to)->kind != AQ_KIND_ACT)
        return aq_fail_node(c->m, c->n, "attribute dtype is %s: expected an activation block type", a ? aq_dtype_of(to)->name : "missing");
    if (!aq_is_float(aq_rule_in(c, 0)) || !x->rank || x->dim[x->rank - 1].k % aq_dtype_of(to)->block)
        return aq_rule_refuse(c, "floats whose last axis is a multiple of 32");
    *out = *x;
    out->dtype = to;
    return AQ_OK;
}

/* --- shapes read off the axes column ---------------------------------------------------------------------------------------------- */

static int match_side(const char *axes, const char *end, const aq_type *t, aq_dim *letter, aq_dim *lead, int *n_lead) {
    int has_lead = end - axes >= 3 && !memcmp(axes, "...", 3);
    axes += has_lead ? 3 : 0;
    int letters = (int)(end - axes), rest = t->rank - letters;
    if (rest < 0 || (rest && !has_lead))
        return 0;
    if (has_lead && *n_lead >= 0 && *n_lead != rest)
        return 0;
    for (int i = 0; i < rest; i++) {
        if (*n_lead >= 0 && !aq_dim_same(lead[i], t->dim[i]))
            return 0;
        lead[i] = t->dim[i];
    }
    if (has_lead)
        *n_lead = rest;
    for (int i = 0; i < letters; i++) {
        aq_dim *d = &letter[axes[i] - 'a'];
        if (d->k && !aq_dim_same(*d, t->dim[rest + i]))
            return 0;
        *d = t->dim[rest + i];
    }
    return 1;
}

/* Shapes only; the dtype is the caller's. */
static aq_status shape_by_axes(aq_rule *c, aq_type *out) {
    aq_dim letter[26] = {{0, 0}}, lead[AQ_MAX_RANK];
    int n_lead = -1;
    char expected[64] = "shapes ";
    strncat(expected, aq_op_of(c->n->op)->axes, sizeof expected - 8);
    const char *p = aq_op_of(c->n->op)->axes;
    for (int i = 0; i < c->n->n_in; i++) {
        const char *end = p + strcspn(p, ",-");
        if (aq_rule_in(c, i)->type.is_batch || !match_side(p, end, &aq_rule_in(c, i)->type, letter, lead, &n_lead))
            return aq_rule_refuse(c, expected);
        p = end + 1;
    }
    p++; /* behind the > of -> */
    memset(out, 0, sizeof *out);
    for (; *p; p++) {
        if (*p == '.') {
            memcpy(out->dim, lead, (size_t)n_lead * sizeof *lead);
            out->rank = (uint8_t)n_lead;
            p += 2;
        } else {
            out->dim[out->rank++] = *p == '1' ? aq_dim_const(1) : letter[*p - 'a'];
        }
    }
    return AQ_OK;
}

static int any_f64(const aq_rule *c) {
    for (int i = 0; i < c->n->n_in; i++)
        if (aq_rule_in(c, i)->type.dtype == AQ_F64)
            return 1;
    return 0;
}

aq_status aq_rule_axes(aq_rule *c, aq_type *out) {
    for (int i = 0; i < c->n->n_in; i++) {
        const aq_value *v = aq_rule_in(c, i);
        int may_be_block = c->n->op == AQ_OP_matmul && i == 1 && !v->type.is_batch && aq_dtype_of(v->type.dtype)->kind == AQ_KIND_WEIGHT;
        if (!may_be_block && !aq_is_float(v))
            return aq_rule_refuse(c, "floats");
    }
    if (c->n->op == AQ_OP_rms || c->n->op == AQ_OP_rmsnorm)
        AQ_TRY(aq_rule_num(c, AQ_ATTR_eps, NAN, 0, 1e6, NULL));
    AQ_TRY(shape_by_axes(c, out));
    out->dtype = any_f64(c) ? AQ_F64 : AQ_F32;
    return AQ_OK;
}

aq_status aq_rule_argmax(aq_rule *c, aq_type *out) {
    if (!is_plain(aq_rule_in(c, 0)))
        return aq_rule_refuse(c, "plain numbers");
    AQ_TRY(shape_by_axes(c, out));
    out->dtype = AQ_I32;
    return AQ_OK;
}

aq_status aq_rule_rows(aq_rule *c, aq_type *out) {
    const aq_value *table = aq_rule_in(c, 0);
    if (!is_i32(aq_rule_in(c, 1)) || table->type.is_batch || aq_dtype_of(table->type.dtype)->kind == AQ_KIND_ACT)
        return aq_rule_refuse(c, "a table and i32 indices");
    AQ_TRY(shape_by_axes(c, out));
    int keeps = table->type.dtype == AQ_F64 || aq_dtype_of(table->type.dtype)->kind == AQ_KIND_INT;
    out->dtype = keeps && table->type.dtype != AQ_DTYPE_NONE ? table->type.dtype : AQ_F32;
    return AQ_OK;
}

/* --- the table, and whole modules -------------------------------------------------------------------------------------------------- */

static aq_status (*const rules[])(aq_rule *, aq_type *) = {
    NULL,
#define OP(id, axes, infer, grad, traits, doc) aq_rule_##infer,
#include "ir/ops.def"
#undef OP
};

aq_status aq_infer_node(const aq_module *m, const aq_node *n, aq_type *out) {
    aq_rule c = {.m = m, .n = n};
    aq_type types[UINT8_MAX];
    AQ_TRY(rules[n->op](&c, types));
    for (int i = 0; i < n->n_attr; i++)
        if (!(c.read >> m->attrs.at[n->attr + i].key & 1))
            return aq_fail_node(m, n, "attribute %s: expected none of that name", aq_attr_name(m->attrs.at[n->attr + i].key));
    memcpy(out, types, n->n_out * sizeof *out);
    return AQ_OK;
}

static aq_status infer_body(aq_module *m, aq_id body, int write) {
    const aq_body *b = &m->bodies.at[body];
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        aq_node *n = &m->nodes.at[b->nodes.at[i]];
        aq_type types[UINT8_MAX];
        if (n->op == AQ_OP_fused && write)
            for (int k = 0; k < n->n_in; k++)
                m->values.at[m->bodies.at[n->body].params.at[k]].type = m->values.at[aq_node_in(m, n)[k]].type;
        if (n->op == AQ_OP_fused)
            AQ_TRY(infer_body(m, n->body, write));
        AQ_TRY(aq_infer_node(m, n, types));
        for (int k = 0; k < n->n_out; k++) {
            aq_value *v = &m->values.at[n->out + (aq_id)k];
            char a[AQ_DESCRIBE], t[AQ_DESCRIBE];
            if (write)
                v->type = types[k];
            else if (!aq_type_same(&v->type, &types[k]))
                return aq_fail_node(m, n, "%s: expected %s", aq_describe_value(m, n->out + (aq_id)k, a, sizeof a),
                                    aq_describe_type(m, &types[k], t, sizeof t));
        }
    }
    return AQ_OK;
}

static aq_status infer_all(aq_module *m, int write) {
    for (uint32_t i = 0; i < m->graphs.n; i++)
        AQ_TRY(infer_body(m, m->graphs.at[i], write));
    return AQ_OK;
}

aq_status aq_infer_module(aq_module *m) { return infer_all(m, 0); }
aq_status aq_infer_refresh(aq_module *m) { return infer_all(m, 1); }
