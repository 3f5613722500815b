/* rope.c: the attributes of `rope` as one structure, their bounds, and the frequencies they mean. */
#include "ir/rope.h"

#include <math.h>

static const aq_rope none = {.theta = 10000, .factor = 1, .gain = 1};

/* The members by attribute: one list for graphs and nests. */
static void set(aq_rope *r, const aq_attr *a) {
    switch (a->key) {
    case AQ_ATTR_theta: r->theta = a->num; break;
    case AQ_ATTR_factor: r->factor = a->num; break;
    case AQ_ATTR_low: r->low = a->num; break;
    case AQ_ATTR_high: r->high = a->num; break;
    case AQ_ATTR_ramp: r->ramp = a->num; break;
    case AQ_ATTR_gain: r->gain = a->num; break;
    case AQ_ATTR_dim: r->dim = a->num >= 0 && a->num <= INT32_MAX ? (int64_t)a->num : 0; break;
    default: break;
    }
}

aq_rope aq_rope_of_node(const aq_module *m, const aq_node *n) {
    aq_rope r = none;
    for (int i = 0; i < n->n_attr; i++)
        set(&r, &m->attrs.at[n->attr + (aq_id)i]);
    return r;
}

aq_rope aq_rope_of_expr(const aq_nest *n, const aq_expr *e) {
    aq_rope r = none;
    for (int i = 0; i < e->n_attr; i++)
        set(&r, &n->attrs.at[e->attr + (aq_id)i]);
    return r;
}

static int within(double x, double low, double high) { return x >= low && x <= high; }

const char *aq_rope_wrong(const aq_rope *r) {
    if (!within(r->theta, 1e-6, 1e12))
        return "theta from 1e-6 to 1e12";
    if (!within(r->factor, 1e-6, 1e6))
        return "factor from 1e-6 to 1e6";
    if (!within(r->gain, 1e-6, 1e6))
        return "gain from 1e-6 to 1e6";
    if (r->ramp != 0 && r->ramp != 1)
        return "ramp 0 or 1";
    if ((r->low != 0 || r->high != 0 || r->ramp != 0) && !(within(r->low, 1e-30, 1e6) && within(r->high, 1e-30, 1e6) && r->low < r->high))
        return "low below high, both from 1e-30 to 1e6";
    return NULL;
}

int aq_rope_has_band(const aq_rope *r) { return r->high > 0; }

double aq_rope_frequency(const aq_rope *r, int64_t pair) {
    double f = pow(r->theta, -2 * (double)pair / (double)r->dim);
    if (!aq_rope_has_band(r))
        return f;
    double s = r->ramp != 0 ? log(f / r->low) / log(r->high / r->low) : (f - r->low) / (r->high - r->low);
    s = s > 1 ? 1 : s > 0 ? s : 0;
    return f * (s + (1 - s) / r->factor);
}

double aq_rope_angle(const aq_rope *r, int64_t pair, double pos) {
    double f = aq_rope_frequency(r, pair);
    return aq_rope_has_band(r) ? pos * f : pos / r->factor * f;
}
