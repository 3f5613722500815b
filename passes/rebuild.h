/* rebuild.h: how a pass writes a body anew: walk the old nodes in order, read every input through the map of replaced values, append kept and
 * new nodes to a new list, and put it in place at the end. Ids of values stay valid throughout; nothing is freed. */
#ifndef AQ_PASSES_REBUILD_H
#define AQ_PASSES_REBUILD_H

#include "ir/graph.h"

typedef struct aq_rebuild {
    aq_module *m;
    aq_id body;
    aq_arena scratch; /* of the map */
    AQ_VEC(aq_id) map; /* value -> what replaced it; 0 = itself */
    AQ_VEC(aq_id) nodes;
} aq_rebuild;

/* Opens over `body`; aq_rebuild_close frees in any case, aq_rebuild_finish puts the new list and the results in place. */
aq_rebuild aq_rebuild_open(aq_module *m, aq_id body);
void aq_rebuild_close(aq_rebuild *r);
AQ_MUST_USE aq_status aq_rebuild_finish(aq_rebuild *r);

/* What value v is called now. */
aq_id aq_rebuild_value(const aq_rebuild *r, aq_id v);
/* From now on `from` is `to`. */
AQ_MUST_USE aq_status aq_rebuild_replace(aq_rebuild *r, aq_id from, aq_id to);
/* Keeps an old node: its inputs are read through the map; a region whose inputs became numbers or equal gets fewer. */
AQ_MUST_USE aq_status aq_rebuild_keep(aq_rebuild *r, aq_id node);
/* A new node of one result, layer and place in the text as node `like`'s; its result in *out_value. */
AQ_MUST_USE aq_status aq_rebuild_add(aq_rebuild *r, aq_op op, const aq_id *in, int n_in, const aq_attr *attr, int n_attr, aq_id like, aq_id *out_value);

/* rewrite.c: after the inputs of a fused node changed: a number given to the region goes inside, a value given twice is given once. */
void aq_region_tidy(aq_module *m, aq_id node);

#endif
