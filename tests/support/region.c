/* region.c: random data for a region's inputs, the graph's results, and the comparison. Outputs and scratch are poisoned before a run,
 * every buffer has exactly its bytes (a sanitizer sees what goes past them), and the error is the relative L2 of each result. */
#include "tests/support/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ir/memory.h"
#include "ir/random.h"

enum { B = 2, P = 4, PAGES = 12 };

static const aq_value *value_of(const region *r, aq_id v) {
    return &r->m->values.at[v];
}
static const aq_node *fused(const region *r) {
    return &r->m->nodes.at[r->node];
}

static void *alloc(region *r, size_t n) {
    void *p;
    assert_int_equal(aq_arena_alloc(&r->arena, n + 1, 1, &p), AQ_OK);
    return p;
}

static int64_t count(const region_data *d) {
    int64_t n = 1;
    for (int i = 0; i < d->type.rank; i++)
        n *= d->dim[i];
    return n;
}

static size_t row_bytes(const region_data *d) {
    size_t bytes;
    if (aq_dtype_bytes(d->type.dtype, (uint64_t)count(d), "test", &bytes))
        fail_msg("%s", aq_error());
    return bytes;
}

/* ---- the batch: two sequences, one behind a history, on random pages ---- */

static void make_batch(region *r, aq_random *random, int64_t t) {
    static const int order[] = {0, 1, 2, 3, 4, 5}; /* pos slot start rows len pages */
    int64_t n[] = {t, t, B, B, B, B * P};
    for (int f = 0; f < 6; f++) {
        r->field[order[f]] = alloc(r, (size_t)n[f] * 4);
        r->n_field[order[f]] = n[f];
    }
    int32_t page[PAGES];
    for (int i = 0; i < PAGES; i++) {
        int j = (int)aq_random_below(random, (uint32_t)i + 1);
        page[i] = page[j];
        page[j] = i;
    }
    int64_t at = 0;
    for (int b = 0; b < B; b++) {
        int64_t rows = b ? t - at : t - t / 3, history = (int64_t)aq_random_below(random, (uint32_t)(P * AQ_PAGE - rows));
        r->field[2][b] = (int32_t)at;
        r->field[3][b] = (int32_t)rows;
        r->field[4][b] = (int32_t)(rows ? history + rows : 0);
        for (int p = 0; p < P; p++)
            r->field[5][b * P + p] = page[b * P + p];
        for (int64_t i = 0; i < rows; i++, at++) {
            r->field[0][at] = (int32_t)(history + i);
            r->field[1][at] = page[b * P + (history + i) / AQ_PAGE] * AQ_PAGE + (int32_t)((history + i) % AQ_PAGE);
        }
    }
}

/* ---- values ---- */

static void shape(region *r, region_data *d, aq_type type) {
    d->type = type;
    for (int i = 0; i < type.rank; i++)
        d->dim[i] = aq_dim_eval(type.dim[i], r->sym);
}

/* Integers are row numbers: mostly of `table`, some of none. */
static void fill(region *r, region_data *d, aq_random *random, int64_t table) {
    int64_t n = count(d);
    d->rows = alloc(r, row_bytes(d));
    aq_dtype_kind kind = aq_dtype_of(d->type.dtype)->kind;
    for (int64_t i = 0; kind == AQ_KIND_INT && i < n; i++) {
        int32_t v = (int32_t)aq_random_below(random, (uint32_t)table + 2) - 1;
        if (d->type.dtype == AQ_I8)
            ((int8_t *)d->rows)[i] = (int8_t)v;
        else
            ((int32_t *)(void *)d->rows)[i] = v;
    }
    if (kind == AQ_KIND_INT)
        return;
    float *x = alloc(r, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)aq_random_normal(random);
    aq_dtype_encode_f32(d->type.dtype, x, (size_t)n, d->rows);
}

/* Rows of the table that the ids of `input` pick, wherever in the region it is used so. */
static int64_t table_of(const region *r, int input) {
    const aq_body *b = &r->m->bodies.at[r->body];
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &r->m->nodes.at[b->nodes.at[i]];
        if (n->op == AQ_OP_rows && aq_node_in(r->m, n)[1] == b->params.at[input])
            return aq_dim_eval(value_of(r, aq_node_in(r->m, n)[0])->type.dim[0], r->sym);
    }
    return 40;
}

static aq_ref_tensor tensor(region *r, const region_data *d, const unsigned char *bytes) {
    aq_ref_tensor t = {.dtype = d->type.dtype, .rank = d->type.rank, .blocks = bytes};
    memcpy(t.dim, d->dim, sizeof t.dim);
    if (aq_dtype_of(d->type.dtype)->block == 1) {
        t.values = alloc(r, (size_t)count(d) * sizeof *t.values);
        aq_dtype_decode_f64(d->type.dtype, bytes, 0, (size_t)count(d), t.values);
        t.blocks = NULL;
    }
    return t;
}

