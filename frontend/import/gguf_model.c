/* gguf_model.c: what the keys of a GGUF file mean: figures, template; the tokenizer is in gguf_tokenizer.c, the tensors go to bind.c. */
#include "frontend/import/gguf.h"
#include "frontend/reasons.h"

#include <string.h>

static aq_figure get(const aq_figure_source *s, const char *key) {
    const aq_gguf_value *v = aq_gguf_find(s->from, key);
    aq_figure f = {0};
    if (!v)
        return f;
    if (aq_gguf_number(v, &f.number))
        f.kind = v->type == AQ_GGUF_BOOL ? AQ_FIGURE_BOOL : AQ_FIGURE_NUMBER;
    else if (v->type == AQ_GGUF_STRING)
        f = (aq_figure){.kind = AQ_FIGURE_TEXT, .text = {(const char *)v->data, (uint32_t)v->n}};
    else
        f.kind = AQ_FIGURE_OTHER;
    return f;
}

static aq_bytes text_of(const aq_gguf *g, const char *key) {
    const aq_gguf_value *v = aq_gguf_find(g, key);
    return v && v->type == AQ_GGUF_STRING ? (aq_bytes){(const char *)v->data, (uint32_t)v->n} : (aq_bytes){0};
}

static int is(aq_bytes b, const char *text) { return b.n == strlen(text) && b.n && memcmp(b.s, text, b.n) == 0; }

/* The rows of the embedding are the vocabulary; a vocab_size key must agree (bind.c compares). */
static void take_vocabulary(const aq_gguf *g, aq_config *c) {
    for (uint32_t i = 0; c->V == 0 && i < g->tensors.n; i++)
        if (is(g->tensors.at[i].name, "token_embd.weight") && g->tensors.at[i].rank == 2)
            c->V = g->tensors.at[i].dim[0];
}

static aq_status read_config(aq_arena *arena, const aq_gguf *g, aq_config *out) {
    aq_bytes family = text_of(g, "general.architecture"), name = text_of(g, "general.name");
    if (!is(family, "llama") && !is(family, "aquila"))
        return aq_import_refuse(AQ_WHY_GGUF_ARCHITECTURE, g->path, "key", "general.architecture", 20, "%s: expected \"llama\" or \"aquila\"",
                                family.s ? "another architecture" : "missing");
    aq_config c;
    const char *prefix;
    AQ_TRY(aq_arena_string(arena, family.s, family.n, &prefix));
    aq_figure_source s = {.file = g->path, .naming = AQ_NAMING_GGUF, .prefix = prefix, .from = g, .get = get};
    AQ_TRY(aq_figures_read(&s, &c));
    take_vocabulary(g, &c);
    if (c.V < 1 || c.V > 1 << 24)
        return aq_import_refuse(AQ_WHY_GGUF_EMBEDDING, g->path, "tensor", "token_embd.weight",
                                17, "missing or of no use: expected a matrix of 1 to 2^24 rows");
    aq_config_drop_ids(&c);
    c.tied = 1;
    for (uint32_t i = 0; i < g->tensors.n; i++) {
        if (is(g->tensors.at[i].name, "output.weight"))
            c.tied = 0;
        if (is(g->tensors.at[i].name, AQ_GGUF_FACTORS))
            AQ_TRY(aq_scaling_from_factors(&g->tensors.at[i], &c));
    }
    c.family = prefix;
    AQ_TRY(aq_import_name(arena, name.s, name.n, &c.name));
    *out = c;
    return AQ_OK;
}

/* ---- the entries ---- */

static aq_status config_of(aq_checkpoint *c, aq_arena *arena, aq_config *out) {
    const aq_file *file;
    aq_gguf g;
    AQ_TRY(aq_import_map(c, c->path, &file));
    AQ_TRY(aq_gguf_read(arena, c->path, file, &g));
    AQ_TRY(aq_gguf_join(arena, c, &g));
    return read_config(arena, &g, out);
}

aq_status aq_gguf_config(aq_arena *arena, const char *path, aq_config *out) {
    aq_checkpoint c = {0}; /* for its maps */
    aq_status status = aq_gguf_first(&c.arena, path, &c.path);
    if (status == AQ_OK)
        status = config_of(&c, arena, out);
    aq_checkpoint_close(&c);
    return status;
}

aq_status aq_import_gguf(aq_checkpoint *c) {
    const aq_file *file;
    AQ_TRY(aq_gguf_first(&c->arena, c->path, &c->path));
    AQ_TRY(aq_import_map(c, c->path, &file));
    return aq_gguf_open(c, file);
}

aq_status aq_gguf_open(aq_checkpoint *c, const aq_file *file) {
    aq_gguf g;
    AQ_TRY(aq_gguf_read(&c->arena, c->path, file, &g));
    AQ_TRY(aq_gguf_join(&c->arena, c, &g));
    AQ_TRY(read_config(&c->arena, &g, &c->config));
    AQ_TRY(aq_import_bind(c, &g.tensors, c->path));
    AQ_TRY(aq_gguf_tokenizer(&c->arena, &g, &c->tokenizer, &c->tokenizer_note));
    if (c->tokenizer.n_vocab > (uint64_t)c->config.V)
        return aq_import_refuse(AQ_WHY_GGUF_TOKENS, c->path, "key", "tokenizer.ggml.tokens",
                                21, "%u tokens: expected at most the %lld rows of the embedding",
                                c->tokenizer.n_vocab, (long long)c->config.V);
    aq_bytes chat = text_of(&g, "tokenizer.chat_template");
    if (chat.n)
        AQ_TRY(aq_arena_string(&c->arena, chat.s, chat.n, &c->chat_template));
    return AQ_OK;
}
