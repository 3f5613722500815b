/* infer.h: what the rules of infer.c (maps, reductions) and infer_rules.c (contractions, views, states, regions) share. */
#ifndef AQ_IR_INFER_H
#define AQ_IR_INFER_H

#include "ir/internal.h"

/* One application of a rule: the node, and which attributes the rule has read (bit by key). */
typedef struct aq_rule {
    const aq_module *m;
    const aq_node *n;
    uint32_t read;
} aq_rule;

const aq_value *aq_rule_in(const aq_rule *c, int i);
/* "OP: %x is .., %y is ..: expected EXPECTED" */
aq_status aq_rule_refuse(const aq_rule *c, const char *expected);
const aq_attr *aq_rule_attr(aq_rule *c, aq_attr_key key);
/* The attribute within [lo, hi]; `otherwise` where absent (NAN: it must be there). out may be NULL. */
AQ_MUST_USE aq_status aq_rule_num(aq_rule *c, aq_attr_key key, double otherwise, double lo, double hi, double *out);
AQ_MUST_USE aq_status aq_rule_int(aq_rule *c, aq_attr_key key, double otherwise, int64_t lo, int64_t hi, int64_t *out);
int aq_is_float(const aq_value *v);

/* One function a word of the `infer` column. */
aq_status aq_rule_like(aq_rule *c, aq_type *out);
aq_status aq_rule_cast(aq_rule *c, aq_type *out);
aq_status aq_rule_quantize(aq_rule *c, aq_type *out);
aq_status aq_rule_axes(aq_rule *c, aq_type *out);
aq_status aq_rule_argmax(aq_rule *c, aq_type *out);
aq_status aq_rule_rows(aq_rule *c, aq_type *out);
aq_status aq_rule_spec(aq_rule *c, aq_type *out);
aq_status aq_rule_rope(aq_rule *c, aq_type *out);
aq_status aq_rule_append(aq_rule *c, aq_type *out);
aq_status aq_rule_attend(aq_rule *c, aq_type *out);
aq_status aq_rule_heads(aq_rule *c, aq_type *out);
aq_status aq_rule_merge(aq_rule *c, aq_type *out);
aq_status aq_rule_slice(aq_rule *c, aq_type *out);
aq_status aq_rule_transpose(aq_rule *c, aq_type *out);
aq_status aq_rule_reshape(aq_rule *c, aq_type *out);
aq_status aq_rule_field(aq_rule *c, aq_type *out);
aq_status aq_rule_region(aq_rule *c, aq_type *out);

#endif
