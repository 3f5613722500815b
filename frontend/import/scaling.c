/* scaling.c: how a model stretches its rotary positions, out of each form's keys, and as attributes of the op (ir/rope.h).
 *
 *   linear   positions divided by factor                          dynamic  a base for the length (compile_model.c)
 *   llama3   only low frequencies divided, by turns within the original length; GGUF holds what each pair is divided by instead
 *   yarn     the same with a ramp over the pairs, and an attention factor on what is turned
 *
 * Keys: transformers' modeling_rope_utils (rope_scaling, and rope_parameters of version 5) and llama.cpp's LLM_KV_ROPE_SCALING_*. GGUF has no
 * place for Llama 3's four figures: aq_scaling_from_factors finds ones that give the stored factors, so one mechanism serves both, and
 * `convert` can write config.json again. Keeping the factors themselves was considered: a list of DH/2 numbers on every rope of every text. */
#include "frontend/import/internal.h"
#include "frontend/reasons.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PI 3.14159265358979323846
#define REFUSE AQ_FIGURE_REFUSE

static const char *const names[] = {"none", "linear", "dynamic", "llama3", "yarn"};
const char *aq_rope_scaling_name(aq_rope_scaling s) { return names[s]; }

double aq_scaling_gain(double factor, double mscale) { return factor > 1 ? 0.1 * mscale * log(factor) + 1 : 1; }

/* The pair that turns so often within n positions, as a fraction; yarn's ramp goes from that of beta_fast to that of beta_slow. */
static double pair_of(const aq_config *c, double turns) { return (double)c->DH * log(c->original / (turns * 2 * PI)) / (2 * log(c->theta)); }

static void yarn_band(const aq_config *c, aq_rope *r) {
    double from = pair_of(c, c->high), to = pair_of(c, c->low);
    from = c->exact_pairs ? from : floor(from);
    to = c->exact_pairs ? to : ceil(to);
    from = from > 0 ? from : 0;
    to = to < (double)(c->DH - 1) ? to : (double)(c->DH - 1);
    if (from == to) /* transformers' way around a division by zero */
        to += 0.001;
    r->high = pow(c->theta, -2 * from / (double)c->DH);
    r->low = pow(c->theta, -2 * to / (double)c->DH);
    r->ramp = 1;
}

aq_rope aq_config_rope(const aq_config *c) {
    aq_rope r = {.theta = c->theta, .factor = 1, .gain = c->gain != 0 ? c->gain : 1, .dim = c->DH};
    if (c->scaling == AQ_ROPE_LINEAR || c->scaling == AQ_ROPE_LLAMA3 || c->scaling == AQ_ROPE_YARN)
        r.factor = c->scaling_factor;
    if (c->scaling == AQ_ROPE_LLAMA3) {
        r.low = c->low * 2 * PI / c->original;
        r.high = c->high * 2 * PI / c->original;
    } else if (c->scaling == AQ_ROPE_YARN) {
        yarn_band(c, &r);
    }
    return r;
}

/* ---- keys --------------------------------------------------------------------------------------------------------------------------- */

/* Where the keys stand: OBJECT.KEY of config.json, or .rope.scaling.KEY. */
typedef struct place {
    const aq_figure_source *s;
    const char *object;
    int gguf;
} place;

typedef char room[64];
static const char *key_at(const place *p, const char *key, char *at) {
    snprintf(at, sizeof(room), "%s.%s", p->object, key);
    return at;
}

static aq_figure look(const place *p, const char *key) { return aq_figure_look(p->s, key_at(p, key, (room){0})); }

/* Overwrites *io where the key is there; a key of NULL is one that this form has not. */
static aq_status real(const place *p, const char *hf, const char *gguf, double *io) {
    const char *key = p->gguf ? gguf : hf;
    aq_figure f = key ? look(p, key) : (aq_figure){0};
    return f.kind == AQ_FIGURE_ABSENT ? AQ_OK : aq_figure_real(p->s, key_at(p, key, (room){0}), f, io);
}

static aq_status needed(const place *p, const char *key, const char *what, double *out) {
    if (look(p, key).kind == AQ_FIGURE_ABSENT)
        return aq_figure_missing(p->s, key_at(p, key, (room){0}), what);
    return real(p, key, key, out);
}

/* Beside the other figures (Phi's way, which transformers prefers), in the object, or the model's whole length. */
static aq_status read_original(const place *p, aq_config *c) {
    int64_t n = c->max_length;
    const char *key = p->gguf ? "original_context_length" : "original_max_position_embeddings", *at = key;
    aq_figure f = p->gguf ? (aq_figure){0} : aq_figure_look(p->s, key);
    if (f.kind == AQ_FIGURE_ABSENT)
        f = look(p, key), at = key_at(p, key, (room){0});
    if (f.kind != AQ_FIGURE_ABSENT)
        AQ_TRY(aq_figure_size(p->s, at, f, &n));
    c->original = (double)n;
    return AQ_OK;
}

