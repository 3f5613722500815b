/* lower_args.c: the buffers of a region's nest, in the order that the plan builder binds them: params (a batch gives one for each array
 * that is read), then results that are no new version of a state param. And how values are called: by name, or by op and number. */
#include "codegen/lower.h"

#include <stdio.h>
#include <string.h>

static const aq_value *value_of(const aq_module *m, aq_id v) {
    return &m->values.at[v];
}

/* ---- names ---- */

/* Length of a name without the layer that `repeat` put behind it, so that equal regions of all layers are called the same; 0: it has
 * none (a name of digits is how texts number what has no name). */
static int stem(const char *name) {
    size_t n = name ? strlen(name) : 0, k = n;
    while (k && name[k - 1] >= '0' && name[k - 1] <= '9')
        k--;
    return (int)(!k ? 0 : name[k - 1] == '.' ? k - 1 : n);
}

/* "rms" for the first rms of the region, "rms.2" for the second. */
static void name_by_op(const aq_module *m, const aq_body *b, const aq_value *v, char *buf, size_t size) {
    aq_op op = m->nodes.at[v->node].op;
    int count = 0;
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        count += m->nodes.at[b->nodes.at[i]].op == op;
        if (b->nodes.at[i] == v->node)
            break;
    }
    snprintf(buf, size, count > 1 ? "%s.%d" : "%s", aq_op_of(op)->name, count);
}

const char *aq_low_value_name(const aq_module *m, const aq_body *b, aq_id value, char *buf, size_t size) {
    const aq_value *v = value_of(m, value);
    int count = 0;
    if (stem(v->name))
        snprintf(buf, size, "%.*s", stem(v->name), v->name);
    else if (v->kind == AQ_VALUE_RESULT)
        name_by_op(m, b, v, buf, size);
    else {
        for (uint32_t i = 0; i < b->params.n; i++)
            count += b->params.at[i] <= value;
        snprintf(buf, size, "p%d", count);
    }
    return buf;
}

const aq_value_plan *aq_low_value_plan(const aq_module *m, const aq_body *b, const aq_schedule *s, aq_id value) {
    char name[96], by_op[96] = "";
    aq_low_value_name(m, b, value, name, sizeof name);
    if (value_of(m, value)->kind == AQ_VALUE_RESULT)
        name_by_op(m, b, value_of(m, value), by_op, sizeof by_op);
    for (int i = 0; i < s->n_values; i++)
        if (!strcmp(s->value[i].value, name) || !strcmp(s->value[i].value, by_op))
            return &s->value[i];
    return NULL;
}

/* ---- which buffers ---- */

/* Does the region read this array of this batch param? attend reads all but slot; append reads slot. */
static int reads_field(const aq_module *m, const aq_body *b, aq_id param, int field) {
    const char *name = aq_batch_field_of(field)->name;
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        const aq_id *in = aq_node_in(m, n);
        const aq_attr *a = aq_node_attr(m, n, AQ_ATTR_name);
        if (n->op == AQ_OP_field && in[0] == param && a && a->text && !strcmp(a->text, name))
            return 1;
        if (n->op == AQ_OP_append && in[2] == param && !strcmp(name, "slot"))
            return 1;
        if (n->op == AQ_OP_attend && in[3] == param && strcmp(name, "slot"))
            return 1;
    }
    return 0;
}

/* Is this result the next version of a state that is a param? */
static int is_next_version(const aq_module *m, const aq_body *b, aq_id result) {
    aq_id state = value_of(m, result)->state;
    for (uint32_t i = 0; state && i < b->params.n; i++)
        if (value_of(m, b->params.at[i])->state == state)
            return 1;
    return 0;
}

