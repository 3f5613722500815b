/* lower_place.c: which values of a region are kept in memory between phases, and in which phase every root is stored.
 *
 * A schedule may say it; otherwise: what is quantised and read inside; what a dot reads if making it takes a reduction (else every tile of
 * the dot would repeat that); a dot that a reduction reads; and whatever takes a reduction and is wanted by two roots. A kept value that
 * is a result of the region lives in the result's buffer, the others in scratch. Cuts of the cone are where kept values stand.
 * Cost: some walks over the region's few nodes. */
#include "codegen/lower.h"

#include <stdio.h>
#include <string.h>

const aq_node *aq_low_node(const aq_lower_state *l, aq_id value) {
    const aq_value *v = &l->m->values.at[value];
    return v->kind == AQ_VALUE_RESULT && l->value[value].in_region ? &l->m->nodes.at[v->node] : NULL;
}

int aq_low_is_reduction(const aq_node *n) {
    return n && (n->op == AQ_OP_dot || (aq_op_of(n->op)->traits & AQ_REDUCE));
}
int aq_low_is_flat_view(const aq_node *n) {
    return n && (n->op == AQ_OP_heads || n->op == AQ_OP_merge || n->op == AQ_OP_reshape);
}

static int is_kept(const aq_lower_state *l, aq_id v) {
    return l->value[v].made == AQ_MADE_PHASE;
}

static const aq_node *node_at(const aq_lower_state *l, uint32_t i) {
    return &l->m->nodes.at[l->b->nodes.at[i]];
}

/* In order of the nodes, so operands come first. */
static void find_heavy(aq_lower_state *l) {
    for (uint32_t i = 0; i < l->b->nodes.n; i++) {
        const aq_node *n = node_at(l, i);
        int heavy = aq_low_is_reduction(n) || n->op == AQ_OP_attend;
        for (int k = 0; k < n->n_in; k++) {
            aq_id v = aq_node_in(l->m, n)[k];
            heavy |= l->value[v].heavy && !is_kept(l, v);
        }
        for (int k = 0; k < n->n_out; k++)
            l->value[n->out + (aq_id)k].heavy = (uint8_t)heavy;
    }
}

/* The first value in the cone of v, up to what is kept, for which `test` holds; v itself counts. 0 if there is none. */
static aq_id find_below(aq_lower_state *l, aq_id v, int (*test)(const aq_lower_state *, aq_id)) {
    const aq_node *n = aq_low_node(l, v);
    if (!n || is_kept(l, v) || l->value[v].stamp == l->stamp)
        return 0;
    l->value[v].stamp = l->stamp;
    if (test(l, v))
        return v;
    for (int k = 0; k < n->n_in; k++) {
        aq_id found = find_below(l, aq_node_in(l->m, n)[k], test);
        if (found)
            return found;
    }
    return 0;
}

static aq_id below(aq_lower_state *l, aq_id v, int (*test)(const aq_lower_state *, aq_id)) {
    l->stamp++;
    return find_below(l, v, test);
}

static int is_dot(const aq_lower_state *l, aq_id v) {
    return aq_low_node(l, v)->op == AQ_OP_dot;
}
static int is_placed_inside(const aq_lower_state *l, aq_id v) {
    return l->value[v].made == AQ_MADE_LATE || l->value[v].made == AQ_MADE_TILE || l->value[v].made == AQ_MADE_INLINE;
}

/* From v up through maps of the same shape that alone use it: keeping the last of them keeps the fewest numbers. */
static aq_id widest_user(const aq_lower_state *l, aq_id v, const aq_node *stop) {
    for (int again = 1; again && l->value[v].uses == 1;) {
        again = 0;
        for (uint32_t i = 0; i < l->b->nodes.n; i++) {
            const aq_node *n = node_at(l, i);
            if (n == stop || !(aq_op_of(n->op)->traits & AQ_MAP) || (aq_op_of(n->op)->traits & AQ_ROUNDS) || n->op == AQ_OP_rope)
                continue;
            for (int k = 0; k < n->n_in; k++)
                if (aq_node_in(l->m, n)[k] == v && aq_type_same(&l->m->values.at[v].type, &l->m->values.at[n->out].type)) {
                    v = n->out;
                    again = 1;
                }
            if (again)
                break;
        }
    }
    return v;
}

static void keep(aq_lower_state *l, aq_id v) {
    l->value[v].made = AQ_MADE_PHASE;
    find_heavy(l);
}

/* Is it what a dot takes in for its rows, rounded to bf16 for that? Every tile of columns would round it again. */
static int is_rounded_side(const aq_lower_state *l, const aq_node *dot, int k) {
    aq_id v = aq_node_in(l->m, dot)[k];
    const aq_type *t = &l->m->values.at[v].type;
    return dot->op == AQ_OP_dot && k == 0 && aq_low_node(l, v)->op == AQ_OP_cast && t->dtype == AQ_BF16 && !l->value[v].made;
}

