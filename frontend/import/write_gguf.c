/* write_gguf.c: a model as GGUF, version 3. One pass: header, values, tensor infos, data; offsets follow from the sizes alone. Figures come from
 * the same tables as reading (figures.def, tensors.def). */
#include "frontend/import/write_gguf.h"

#include "frontend/import/gguf.h"
#include "frontend/import/pieces.h"
#include "frontend/import/write.h"
#include "frontend/reasons.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 32 };

typedef struct out {
    aq_put to;
    const char *family;
    uint64_t values; /* counted in a first, dry run */
} out;

static void put(out *o, const void *bytes, size_t n) { aq_put_bytes(&o->to, bytes, n); }
static void put_u32(out *o, uint32_t x) { aq_put_number(&o->to, x, 4); }
static void put_u64(out *o, uint64_t x) { aq_put_number(&o->to, x, 8); }
static void put_string(out *o, const char *s, size_t n) {
    put_u64(o, n);
    put(o, s, n);
}

static void pad_to(out *o, size_t alignment) { aq_put_zeros(&o->to, (alignment - o->to.written % alignment) % alignment); }

static void put_key(out *o, const char *key, aq_gguf_type type) {
    char full[200];
    snprintf(full, sizeof full, "%s%s", *key == '.' ? o->family : "", key);
    put_string(o, full, strlen(full));
    put_u32(o, type);
    o->values++;
}

static void put_number(out *o, const char *key, uint64_t x) {
    put_key(o, key, AQ_GGUF_U32);
    put_u32(o, (uint32_t)x);
}

static void put_real(out *o, const char *key, double x) {
    float f = (float)x;
    put_key(o, key, AQ_GGUF_F32);
    put(o, &f, 4);
}

static void put_flag(out *o, const char *key, int x) {
    unsigned char byte = x != 0;
    put_key(o, key, AQ_GGUF_BOOL);
    put(o, &byte, 1);
}

static void put_text(out *o, const char *key, const char *text) {
    put_key(o, key, AQ_GGUF_STRING);
    put_string(o, text, strlen(text));
}

static void put_array(out *o, const char *key, aq_gguf_type element, uint64_t n) {
    put_key(o, key, AQ_GGUF_ARRAY);
    put_u32(o, element);
    put_u64(o, n);
}

/* What is usual is left out: llama.cpp takes attn_factor times what the factor gives, and 1 and 32 turns, for architecture llama whatever
 * the file says of those. Llama 3's scaling is a tensor (with_factors). */
static void put_scaling(out *o, const aq_config *c) {
    if (c->scaling == AQ_ROPE_NONE || c->scaling == AQ_ROPE_LLAMA3)
        return;
    put_text(o, ".rope.scaling.type", aq_rope_scaling_name(c->scaling));
    put_real(o, ".rope.scaling.factor", c->scaling_factor);
    if (c->scaling != AQ_ROPE_YARN)
        return;
    double gain = c->gain / aq_scaling_gain(c->scaling_factor, 1);
    put_number(o, ".rope.scaling.original_context_length", (uint64_t)c->original);
    if (fabs(gain - 1) > 1e-9)
        put_real(o, ".rope.scaling.attn_factor", gain);
    if (c->low != 1)
        put_real(o, ".rope.scaling.yarn_beta_slow", c->low);
    if (c->high != 32)
        put_real(o, ".rope.scaling.yarn_beta_fast", c->high);
    if (c->exact_pairs)
        put_flag(o, ".rope.scaling.truncate", 0);
}

enum { SIZE, REAL, ID };