static aq_status read_llama3(const place *p, aq_config *c) {
    AQ_TRY(needed(p, "factor", "the factor of the rope scaling", &c->scaling_factor));
    AQ_TRY(needed(p, "low_freq_factor", "the turns up to which a frequency is divided (1 for Llama 3.1)", &c->low));
    AQ_TRY(needed(p, "high_freq_factor", "the turns from which a frequency is kept (4 for Llama 3.1)", &c->high));
    return read_original(p, c);
}

/* 0 and absent are the same: transformers asks whether both are true. */
static aq_status read_mscale(const place *p, const char *key, double *out) {
    aq_figure f = look(p, key);
    *out = 0;
    return f.kind == AQ_FIGURE_NUMBER && f.number == 0 ? AQ_OK : real(p, key, NULL, out);
}

/* The attention factor: given; or by mscale and mscale_all_dim; or by the factor. llama.cpp multiplies it by attn_factor, and reads its
 * converter's yarn_attn_factor for some architectures only: here it is what transformers means by attention_factor. */
static aq_status read_gain(const place *p, aq_config *c) {
    double one = 1, all = 0, times = 1;
    if (p->gguf) {
        AQ_TRY(real(p, NULL, "yarn_log_multiplier", &all));
        AQ_TRY(real(p, NULL, "attn_factor", &times));
    } else {
        AQ_TRY(read_mscale(p, "mscale", &one));
        AQ_TRY(read_mscale(p, "mscale_all_dim", &all));
    }
    c->gain = aq_scaling_gain(c->scaling_factor, 1);
    if (one != 0 && all != 0)
        c->gain = aq_scaling_gain(c->scaling_factor, one) / aq_scaling_gain(c->scaling_factor, all);
    AQ_TRY(real(p, "attention_factor", "yarn_attn_factor", &c->gain));
    c->gain *= times;
    return AQ_OK;
}

static aq_status read_yarn(const place *p, aq_config *c) {
    AQ_TRY(read_original(p, c));
    c->scaling_factor = (double)c->max_length / c->original;
    if (p->gguf)
        AQ_TRY(needed(p, "factor", "the factor of the rope scaling", &c->scaling_factor));
    AQ_TRY(real(p, "factor", "factor", &c->scaling_factor));
    c->low = 1;
    c->high = 32;
    AQ_TRY(real(p, "beta_slow", "yarn_beta_slow", &c->low));
    AQ_TRY(real(p, "beta_fast", "yarn_beta_fast", &c->high));
    double extrapolation = 1;
    AQ_TRY(real(p, NULL, "yarn_ext_factor", &extrapolation));
    if (extrapolation != 1)
        return REFUSE(AQ_WHY_SCALING_EXTRAPOLATION, p->s, ".rope.scaling.yarn_ext_factor", "%.17g: expected 1, yarn as it was published", extrapolation);
    aq_figure truncate = look(p, "truncate");
    if (truncate.kind != AQ_FIGURE_ABSENT && truncate.kind != AQ_FIGURE_BOOL)
        return REFUSE(AQ_WHY_SCALING_TRUNCATE, p->s, key_at(p, "truncate", (room){0}), "not true or false");
    c->exact_pairs = truncate.kind == AQ_FIGURE_BOOL && truncate.number == 0;
    return read_gain(p, c);
}

static aq_status check_scaling(const place *p, const aq_config *c) {
    aq_rope r = aq_config_rope(c);
    const char *expected = c->scaling_factor >= 1e-6 && c->scaling_factor <= 1e6 ? NULL : "factor from 1e-6 to 1e6";
    if (!expected && (c->scaling == AQ_ROPE_LLAMA3 || c->scaling == AQ_ROPE_YARN) && !(r.low < r.high))
        return REFUSE(AQ_WHY_SCALING_BAND, p->s, p->object, "no frequency lies between %s: expected the slower first, and an original length that holds such turns",
                      c->scaling == AQ_ROPE_YARN ? "beta_slow and beta_fast" : "low_freq_factor and high_freq_factor");
    expected = expected ? expected : aq_rope_wrong(&r);
    return expected ? REFUSE(AQ_WHY_SCALING_BOUNDS, p->s, p->object, "a figure far from any that means something: expected %s", expected) : AQ_OK;
}