aq_status aq_lower_args(const aq_module *m, aq_id body, aq_arena *arena, aq_nest_arg **out, uint32_t *out_n) {
    AQ_VEC(aq_nest_arg) args = {0};
    const aq_body *b = &m->bodies.at[body];
    for (uint32_t i = 0; i < b->params.n; i++) {
        if (!value_of(m, b->params.at[i])->type.is_batch) {
            AQ_PUSH(arena, &args, (aq_nest_arg){0, i, -1});
            continue;
        }
        for (int f = 0; aq_batch_field_of(f); f++)
            if (reads_field(m, b, b->params.at[i], f))
                AQ_PUSH(arena, &args, (aq_nest_arg){0, i, f});
    }
    for (uint32_t i = 0; i < b->results.n; i++)
        if (!is_next_version(m, b, b->results.at[i]))
            AQ_PUSH(arena, &args, (aq_nest_arg){1, i, -1});
    *out = args.at;
    *out_n = args.n;
    return AQ_OK;
}

/* ---- making them ---- */

aq_status aq_low_add_buf(aq_lower_state *l, const char *name, aq_buf_role role, aq_type type, aq_layout layout, aq_id *out) {
    aq_nest_buf buf = {.role = role, .type = type, .layout = layout};
    AQ_TRY(aq_arena_string(l->arena, name, strlen(name), &buf.name));
    for (int k = 2, again = 1; again; k++) {
        again = 0;
        for (aq_id i = 1; i < l->n->bufs.n; i++)
            again |= !strcmp(l->n->bufs.at[i].name, buf.name);
        if (again)
            AQ_TRY(aq_arena_format(l->arena, &buf.name, "%s_%d", name, k));
    }
    AQ_PUSH(l->arena, &l->n->bufs, buf);
    *out = l->n->bufs.n - 1;
    return AQ_OK;
}

/* The layout of the weight or state that stands for param `index`, by the node that uses the region; ROWS for ordinary values. */
aq_layout aq_low_layout_of(const aq_module *m, aq_id body, uint32_t index) {
    for (aq_id i = 1; i < m->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[i];
        if (n->op != AQ_OP_fused || n->body != body || index >= n->n_in)
            continue;
        const aq_value *v = value_of(m, aq_node_in(m, n)[index]);
        if (v->kind == AQ_VALUE_WEIGHT)
            return m->weights.at[v->index].layout;
        if (v->state)
            return m->states.at[v->state - 1].layout;
        return AQ_LAYOUT_ROWS;
    }
    return AQ_LAYOUT_ROWS;
}

/* The view with the same bytes through which a param is read everywhere: [T, H*DH] of [T, H, DH] keeps its axis in one piece. */
static aq_id read_through(const aq_lower_state *l, aq_id param) {
    aq_id view = 0;
    for (uint32_t i = 0; i < l->b->nodes.n; i++) {
        const aq_node *n = &l->m->nodes.at[l->b->nodes.at[i]];
        for (int k = 0; k < n->n_in; k++) {
            if (aq_node_in(l->m, n)[k] != param)
                continue;
            if (!aq_low_is_flat_view(n) || (view && !aq_type_same(&value_of(l->m, view)->type, &value_of(l->m, n->out)->type)))
                return param;
            view = n->out;
        }
    }
    for (uint32_t i = 0; i < l->b->results.n; i++)
        if (l->b->results.at[i] == param)
            return param;
    return view ? view : param;
}

static aq_status param_buf(aq_lower_state *l, aq_id body, uint32_t index) {
    aq_id param = l->b->params.at[index];
    const aq_value *v = value_of(l->m, param);
    char name[100] = "%";
    aq_low_value_name(l->m, l->b, param, name + 1, sizeof name - 1);
    aq_low_value *info = &l->value[param];
    aq_layout layout = aq_low_layout_of(l->m, body, index);
    info->shape_of = param;
    if (value_of(l->m, v->origin)->kind == AQ_VALUE_WEIGHT)
        name[0] = '@';
    if (v->state)
        name[0] = '$';
    else if (layout == AQ_LAYOUT_ROWS && aq_dtype_of(v->type.dtype)->block == 1)
        info->shape_of = read_through(l, param);
    return aq_low_add_buf(l, name, v->state ? AQ_BUF_STATE : AQ_BUF_IN, value_of(l->m, info->shape_of)->type, layout, &info->buf);
}

