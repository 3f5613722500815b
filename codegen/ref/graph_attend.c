/* graph_attend.c: positions and caches: rope, append, attend. A token finds the positions of its own sequence through the page table:
 * position s of sequence b is row pages[b][s / PAGE] * PAGE + s % PAGE of the state. Everything that comes out of a batch array is checked
 * against the state before it is followed. */
#include "codegen/ref/exec.h"

#include "codegen/ref/map.h"
#include "codegen/parallel.h"
#include "ir/memory.h"

#include <math.h>
#include <string.h>

aq_status aq_ref_op_rope(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *in = aq_ref_in(x, n, 0), *out;
    const aq_ref_val *pos = aq_ref_in(x, n, 1);
    AQ_TRY(aq_ref_result(x, n, &out));
    const aq_ref_tensor *t = &out->t;
    int64_t e = t->dim[t->rank - 1], tokens = t->dim[0];
    int64_t rows = tokens ? aq_ref_count(t) / tokens / e : 0;
    aq_rope r = aq_rope_of_node(x->m, n);
    r.dim = r.dim ? r.dim : e;
    aq_ref_load(in, 0, aq_ref_count(t), t->values);
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t pair = 0; pair < r.dim / 2; pair++) {
            double p, c, s;
            aq_ref_load(pos, i, 1, &p);
            aq_ref_rope_turn(&r, pair, p, &c, &s);
            for (int64_t at = i * rows * e + 2 * pair; at < (i + 1) * rows * e; at += r.dim) {
                double a = t->values[at], b = t->values[at + 1];
                t->values[at] = a * c - b * s;
                t->values[at + 1] = a * s + b * c;
            }
        }
    return AQ_OK;
}

static const int32_t *field(const aq_ref_exec *x, const char *name, int64_t *out_n) {
    int f = aq_batch_field_by_name(name, strlen(name));
    const aq_ref_batch *b = x->env->batch;
    *out_n = b && b->field[f] ? b->n[f] : 0;
    return b ? b->field[f] : NULL;
}

/* `append` writes into the memory of the version it was given. If that one will still be read, it keeps a copy of what it was. */
aq_status aq_ref_keep_old(aq_ref_exec *x, aq_id version) {
    aq_ref_val *old = &x->val[version], copy = *old;
    if (x->left[version] <= 1)
        return AQ_OK;
    AQ_TRY(aq_ref_own(&copy)); /* states are plain: own() makes doubles */
    aq_ref_load(old, 0, aq_ref_count(&old->t), copy.t.values);
    aq_ref_drop(old);
    *old = copy;
    return AQ_OK;
}

aq_status aq_ref_op_append(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *from = aq_ref_in(x, n, 1), *out;
    int64_t slots;
    const int32_t *slot = field(x, "slot", &slots);
    AQ_TRY(aq_ref_share(x, n, aq_ref_in(x, n, 0), &out));
    AQ_TRY(aq_ref_keep_old(x, *aq_node_in(x->m, n)));
    int64_t rows = out->t.dim[0], tokens = from->t.dim[0], width = rows ? aq_ref_count(&out->t) / rows : 0;
    if (slots < tokens)
        return aq_fail(AQ_REFUSED, x->m->file, "batch array slot has %lld elements: expected %lld", (long long)slots, (long long)tokens);
    for (int64_t i = 0; i < tokens; i++) {
        if (slot[i] < 0 || slot[i] >= rows)
            return aq_fail(AQ_REFUSED, x->m->file, "slot %d of a cache of %lld rows: expected a row of it", slot[i], (long long)rows);
        for (int64_t e = 0; e < width; e++) {
            double v;
            aq_ref_load(from, i * width + e, 1, &v);
            int64_t at = slot[i] * width + e;
            if (out->t.values)
                out->t.values[at] = aq_ref_round(out->t.dtype, v);
            else
                aq_layout_set(AQ_LAYOUT_ROWS, out->t.dtype, &at, 1, &at, (char *)(uintptr_t)out->t.blocks, v);
        }
    }
    return AQ_OK;
}

typedef struct attention {
    const double *q, *k, *v;
    double *out, scale;
    int64_t heads, kv_heads, e, ev;
    const int64_t *seen;         /* by token: how many positions it sees */
    const int64_t *const *rows;  /* by token: their rows in the cache */
    double *score;               /* room for the longest, for each range of heads */
    int64_t longest, tokens, grain;
} attention;

/* One token, one head: scores, softmax by the maximum, weighted sum of values; each sum in order of positions. */
static void attend_one(const attention *a, int64_t t, int64_t h, double *score) {
    const double *q = a->q + (t * a->heads + h) * a->e;
    double *out = a->out + (t * a->heads + h) * a->ev;
    int64_t kv = h / (a->heads / a->kv_heads), n = a->seen[t];
    double m = -INFINITY, l = 0;
    for (int64_t s = 0; s < n; s += 4) { /* four sums side by side, each in order */
        const double *k[4];
        double sum[4] = {0, 0, 0, 0};
        for (int64_t j = 0; j < 4; j++)
            k[j] = a->k + (a->rows[t][s + j < n ? s + j : n - 1] * a->kv_heads + kv) * a->e;
        for (int64_t i = 0; i < a->e; i++)
            for (int64_t j = 0; j < 4; j++)
                sum[j] += q[i] * k[j][i];
        for (int64_t j = 0; j < 4 && s + j < n; j++) {
            score[s + j] = sum[j] * a->scale;
            m = score[s + j] > m ? score[s + j] : m;
        }
    }
    for (int64_t s = 0; s < n; s++) {
        const double *v = a->v + (a->rows[t][s] * a->kv_heads + kv) * a->ev;
        double p = exp(score[s] - m);
        l += p;
        for (int64_t i = 0; i < a->ev; i++)
            out[i] += p * v[i];
    }
    for (int64_t i = 0; i < a->ev; i++)
        out[i] = l > 0 ? out[i] / l : 0;
}