/* The object of config.json that says a kind, and its key for it. */
static aq_figure find_kind(place *p, const char **key) {
    static const struct {
        const char *object, *key;
    } at[] = {{"rope_scaling", "rope_type"}, {"rope_scaling", "type"}, {"rope_parameters", "rope_type"}, {"rope_parameters", "type"}};
    aq_figure kind = {0};
    for (size_t i = 0; i < 4 && kind.kind == AQ_FIGURE_ABSENT; i++) {
        p->object = at[i].object;
        *key = at[i].key;
        kind = look(p, *key);
    }
    return kind;
}

/* GGUF: no type means linear, no factor or 0 of linear means none; the factor has an old name too. llama.cpp multiplies by attn_factor whatever
 * the type; no model is known that has one without yarn, and config.json could not say it. */
static aq_status gguf_kind(place *p, aq_config *c, aq_figure *kind) {
    *kind = look(p, "type");
    aq_figure factor = look(p, "factor"), old = aq_figure_look(p->s, ".rope.scale_linear"), gain = look(p, "attn_factor");
    if (!aq_figure_is(*kind, "yarn") && gain.kind != AQ_FIGURE_ABSENT && !(gain.kind == AQ_FIGURE_NUMBER && gain.number == 1))
        return REFUSE(AQ_WHY_SCALING_GAIN, p->s, ".rope.scaling.attn_factor", "an attention factor without yarn: expected 1, or no such key");
    if (kind->kind != AQ_FIGURE_ABSENT && !aq_figure_is(*kind, "linear"))
        return AQ_OK;
    *kind = (aq_figure){0};
    const char *key = factor.kind == AQ_FIGURE_ABSENT ? ".rope.scale_linear" : ".rope.scaling.factor";
    factor = factor.kind == AQ_FIGURE_ABSENT ? old : factor;
    if (factor.kind == AQ_FIGURE_ABSENT || (factor.kind == AQ_FIGURE_NUMBER && factor.number == 0))
        return AQ_OK;
    AQ_TRY(aq_figure_real(p->s, key, factor, &c->scaling_factor));
    c->scaling = c->scaling_factor != 1 ? AQ_ROPE_LINEAR : AQ_ROPE_NONE;
    return check_scaling(p, c);
}

static aq_status read_kind(const place *p, aq_config *c) {
    switch (c->scaling) {
    case AQ_ROPE_LLAMA3: return read_llama3(p, c);
    case AQ_ROPE_YARN: return read_yarn(p, c);
    default: return needed(p, "factor", "the factor of the rope scaling", &c->scaling_factor);
    }
}

aq_status aq_scaling_read(const aq_figure_source *s, aq_config *c) {
    place p = {s, ".rope.scaling", s->naming == AQ_NAMING_GGUF};
    const char *key = "type";
    aq_figure kind;
    if (p.gguf)
        AQ_TRY(gguf_kind(&p, c, &kind));
    else
        kind = find_kind(&p, &key);
    if (kind.kind == AQ_FIGURE_ABSENT || aq_figure_is(kind, "none") || aq_figure_is(kind, "default"))
        return AQ_OK;
    for (int i = AQ_ROPE_LINEAR; i <= AQ_ROPE_YARN && !c->scaling; i++)
        if (aq_figure_is(kind, names[i]) && !(p.gguf && i == AQ_ROPE_LLAMA3)) /* there its factors are a tensor */
            c->scaling = (aq_rope_scaling)i;
    if (!c->scaling)
        return REFUSE(AQ_WHY_FIGURE_SCALING, s, key_at(&p, key, (room){0}), "rope scaling \"%.*s\" is not supported: expected linear, dynamic, yarn%s or none",
                      kind.kind == AQ_FIGURE_TEXT && kind.text.n < 40 ? (int)kind.text.n : 0, kind.text.s ? kind.text.s : "", p.gguf ? "" : ", llama3");
    AQ_TRY(read_kind(&p, c));
    return check_scaling(&p, c);
}

/* ---- the factors of a GGUF file ------------------------------------------------------------------------------------------------------ */

void aq_scaling_factors(const aq_config *c, float *out) {
    aq_rope r = aq_config_rope(c), plain = {.theta = c->theta, .factor = 1, .gain = 1, .dim = c->DH};
    for (int64_t i = 0; i < c->DH / 2; i++)
        out[i] = (float)(aq_rope_frequency(&plain, i) / aq_rope_frequency(&r, i));
}

static float factor_at(const aq_stored *t, int64_t i) {
    float f;
    memcpy(&f, t->data + 4 * (size_t)i, 4);
    return f;
}