static aq_status field_bufs(aq_lower_state *l, aq_id param) {
    char name[128], of[96];
    aq_id buf;
    for (int f = 0; aq_batch_field_of(f); f++) {
        const aq_batch_field *field = aq_batch_field_of(f);
        if (!reads_field(l->m, l->b, param, f))
            continue;
        aq_type type = {.dtype = AQ_I32, .rank = field->rank};
        for (int d = 0; d < field->rank; d++) {
            aq_id sym = aq_sym_find(l->m, field->dim[d], strlen(field->dim[d]));
            if (!sym)
                return aq_low_refuse(l, param, "the batch has a size %s: expected a symbol of that name in the module", field->dim[d]);
            type.dim[d] = (aq_dim){1, sym};
        }
        snprintf(name, sizeof name, "%%%s.%s", aq_low_value_name(l->m, l->b, param, of, sizeof of), field->name);
        AQ_TRY(aq_low_add_buf(l, name, AQ_BUF_IN, type, AQ_LAYOUT_ROWS, &buf));
    }
    return AQ_OK;
}

aq_id aq_low_field_buf(const aq_lower_state *l, aq_id param, const char *field) {
    char name[128], of[96];
    snprintf(name, sizeof name, "%%%s.%s", aq_low_value_name(l->m, l->b, param, of, sizeof of), field);
    for (aq_id i = 1; i < l->n->bufs.n; i++)
        if (!strcmp(l->n->bufs.at[i].name, name))
            return i;
    return 0;
}

/* What a store does anyway: the same bytes, or a rounding to the type that is stored. */
static int is_transparent(const aq_module *m, const aq_node *n, aq_dtype stored_as) {
    const aq_attr *to = aq_node_attr(m, n, AQ_ATTR_dtype);
    return aq_low_is_flat_view(n) ||
           (n->op == AQ_OP_cast && to && (aq_dtype)to->num == stored_as && aq_dtype_of(stored_as)->kind == AQ_KIND_FLOAT &&
            aq_dtype_of(value_of(m, aq_node_in(m, n)[0])->type.dtype)->kind == AQ_KIND_FLOAT);
}

/* Results get their buffers here, at the dims of what is under their views; which root fills them is place's business. */
aq_status aq_low_buffers(aq_lower_state *l, aq_id body) {
    char name[100];
    for (uint32_t i = 0; i < l->b->params.n; i++) {
        if (value_of(l->m, l->b->params.at[i])->type.is_batch)
            AQ_TRY(field_bufs(l, l->b->params.at[i]));
        else
            AQ_TRY(param_buf(l, body, i));
    }
    for (uint32_t i = 0; i < l->b->results.n; i++) {
        aq_low_root r = {.value = l->b->results.at[i]};
        const aq_node *n = aq_low_node(l, r.value);
        aq_dtype stored_as = value_of(l->m, r.value)->type.dtype;
        int appends = is_next_version(l->m, l->b, r.value);
        if (appends) {
            if (!n || n->op != AQ_OP_append || value_of(l->m, aq_node_in(l->m, n)[0])->kind != AQ_VALUE_PARAM)
                return aq_low_refuse(l, r.value, "it is no append to a param: expected one append a state");
            r.append = value_of(l->m, r.value)->node;
            r.buf = l->value[aq_node_in(l->m, n)[0]].buf;
            r.value = aq_node_in(l->m, n)[1];
        }
        name[0] = '%';
        aq_low_value_name(l->m, l->b, r.value, name + 1, sizeof name - 1);
        while ((n = aq_low_node(l, r.value)) && is_transparent(l->m, n, stored_as))
            r.value = aq_node_in(l->m, n)[0];
        if (!appends) {
            aq_type type = value_of(l->m, r.value)->type;
            type.dtype = stored_as;
            AQ_TRY(aq_low_add_buf(l, name, AQ_BUF_OUT, type, AQ_LAYOUT_ROWS, &r.buf));
        }
        AQ_PUSH(l->arena, &l->roots, r);
    }
    return AQ_OK;
}
