/* fuse.c: which nodes share a kernel. In four sweeps over a canonical, quantised body:
 *
 *   epilogue    a map, view or append joins the kernel that makes its latest input, if that kernel holds a dot (or, for views, attend)
 *   siblings    dots of the same activation value join: q, k, v; gate and up
 *   prologue    from the end backwards: a map, reduction, gather or quantize joins the kernel that is the only reader of its result
 *   the rest    maps and reductions join their only readers among themselves
 *
 * A union is refused where it would put a dot behind a dot, a reduction behind a dot (its columns are not all there yet), attention next to
 * anything but views, or where a path leaves the kernel and comes back. Every edge that stays between kernels gets a note with its reason.
 * Cost: sweeps are linear; each union walks from the smaller of the two groups over the nodes between them.
 *
 * Dropped: joining rope and append into attention (only worth it where the matmul is a library call: design); growing from the largest dot
 * first (same kernels, more code). */
#include "passes/fuse.h"

#include <string.h>

aq_status aq_pass_fuse(aq_module *m, const aq_pass_options *o);

uint32_t aq_groups_root(aq_groups *g, uint32_t at) {
    while (g->parent[at] != at)
        at = g->parent[at] = g->parent[g->parent[at]];
    return at;
}

static const aq_node *node_at(const aq_groups *g, uint32_t at) { return &g->m->nodes.at[g->m->bodies.at[g->body].nodes.at[at]]; }
static uint32_t traits_at(const aq_groups *g, uint32_t at) { return aq_op_of(node_at(g, at)->op)->traits; }

static aq_status note(aq_groups *g, aq_id value, uint32_t reader, int fused, const char *why) {
    aq_note n = {.value = value, .reader = g->m->bodies.at[g->body].nodes.at[reader], .fused = (uint8_t)fused, .why = why};
    AQ_PUSH(&g->m->arena, &g->m->notes, n);
    return AQ_OK;
}

typedef struct path { /* a search from group `from` to group `to` through nodes outside both */
    aq_groups *g;
    uint32_t from, to, n;
} path;

static void start(path *p) {
    p->g->stamp++;
    for (uint32_t i = p->from + 1; i; i = p->g->next[i - 1])
        p->g->queue[p->n++] = i - 1;
}

/* From node `at` to its neighbour. 1: that one is in `to`, and `at` is not in `from`. */
static int step(path *p, int inside, uint32_t neighbour) {
    aq_groups *g = p->g;
    uint32_t root = aq_groups_root(g, neighbour);
    if (root == p->to || root == p->from)
        return root == p->to && !inside;
    if (g->seen[neighbour] != g->stamp) {
        g->seen[neighbour] = g->stamp;
        g->queue[p->n++] = neighbour;
    }
    return 0;
}

/* Positions are a topological order: nothing behind the last of the second group leads into it, nothing before the first of the first comes from it. */
static int forward(aq_groups *g, uint32_t first, uint32_t second) {
    path p = {g, first, second, 0};
    start(&p);
    while (p.n) {
        uint32_t at = g->queue[--p.n];
        int inside = aq_groups_root(g, at) == first;
        const aq_node *n = node_at(g, at);
        for (int k = 0; k < n->n_out; k++)
            for (uint32_t u = 0; u < g->n_uses[n->out + k]; u++) {
                uint32_t reader = g->uses[g->first_use[n->out + k] + u];
                if (reader <= g->last[second] && step(&p, inside, reader))
                    return 1;
            }
    }
    return 0;
}

static int backward(aq_groups *g, uint32_t first, uint32_t second) {
    path p = {g, second, first, 0};
    start(&p);
    while (p.n) {
        uint32_t at = g->queue[--p.n];
        int inside = aq_groups_root(g, at) == second;
        const aq_node *n = node_at(g, at);
        for (int i = 0; i < n->n_in; i++) {
            uint32_t maker = g->def[aq_node_in(g->m, n)[i]];
            if (maker && maker - 1 >= first && step(&p, inside, maker - 1))
                return 1;
        }
    }
    return 0;
}