static void store(const region_data *d, const aq_ref_tensor *t, unsigned char *bytes) {
    if (t->blocks) {
        memcpy(bytes, t->blocks, row_bytes(d));
        return;
    }
    int64_t n = count(d);
    for (int64_t i = 0; i < n; i++)
        aq_layout_set(AQ_LAYOUT_ROWS, d->type.dtype, &n, 1, &i, bytes, t->values[i]);
}

/* The graph on the same data; results and states into `want`. */
static const char *run_reference(region *r) {
    const aq_body *g = &r->m->bodies.at[r->graph];
    aq_ref_tensor in[REGION_MAX] = {{0}}, out[REGION_MAX] = {{0}}, weights[REGION_MAX] = {{0}}, states[REGION_MAX] = {{0}};
    aq_ref_batch batch;
    for (int f = 0; f < 6; f++) {
        batch.field[f] = r->field[f];
        batch.n[f] = r->n_field[f];
    }
    for (int i = 0; i < fused(r)->n_in; i++) {
        aq_id v = aq_node_in(r->m, fused(r))[i];
        if (value_of(r, v)->type.is_batch)
            continue;
        aq_ref_tensor t = tensor(r, &r->in[i], r->in[i].rows);
        if (value_of(r, v)->kind == AQ_VALUE_WEIGHT)
            weights[value_of(r, v)->index] = t;
        else if (value_of(r, v)->state)
            states[value_of(r, v)->state - 1] = t;
        for (uint32_t p = 0; p < g->params.n; p++)
            if (g->params.at[p] == v)
                in[p] = t;
    }
    aq_ref_env env = {.sym = r->sym, .weights = weights, .states = states, .batch = &batch, .threads = 1};
    if (aq_ref_run(r->m, r->graph, &env, in, &r->arena, out))
        return aq_error();
    for (int i = 0; i < fused(r)->n_out; i++)
        for (uint32_t k = 0; k < g->results.n; k++)
            if (g->results.at[k] == fused(r)->out + (aq_id)i) {
                r->out[i].want = alloc(r, row_bytes(&r->out[i]));
                store(&r->out[i], &out[k], r->out[i].want);
            }
    for (int i = 0; i < fused(r)->n_in; i++)
        if (value_of(r, aq_node_in(r->m, fused(r))[i])->state) {
            r->in[i].want = alloc(r, row_bytes(&r->in[i]));
            store(&r->in[i], &states[value_of(r, aq_node_in(r->m, fused(r))[i])->state - 1], r->in[i].want);
        }
    return NULL;
}

static void choose_layouts(region *r, int panels) {
    for (uint32_t i = 0; i < r->m->weights.n; i++) {
        const aq_type *t = &value_of(r, r->m->weights.at[i].value)->type;
        int64_t dim[2] = {t->rank == 2 ? t->dim[0].k : 0, t->rank == 2 ? t->dim[1].k : 0};
        size_t bytes;
        if (panels == 2 && t->rank == 2 && !aq_layout_bytes(AQ_LAYOUT_PLANES, t->dtype, dim, 2, "test", &bytes)) {
            r->m->weights.at[i].layout = AQ_LAYOUT_PLANES;
            continue;
        }
        r->m->weights.at[i].layout = panels && t->rank == 2 && !aq_layout_bytes(AQ_LAYOUT_PANEL, t->dtype, dim, 2, "test", &bytes)
                                         ? AQ_LAYOUT_PANEL
                                         : AQ_LAYOUT_ROWS;
    }
    for (uint32_t i = 0; i < r->m->states.n; i++) {
        int kv = panels && value_of(r, r->m->states.at[i].value)->type.rank == 3;
        r->m->states.at[i].layout = !kv ? AQ_LAYOUT_ROWS : i % 2 ? AQ_LAYOUT_KV_ROWS : AQ_LAYOUT_KV_PANEL;
    }
}