/* Converters compute them in f32, from differences: good to about 3e-6. */
static int gives(const aq_config *c, const aq_stored *t) {
    aq_rope r = aq_config_rope(c), plain = {.theta = c->theta, .factor = 1, .gain = 1, .dim = c->DH};
    if ((c->scaling == AQ_ROPE_LLAMA3 && !(c->original >= 1 && c->original <= 1 << 24)) || aq_rope_wrong(&r))
        return 0;
    for (int64_t i = 0; i < c->DH / 2; i++)
        if (!(fabs(aq_rope_angle(&plain, i, 1) / aq_rope_angle(&r, i, 1) / factor_at(t, i) - 1) < 2e-5))
            return 0;
    return 1;
}

/* The slower end of a line over the frequency that is sm at fm: the next slower pair, if its faster end, where it is 1, is then no faster than the
 * next faster pair; else the one whose faster end that is. */
static double one_between(double slower, double fm, double faster, double sm) {
    return slower + (fm - slower) / sm <= faster ? slower : (fm - sm * faster) / (1 - sm);
}

/* Only the ratios of low, high and the original length show: low becomes about 1, the length whole. The part kept, s = (1/g - 1/F) / (1 - 1/F), is
 * a line over the frequency between low and high: two pairs on it give it; one alone leaves a choice; none: it rises between two neighbours. */
static void fit(aq_config *c, const aq_stored *t) {
    int64_t n = c->DH / 2, first = -1, last = -1, kept = -1;
    double F = factor_at(t, n - 1), low, high;
    for (int64_t i = 0; i < n; i++) {
        double g = factor_at(t, i);
        if (fabs(g - 1) < 1e-6)
            kept = i;
        else if (fabs(g / F - 1) >= 1e-6)
            first = first < 0 ? i : first, last = i;
    }
#define FREQUENCY(i) pow(c->theta, -2 * (double)(i) / (double)c->DH)
#define KEPT(i) ((1 / factor_at(t, i) - 1 / F) / (1 - 1 / F))
    if (first < 0) {
        low = FREQUENCY(kept + 1);
        high = FREQUENCY(kept);
    } else if (first == last) {
        low = one_between(FREQUENCY(last + 1), FREQUENCY(last), FREQUENCY(last - 1), KEPT(last));
        high = low + (FREQUENCY(last) - low) / KEPT(last);
    } else {
        double rise = (KEPT(first) - KEPT(last)) / (FREQUENCY(first) - FREQUENCY(last));
        low = FREQUENCY(last) - KEPT(last) / rise;
        high = low + 1 / rise;
    }
#undef FREQUENCY
#undef KEPT
    c->scaling = AQ_ROPE_LLAMA3;
    c->scaling_factor = F;
    c->original = round(2 * PI / low);
    c->low = c->original * low / (2 * PI);
    c->high = c->original * high / (2 * PI);
}

static double near(double x) {
    double y = round(4 * x) / 4;
    return fabs(y - x) < 1e-3 * fabs(x) ? y : x;
}

aq_status aq_scaling_from_factors(const aq_stored *t, aq_config *c) {
    int64_t n = c->DH / 2;
    if (t->dtype != AQ_F32 || t->rank != 1 || t->dim[0] != n)
        return aq_import_refuse(AQ_WHY_FACTORS_SHAPE, t->file, "tensor", t->name.s, t->name.n,
                                "another shape or type: expected f32 [%lld], one factor a pair", (long long)n);
    int same = 1;
    for (int64_t i = 0; i < n; i++) {
        float g = factor_at(t, i);
        if (!(g >= 1e-6f && g <= 1e6f))
            return aq_import_refuse(AQ_WHY_FACTORS_BOUNDS, t->file, "tensor", t->name.s, t->name.n,
                                    "factor %lld is %g: expected a number from 1e-6 to 1e6", (long long)i, g);
        same &= g == factor_at(t, 0);
    }
    if (same && factor_at(t, 0) == 1)
        return AQ_OK;
    aq_config made = *c, rounded;
    if (same) {
        made.scaling = AQ_ROPE_LINEAR;
        made.scaling_factor = factor_at(t, 0);
    } else {
        fit(&made, t);
    }
    rounded = made;
    rounded.low = near(made.low);
    rounded.high = near(made.high);
    if (c->scaling != AQ_ROPE_NONE || !gives(&made, t))
        return aq_import_refuse(AQ_WHY_FACTORS_FOREIGN, t->file, "tensor", t->name.s, t->name.n,
                                "factors that are not Llama 3's, or beside another scaling: expected 1 for fast pairs, one factor for slow ones, and its ramp between");
    *c = gives(&rounded, t) ? rounded : made;
    return AQ_OK;
}