static void put_config(out *o, const aq_config *c) {
    put_text(o, "general.architecture", c->family);
    if (*c->name)
        put_text(o, "general.name", c->name);
    put_number(o, "general.alignment", ALIGNMENT);
#define FIGURE(member, kind, hf, flagai, gguf)                                                                                              \
    if (kind == SIZE)                                                                                                                       \
        put_number(o, gguf, (uint64_t)c->member);                                                                                           \
    else if (kind == REAL && *gguf)                                                                                                         \
        put_real(o, gguf, (double)c->member);                                                                                               \
    else if (kind == ID && c->member >= 0)                                                                                                  \
        put_number(o, gguf, (uint64_t)c->member);
#include "frontend/import/figures.def"
#undef FIGURE
    static const char *const ends[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}; /* the form has no more */
    for (uint32_t i = 0; i < 2 && i < c->n_ends; i++)
        put_number(o, ends[i], (uint64_t)c->ends[i]);
    put_number(o, ".rope.dimension_count", (uint64_t)c->DH);
    put_number(o, ".attention.value_length", (uint64_t)c->DH);
    put_scaling(o, c);
}

/* What an id is, by id: rows of the embedding, since llama.cpp wants a token for each; one without a row cannot be used and is left out. */
typedef struct token {
    const aq_added_token *added;
    float score;
    int is_byte;
} token;

static aq_status look_up_tokens(aq_arena *arena, const aq_tokenizer_source *t, uint32_t n, token **out) {
    token *tokens;
    AQ_ALLOC(arena, tokens, n);
    for (uint32_t i = 0; i < t->n_added; i++)
        if (t->added[i].id >= 0 && (uint32_t)t->added[i].id < n)
            tokens[t->added[i].id].added = &t->added[i];
    for (int b = 0; t->byte_ids && b < 256; b++)
        if (t->byte_ids[b] >= 0 && (uint32_t)t->byte_ids[b] < n)
            tokens[t->byte_ids[b]].is_byte = 1;
    const float *scores = t->scores;
    float *made;
    if (t->kind == AQ_TOKENIZER_SPM && !scores) {
        AQ_TRY(aq_pieces_scores(arena, t, &made));
        scores = made;
    }
    for (uint32_t i = 0; scores && i < n && i < t->n_vocab; i++)
        tokens[i].score = scores[i];
    *out = tokens;
    return AQ_OK;
}

/* A hole needs a text that no other entry has. */
static void put_token(out *o, const aq_tokenizer_source *t, uint32_t id, const token *k) {
    char hole[24];
    if (k->added)
        put_string(o, k->added->text.s, k->added->text.n);
    else if (id < t->n_vocab && t->vocab[id].n)
        put_string(o, t->vocab[id].s, t->vocab[id].n);
    else
        put_string(o, hole, (size_t)snprintf(hole, sizeof hole, "[PAD%u]", id));
}

static uint32_t token_type(const aq_tokenizer_source *t, uint32_t id, const token *k) {
    if (k->is_byte)
        return AQ_GGUF_TOKEN_BYTE;
    if (k->added && t->kind == AQ_TOKENIZER_SPM && t->unk == (int32_t)id)
        return AQ_GGUF_TOKEN_UNKNOWN;
    if (k->added)
        return k->added->special ? AQ_GGUF_TOKEN_CONTROL : AQ_GGUF_TOKEN_USER;
    return id < t->n_vocab && t->vocab[id].n ? AQ_GGUF_TOKEN_NORMAL : AQ_GGUF_TOKEN_UNUSED;
}

/* What the format has names for. */
static aq_status check_kind(const aq_tokenizer_source *t) {
    if (t->kind == AQ_TOKENIZER_SPM && (!t->byte_ids || (t->add_prefix_space && t->add_prefix_space != AQ_PREFIX_ALWAYS)))
        return aq_refuse(AQ_WHY_CONVERT_SPM, t->place, "this SentencePiece tokenizer has no byte tokens or another space in front than GGUF's readers put: "
                                             "expected one from tokenizer.model or a GGUF file");
    if (t->kind == AQ_TOKENIZER_BPE && !aq_pattern_name(t))
        return aq_refuse(AQ_WHY_CONVERT_PATTERN, t->place, "GGUF has no name for a tokenizer with these splits and ignore_merges %s: expected those of a model that it knows",
                       t->ignore_merges ? "true" : "false");
    return AQ_OK;
}