static void attend_heads(void *user, int64_t begin, int64_t end) {
    const attention *a = user;
    for (int64_t t = 0; t < a->tokens; t++)
        for (int64_t h = begin; h < end; h++)
            attend_one(a, t, h, a->score + begin / a->grain * a->longest);
}

/* Which rows of the cache each token sees. The lists of one sequence are one array: a causal token sees a prefix of it. */
static aq_status find_rows(aq_ref_exec *x, aq_arena *arena, int causal, int64_t tokens, int64_t cache_rows, attention *a) {
    int64_t n[6], *seen;
    const int64_t **rows;
    const int32_t *pos = field(x, "pos", &n[0]), *start = field(x, "start", &n[1]), *count = field(x, "rows", &n[2]), *len = field(x, "len", &n[3]),
                  *pages = field(x, "pages", &n[4]);
    int64_t sequences = n[1], table = sequences ? n[4] / sequences : 0;
    AQ_ALLOC(arena, seen, tokens + 1);
    AQ_ALLOC(arena, rows, tokens + 1);
    if (n[0] < tokens || n[2] < sequences || n[3] < sequences)
        return aq_fail(AQ_REFUSED, x->m->file, "batch arrays of %lld positions, %lld sequences: expected %lld tokens", (long long)n[0], (long long)sequences,
                       (long long)tokens);
    for (int64_t b = 0; b < sequences; b++) {
        int64_t *list;
        if (len[b] < 0 || ((int64_t)len[b] + AQ_PAGE - 1) / AQ_PAGE > table || count[b] < 0 || start[b] < 0 || start[b] + (int64_t)count[b] > tokens)
            return aq_fail(AQ_REFUSED, x->m->file, "sequence %lld of length %d, tokens %d.. %d: expected what the batch and its page table hold",
                           (long long)b, len[b], start[b], count[b]);
        AQ_ALLOC(arena, list, (int64_t)len[b] + 1);
        for (int64_t s = 0; s < len[b]; s++) {
            list[s] = (int64_t)pages[b * table + s / AQ_PAGE] * AQ_PAGE + s % AQ_PAGE;
            if (list[s] < 0 || list[s] >= cache_rows)
                return aq_fail(AQ_REFUSED, x->m->file, "page %d of a cache of %lld rows: expected one inside", pages[b * table + s / AQ_PAGE],
                               (long long)cache_rows);
        }
        for (int64_t t = start[b]; t < start[b] + count[b]; t++) {
            int64_t limit = causal && pos[t] + (int64_t)1 < len[b] ? pos[t] + (int64_t)1 : len[b];
            seen[t] = limit > 0 ? limit : 0;
            rows[t] = list;
            a->longest = seen[t] > a->longest ? seen[t] : a->longest;
        }
    }
    a->seen = seen;
    a->rows = rows;
    return AQ_OK;
}

aq_status aq_ref_op_attend(aq_ref_exec *x, const aq_node *n) {
    const aq_ref_val *q = aq_ref_in(x, n, 0), *k = aq_ref_in(x, n, 1), *v = aq_ref_in(x, n, 2);
    attention a = {.heads = q->t.dim[1], .kv_heads = k->t.dim[1], .e = q->t.dim[2], .ev = v->t.dim[2]};
    double *scratch[3] = {NULL, NULL, NULL};
    void *score = NULL;
    aq_arena arena = {0};
    aq_ref_val *out;
    aq_status status;
    size_t room;
    a.tokens = q->t.dim[0];
    AQ_TRY_GOTO(status, close, aq_ref_result(x, n, &out));
    AQ_TRY_GOTO(status, close, find_rows(x, &arena, aq_node_attr(x->m, n, AQ_ATTR_causal) != NULL, a.tokens, k->t.dim[0], &a));
    AQ_TRY_GOTO(status, close, aq_ref_doubles(q, &scratch[0], &a.q));
    AQ_TRY_GOTO(status, close, aq_ref_doubles(k, &scratch[1], &a.k));
    AQ_TRY_GOTO(status, close, aq_ref_doubles(v, &scratch[2], &a.v));
    int threads = x->env->threads > 1 && a.tokens * a.longest * a.heads > 4096 ? x->env->threads : 1;
    a.grain = (a.heads + threads - 1) / threads;
    AQ_TRY_GOTO(status, close, aq_size_mul((size_t)((a.heads + a.grain - 1) / a.grain) * sizeof(double), (size_t)a.longest, "scores", &room));
    AQ_TRY_GOTO(status, close, aq_mem_alloc(room, &score));
    a.out = out->t.values;
    a.scale = aq_node_num(x->m, n, AQ_ATTR_scale, 1);
    a.score = score;
    aq_parallel(threads, a.heads, a.grain, attend_heads, &a);
close:
    for (int i = 0; i < 3; i++)
        aq_mem_free(scratch[i]);
    aq_mem_free(score);
    aq_arena_close(&arena);
    return status;
}
