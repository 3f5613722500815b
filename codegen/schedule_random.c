/* schedule_random.c: random schedules, for tests and for the tuner: steps are drawn from the sizes that have edges (1, primes, powers of
 * two, one less and one more than the vector and than the axis), then aq_lower says whether the draw is legal. Draws that would unroll too
 * much are not made; for ref, which runs every nest, the marks of a GPU are drawn too; after some refusals the default is
 * returned, so this always ends. */
#include "codegen/lower.h"

#include "ir/random.h"

#include <string.h>

static uint32_t below(aq_random *r, uint32_t n) {
    return aq_random_below(r, n);
}

static const char *const letters[] = {"t", "n", "d", "r", "h", "pt", "pn", "ph", "j", "s", "f", "e"};

/* A step of about `most` at most; a multiple of 32 where blocks may want it. */
static int32_t draw_step(aq_random *r, int32_t most) {
    static const int32_t edges[] = {1, 2, 3, 4, 5, 7, 8, 13, 15, 16, 17, 24, 31, 32, 33, 48, 64, 96, 128};
    for (;;) {
        int32_t step = edges[below(r, sizeof edges / sizeof *edges)];
        if (step <= most)
            return step;
    }
}

static void draw_axis(aq_random *r, const char *name, aq_axis_plan *p) {
    char last = name[strlen(name) - 1];
    int vector = strchr("ndrse", last) != NULL && below(r, 4) != 0;
    *p = (aq_axis_plan){.axis = name};
    if (vector) {
        static const int16_t widths[] = {16, 16, 16, 8, 4};
        p->lanes = widths[below(r, 5)];
        p->step[0] = p->lanes * (1 << below(r, 3));
    } else
        p->step[0] = strchr("thj", last) ? draw_step(r, 7) : draw_step(r, 17);
    if (below(r, 4) == 0 && !strchr("sfej", last)) { /* a loop inside the tile */
        p->step[1] = p->step[0];
        p->step[0] *= 1 + (int32_t)below(r, 3);
    }
    if (below(r, 4) == 0)
        p->role[0] = AQ_ROLE_FOR;
    if (last == 'd' && below(r, 2) == 0) /* whole blocks */
        *p = (aq_axis_plan){.axis = name, .step = {below(r, 2) ? 32 : 64}};
    if (last == 'n' && below(r, 3) == 0)
        *p = (aq_axis_plan){.axis = name, .step = {below(r, 2) ? 32 : 64}, .lanes = 16, .role = {p->role[0]}};
}

/* The marks of a GPU, on whatever the axis has. */
static void draw_marks(aq_random *r, aq_axis_plan *p) {
    int k = 0;
    while (k < 2 && p->step[k + 1])
        k++;
    if (p->lanes && below(r, 2) == 0) { /* vec where it divides, or the step grows */
        p->vec = (int16_t)(2 << below(r, 5));
        p->step[k] = p->lanes * p->vec * (1 << below(r, 2));
        for (int i = 0; i < k; i++)
            p->step[i] = p->step[k] * (p->step[i] > p->step[k] ? 2 : 1);
    }
    if (k < 2 && below(r, 3) == 0) {
        int32_t part = p->step[k];
        p->step[k] = part * (2 << below(r, 2));
        for (int i = 0; i < k; i++)
            p->step[i] = p->step[i] < p->step[k] ? p->step[k] : p->step[i] / p->step[k] * p->step[k];
        p->step[++k] = part;
        p->role[k] = AQ_ROLE_WARPS;
    }
    if (k < 2 && !p->lanes && p->step[k] % 8 == 0 && below(r, 2) == 0) {
        p->step[k + 1] = p->step[k] % 16 == 0 && below(r, 2) ? 16 : 8;
        p->role[k + 1] = AQ_ROLE_MMA;
    }
}

/* Params through local memory, and (GPU) in stages. */
static aq_status draw_params(const aq_module *m, const aq_body *b, const aq_target *t, aq_random *r, aq_arena *arena, aq_schedule *s) {
    char name[96];
    for (uint32_t i = 0; i < b->params.n && s->n_values < AQ_MAX_VALUES; i++) {
        int local = below(r, 8) == 0, stages = t->is_ref && below(r, 4) == 0;
        if (!local && !stages)
            continue;
        aq_value_plan *p = &s->value[s->n_values++];
        *p = (aq_value_plan){.kept = local ? AQ_KEPT_LOCAL : AQ_KEPT_REG, .stages = (uint8_t)(stages ? 2 + below(r, 3) : 0)};
        aq_low_value_name(m, b, b->params.at[i], name, sizeof name);
        AQ_TRY(aq_arena_string(arena, name, strlen(name), &p->value));
    }
    return AQ_OK;
}

static aq_status draw_values(const aq_module *m, const aq_body *b, aq_random *r, aq_arena *arena, aq_schedule *s) {
    char name[96];
    for (uint32_t i = 0; i < b->nodes.n && s->n_values < AQ_MAX_VALUES; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        if (below(r, 5) || n->n_out != 1 || (aq_op_of(n->op)->traits & AQ_STATE))
            continue;
        static const uint8_t made[] = {AQ_MADE_PHASE, AQ_MADE_PHASE, AQ_MADE_INLINE, AQ_MADE_TILE, AQ_MADE_LATE};
        aq_value_plan *p = &s->value[s->n_values++];
        aq_low_value_name(m, b, n->out, name, sizeof name);
        AQ_TRY(aq_arena_string(arena, name, strlen(name), &p->value));
        p->made = made[below(r, 5)];
        if (p->made == AQ_MADE_LATE && !(aq_op_of(n->op)->traits & AQ_REDUCE))
            p->made = AQ_MADE_PHASE;
    }
    return AQ_OK;
}

static aq_status draw(const aq_module *m, aq_id body, const aq_target *t, aq_random *r, aq_arena *arena, aq_schedule *s) {
    *s = (aq_schedule){.target = s->target};
    for (size_t i = 0; i < sizeof letters / sizeof *letters && s->n_axes < AQ_MAX_AXES; i++)
        if (below(r, 2))
            draw_axis(r, letters[i], &s->axis[s->n_axes++]);
    for (int i = 0; t->is_ref && i < s->n_axes; i++)
        draw_marks(r, &s->axis[i]);
    s->split = below(r, 2) ? AQ_PAGE << below(r, 3) : 0;
    if (!s->split && below(r, 2) && s->n_axes < AQ_MAX_AXES) /* pieces of attention in turn */
        s->axis[s->n_axes++] = (aq_axis_plan){.axis = "c", .step = {AQ_PAGE << below(r, 3)}};
    AQ_TRY(draw_params(m, &m->bodies.at[body], t, r, arena, s));
    return draw_values(m, &m->bodies.at[body], r, arena, s);
}

aq_status aq_schedule_random(aq_module *m, aq_id body, const aq_target *t, struct aq_random *r, aq_schedule **out) {
    aq_schedule *s;
    AQ_TRY(aq_schedule_default(m, body, t, 1, 64, out));
    AQ_ALLOC(&m->arena, s, 1);
    s->target = (*out)->target;
    for (int tries = 0; tries < 24; tries++) {
        aq_arena scratch = {0};
        aq_nest *n;
        AQ_TRY(draw(m, body, t, r, &m->arena, s));
        aq_status status = aq_lower(m, body, s, "k", &scratch, &n);
        aq_arena_close(&scratch);
        if (status == AQ_OK)
            *out = s;
        if (status != AQ_REFUSED)
            return status;
    }
    return AQ_OK;
}
