/* dot.c: one box an op, one edge a value with its type; weights, states and parameters are drawn where they are read, so that a weight
 * used in thirty layers does not pull the picture together. */
#include "frontend/cli/dot.h"

#include <inttypes.h>
#include <stdio.h>

static void print_type(const aq_module *m, const aq_type *t) {
    if (t->is_batch) {
        printf("batch");
        return;
    }
    printf("%s[", aq_dtype_of(t->dtype)->name);
    for (int i = 0; i < t->rank; i++) {
        printf(i ? "," : "");
        if (!t->dim[i].sym)
            printf("%" PRId64, t->dim[i].k);
        else if (t->dim[i].k == 1)
            printf("%s", m->syms.at[t->dim[i].sym].name);
        else
            printf("%" PRId64 "*%s", t->dim[i].k, m->syms.at[t->dim[i].sym].name);
    }
    printf("]");
}

static void print_leaf(const aq_module *m, aq_id v, aq_id reader, int place) {
    const aq_value *x = &m->values.at[v];
    printf("    v%" PRIu32 "_%" PRIu32 "_%d [shape=plaintext, label=\"", v, reader, place);
    if (x->kind == AQ_VALUE_CONST)
        printf("%g", x->number);
    else
        printf("%s%s", x->kind == AQ_VALUE_WEIGHT ? "@" : x->kind == AQ_VALUE_STATE ? "$" : "%", x->name ? x->name : "?");
    printf("\"];\n    v%" PRIu32 "_%" PRIu32 "_%d -> n%" PRIu32 ";\n", v, reader, place, reader);
}

static void print_node(const aq_module *m, aq_id id) {
    const aq_node *n = &m->nodes.at[id];
    const char *kernel = n->op == AQ_OP_fused && n->body ? m->bodies.at[n->body].name : NULL;
    printf("    n%" PRIu32 " [shape=%s, label=\"%s%s%s", id, kernel ? "component" : "box", aq_op_of(n->op)->name, kernel ? " " : "", kernel ? kernel : "");
    if (n->layer >= 0)
        printf("\\nlayer %" PRId32, n->layer);
    printf("\"];\n");
    for (int i = 0; i < n->n_in; i++) {
        aq_id v = aq_node_in(m, n)[i];
        const aq_value *x = &m->values.at[v];
        if (x->kind != AQ_VALUE_RESULT) {
            print_leaf(m, v, id, i);
            continue;
        }
        printf("    n%" PRIu32 " -> n%" PRIu32 " [label=\"", x->node, id);
        print_type(m, &x->type);
        printf("\"];\n");
    }
}

void aq_dot_print(const aq_module *m) {
    for (uint32_t g = 0; g < m->graphs.n; g++) {
        const aq_body *b = &m->bodies.at[m->graphs.at[g]];
        printf("digraph \"%s\" {\n    rankdir=TB;\n    node [fontname=\"monospace\", fontsize=10];\n    edge [fontname=\"monospace\", fontsize=8];\n", b->name);
        for (uint32_t i = 0; i < b->nodes.n; i++)
            print_node(m, b->nodes.at[i]);
        for (uint32_t i = 0; i < b->results.n; i++) {
            const aq_value *x = &m->values.at[b->results.at[i]];
            printf("    result%" PRIu32 " [shape=plaintext, label=\"result\"];\n", i);
            if (x->kind == AQ_VALUE_RESULT)
                printf("    n%" PRIu32 " -> result%" PRIu32 ";\n", x->node, i);
        }
        printf("}\n");
    }
}