const char *region_open(region *r, aq_module *m, int64_t t, int panels, uint64_t seed) {
    static const struct {
        const char *name;
        int64_t value;
    } syms[] = {{"O", 3}, {"B", B}, {"P", P}, {"S", PAGES * AQ_PAGE}};
    memset(r, 0, sizeof *r);
    aq_random random = aq_random_open(seed);
    r->m = m;
    r->graph = m->graphs.at[0];
    const aq_body *g = &m->bodies.at[r->graph];
    for (uint32_t i = 0; i < g->nodes.n; i++)
        if (m->nodes.at[g->nodes.at[i]].op == AQ_OP_fused)
            r->node = g->nodes.at[i];
    r->body = fused(r)->body;
    r->tolerance = 3e-6;
    for (aq_id s = 1; s < m->syms.n && s < 16; s++) {
        r->sym[s] = t;
        for (int k = 0; k < 4; k++)
            if (!strcmp(m->syms.at[s].name, syms[k].name))
                r->sym[s] = syms[k].value;
    }
    choose_layouts(r, panels);
    make_batch(r, &random, t);
    for (int i = 0; i < fused(r)->n_in; i++) {
        const aq_value *v = value_of(r, aq_node_in(m, fused(r))[i]);
        if (v->type.is_batch)
            continue;
        shape(r, &r->in[i], v->type);
        fill(r, &r->in[i], &random, table_of(r, i));
    }
    for (int i = 0; i < fused(r)->n_out; i++)
        shape(r, &r->out[i], value_of(r, fused(r)->out + (aq_id)i)->type);
    const aq_body *b = &m->bodies.at[r->body];
    for (uint32_t i = 0; i < b->nodes.n; i++) { /* where roundings may fall apart */
        aq_dtype to = value_of(r, m->nodes.at[b->nodes.at[i]].out)->type.dtype;
        double own = to == AQ_A8                                                                     ? 1e-2
                     : to == AQ_A16                                                                  ? 6e-5
                     : to == AQ_BF16                                                                 ? 4e-3
                     : to == AQ_F16                                                                  ? 5e-4
                     : to == AQ_I8 || (to == AQ_I32 && m->nodes.at[b->nodes.at[i]].op == AQ_OP_cast) ? 1e-2
                                                                                                     : 0;
        r->tolerance = own > r->tolerance ? own : r->tolerance;
    }
    return run_reference(r);
}

void region_close(region *r) {
    aq_arena_close(&r->arena);
}

/* ---- running a nest ---- */

aq_status region_run_ref(void *user, const aq_nest *n, void *const *buf, const int64_t *sym, uint64_t seed) {
    (void)user;
    return aq_ref_run_nest(n, buf, sym, seed);
}

/* The bytes of buffer b: its own block, so that a sanitizer sees its end. */
static void *buffer(region *r, const aq_nest_buf *b, const region_data *d, size_t *bytes) {
    int64_t dim[AQ_MAX_RANK];
    void *p;
    for (int i = 0; i < b->type.rank; i++)
        dim[i] = aq_dim_eval(b->type.dim[i], r->sym);
    if (aq_layout_bytes(b->layout, b->type.dtype, dim, b->type.rank, b->name, bytes))
        fail_msg("%s", aq_error());
    assert_int_equal(aq_mem_alloc(*bytes, &p), AQ_OK);
    if (!d || !d->rows)
        memset(p, 0xff, *bytes);
    else if (b->layout == AQ_LAYOUT_ROWS)
        memcpy(p, d->rows, row_bytes(d));
    else if (b->layout == AQ_LAYOUT_PANEL)
        aq_layout_pack_panel(b->type.dtype, d->rows, dim[0], dim[1], 0, 0, dim[0], p);
    else if (b->layout == AQ_LAYOUT_PLANES)
        aq_layout_pack_planes(b->type.dtype, d->rows, dim[0], dim[1], p);
    else
        for (int64_t i = 0, n = count(d); i < n; i++) {
            int64_t index[3] = {i / (dim[1] * dim[2]), i / dim[2] % dim[1], i % dim[2]};
            aq_layout_set(b->layout, b->type.dtype, dim, 3, index, p, aq_layout_get(AQ_LAYOUT_ROWS, b->type.dtype, &n, 1, &i, d->rows));
        }
    return p;
}