/* Is there a path from group `from` through nodes outside both groups into group `to`? */
static int path_outside(aq_groups *g, uint32_t from, uint32_t to) { return g->size[from] <= g->size[to] ? forward(g, from, to) : backward(g, from, to); }

static int cycle(aq_groups *g, uint32_t a, uint32_t b) { return path_outside(g, a, b) || path_outside(g, b, a); }

static void join(aq_groups *g, uint32_t a, uint32_t b) {
    uint32_t low = a < b ? a : b, high = a < b ? b : a;
    g->parent[high] = low;
    g->next[g->tail[low]] = high + 1;
    g->tail[low] = g->tail[high];
    g->last[low] = g->last[high] > g->last[low] ? g->last[high] : g->last[low];
    g->size[low] += g->size[high];
    aq_id x = g->operand[a], y = g->operand[b];
    g->operand[low] = !x ? y : !y || x == y ? x : 0;
    g->holds[low] |= g->holds[high];
}

/* --- epilogue ------------------------------------------------------------------------------------------------------------------------ */

/* The input that is made last in this body, as position + 1; 0 = all come from outside, as the arrays of a batch do. */
static uint32_t latest_input(const aq_groups *g, uint32_t at, aq_id *value) {
    const aq_node *n = node_at(g, at);
    uint32_t best = 0;
    for (int i = 0; i < n->n_in; i++) {
        aq_id v = aq_node_in(g->m, n)[i];
        if (g->def[v] > best && node_at(g, g->def[v] - 1)->op != AQ_OP_field)
            best = g->def[v], *value = v;
    }
    return best;
}

/* A node in the middle may read two kernels of the same activations: they become one (gate and up). */
static aq_status join_sibling_inputs(aq_groups *g, uint32_t at) {
    const aq_node *n = node_at(g, at);
    for (int i = 0; i < n->n_in; i++) {
        uint32_t d = g->def[aq_node_in(g->m, n)[i]];
        uint32_t mine = aq_groups_root(g, at), other = d ? aq_groups_root(g, d - 1) : mine;
        if (other == mine || !(g->holds[other] & AQ_HOLDS_DOT) || !g->operand[mine] || g->operand[mine] != g->operand[other] || cycle(g, mine, other))
            continue;
        join(g, mine, other);
    }
    return AQ_OK;
}

static aq_status epilogue(aq_groups *g) {
    for (uint32_t at = 0; at < g->n; at++) {
        uint32_t traits = traits_at(g, at);
        if (!(traits & (AQ_MAP | AQ_VIEW | AQ_STATE)) || node_at(g, at)->op == AQ_OP_quantize || (traits & AQ_INDEX))
            continue;
        aq_id value = 0;
        uint32_t d = latest_input(g, at, &value);
        if (!d)
            continue;
        uint32_t root = aq_groups_root(g, d - 1), mine = aq_groups_root(g, at);
        int fits = (g->holds[root] & AQ_HOLDS_DOT) || ((g->holds[root] & AQ_HOLDS_ATTEND) && (traits & AQ_VIEW));
        if (!fits || cycle(g, root, mine))
            continue;
        join(g, root, mine);
        AQ_TRY(note(g, value, at, 1, "applied to the tile while it is in registers"));
        AQ_TRY(join_sibling_inputs(g, at));
    }
    return AQ_OK;
}

/* --- siblings ------------------------------------------------------------------------------------------------------------------------ */

static aq_status siblings(aq_groups *g) {
    for (uint32_t at = 0; at < g->n; at++) {
        if (node_at(g, at)->op != AQ_OP_dot)
            continue;
        aq_id x = aq_node_in(g->m, node_at(g, at))[0];
        for (uint32_t u = 0; u < g->n_uses[x]; u++) {
            uint32_t other = g->uses[g->first_use[x] + u], a = aq_groups_root(g, at), b = aq_groups_root(g, other);
            if (other >= at || a == b || node_at(g, other)->op != AQ_OP_dot || !g->operand[a] || g->operand[a] != g->operand[b] || cycle(g, a, b))
                continue;
            join(g, a, b);
            AQ_TRY(note(g, x, at, 1, "one reading of the activations serves both dots"));
        }
    }
    return AQ_OK;
}