static aq_status put_tokens(out *o, const aq_tokenizer_source *t, uint32_t n, const token *tokens) {
    int is_spm = t->kind == AQ_TOKENIZER_SPM;
    AQ_TRY(check_kind(t));
    put_text(o, "tokenizer.ggml.model", is_spm ? "llama" : "gpt2");
    put_text(o, "tokenizer.ggml.pre", is_spm ? "default" : aq_pattern_name(t));
    put_array(o, "tokenizer.ggml.tokens", AQ_GGUF_STRING, n);
    for (uint32_t i = 0; i < n; i++)
        put_token(o, t, i, &tokens[i]);
    put_array(o, "tokenizer.ggml.token_type", AQ_GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++)
        put_u32(o, token_type(t, i, &tokens[i]));
    if (is_spm) {
        put_array(o, "tokenizer.ggml.scores", AQ_GGUF_F32, n);
        for (uint32_t i = 0; i < n; i++)
            put(o, &tokens[i].score, 4);
        return AQ_OK;
    }
    put_array(o, "tokenizer.ggml.merges", AQ_GGUF_STRING, t->n_merges);
    for (uint32_t i = 0; i < t->n_merges; i++)
        put_string(o, t->merges[i].s, t->merges[i].n);
    return AQ_OK;
}

static aq_status put_tokenizer(out *o, const aq_tokenizer_source *t, uint32_t n) {
    aq_arena arena = {0};
    token *tokens;
    aq_status status = look_up_tokens(&arena, t, n, &tokens);
    if (status == AQ_OK)
        status = put_tokens(o, t, n, tokens);
    aq_arena_close(&arena);
    AQ_TRY(status);
    if (t->unk >= 0)
        put_number(o, "tokenizer.ggml.unknown_token_id", (uint64_t)t->unk);
    put_flag(o, "tokenizer.ggml.add_bos_token", t->add_bos);
    put_flag(o, "tokenizer.ggml.add_eos_token", t->add_eos);
    put_flag(o, "tokenizer.ggml.add_space_prefix", t->add_prefix_space != AQ_PREFIX_NONE);
    return AQ_OK;
}

/* Without a tokenizer llama.cpp wants to be told so; how many tokens there are, figures.def says. */
static aq_status put_values(out *o, const aq_out_model *m) {
    put_config(o, m->config);
    for (uint32_t i = 0; i < m->n; i++)
        if (aq_dtype_of(m->tensors[i].dtype)->kind == AQ_KIND_WEIGHT) {
            put_number(o, "general.quantization_version", 2);
            break;
        }
    if (m->tokenizer && m->tokenizer->kind != AQ_TOKENIZER_NONE)
        AQ_TRY(put_tokenizer(o, m->tokenizer, (uint32_t)m->config->V));
    else
        put_text(o, "tokenizer.ggml.model", "no_vocab");
    if (m->chat_template)
        put_text(o, "tokenizer.chat_template", m->chat_template);
    return o->to.status;
}