/* What single nodes ask for. */
static void keep_for_nodes(aq_lower_state *l) {
    for (uint32_t i = 0; i < l->b->nodes.n; i++) {
        const aq_node *n = node_at(l, i);
        const aq_id *in = aq_node_in(l->m, n);
        for (int k = 0; k < n->n_in; k++) {
            const aq_node *from = aq_low_node(l, in[k]);
            if (from && (from->op == AQ_OP_quantize || is_rounded_side(l, n, k)) && !is_kept(l, in[k]))
                keep(l, in[k]);
            if ((n->op == AQ_OP_dot || n->op == AQ_OP_attend) && from && l->value[in[k]].heavy && !is_kept(l, in[k]) &&
                !below(l, in[k], is_placed_inside))
                keep(l, in[k]);
        }
        if (!(aq_op_of(n->op)->traits & AQ_REDUCE))
            continue;
        for (aq_id d; (d = below(l, in[0], is_dot)) && l->value[d].made != AQ_MADE_INLINE;)
            keep(l, widest_user(l, d, n));
    }
}

/* ---- values that several roots want ---- */

static void count_root(const aq_lower_state *l, aq_id v, uint32_t root, uint32_t *last, uint8_t *count, int is_top) {
    const aq_node *n = aq_low_node(l, v);
    if (!n || (is_kept(l, v) && !is_top) || last[v] == root)
        return;
    last[v] = root;
    count[v] = count[v] < 2 ? count[v] + 1 : 2;
    for (int k = 0; k < n->n_in; k++)
        count_root(l, aq_node_in(l->m, n)[k], root, last, count, 0);
}

/* The last value of the region that takes a reduction and is in the cones of two roots; 0 if none is. */
static aq_status shared_value(aq_lower_state *l, aq_id *out) {
    uint32_t *last, root = 0;
    uint8_t *count;
    AQ_ALLOC(l->arena, last, l->m->values.n);
    AQ_ALLOC(l->arena, count, l->m->values.n);
    for (uint32_t i = 0; i < l->roots.n; i++)
        count_root(l, l->roots.at[i].value, ++root, last, count, 1);
    for (uint32_t i = 0; i < l->b->nodes.n; i++) {
        aq_id v = node_at(l, i)->out;
        int is_root = 0;
        for (uint32_t k = 0; k < l->roots.n; k++)
            is_root |= l->roots.at[k].value == v;
        if (is_kept(l, v) && !is_root)
            count_root(l, v, ++root, last, count, 1);
    }
    *out = 0;
    for (uint32_t i = l->b->nodes.n; i-- > 0 && !*out;) {
        const aq_node *n = node_at(l, i);
        if (count[n->out] >= 2 && l->value[n->out].heavy && !is_kept(l, n->out) && n->n_out == 1 && !aq_low_has_attend(l, n->out))
            *out = n->out;
    }
    for (const aq_node *n; *out && aq_low_is_flat_view(n = aq_low_node(l, *out));)
        *out = aq_node_in(l->m, n)[0];
    return AQ_OK;
}

/* ---- roots of kept values ---- */

static aq_status scratch_root(aq_lower_state *l, aq_id v) {
    aq_low_value *info = &l->value[v];
    char name[100] = "%";
    aq_type type = l->m->values.at[v].type;
    aq_op op = aq_low_node(l, v)->op;
    info->shape_of = v;
    if (aq_dtype_of(type.dtype)->kind == AQ_KIND_FLOAT && op != AQ_OP_cast)
        type.dtype = AQ_F32; /* only cast and quantize round */
    for (uint32_t i = 0; i < l->roots.n; i++) {
        aq_low_root *r = &l->roots.at[i];
        if (r->value == v && !r->append && l->n->bufs.at[r->buf].type.dtype == type.dtype) { /* it is a result as well */
            info->buf = r->buf;
            r->is_kept = 1;
            return AQ_OK;
        }
    }
    aq_low_value_name(l->m, l->b, v, name + 1, sizeof name - 1);
    AQ_TRY(aq_low_add_buf(l, name, AQ_BUF_SCRATCH, type, AQ_LAYOUT_ROWS, &info->buf));
    AQ_PUSH(l->arena, &l->roots, (aq_low_root){.value = v, .buf = info->buf, .is_kept = 1});
    return AQ_OK;
}

