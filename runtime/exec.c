/* exec.c: walks the steps of a variant. What a step needs is resolved when the session opens: arguments are pointers already, and the item
 * counts of the phases are made anew only when a symbol has changed since this variant ran (during decoding: never).
 *
 * Every worker walks the list itself; a phase ends with a barrier. A phase without items (a prefill chunk that wants no logits: O = 0) is
 * passed by all workers without one. Static phases give worker w the items [count*w/n, count*(w+1)/n); ragged ones are handed out by a
 * shared counter, about 32 helpings a worker, from the end: later tokens see more positions, and the long items should come first. Alone, a
 * worker calls each function once, over all items. */
#include "runtime/internal.h"

#include "ir/clock.h"

#include <string.h>

enum { HELPINGS = 32 };

static void *resolve(const aq_rt_session *s, const aq_rt_variant *v, const size_t *start, aq_plan_arg a) {
    const aq_plan_buffer *b = &s->plan->tables.buffers[a.index];
    switch (a.kind) {
    case AQ_ARG_BUFFER: return (char *)s->activations + start[b->bytes.sym] + b->offset * v->bound[b->bytes.sym];
    case AQ_ARG_WEIGHT: return aq_rt_weight_at(s->weights, a.index);
    case AQ_ARG_STATE: return s->state[a.index];
    case AQ_ARG_INPUT: return s->input[a.index];
    default: return s->output[a.index];
    }
}

void aq_rt_exec_resolve(aq_rt_session *s) {
    for (uint32_t i = 0; i < s->n_variants; i++) {
        aq_rt_variant *v = &s->variants[i];
        size_t start[AQ_SYM_COUNT], bytes;
        if (aq_rt_arenas(v->plan, v->bound, start, &bytes) != AQ_OK)
            return; /* cannot be: the layout has accepted the same figures */
        for (uint32_t j = 0; j < v->plan->n_steps; j++)
            for (uint32_t k = 0; k < v->steps[j].step->n_args; k++)
                v->steps[j].arg[k] = resolve(s, v, start, s->plan->tables.args[v->steps[j].step->first_arg + k]);
    }
}

/* Bytes that a copy or fill moves (aq_plan_open saw to it that they are k * symbol). */
static int64_t bytes_moved(const aq_rt_session *s, const aq_plan_step *step) {
    const aq_plan *p = &s->plan->tables;
    aq_plan_arg a = p->args[step->first_arg];
    if (a.kind == AQ_ARG_BUFFER)
        return aq_size_eval(p->buffers[a.index].bytes, s->sym);
    const aq_plan_graph *g = s->plan->step;
    const aq_plan_input *x = &p->io[(a.kind == AQ_ARG_INPUT ? g->first_input : g->first_output) + a.index];
    const aq_dtype_info *t = aq_dtype_of((aq_dtype)x->dtype);
    int64_t n = 1;
    for (uint32_t i = 0; i < x->rank; i++)
        n *= aq_size_eval(x->dim[i], s->sym);
    return n / t->block * t->bytes;
}

static void count_items(const aq_rt_session *s, aq_rt_variant *v) {
    const aq_plan *p = &s->plan->tables;
    if (memcmp(v->counted, s->sym, sizeof v->counted) == 0)
        return;
    memcpy(v->counted, s->sym, sizeof v->counted);
    for (uint32_t j = 0; j < v->plan->n_steps; j++) {
        const aq_rt_exec *e = &v->steps[j];
        if (e->step->kind != AQ_STEP_LAUNCH)
            e->count[0] = bytes_moved(s, e->step);
        for (uint32_t k = 0; k < e->step->n_phases; k++) {
            const aq_plan_phase *f = &p->phases[e->step->first_phase + k];
            e->count[k] = 0;
            for (uint32_t g = 0; g < f->n_grids; g++)
                e->count[k] += aq_plan_grid_count(&p->grids[f->first_grid + g], s->sym);
        }
    }
}

