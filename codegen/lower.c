/* lower.c: the nest of a region under a schedule. Order: buffers (lower_args.c), what is kept and when (lower_place.c), then one loop tree
 * for each stored value, phase by phase (lower_root.c, lower_value.c, lower_reduce.c), and aq_nest_check at the end, so that no schedule
 * can yield a nest that is not whole. A value that turns out to be unreachable from where it is wanted (a rope behind a view) is kept
 * and the work begins anew: cheap, since a region has some dozens of nodes, and simpler than a plan that foresees it. */
#include "codegen/lower.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_NODES = 1024 }; /* the walks over a region recurse along its chains */

aq_status aq_low_refuse(aq_lower_state *l, aq_id value, const char *format, ...) {
    char text[256], name[96];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!value)
        return aq_fail(AQ_REFUSED, l->place, "%s", text);
    return aq_fail(AQ_REFUSED, l->place, "%%%s: %s", aq_low_value_name(l->m, l->b, value, name, sizeof name), text);
}

static aq_status count_uses(aq_lower_state *l) {
    for (uint32_t i = 0; i < l->b->nodes.n; i++) {
        const aq_node *n = &l->m->nodes.at[l->b->nodes.at[i]];
        for (int k = 0; k < n->n_out; k++)
            l->value[n->out + (aq_id)k].in_region = 1;
        for (int k = 0; k < n->n_in; k++)
            l->value[aq_node_in(l->m, n)[k]].uses++;
        if (aq_op_of(n->op)->traits & (AQ_COMPOSITE | AQ_REGION))
            return aq_low_refuse(l, n->out, "%s: expected `expand` to have opened it", aq_op_of(n->op)->name);
    }
    for (uint32_t i = 0; i < l->b->results.n; i++)
        l->value[l->b->results.at[i]].uses++;
    return AQ_OK;
}

/* A new phase at the end of the nest; what is built next goes into it. */
static aq_status open_phase(aq_lower_state *l, aq_id *last) {
    AQ_PUSH(l->arena, &l->n->stmts, (aq_stmt){.kind = AQ_STMT_PHASE});
    aq_id id = l->n->stmts.n - 1;
    *(*last ? &l->n->stmts.at[*last].next : &l->n->first_phase) = id;
    *last = id;
    l->level[0] = (aq_low_level){.uid = ++l->next_uid};
    return AQ_OK;
}

/* The trees of one phase. An attend that is split takes a phase of its own before. */
static aq_status trees_of(aq_lower_state *l, int p, aq_id *phase) {
    int trees = 0, attend_done = 0;
    for (uint32_t i = 0; i < l->roots.n; i++) {
        if (l->roots.at[i].phase != p)
            continue;
        aq_id a = aq_low_attend_of(l);
        int wants = aq_low_wants_attend(l, &l->roots.at[i]);
        if (wants && attend_done)
            continue;
        if (wants && l->s->split) {
            AQ_TRY(open_phase(l, phase));
            AQ_TRY(aq_low_attend(l, a, p, 1));
            l->n->stmts.at[*phase].first_child = l->level[0].first;
            trees = 0;
        }
        if (trees++ % AQ_MAX_TREES == 0) /* a phase holds only so many trees: the rest go into another */
            AQ_TRY(open_phase(l, phase));
        AQ_TRY(wants ? aq_low_attend(l, a, p, l->s->split ? 2 : 0) : aq_low_root_tree(l, &l->roots.at[i]));
        l->n->stmts.at[*phase].first_child = l->level[0].first;
        attend_done |= wants;
    }
    return AQ_OK;
}

static aq_status phases(aq_lower_state *l) {
    int n = 0;
    aq_id phase = 0;
    for (uint32_t i = 0; i < l->roots.n; i++)
        n = l->roots.at[i].phase >= n ? l->roots.at[i].phase + 1 : n;
    for (int p = 0; p < n; p++)
        AQ_TRY(trees_of(l, p, &phase));
    return AQ_OK;
}