/* In order of the nodes: one after the last phase of what is kept below. */
static aq_status find_phases(aq_lower_state *l) {
    for (uint32_t i = 0; i < l->b->nodes.n; i++) {
        const aq_node *n = node_at(l, i);
        int phase = 0;
        for (int k = 0; k < n->n_in; k++) {
            aq_id v = aq_node_in(l->m, n)[k];
            int p = l->value[v].phase + is_kept(l, v);
            phase = p > phase ? p : phase;
        }
        for (int k = 0; k < n->n_out; k++)
            l->value[n->out + (aq_id)k].phase = (int16_t)phase;
        if (is_kept(l, n->out))
            AQ_TRY(scratch_root(l, n->out));
    }
    for (uint32_t i = 0; i < l->roots.n; i++)
        l->roots.at[i].phase = l->value[l->roots.at[i].value].phase + (is_kept(l, l->roots.at[i].value) && !l->roots.at[i].is_kept);
    return AQ_OK;
}

static int is_row_sum(const aq_lower_state *l, aq_id v) {
    return (aq_op_of(aq_low_node(l, v)->op)->traits & AQ_REDUCE) != 0;
}

int aq_low_has_row_sum(aq_lower_state *l, aq_id v) {
    const aq_node *n = aq_low_node(l, v);
    for (int k = 0; n && k < n->n_in; k++) /* v itself may be kept: look below it */
        if (below(l, aq_node_in(l->m, n)[k], is_row_sum))
            return 1;
    return n && is_row_sum(l, v);
}

static int is_rope(const aq_lower_state *l, aq_id v) {
    return aq_low_node(l, v)->op == AQ_OP_rope;
}

int aq_low_has_rope(aq_lower_state *l, aq_id v) {
    const aq_node *n = aq_low_node(l, v);
    for (int k = 0; n && k < n->n_in; k++)
        if (below(l, aq_node_in(l->m, n)[k], is_rope))
            return 1;
    return n && is_rope(l, v);
}

static int is_attend(const aq_lower_state *l, aq_id v) {
    return aq_low_node(l, v)->op == AQ_OP_attend;
}
int aq_low_has_attend(aq_lower_state *l, aq_id v) {
    return below(l, v, is_attend) != 0;
}

int aq_low_wants_attend(aq_lower_state *l, const aq_low_root *r) {
    aq_id a = aq_low_attend_of(l);
    if (!a)
        return 0;
    return is_kept(l, a) ? r->value == a && r->is_kept : r->value == a || aq_low_has_attend(l, r->value);
}

static int kept_reads_attend(aq_lower_state *l, const aq_node *n) {
    for (int k = 0; k < n->n_in; k++)
        if (aq_low_has_attend(l, aq_node_in(l->m, n)[k]))
            return 1;
    return 0;
}

/* An attend is stored by the loops that make it if all that is wanted of it are maps of its elements; else it is kept. */
static aq_status place_attend(aq_lower_state *l) {
    aq_id a = aq_low_attend_of(l);
    if (!a || is_kept(l, a))
        return AQ_OK;
    int all_fit = 1;
    for (uint32_t i = 0; i < l->b->nodes.n; i++) {
        const aq_node *n = node_at(l, i);
        if (n->op == AQ_OP_attend && n->out != a)
            return aq_low_refuse(l, n->out, "a second attend: expected one a region");
    }
    for (uint32_t i = 0; i < l->roots.n; i++)
        all_fit &= !aq_low_has_attend(l, l->roots.at[i].value) || aq_low_attend_fits(l, &l->roots.at[i]);
    for (uint32_t i = 0; i < l->b->nodes.n; i++) /* and no other kept value may want it */
        all_fit &= !is_kept(l, node_at(l, i)->out) || !kept_reads_attend(l, node_at(l, i));
    if (!all_fit)
        keep(l, a);
    return AQ_OK;
}

aq_status aq_low_place(aq_lower_state *l) {
    for (uint32_t i = 0; i < l->b->nodes.n; i++) {
        const aq_node *n = node_at(l, i);
        for (int k = 0; k < n->n_out; k++) {
            const aq_value_plan *p = aq_low_value_plan(l->m, l->b, l->s, n->out + (aq_id)k);
            if (p && p->made && !is_kept(l, n->out + (aq_id)k))
                l->value[n->out + (aq_id)k].made = p->made;
            if (p && p->made == AQ_MADE_PHASE && (aq_op_of(n->op)->traits & AQ_STATE))
                return aq_low_refuse(l, n->out, "a state cannot be kept: expected inline");
        }
    }
    find_heavy(l);
    keep_for_nodes(l);
    AQ_TRY(place_attend(l));
    for (aq_id v = 1; v;) {
        AQ_TRY(shared_value(l, &v));
        if (v)
            keep(l, v);
    }
    return find_phases(l);
}
