/* write_config.c: the figures of a model as config.json, in Hugging Face's keys or FlagAI's: the columns of figures.def, and what figures.c
 * reads besides. The model_type is "llama" whatever the source says: the two architectures are one, and "llama" is what transformers knows
 * without code from elsewhere; where the heads do not divide the width, which it does not allow a llama, "mistral" without a window. The last key says who wrote it: `convert` replaces only such folders. */
#include "frontend/import/write.h"

#include <inttypes.h>
#include <string.h>

enum { SIZE, REAL, ID };

static void put_key(aq_put *o, const char *key) { aq_put_format(o, "%s  \"%s\": ", o->written > 2 ? ",\n" : "", key); }

static void put_size(aq_put *o, const char *key, int64_t x) {
    put_key(o, key);
    aq_put_format(o, "%" PRId64, x);
}

static void put_word(aq_put *o, const char *key, const char *json) {
    put_key(o, key);
    aq_put_text(o, json);
}

/* A list where more than eos ends an answer. */
static void put_id(aq_put *o, const aq_config *c, const char *key, int64_t id) {
    int is_list = id == c->eos && c->n_ends && !strcmp(key, "eos_token_id");
    put_key(o, key);
    aq_put_format(o, "%s%" PRId64, is_list ? "[" : "", id);
    for (uint32_t i = 0; is_list && i < c->n_ends; i++)
        aq_put_format(o, ", %" PRId32 "%s", c->ends[i], i + 1 == c->n_ends ? "]" : "");
}

static void put_figures(aq_put *o, const aq_config *c, aq_naming naming) {
#define FIGURE(member, kind, hf, flagai, gguf)                                                                                              \
    {                                                                                                                                       \
        const char *key = naming == AQ_NAMING_HF ? (hf) : (flagai);                                                                         \
        if ((kind) == REAL) {                                                                                                               \
            put_key(o, key);                                                                                                                \
            aq_put_real(o, (double)c->member);                                                                                              \
        } else if ((kind) == SIZE || c->member >= 0) {                                                                                      \
            put_id(o, c, key, (int64_t)c->member);                                                                                          \
        }                                                                                                                                   \
    }
#include "frontend/import/figures.def"
#undef FIGURE
}

static void put_member(aq_put *o, const char *key, double x) {
    aq_put_format(o, ", \"%s\": ", key);
    aq_put_real(o, x);
}

/* Both spellings of the kind: older readers know "type", newer ones "rope_type". */
static void put_scaling(aq_put *o, const aq_config *c) {
    if (c->scaling == AQ_ROPE_NONE)
        return;
    const char *type = aq_rope_scaling_name(c->scaling);
    put_key(o, "rope_scaling");
    aq_put_format(o, "{\"type\": \"%s\", \"rope_type\": \"%s\"", type, type);
    put_member(o, "factor", c->scaling_factor);
    if (c->scaling == AQ_ROPE_LLAMA3 || c->scaling == AQ_ROPE_YARN) {
        int yarn = c->scaling == AQ_ROPE_YARN;
        put_member(o, "original_max_position_embeddings", c->original);
        put_member(o, yarn ? "beta_slow" : "low_freq_factor", c->low);
        put_member(o, yarn ? "beta_fast" : "high_freq_factor", c->high);
        if (yarn)
            put_member(o, "attention_factor", c->gain);
        if (c->exact_pairs)
            aq_put_text(o, ", \"truncate\": false");
    }
    aq_put_text(o, "}");
}

/* FlagAI computes the width of the feed-forward layer: the largest customary multiple that gives it, else the width itself, with which only
 * intermediate_size tells the truth. */
static int64_t multiple_of(const aq_config *c) {
    int64_t width = 8 * c->D / 3;
    for (int64_t m = 256; m >= 1; m /= 2)
        if ((width + m - 1) / m * m == c->F)
            return m;
    return c->F;
}

static const char *torch_name(aq_dtype t) {
    switch (t) {
    case AQ_BF16: return "\"bfloat16\"";
    case AQ_F16: return "\"float16\"";
    case AQ_F64: return "\"float64\"";
    default: return "\"float32\"";
    }
}

aq_status aq_config_put(const aq_config *c, aq_naming naming, aq_dtype dtype, aq_file_writer *w) {
    aq_put o = {.writer = w};
    aq_put_text(&o, "{\n");
    if (naming == AQ_NAMING_HF) {
        int odd = c->D % c->H != 0;
        put_word(&o, "architectures", odd ? "[\"MistralForCausalLM\"]" : "[\"LlamaForCausalLM\"]");
        put_word(&o, "model_type", odd ? "\"mistral\"" : "\"llama\"");
        if (odd)
            put_word(&o, "sliding_window", "null");
    }
    if (*c->name) {
        put_key(&o, naming == AQ_NAMING_HF ? "_name_or_path" : "name");
        aq_put_json(&o, c->name, strlen(c->name), "the model's name");
    }
    put_figures(&o, c, naming);
    put_scaling(&o, c);
    if (naming == AQ_NAMING_HF) {
        put_word(&o, "hidden_act", "\"silu\"");
        put_word(&o, "attention_bias", "false");
        put_word(&o, "mlp_bias", "false");
        put_word(&o, "use_cache", "true");
    } else {
        put_size(&o, "multiple_of", multiple_of(c));
        put_word(&o, "flash_atten", "false");
    }
    put_word(&o, "tie_word_embeddings", c->tied ? "true" : "false");
    put_word(&o, "torch_dtype", torch_name(dtype));
    put_word(&o, "written_by", "\"aquila convert\"");
    aq_put_text(&o, "\n}\n");
    return o.status;
}