/* What a schedule may say of a region here. Words of other backends are refused rather than ignored. */
static aq_status check_schedule(aq_lower_state *l) {
    static const char letters[] = " t n h g d r pt pn ph pg j s f e c ";
    const aq_schedule *s = l->s;
    char name[16];
    for (int i = 0; i < s->n_axes; i++) {
        int known = strlen(s->axis[i].axis) <= 2;
        snprintf(name, sizeof name, " %.2s ", s->axis[i].axis);
        if (!known || !strstr(letters, name))
            return aq_low_refuse(
                l, 0,
                "schedule: no axis is called %.40s: expected t h g n (pt ph pg pn of kept values), d of dots, r of rows, j s f e c of attend",
                s->axis[i].axis);
    }
    for (int i = 0; i < s->n_values; i++) {
        int known = 0;
        for (uint32_t k = 0; k < l->b->nodes.n && !known; k++)
            known = aq_low_value_plan(l->m, l->b, s, l->m->nodes.at[l->b->nodes.at[k]].out) == &s->value[i];
        for (uint32_t k = 0; k < l->b->params.n && !known; k++)
            known = aq_low_value_plan(l->m, l->b, s, l->b->params.at[k]) == &s->value[i] ? 2 : 0;
        for (int k = 0; k < i; k++) /* the first plan of a value counts */
            known |= !strcmp(s->value[k].value, s->value[i].value);
        if (!known)
            return aq_low_refuse(l, 0,
                                 "schedule: no value of the region is called %.60s: expected its name, or its op and number as in rms.2",
                                 s->value[i].value);
        if ((s->value[i].kept == AQ_KEPT_LOCAL || s->value[i].stages) && known != 2)
            return aq_low_refuse(l, 0, "schedule: %.60s: local memory and stages are for what the region reads: expected one of its params",
                                 s->value[i].value);
    }
    return AQ_OK;
}

static aq_status attempt(aq_lower_state *l, aq_id body, const char *kernel_name) {
    AQ_TRY(aq_nest_open(l->m, l->arena, kernel_name, &l->n));
    AQ_PUSH(l->arena, &l->letter, '?');
    AQ_PUSH(l->arena, &l->parts, 0);
    AQ_PUSH(l->arena, &l->tile_level, 0);
    AQ_PUSH(l->arena, &l->tile_mask, 0);
    AQ_TRY(count_uses(l));
    AQ_TRY(check_schedule(l));
    AQ_TRY(aq_low_buffers(l, body));
    AQ_TRY(aq_low_place(l));
    AQ_TRY(phases(l));
    AQ_TRY(aq_low_mark_stages(l));
    return aq_nest_check(l->n);
}

aq_status aq_lower(const aq_module *m, aq_id body, const aq_schedule *s, const char *kernel_name, aq_arena *arena, aq_nest **out) {
    aq_low_value *values;
    const aq_body *b = &m->bodies.at[body];
    if (b->nodes.n > MOST_NODES)
        return aq_fail(AQ_REFUSED, m->file, "kernel %s: a region of %" PRIu32 " operations: expected at most %d", kernel_name, b->nodes.n, MOST_NODES);
    AQ_ALLOC(arena, values, m->values.n);
    for (uint32_t tries = 0; tries <= b->nodes.n; tries++) {
        aq_lower_state l = {.m = m, .b = b, .s = s, .arena = arena, .value = values};
        snprintf(l.place, sizeof l.place, "region %.80s", b->name ? b->name : kernel_name);
        aq_status status = attempt(&l, body, kernel_name);
        *out = l.n;
        if (status == AQ_OK || !l.force || values[l.force].made == AQ_MADE_PHASE || !aq_low_node(&l, l.force))
            return status;
        for (aq_id v = 0; v < m->values.n; v++) /* only what is kept outlives an attempt */
            values[v] = (aq_low_value){.made = values[v].made == AQ_MADE_PHASE || v == l.force ? AQ_MADE_PHASE : 0};
    }
    return aq_fail(AQ_REFUSED, b->name, "no order of phases was found for the region");
}
