/* write_gguf.c: see write_gguf.h. One pass: header, values, tensor infos, data; offsets follow from the sizes alone. Figures come from the
 * same tables as reading (figures.def, tensors.def). */
#include "frontend/import/write_gguf.h"

#include "frontend/import/gguf.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 32 };

/* Errors are kept: once one happened nothing more is written, and the end reports it. */
typedef struct out {
    aq_file_writer *writer;
    const char *family;
    size_t written;
    uint64_t values; /* counted in a first, dry run (writer NULL) */
    aq_status status;
} out;

static void put(out *o, const void *bytes, size_t n) {
    if (o->status == AQ_OK && o->writer)
        o->status = aq_file_append(o->writer, bytes, n);
    o->written += n;
}
static void put_u32(out *o, uint32_t x) { put(o, &x, 4); }
static void put_u64(out *o, uint64_t x) { put(o, &x, 8); }
static void put_string(out *o, const char *s, size_t n) {
    put_u64(o, n);
    put(o, s, n);
}

static void pad_to(out *o, size_t alignment) {
    static const char zeros[ALIGNMENT];
    put(o, zeros, (alignment - o->written % alignment) % alignment);
}

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
    put_number(o, ".rope.dimension_count", (uint64_t)c->DH);
    put_number(o, ".attention.value_length", (uint64_t)c->DH);
    if (c->scaling != AQ_ROPE_NONE) {
        put_text(o, ".rope.scaling.type", c->scaling == AQ_ROPE_LINEAR ? "linear" : "dynamic");
        put_real(o, ".rope.scaling.factor", c->scaling_factor);
    }
}

static const aq_added_token *find_added(const aq_tokenizer_source *t, uint32_t id) {
    for (uint32_t i = 0; i < t->n_added; i++)
        if (t->added[i].id == (int32_t)id)
            return &t->added[i];
    return NULL;
}

/* A hole needs a text that no other entry has. */
static void put_token(out *o, const aq_tokenizer_source *t, uint32_t id) {
    const aq_added_token *added = find_added(t, id);
    char hole[24];
    if (added)
        put_string(o, added->text.s, added->text.n);
    else if (id < t->n_vocab && t->vocab[id].n)
        put_string(o, t->vocab[id].s, t->vocab[id].n);
    else
        put_string(o, hole, (size_t)snprintf(hole, sizeof hole, "[PAD%u]", id));
}

static uint32_t token_type(const aq_tokenizer_source *t, uint32_t id) {
    const aq_added_token *added = find_added(t, id);
    if (added)
        return added->special ? AQ_GGUF_TOKEN_CONTROL : AQ_GGUF_TOKEN_USER;
    return id < t->n_vocab && t->vocab[id].n ? AQ_GGUF_TOKEN_NORMAL : AQ_GGUF_TOKEN_UNUSED;
}

static void put_tokenizer(out *o, const aq_tokenizer_source *t) {
    uint32_t n = t->n_vocab;
    for (uint32_t i = 0; i < t->n_added; i++)
        n = (uint32_t)t->added[i].id >= n ? (uint32_t)t->added[i].id + 1 : n;
    put_text(o, "tokenizer.ggml.model", "gpt2");
    put_text(o, "tokenizer.ggml.pre", t->pre == AQ_PRE_SMOLLM ? "smollm" : "gpt-2");
    put_array(o, "tokenizer.ggml.tokens", AQ_GGUF_STRING, n);
    for (uint32_t i = 0; i < n; i++)
        put_token(o, t, i);
    put_array(o, "tokenizer.ggml.token_type", AQ_GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++)
        put_u32(o, token_type(t, i));
    put_array(o, "tokenizer.ggml.merges", AQ_GGUF_STRING, t->n_merges);
    for (uint32_t i = 0; i < t->n_merges; i++)
        put_string(o, t->merges[i].s, t->merges[i].n);
    if (t->unk >= 0)
        put_number(o, "tokenizer.ggml.unknown_token_id", (uint64_t)t->unk);
    put_flag(o, "tokenizer.ggml.add_bos_token", t->add_bos);
    put_flag(o, "tokenizer.ggml.add_eos_token", t->add_eos);
    put_flag(o, "tokenizer.ggml.add_space_prefix", t->add_prefix_space);
}