static aq_status put_infos(out *o, const aq_out_model *m) {
    uint64_t offset = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        const aq_out_tensor *t = &m->tensors[i];
        if (aq_dtype_of(t->dtype)->gguf < 0)
            return aq_fail(AQ_REFUSED, t->name, "type %s has no number in GGUF", aq_dtype_of(t->dtype)->name);
        put_string(o, t->name, strlen(t->name));
        put_u32(o, t->from->rank);
        for (int axis = t->from->rank - 1; axis >= 0; axis--)
            put_u64(o, (uint64_t)t->from->dim[axis]);
        put_u32(o, (uint32_t)aq_dtype_of(t->dtype)->gguf);
        put_u64(o, offset);
        offset += (t->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    pad_to(o, ALIGNMENT);
    return o->to.status;
}

/* The tensors, and behind them what each pair's frequency is divided by if the scaling is Llama 3's. */
static aq_status with_factors(aq_arena *arena, const aq_out_model *m, aq_out_model *out) {
    aq_out_tensor *list;
    aq_tensor *factors;
    float *data;
    size_t n = (size_t)m->config->DH / 2;
    *out = *m;
    if (m->config->scaling != AQ_ROPE_LLAMA3)
        return AQ_OK;
    AQ_ALLOC(arena, list, m->n + 1);
    AQ_ALLOC(arena, factors, 1);
    AQ_ALLOC(arena, data, n);
    aq_scaling_factors(m->config, data);
    *factors = (aq_tensor){.name = AQ_GGUF_FACTORS, .file_name = AQ_GGUF_FACTORS, .dtype = AQ_F32, .rank = 1, .dim = {(int64_t)n}, .data = data, .bytes = 4 * n};
    memcpy(list, m->tensors, m->n * sizeof *list);
    list[m->n] = (aq_out_tensor){.name = AQ_GGUF_FACTORS, .from = factors, .dtype = AQ_F32, .bytes = 4 * n};
    out->tensors = list;
    out->n++;
    return AQ_OK;
}

static aq_status put_file(const aq_out_model *m, aq_file_writer *w) {
    out dry = {.family = m->config->family}, o = dry;
    AQ_TRY(put_values(&dry, m));
    o.to.writer = w;
    put(&o, "GGUF", 4);
    put_u32(&o, 3);
    put_u64(&o, m->n);
    put_u64(&o, dry.values);
    AQ_TRY(put_values(&o, m));
    assert(o.values == dry.values);
    AQ_TRY(put_infos(&o, m));
    for (uint32_t i = 0; i < m->n && o.to.status == AQ_OK; i++) {
        aq_pump_run(m->pump, &m->tensors[i], &o.to);
        pad_to(&o, ALIGNMENT);
    }
    return o.to.status;
}

aq_status aq_gguf_put(const aq_out_model *m, aq_file_writer *w) {
    aq_arena arena = {0};
    aq_out_model whole;
    aq_status status = with_factors(&arena, m, &whole);
    if (status == AQ_OK)
        status = put_file(&whole, w);
    aq_arena_close(&arena);
    return status;
}

/* As stored, but for the order of rows. */
static aq_status plain_list(aq_arena *arena, const aq_tensor *tensors, uint32_t n, aq_out_tensor **out_list) {
    aq_out_tensor *list;
    AQ_ALLOC(arena, list, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const aq_tensor *t = &tensors[i];
        list[i] = (aq_out_tensor){.from = t, .dtype = t->dtype, .bytes = t->bytes, .order = t->rotate_half ? AQ_ROWS_INTERLEAVE : AQ_ROWS_KEEP};
        AQ_TRY(aq_out_name(arena, t->name, AQ_NAMING_GGUF, &list[i].name));
    }
    *out_list = list;
    return AQ_OK;
}

aq_status aq_gguf_write(const char *path, const aq_config *config, const aq_tensor *tensors, uint32_t n, const aq_tokenizer_source *tokenizer,
                        const char *chat_template) {
    aq_arena arena = {0};
    aq_out_tensor *list = NULL;
    aq_pump *pump = NULL;
    aq_file_writer *w = NULL;
    aq_status status;
    AQ_TRY_GOTO(status, close, plain_list(&arena, tensors, n, &list));
    AQ_TRY_GOTO(status, close, aq_pump_open(1, config->DH, NULL, NULL, &pump));
    AQ_TRY_GOTO(status, close, aq_file_create(path, &w));
    AQ_TRY_GOTO(status, close, aq_gguf_put(&(aq_out_model){config, list, n, tokenizer, chat_template, pump}, w));
    aq_file_writer *done = w;
    w = NULL;
    status = aq_file_commit(done);
close:
    aq_file_abandon(w);
    aq_pump_close(pump);
    aq_arena_close(&arena);
    return status;
}