/* --- prologue and the rest ----------------------------------------------------------------------------------------------------------- */

/* The one group that reads all results of `at`; g->n if there are several, none, or the graph returns one. */
static uint32_t only_reader(aq_groups *g, uint32_t at) {
    const aq_node *p = node_at(g, at);
    uint32_t root = g->n;
    for (int k = 0; k < p->n_out; k++) {
        aq_id v = p->out + (aq_id)k;
        if (g->is_result[v])
            return g->n;
        for (uint32_t u = 0; u < g->n_uses[v]; u++) {
            uint32_t r = aq_groups_root(g, g->uses[g->first_use[v] + u]);
            if (r != aq_groups_root(g, at) && root != g->n && r != root)
                return g->n;
            if (r != aq_groups_root(g, at))
                root = r;
        }
    }
    return root;
}

/* Do all uses of `at` in its reader's group come before the dot? A map that reads a dot's result and this one would put it behind: fine for
 * maps (computed again in the epilogue), not for reductions. */
static int may_prologue(const aq_groups *g, uint32_t at) {
    uint32_t t = traits_at(g, at);
    return (t & (AQ_MAP | AQ_REDUCE | AQ_GATHER)) && !(t & AQ_INDEX);
}

static aq_status prologue(aq_groups *g, int with_dots) {
    for (uint32_t at = g->n; at-- > 0;) {
        uint32_t mine = aq_groups_root(g, at);
        if (!may_prologue(g, at) || g->holds[mine])
            continue;
        uint32_t root = only_reader(g, at);
        if (root == g->n || (g->holds[root] & AQ_HOLDS_ATTEND) || !!(g->holds[root] & AQ_HOLDS_DOT) != with_dots)
            continue;
        if (cycle(g, mine, root))
            continue;
        join(g, mine, root);
        const aq_node *n = node_at(g, at);
        for (uint32_t u = 0; u < g->n_uses[n->out]; u++)
            AQ_TRY(note(g, n->out, g->uses[g->first_use[n->out] + u], 1,
                        with_dots ? "made once a row before the dot, never stored as f32" : "stays in registers"));
    }
    return AQ_OK;
}

/* --- reasons ------------------------------------------------------------------------------------------------------------------------- */

static const char *reason(aq_groups *g, aq_id value, uint32_t maker, uint32_t reader) {
    const aq_node *n = node_at(g, reader);
    uint32_t a = aq_groups_root(g, maker), b = aq_groups_root(g, reader);
    if (n->op == AQ_OP_attend)
        return "attention needs every row of it, from all workers";
    if (g->holds[a] & AQ_HOLDS_ATTEND)
        return "attention tiles end at a head: the dot needs the whole row";
    if ((g->holds[a] & AQ_HOLDS_DOT) && (g->holds[b] & AQ_HOLDS_DOT))
        return "it is complete only when every tile of the dot before is: a row of it is needed whole";
    if (g->n_uses[value] > 1)
        return "several kernels read it: stored once is cheaper than made twice";
    if (g->is_result[value])
        return "the graph returns it";
    return "a path leaves the kernel and comes back";
}

static aq_status unfused_notes(aq_groups *g) {
    for (uint32_t at = 0; at < g->n; at++) {
        const aq_node *n = node_at(g, at);
        for (int i = 0; i < n->n_in; i++) {
            aq_id v = aq_node_in(g->m, n)[i];
            if (g->def[v] && node_at(g, g->def[v] - 1)->op != AQ_OP_field && aq_groups_root(g, g->def[v] - 1) != aq_groups_root(g, at))
                AQ_TRY(note(g, v, at, 0, reason(g, v, g->def[v] - 1, at)));
        }
    }
    return AQ_OK;
}

