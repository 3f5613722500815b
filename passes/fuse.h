/* fuse.h: between the two halves of fuse: grouping (fuse.c) and cutting the groups out as regions (fuse_cut.c). */
#ifndef AQ_PASSES_FUSE_H
#define AQ_PASSES_FUSE_H

#include "passes/passes.h"

/* Groups of one body: node positions with the same root share a kernel. */
typedef struct aq_groups {
    aq_module *m;
    aq_id body;
    aq_arena scratch;
    uint32_t n;          /* nodes of the body */
    uint32_t *parent;    /* union-find over positions; a root is the first of its group */
    uint32_t *next;      /* the members of a group as a list from its root on, not in order: position + 1 of the next, 0 = the last */
    uint32_t *tail, *last, *size; /* by root: the end of that list, the largest position, how many */
    uint8_t *holds;      /* by root: AQ_HOLDS_* */
    aq_id *operand;      /* by root: the activation value its dots read, 0 = no dot or several */
    uint32_t *def;       /* value -> position that makes it + 1; 0 = none in this body */
    uint32_t *first_use; /* value -> first of its uses in `uses` */
    uint32_t *n_uses;
    uint32_t *uses;      /* positions */
    uint8_t *is_result;  /* value -> the graph returns it */
    uint32_t *seen, stamp;
    uint32_t *queue;
} aq_groups;
enum { AQ_HOLDS_DOT = 1, AQ_HOLDS_ATTEND = 2 };

uint32_t aq_groups_root(aq_groups *g, uint32_t at);
/* Cuts the groups out of the body: each becomes a `fused` node with a region of its own. */
AQ_MUST_USE aq_status aq_fuse_cut(aq_groups *g);

#endif