/* Worker w's share of n: [*begin, *end). */
static void share(int64_t n, int w, int workers, int64_t *begin, int64_t *end) {
    int64_t each = n / workers, rest = n % workers;
    *begin = each * w + (w < rest ? w : rest);
    *end = *begin + each + (w < rest);
}

static void run_phase(aq_rt_session *s, const aq_rt_exec *e, uint32_t k, int w, void *local) {
    uint32_t phase = e->step->first_phase + k;
    aq_kernel kernel = s->plan->kernel[phase];
    int64_t n = e->count[k], begin, end;
    int workers = aq_team_size(s->team);
    if (workers == 1) {
        kernel(e->arg, s->sym, local, 0, n);
    } else if (s->plan->tables.phases[phase].ragged) {
        int64_t chunk = n / ((int64_t)workers * HELPINGS);
        chunk = chunk ? chunk : 1;
        while ((end = n - aq_team_take(s->team, chunk)) > 0)
            kernel(e->arg, s->sym, local, end > chunk ? end - chunk : 0, end);
    } else {
        share(n, w, workers, &begin, &end);
        if (begin < end)
            kernel(e->arg, s->sym, local, begin, end);
    }
}

/* Whole lines of 64 bytes, so that two workers never write to one. */
static void run_move(const aq_rt_session *s, const aq_rt_exec *e, int w) {
    int64_t n = e->count[0], begin, end;
    share((n + 63) / 64, w, aq_team_size(s->team), &begin, &end);
    begin *= 64;
    end = end * 64 < n ? end * 64 : n;
    if (begin >= end)
        return;
    if (e->step->kind == AQ_STEP_COPY)
        memmove((char *)e->arg[1] + begin, (char *)e->arg[0] + begin, (size_t)(end - begin));
    else
        memset((char *)e->arg[0] + begin, 0, (size_t)(end - begin));
}

/* 1: somebody asked to stop; the same answer for every worker. */
static int run_step(aq_rt_session *s, const aq_rt_exec *e, int w, void *local) {
    if (e->step->kind != AQ_STEP_LAUNCH) {
        if (e->count[0] == 0)
            return 0;
        run_move(s, e, w);
        return aq_team_barrier(s->team, &s->interrupted);
    }
    for (uint32_t k = 0; k < e->step->n_phases; k++) {
        if (e->count[k] == 0)
            continue;
        run_phase(s, e, k, w, local);
        if (aq_team_barrier(s->team, &s->interrupted))
            return 1;
    }
    return 0;
}

static void walk(void *user, int w) {
    aq_rt_session *s = user;
    const aq_rt_variant *v = s->now;
    void *local = s->local ? (char *)s->local + (size_t)w * s->local_stride : NULL; /* no kernel wants any */
    int clocking = s->tracing && w == 0;
    int64_t then = clocking ? aq_clock_ns() : 0;
    for (uint32_t j = 0; j < v->plan->n_steps; j++) {
        if (run_step(s, &v->steps[j], w, local)) {
            if (w == 0)
                s->stopped = 1;
            return;
        }
        if (clocking) {
            aq_rt_clocked *c = &s->clocked[v->plan->first_step + j];
            int64_t now = aq_clock_ns();
            c->ns += now - then;
            c->count++;
            then = now;
        }
    }
}

aq_status aq_rt_exec_run(aq_rt_session *s) {
    uint32_t i = 0;
    while (i + 1 < s->n_variants && s->sym[AQ_SYM_T] > s->variants[i].plan->t_hi)
        i++;
    s->now = &s->variants[i];
    s->stopped = atomic_load_explicit(&s->interrupted, memory_order_relaxed);
    if (!s->stopped) {
        count_items(s, &s->variants[i]);
        aq_team_run(s->team, walk, s);
    }
    if (!s->stopped)
        return AQ_OK;
    atomic_store_explicit(&s->interrupted, 0, memory_order_relaxed);
    return aq_fail(AQ_INTERRUPTED, NULL, "interrupted");
}
