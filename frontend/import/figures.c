/* figures.c: the figures of the architecture out of any form's metadata, and all their rules.
 *
 * One table of keys (figures.def), one look-up function per form: what a figure may be is said once, here, and every refusal names the
 * file and the key. Order: aq_figures_read = table, completions (defaults, FlagAI's width), bounds, rope scaling (scaling.c), what we do not support. */
#include "frontend/import/internal.h"
#include "frontend/reasons.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Each size is at most 2^24, so products of two fit 2^48; layers fewer, since each becomes nodes of a graph. */
enum { LARGEST = 1 << 24, MOST_LAYERS = 4096 };

typedef enum kind { SIZE, REAL, ID } kind;

static const struct row {
    const char *key[AQ_NAMINGS];
    kind kind;
    size_t offset;
} rows[] = {
#define FIGURE(member, kind, hf, flagai, gguf) {{gguf, hf, flagai}, kind, offsetof(aq_config, member)},
#include "frontend/import/figures.def"
#undef FIGURE
};

aq_figure aq_figure_look(const aq_figure_source *s, const char *key) {
    char full[200];
    if (*key != '.')
        return s->get(s, key);
    snprintf(full, sizeof full, "%s%s", s->prefix, key);
    return s->get(s, full);
}

#define REFUSE AQ_FIGURE_REFUSE
const char *aq_figure_key(const aq_figure_source *s, const char *key, char room[200]) {
    snprintf(room, 200, "%s%s", *key == '.' ? s->prefix : "", key);
    return room;
}

aq_status aq_figure_missing(const aq_figure_source *s, const char *key, const char *expected) {
    return REFUSE(AQ_WHY_FIGURE_MISSING, s, key, "missing: expected %s", expected);
}

aq_status aq_figure_size(const aq_figure_source *s, const char *key, aq_figure f, int64_t *out) {
    if (f.kind != AQ_FIGURE_NUMBER)
        return REFUSE(AQ_WHY_FIGURE_NO_NUMBER, s, key, "not one number: expected a whole number");
    if (!(f.number >= 1 && f.number <= LARGEST) || f.number != floor(f.number))
        return REFUSE(AQ_WHY_FIGURE_SIZE, s, key, "%.17g: expected a whole number from 1 to %d", f.number, LARGEST);
    *out = (int64_t)f.number;
    return AQ_OK;
}

aq_status aq_figure_real(const aq_figure_source *s, const char *key, aq_figure f, double *out) {
    if (f.kind != AQ_FIGURE_NUMBER)
        return REFUSE(AQ_WHY_FIGURE_NO_REAL, s, key, "not a number: expected a positive number");
    if (!(f.number >= 1e-37 && f.number <= 1e12)) /* as f32, which is what GGUF holds, still a positive normal number */
        return REFUSE(AQ_WHY_FIGURE_REAL, s, key, "%.17g: expected a number above 0, at most 1e12, in f32", f.number);
    *out = f.number;
    return AQ_OK;
}

/* A list of ids (config.json may give several ends) means its first. -1 is how some files say "none". */
static aq_status read_id(const aq_figure_source *s, const char *key, aq_figure f, int32_t *out) {
    char first[80];
    snprintf(first, sizeof first, "%s.0", key);
    if (f.kind == AQ_FIGURE_OTHER)
        f = aq_figure_look(s, first);
    if (f.kind != AQ_FIGURE_NUMBER || !(f.number >= -1 && f.number <= INT32_MAX) || f.number != floor(f.number))
        return REFUSE(AQ_WHY_FIGURE_TOKEN_ID, s, key, "not a token number: expected a whole number from -1 to %d", INT32_MAX);
    *out = (int32_t)f.number;
    return AQ_OK;
}

void aq_config_add_end(aq_config *c, int32_t id) {
    int is_new = id >= 0 && id != c->eos && c->n_ends < AQ_MOST_ENDS;
    for (uint32_t i = 0; i < c->n_ends; i++)
        is_new &= c->ends[i] != id;
    if (is_new)
        c->ends[c->n_ends++] = id;
}

aq_status aq_figure_ends(const aq_figure_source *s, const char *key, aq_config *c) {
    aq_figure f = aq_figure_look(s, key);
    char item[80];
    int32_t id = -1;
    int is_list = f.kind == AQ_FIGURE_OTHER;
    for (int i = 0; f.kind != AQ_FIGURE_ABSENT; i++) {
        AQ_TRY(read_id(s, key, f, &id));
        aq_config_add_end(c, id);
        snprintf(item, sizeof item, "%s.%d", key, i + 1);
        f = is_list ? aq_figure_look(s, item) : (aq_figure){0};
    }
    return AQ_OK;
}