static const char *differs(region *r, const aq_nest_buf *b, const region_data *d, const void *got) {
    double error = 0, norm = 0;
    int64_t n = count(d), worst = 0, wrong = 0;
    double worst_error = -1, worst_got = 0, worst_want = 0;
    const char *text;
    for (int64_t i = 0; i < n; i++) {
        int64_t index[AQ_MAX_RANK], at = i;
        for (int k = d->type.rank; k-- > 0; at /= d->dim[k])
            index[k] = at % d->dim[k];
        double want = aq_layout_get(AQ_LAYOUT_ROWS, d->type.dtype, &n, 1, &i, d->want);
        double is = b->layout == AQ_LAYOUT_ROWS ? aq_layout_get(AQ_LAYOUT_ROWS, d->type.dtype, &n, 1, &i, got)
                                                : aq_layout_get(b->layout, d->type.dtype, d->dim, d->type.rank, index, got);
        double e = isinf(want) || isnan(want) ? (is == want || (isnan(is) && isnan(want)) ? 0 : INFINITY) : fabs(is - want);
        wrong += !(e <= r->tolerance * (1 + fabs(want)));
        if (!(e <= worst_error))
            worst = i, worst_error = e, worst_got = is, worst_want = want;
        if (isinf(want) || isnan(want))
            continue;
        error += e * e;
        norm += want * want;
    }
    int exact = aq_dtype_of(d->type.dtype)->kind == AQ_KIND_INT && r->tolerance < 1e-3;
    if (worst_error >= 0 && isfinite(worst_error) &&
        (exact ? worst_error == 0 : sqrt(error) <= r->tolerance * (sqrt(norm) + 0.05 * sqrt((double)n))))
        return NULL;
    assert_int_equal(aq_arena_format(&r->arena, &text,
                                     "%s: relative L2 %.3g, allowed %.3g; %lld of %lld elements off, the worst at %lld: %.9g, wanted %.9g",
                                     b->name, sqrt(error / (norm + 1e-300)), r->tolerance, (long long)wrong, (long long)n, (long long)worst,
                                     worst_got, worst_want),
                     AQ_OK);
    return n ? text : NULL;
}

const char *region_compare(region *r, const aq_nest *n, region_runner run, void *user, uint64_t seed) {
    aq_nest_arg *args;
    uint32_t n_args;
    void *buf[64] = {0};
    size_t bytes[64] = {0};
    const region_data *of[64] = {0};
    const char *why = NULL;
    if (aq_lower_args(r->m, r->body, &r->arena, &args, &n_args))
        return aq_error();
    uint32_t n_bufs = 0;
    for (aq_id i = 1; i < n->bufs.n && n_bufs < 64; i++) {
        const aq_nest_buf *b = &n->bufs.at[i];
        const aq_nest_arg *a = n_bufs < n_args ? &args[n_bufs] : NULL;
        if (b->role == AQ_BUF_LOCAL)
            continue;
        if (!a != (b->role == AQ_BUF_SCRATCH))
            return "buffers and arguments do not agree";
        if (a && a->field >= 0) {
            assert_int_equal(aq_mem_alloc((size_t)r->n_field[a->field] * 4, &buf[n_bufs]), AQ_OK);
            memcpy(buf[n_bufs], r->field[a->field], (size_t)r->n_field[a->field] * 4);
        } else {
            of[n_bufs] = a ? a->is_result ? &r->out[a->index] : &r->in[a->index] : NULL;
            buf[n_bufs] = buffer(r, b, of[n_bufs], &bytes[n_bufs]);
        }
        n_bufs++;
    }
    if (run(user, n, buf, r->sym, seed))
        why = aq_error();
    for (aq_id i = 1, k = 0; i < n->bufs.n && !why; i++) {
        if (n->bufs.at[i].role != AQ_BUF_LOCAL && of[k] && of[k]->want)
            why = differs(r, &n->bufs.at[i], of[k], buf[k]);
        k += n->bufs.at[i].role != AQ_BUF_LOCAL;
    }
    for (uint32_t i = 0; i < n_bufs; i++)
        aq_mem_free(buf[i]);
    return why;
}

void region_check(const char *story, const char *text, const char *schedule, int64_t t, int panels, uint64_t seed) {
    aq_module m;
    region r;
    aq_schedule *s;
    aq_nest *n = NULL;
    const char *why, *printed = "";
    if (aq_read_module("test.aq", text, strlen(text), NULL, 0, &m))
        fail_msg("%s: %s\n%s", story, aq_error(), aq_error_detail());
    why = region_open(&r, &m, t, panels, seed);
    if (!why && aq_read_schedule(&r.arena, "schedule", schedule, strlen(schedule), &s))
        why = aq_error();
    if (!why && aq_lower(&m, r.body, s, "k", &r.arena, &n))
        why = aq_error();
    if (!why)
        why = region_compare(&r, n, region_run_ref, NULL, seed);
    if (why) {
        aq_text out = {.arena = &r.arena};
        char reason[512];
        snprintf(reason, sizeof reason, "%s", why);
        if (n && !aq_print_nest(n, &out))
            (void)!aq_text_end(&out, &printed);
        fail_msg("%s: schedule '%s', T=%lld, %s, seed %llu\n%s\n%s\n%s", story, schedule, (long long)t, panels == 2 ? "planes" : panels ? "panels" : "rows",
                 (unsigned long long)seed, reason, text, printed);
    }
    region_close(&r);
    aq_module_close(&m);
}