static void put_values(out *o, const aq_config *c, const aq_tokenizer_source *t, const char *chat_template) {
    put_config(o, c);
    if (t && t->kind != AQ_TOKENIZER_NONE)
        put_tokenizer(o, t);
    if (chat_template)
        put_text(o, "tokenizer.chat_template", chat_template);
}

/* "wq.3" -> "blk.3.attn_q.weight" */
static aq_status file_name(const aq_tensor *t, char *room, size_t size) {
    const char *dot = strchr(t->name, '.');
    size_t n = dot ? (size_t)(dot - t->name) : strlen(t->name);
    for (uint32_t i = 0; i < aq_tensor_rows_count; i++) {
        const aq_tensor_row *r = &aq_tensor_rows[i];
        const char *pattern = r->name[AQ_NAMING_GGUF], *mark = strchr(pattern, '#');
        if (strlen(r->house) != n || memcmp(r->house, t->name, n) != 0 || r->layered != (dot != NULL))
            continue;
        if (mark)
            snprintf(room, size, "%.*s%s%s.weight", (int)(mark - pattern), pattern, dot + 1, mark + 1);
        else
            snprintf(room, size, "%s.weight", pattern);
        return AQ_OK;
    }
    return aq_fail(AQ_REFUSED, t->name, "not the house name of a tensor");
}

static aq_status put_infos(out *o, const aq_tensor *tensors, uint32_t n) {
    size_t offset = 0;
    for (uint32_t i = 0; i < n; i++) {
        const aq_tensor *t = &tensors[i];
        char name[160];
        AQ_TRY(file_name(t, name, sizeof name));
        if (aq_dtype_of(t->dtype)->gguf < 0)
            return aq_fail(AQ_REFUSED, t->name, "type %s has no number in GGUF", aq_dtype_of(t->dtype)->name);
        put_string(o, name, strlen(name));
        put_u32(o, t->rank);
        for (int axis = t->rank - 1; axis >= 0; axis--)
            put_u64(o, (uint64_t)t->dim[axis]);
        put_u32(o, (uint32_t)aq_dtype_of(t->dtype)->gguf);
        put_u64(o, offset);
        offset += (t->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    pad_to(o, ALIGNMENT);
    return o->status;
}

/* Inside each head of DH rows, interleaved row 2i is rotate-half row i, row 2i + 1 is row i + DH / 2. */
static void put_data(out *o, const aq_tensor *t, int64_t DH) {
    const unsigned char *data = t->data;
    size_t row = t->rotate_half ? t->bytes / (size_t)t->dim[0] : 0;
    if (!t->rotate_half)
        put(o, data, t->bytes);
    for (int64_t r = 0; t->rotate_half && r < t->dim[0]; r++) {
        int64_t in_head = r % DH, source = r - in_head + in_head / 2 + in_head % 2 * (DH / 2);
        put(o, data + (size_t)source * row, row);
    }
    pad_to(o, ALIGNMENT);
}

aq_status aq_gguf_write(const char *path, const aq_config *config, const aq_tensor *tensors, uint32_t n, const aq_tokenizer_source *tokenizer,
                        const char *chat_template) {
    out dry = {.family = config->family}, o = dry;
    put_values(&dry, config, tokenizer, chat_template);
    AQ_TRY(aq_file_create(path, &o.writer));
    put(&o, "GGUF", 4);
    put_u32(&o, 3);
    put_u64(&o, n);
    put_u64(&o, dry.values);
    put_values(&o, config, tokenizer, chat_template);
    assert(o.values == dry.values);
    aq_status status = put_infos(&o, tensors, n);
    for (uint32_t i = 0; status == AQ_OK && i < n; i++)
        put_data(&o, &tensors[i], config->DH);
    if (status == AQ_OK)
        status = o.status;
    if (status == AQ_OK)
        return aq_file_commit(o.writer);
    aq_file_abandon(o.writer);
    return status;
}