void aq_config_drop_ids(aq_config *c) {
    int32_t *id[] = {&c->bos, &c->eos, &c->pad};
    uint32_t n = 0;
    for (int i = 0; i < 3; i++)
        if (*id[i] >= c->V)
            *id[i] = -1;
    for (uint32_t i = 0; i < c->n_ends; i++)
        if (c->ends[i] < c->V && c->eos < 0)
            c->eos = c->ends[i];
        else if (c->ends[i] < c->V)
            c->ends[n++] = c->ends[i];
    c->n_ends = n;
}

static aq_status read_table(const aq_figure_source *s, aq_config *c) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *key = rows[i].key[s->naming];
        aq_figure f = *key ? aq_figure_look(s, key) : (aq_figure){0};
        void *member = (char *)c + rows[i].offset;
        if (f.kind == AQ_FIGURE_ABSENT)
            continue;
        switch (rows[i].kind) {
        case SIZE: AQ_TRY(aq_figure_size(s, key, f, member)); break;
        case REAL: AQ_TRY(aq_figure_real(s, key, f, member)); break;
        case ID: AQ_TRY(read_id(s, key, f, member)); break;
        }
    }
    return AQ_OK;
}

static const char *key_of(const aq_figure_source *s, size_t offset) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].offset == offset)
            return rows[i].key[s->naming];
    return "";
}

/* FlagAI's width of the feed-forward layer: int(2 * 4 * dim / 3), rounded up to a multiple of multiple_of. */
static aq_status flagai_width(const aq_figure_source *s, aq_config *c) {
    int64_t multiple = 0, width = 8 * c->D / 3;
    aq_figure f = aq_figure_look(s, "multiple_of");
    if (f.kind == AQ_FIGURE_ABSENT)
        return aq_figure_missing(s, "multiple_of", "the figure that the feed-forward width is a multiple of (256 for Aquila-7B)");
    AQ_TRY(aq_figure_size(s, "multiple_of", f, &multiple));
    c->F = (width + multiple - 1) / multiple * multiple;
    if (c->F > LARGEST)
        return REFUSE(AQ_WHY_FIGURE_WIDTH, s, "multiple_of", "gives a feed-forward width of %lld: expected at most %d", (long long)c->F, LARGEST);
    return AQ_OK;
}

/* What transformers takes where a config.json leaves a figure out that no shape would show to be wrong (LlamaConfig, MistralConfig). */
static void take_defaults(const aq_figure_source *s, aq_config *c) {
    if (s->naming != AQ_NAMING_HF)
        return;
    if (c->eps == 0)
        c->eps = 1e-6;
    if (c->max_length == 0)
        c->max_length = aq_figure_is(aq_figure_look(s, "model_type"), "mistral") ? 4096 * 32 : 2048;
}

static aq_status complete(const aq_figure_source *s, aq_config *c) {
    take_defaults(s, c);
    static const size_t needed[] = {offsetof(aq_config, D), offsetof(aq_config, L), offsetof(aq_config, H), offsetof(aq_config, max_length)};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (*(int64_t *)(void *)((char *)c + needed[i]) == 0)
            return aq_figure_missing(s, key_of(s, needed[i]), "a whole number");
    if (c->eps == 0)
        return aq_figure_missing(s, key_of(s, offsetof(aq_config, eps)), "the epsilon of the norms");
    if (c->V == 0 && s->naming != AQ_NAMING_GGUF) /* there the embedding says it */
        return aq_figure_missing(s, "vocab_size", "a whole number");
    if (c->F == 0 && s->naming == AQ_NAMING_FLAGAI)
        AQ_TRY(flagai_width(s, c));
    if (c->F == 0)
        return aq_figure_missing(s, key_of(s, offsetof(aq_config, F)), "a whole number");
    if (c->HKV == 0)
        c->HKV = c->H;
    if (c->DH == 0 && c->D % c->H)
        return REFUSE(AQ_WHY_FIGURE_HEADS, s, key_of(s, offsetof(aq_config, H)),
                      "%lld heads do not divide the width %lld: expected a divisor, or the head's own width",
                      (long long)c->H, (long long)c->D);
    if (c->DH == 0)
        c->DH = c->D / c->H;
    return AQ_OK;
}

int aq_figure_is(aq_figure f, const char *text) {
    return f.kind == AQ_FIGURE_TEXT && f.text.n == strlen(text) && memcmp(f.text.s, text, f.text.n) == 0;
}