/* --- tables -------------------------------------------------------------------------------------------------------------------------- */

static aq_status fill_uses(aq_groups *g) {
    uint32_t total = 0, values = g->m->values.n;
    for (uint32_t at = 0; at < g->n; at++)
        for (int i = 0; i < node_at(g, at)->n_in; i++)
            g->n_uses[aq_node_in(g->m, node_at(g, at))[i]]++;
    for (uint32_t v = 0; v < values; v++)
        g->first_use[v] = total, total += g->n_uses[v], g->n_uses[v] = 0;
    AQ_ALLOC(&g->scratch, g->uses, total + 1);
    for (uint32_t at = 0; at < g->n; at++)
        for (int i = 0; i < node_at(g, at)->n_in; i++) {
            aq_id v = aq_node_in(g->m, node_at(g, at))[i];
            g->uses[g->first_use[v] + g->n_uses[v]++] = at;
        }
    return AQ_OK;
}

static aq_status groups_open(aq_groups *g) {
    const aq_body *b = &g->m->bodies.at[g->body];
    uint32_t values = g->m->values.n;
    g->n = b->nodes.n;
    AQ_ALLOC(&g->scratch, g->parent, g->n + 1);
    AQ_ALLOC(&g->scratch, g->next, g->n + 1);
    AQ_ALLOC(&g->scratch, g->tail, g->n + 1);
    AQ_ALLOC(&g->scratch, g->last, g->n + 1);
    AQ_ALLOC(&g->scratch, g->size, g->n + 1);
    AQ_ALLOC(&g->scratch, g->holds, g->n + 1);
    AQ_ALLOC(&g->scratch, g->operand, g->n + 1);
    AQ_ALLOC(&g->scratch, g->seen, g->n + 1);
    AQ_ALLOC(&g->scratch, g->queue, g->n + 1);
    AQ_ALLOC(&g->scratch, g->def, values);
    AQ_ALLOC(&g->scratch, g->first_use, values);
    AQ_ALLOC(&g->scratch, g->n_uses, values);
    AQ_ALLOC(&g->scratch, g->is_result, values);
    for (uint32_t at = 0; at < g->n; at++) {
        const aq_node *n = node_at(g, at);
        g->parent[at] = g->tail[at] = g->last[at] = at;
        g->size[at] = 1;
        g->holds[at] = n->op == AQ_OP_dot ? AQ_HOLDS_DOT : n->op == AQ_OP_attend ? AQ_HOLDS_ATTEND : 0;
        g->operand[at] = n->op == AQ_OP_dot ? aq_node_in(g->m, n)[0] : 0;
        for (int k = 0; k < n->n_out; k++)
            g->def[n->out + k] = at + 1;
    }
    for (uint32_t i = 0; i < b->results.n; i++)
        g->is_result[b->results.at[i]] = 1;
    return fill_uses(g);
}

static int has_regions(const aq_module *m, const aq_body *b) {
    for (uint32_t i = 0; i < b->nodes.n; i++)
        if (m->nodes.at[b->nodes.at[i]].op == AQ_OP_fused)
            return 1;
    return 0;
}

static aq_status fuse_body(aq_groups *g) {
    AQ_TRY(groups_open(g));
    AQ_TRY(epilogue(g));
    AQ_TRY(siblings(g));
    AQ_TRY(prologue(g, 1));
    AQ_TRY(prologue(g, 0));
    AQ_TRY(unfused_notes(g));
    return aq_fuse_cut(g);
}

aq_status aq_pass_fuse(aq_module *m, const aq_pass_options *o) {
    (void)o;
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        if (has_regions(m, &m->bodies.at[m->graphs.at[i]]))
            continue; /* regions written by hand are the file of fusion choices: kept as they are */
        aq_groups g = {.m = m, .body = m->graphs.at[i]};
        aq_status status = fuse_body(&g);
        aq_arena_close(&g.scratch);
        AQ_TRY(status);
    }
    return AQ_OK;
}
