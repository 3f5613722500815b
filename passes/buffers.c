/* buffers.c: where values live between kernels. Every value that is no graph input, result, weight, state or constant gets an offset in the
 * arena of the symbol its size grows with (T, O, B or none), so that offsets hold for any value of the symbols: bytes = k * symbol with k a
 * multiple of 64, offset likewise a multiple per unit. A view has the place of what it views. Values alive at the same time never overlap;
 * largest first, lowest offset that fits. All versions of a state are one storage, which is not in these arenas. */
#include "passes/passes.h"

#include <string.h>

aq_status aq_pass_buffers(aq_module *m, const aq_pass_options *o);

enum { NO_SYMBOL_KINDS = 8 };

/* k bytes a unit of one symbol; a size with two symbols cannot be placed. */
aq_status aq_buffers_unit(const aq_module *m, const aq_type *t, aq_dim *out) {
    size_t bytes = 1;
    aq_id sym = 0;
    uint64_t elements = 1;
    for (int i = 0; i < t->rank; i++) {
        size_t e;
        if (t->dim[i].sym && sym)
            return aq_fail(AQ_REFUSED, m->file, "a value between kernels grows with two symbols, %s and %s: expected one", m->syms.at[sym].name,
                           m->syms.at[t->dim[i].sym].name);
        sym = t->dim[i].sym ? t->dim[i].sym : sym;
        AQ_TRY(aq_size_mul(elements, (size_t)t->dim[i].k, "value", &e));
        elements = e;
    }
    AQ_TRY(aq_dtype_bytes(t->dtype, elements, "value", &bytes));
    AQ_TRY(aq_size_add(bytes, 63, "value", &bytes));
    *out = (aq_dim){(int64_t)(bytes & ~(size_t)63), sym};
    return AQ_OK;
}

static aq_status add_values(const aq_module *m, const aq_body *b, uint32_t room, aq_arena *arena, aq_places *out) {
    for (uint32_t i = 0; i < b->nodes.n; i++)
        room += m->nodes.at[b->nodes.at[i]].n_out;
    AQ_ALLOC(arena, out->at, room + 1);
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_out; k++) {
            aq_id v = n->out + (aq_id)k;
            int is_result = 0;
            for (uint32_t r = 0; r < b->results.n; r++)
                is_result |= b->results.at[r] == v;
            if (is_result || m->values.at[v].state || (aq_op_of(n->op)->traits & AQ_VIEW))
                continue;
            aq_place *p = &out->at[out->n++];
            *p = (aq_place){.value = v, .first = i, .last = i};
            AQ_TRY(aq_buffers_unit(m, &m->values.at[v].type, &p->bytes));
        }
    }
    return AQ_OK;
}

aq_id aq_buffers_viewed(const aq_module *m, aq_id v) {
    while (m->values.at[v].kind == AQ_VALUE_RESULT) {
        const aq_node *n = &m->nodes.at[m->values.at[v].node];
        if (!(aq_op_of(n->op)->traits & AQ_VIEW) || n->op == AQ_OP_field)
            break;
        v = aq_node_in(m, n)[0];
    }
    return v;
}

static aq_status extend_lives(const aq_module *m, const aq_body *b, aq_arena *arena, aq_places *out) {
    uint32_t *place;
    AQ_ALLOC(arena, place, m->values.n);
    for (uint32_t i = 0; i < out->n; i++)
        place[out->at[i].value] = i + 1;
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_in; k++) {
            uint32_t p = place[aq_buffers_viewed(m, aq_node_in(m, n)[k])];
            if (p && out->at[p - 1].last < i)
                out->at[p - 1].last = i;
        }
    }
    return AQ_OK;
}

static int overlaps(const aq_place *a, const aq_place *b) {
    return a->bytes.sym == b->bytes.sym && a->first <= b->last && b->first <= a->last;
}

/* The lowest offset at which `p` meets none of the placed ones (a few dozen alive at once: quadratic is fine). */
static int64_t lowest_offset(const aq_places *all, const uint32_t *placed, uint32_t n, const aq_place *p) {
    int64_t at = 0;
    for (int moved = 1; moved;) {
        moved = 0;
        for (uint32_t i = 0; i < n; i++) {
            const aq_place *q = &all->at[placed[i]];
            if (overlaps(p, q) && at < q->offset + q->bytes.k && q->offset < at + p->bytes.k) {
                at = q->offset + q->bytes.k;
                moved = 1;
            }
        }
    }
    return at;
}

static aq_status grow_arena(const aq_module *m, aq_places *out, const aq_place *p) {
    uint32_t i = 0;
    while (i < out->n_arenas && out->arena[i].sym != p->bytes.sym)
        i++;
    if (i == NO_SYMBOL_KINDS)
        return aq_fail(AQ_REFUSED, m->file, "values grow with more than %d symbols", NO_SYMBOL_KINDS);
    if (i == out->n_arenas) {
        out->arena[i].sym = p->bytes.sym;
        out->arena[i].bytes = 0;
        out->n_arenas++;
    }
    if (out->arena[i].bytes < p->offset + p->bytes.k)
        out->arena[i].bytes = p->offset + p->bytes.k;
    return AQ_OK;
}

aq_status aq_buffers_lives(const aq_module *m, aq_id body, uint32_t n_extra, aq_arena *arena, aq_places *out) {
    *out = (aq_places){0};
    AQ_TRY(add_values(m, &m->bodies.at[body], n_extra, arena, out));
    return extend_lives(m, &m->bodies.at[body], arena, out);
}

aq_status aq_buffers_pack(const aq_module *m, aq_arena *arena, aq_places *r) {
    uint32_t *placed, n = 0;
    uint8_t *done;
    AQ_ALLOC(arena, placed, r->n + 1);
    AQ_ALLOC(arena, done, r->n + 1);
    while (n < r->n) {
        uint32_t best = r->n;
        for (uint32_t i = 0; i < r->n; i++)
            if (!done[i] && (best == r->n || r->at[i].bytes.k > r->at[best].bytes.k))
                best = i;
        r->at[best].offset = lowest_offset(r, placed, n, &r->at[best]);
        AQ_TRY(grow_arena(m, r, &r->at[best]));
        done[best] = 1;
        placed[n++] = best;
    }
    return AQ_OK;
}

aq_status aq_pass_buffers(aq_module *m, const aq_pass_options *o) {
    (void)o;
    for (uint32_t g = 0; g < m->graphs.n; g++) {
        aq_arena scratch = {0};
        aq_places places;
        aq_status status = aq_buffers_lives(m, m->graphs.at[g], 0, &scratch, &places);
        if (status == AQ_OK)
            status = aq_buffers_pack(m, &scratch, &places);
        aq_arena_close(&scratch);
        AQ_TRY(status);
    }
    return AQ_OK;
}