/* What would make another model of the same tensors: refused, never ignored. */
static aq_status check_supported(const aq_figure_source *s, const aq_config *c) {
    static const struct {
        const char *key, *why;
    } flags[] = {{"attention_bias", "biases"}, {"mlp_bias", "biases"}, {".expert_count", "experts"}, {"num_local_experts", "experts"}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if ((*flags[i].key == '.') != (s->naming == AQ_NAMING_GGUF))
            continue;
        aq_figure f = aq_figure_look(s, flags[i].key);
        if (f.kind != AQ_FIGURE_ABSENT && !(f.kind != AQ_FIGURE_TEXT && f.kind != AQ_FIGURE_OTHER && f.number == 0))
            return REFUSE(AQ_WHY_FIGURE_EXTRAS, s, flags[i].key, "the model has %s: expected none in this architecture", flags[i].why);
    }
    if (s->naming != AQ_NAMING_GGUF) {
        static const char *const partial[] = {"partial_rotary_factor", "rope_parameters.partial_rotary_factor", "rope_scaling.partial_rotary_factor"};
        for (size_t i = 0; i < 3; i++) {
            aq_figure f = aq_figure_look(s, partial[i]);
            if (f.kind != AQ_FIGURE_ABSENT && !(f.kind == AQ_FIGURE_NUMBER && f.number == 1))
                return REFUSE(AQ_WHY_FIGURE_PARTIAL, s, partial[i], "only a part of each head is turned: expected 1, or no such key");
        }
        aq_figure act = aq_figure_look(s, "hidden_act"), quant = aq_figure_look(s, "quantization_config");
        if (act.kind != AQ_FIGURE_ABSENT && !aq_figure_is(act, "silu"))
            return REFUSE(AQ_WHY_FIGURE_ACTIVATION, s, "hidden_act", "another activation: expected \"silu\"");
        if (quant.kind != AQ_FIGURE_ABSENT)
            return REFUSE(AQ_WHY_FIGURE_QUANTISED, s, "quantization_config",
                          "weights quantised by another tool: expected plain weights, or a GGUF file");
        return AQ_OK;
    }
    static const char *const widths[] = {".rope.dimension_count", ".attention.value_length"};
    for (size_t i = 0; i < 2; i++) {
        aq_figure f = aq_figure_look(s, widths[i]);
        if (f.kind != AQ_FIGURE_ABSENT && !(f.kind == AQ_FIGURE_NUMBER && f.number == (double)c->DH))
            return REFUSE(AQ_WHY_FIGURE_HEAD_WIDTH, s, widths[i], "differs from the head's width: expected %lld", (long long)c->DH);
    }
    return AQ_OK;
}

/* What the ops of the graph take (ir/infer_rules.c). */
static aq_status check_reals(const aq_figure_source *s, const aq_config *c) {
    const struct {
        const char *key;
        double x, low, high;
    } reals[] = {{key_of(s, offsetof(aq_config, eps)), c->eps, 0, 1e6},
                 {key_of(s, offsetof(aq_config, theta)), c->theta, 1e-6, 1e12}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (!(reals[i].x >= reals[i].low && reals[i].x <= reals[i].high))
            return REFUSE(AQ_WHY_FIGURE_BOUNDS, s, reals[i].key, "%.17g: expected a number from %g to %g", reals[i].x, reals[i].low, reals[i].high);
    return AQ_OK;
}

static aq_status check(const aq_figure_source *s, aq_config *c) {
    if (c->L > MOST_LAYERS)
        return REFUSE(AQ_WHY_FIGURE_LAYERS, s, key_of(s, offsetof(aq_config, L)), "%lld: expected at most %d layers", (long long)c->L, MOST_LAYERS);
    if (c->H % c->HKV)
        return REFUSE(AQ_WHY_FIGURE_KV_HEADS, s, key_of(s, offsetof(aq_config, HKV)), "%lld: expected a divisor of the %lld heads",
                      (long long)c->HKV, (long long)c->H);
    if (c->DH % 2)
        return REFUSE(AQ_WHY_FIGURE_ODD_HEAD, s, key_of(s, offsetof(aq_config, DH)), "a head's width of %lld: expected an even number",
                      (long long)c->DH);
    if (c->H * c->DH > LARGEST)
        return REFUSE(AQ_WHY_FIGURE_LARGE_HEADS, s, key_of(s, offsetof(aq_config, DH)), "%lld heads of %lld: expected at most %d in all",
                      (long long)c->H, (long long)c->DH,
                      LARGEST);
    return AQ_OK;
}

aq_status aq_figures_read(const aq_figure_source *s, aq_config *out) {
    aq_config c = {.name = "", .family = "", .theta = 10000, .scaling_factor = 1, .bos = -1, .eos = -1, .pad = -1, .initializer_range = 0.02};
    AQ_TRY(read_table(s, &c));
    static const char *const ends[] = {"eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < 3; i++)
        if ((i > 0) == (s->naming == AQ_NAMING_GGUF))
            AQ_TRY(aq_figure_ends(s, ends[i], &c));
    aq_figure theta = s->naming == AQ_NAMING_HF ? aq_figure_look(s, "rope_parameters.rope_theta") : (aq_figure){0};
    if (theta.kind != AQ_FIGURE_ABSENT)
        AQ_TRY(aq_figure_real(s, "rope_parameters.rope_theta", theta, &c.theta));
    AQ_TRY(complete(s, &c));
    AQ_TRY(check(s, &c));
    AQ_TRY(check_reals(s, &c));
    AQ_TRY(aq_scaling_read(s, &c));
    AQ_TRY(check_supported(s, &c));
    *out = c;
    return AQ_OK;
}
