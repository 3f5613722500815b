/* gguf_model.c: what the keys of a GGUF file mean: figures, tokenizer, template; the tensors go to bind.c. */
#include "frontend/import/gguf.h"
#include "frontend/reasons.h"

#include <math.h>
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
    const aq_gguf_value *parts = aq_gguf_find(g, "split.count");
    double count = 0;
    if (parts && aq_gguf_number(parts, &count) && count > 1)
        return aq_import_refuse(AQ_WHY_GGUF_SPLIT, g->path, "key", "split.count", 11, "one of %.0f parts: expected a whole file (llama-gguf-split --merge joins them)", count);
    aq_config c;
    const char *prefix;
    AQ_TRY(aq_arena_string(arena, family.s, family.n, &prefix));
    aq_figure_source s = {.file = g->path, .naming = AQ_NAMING_GGUF, .prefix = prefix, .from = g, .get = get};
    AQ_TRY(aq_figures_read(&s, &c));
    take_vocabulary(g, &c);
    if (c.V < 1 || c.V > 1 << 24)
        return aq_import_refuse(AQ_WHY_GGUF_EMBEDDING, g->path, "tensor", "token_embd.weight", 17, "missing or of no use: expected a matrix of 1 to 2^24 rows");
    if (c.bos >= c.V)
        c.bos = -1;
    if (c.eos >= c.V)
        c.eos = -1;
    if (c.pad >= c.V)
        c.pad = -1;
    c.tied = 1;
    for (uint32_t i = 0; i < g->tensors.n; i++)
        if (is(g->tensors.at[i].name, "output.weight"))
            c.tied = 0;
    c.family = prefix;
    AQ_TRY(aq_arena_string(arena, name.s, name.n, &c.name));
    *out = c;
    return AQ_OK;
}

/* ---- tokenizer ---- */

static aq_status note(aq_arena *arena, const char *what, aq_bytes found, const char *expected, const char **out) {
    return aq_arena_format(arena, out, "the file's %s is \"%.*s\": expected %s", what, (int)(found.n < 60 ? found.n : 60), found.n ? found.s : "",
                           expected);
}

static aq_status read_id(const aq_gguf *g, const char *key, uint32_t n_vocab, int32_t *out) {
    const aq_gguf_value *v = aq_gguf_find(g, key);
    double x;
    if (!v)
        return AQ_OK;
    if (!aq_gguf_number(v, &x) || !(x >= -1 && x <= UINT32_MAX) || x != floor(x))
        return aq_import_refuse(AQ_WHY_GGUF_TOKEN_ID, g->path, "key", key, strlen(key), "not a token number");
    *out = x >= 0 && x < n_vocab ? (int32_t)x : -1;
    return AQ_OK;
}

static aq_status read_flag(const aq_gguf *g, const char *key, uint8_t *out) {
    const aq_gguf_value *v = aq_gguf_find(g, key);
    double x;
    if (v && !aq_gguf_number(v, &x))
        return aq_import_refuse(AQ_WHY_GGUF_FLAG, g->path, "key", key, strlen(key), "not true or false");
    *out = v && x != 0;
    return AQ_OK;
}

/* Control and user-defined tokens are matched as raw text; they and unused entries are holes of the vocabulary that merges make. */
static aq_status split_added(aq_arena *arena, const aq_gguf *g, aq_bytes *vocab, uint32_t n, aq_tokenizer_source *out) {
    const aq_gguf_value *types = aq_gguf_find(g, "tokenizer.ggml.token_type");
    if (!types)
        return AQ_OK;
    if (types->type != AQ_GGUF_ARRAY || (types->element != AQ_GGUF_I32 && types->element != AQ_GGUF_U32) || types->n != n)
        return aq_import_refuse(AQ_WHY_GGUF_TOKEN_TYPES, g->path, "key", types->key.s, types->key.n, "expected an array of %u 32-bit numbers, one for each token", n);
    aq_added_token *added = NULL;
    uint32_t count = 0;
    int32_t type;
    for (uint32_t pass = 0; pass < 2; pass++) {
        if (pass)
            AQ_ALLOC(arena, added, count);
        count = 0;
        for (uint32_t i = 0; i < n; i++) {
            memcpy(&type, types->data + (size_t)4 * i, 4);
            if ((type != AQ_GGUF_TOKEN_CONTROL && type != AQ_GGUF_TOKEN_USER) || vocab[i].n == 0)
                continue;
            if (pass)
                added[count] = (aq_added_token){.text = vocab[i], .id = (int32_t)i, .special = type == AQ_GGUF_TOKEN_CONTROL};
            count++;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        memcpy(&type, types->data + (size_t)4 * i, 4);
        if (type == AQ_GGUF_TOKEN_CONTROL || type == AQ_GGUF_TOKEN_USER || type == AQ_GGUF_TOKEN_UNUSED)
            vocab[i] = (aq_bytes){0};
    }
    out->added = added;
    out->n_added = count;
    return AQ_OK;
}

static aq_status read_lists(aq_arena *arena, const aq_gguf *g, aq_tokenizer_source *out) {
    const aq_gguf_value *tokens = aq_gguf_find(g, "tokenizer.ggml.tokens"), *merges = aq_gguf_find(g, "tokenizer.ggml.merges");
    const aq_bytes *strings;
    if (!tokens || !merges)
        return aq_import_refuse(AQ_WHY_GGUF_NO_LISTS, g->path, "key", tokens ? "tokenizer.ggml.merges" : "tokenizer.ggml.tokens", 21, "missing: a gpt2 tokenizer needs it");
    AQ_TRY(aq_gguf_strings(arena, g, merges, &out->merges, &out->n_merges));
    AQ_TRY(aq_gguf_strings(arena, g, tokens, &strings, &out->n_vocab));
    aq_bytes *vocab = (aq_bytes *)(uintptr_t)strings; /* fresh in our arena */
    out->vocab = vocab;
    return split_added(arena, g, vocab, out->n_vocab, out);
}

aq_status aq_gguf_tokenizer(aq_arena *arena, const aq_gguf *g, aq_tokenizer_source *out, const char **out_note) {
    static const struct {
        const char *name;
        aq_pretokenizer pre;
    } known[] = {{"smollm", AQ_PRE_SMOLLM}, {"gpt-2", AQ_PRE_GPT2}, {"gpt2", AQ_PRE_GPT2}, {"default", AQ_PRE_GPT2}, {"aquila", AQ_PRE_GPT2}};
    aq_tokenizer_source s = {.place = g->path, .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    aq_bytes model = text_of(g, "tokenizer.ggml.model"), pre = text_of(g, "tokenizer.ggml.pre");
    *out_note = NULL;
    *out = s;
    if (!model.n)
        return AQ_OK;
    if (!is(model, "gpt2"))
        return note(arena, "tokenizer.ggml.model", model, "gpt2 (byte-level BPE): name a tokenizer folder with --tokenizer", out_note);
    size_t k = 0, n_known = sizeof known / sizeof *known;
    while (k < n_known && pre.n && !is(pre, known[k].name))
        k++;
    if (k == n_known)
        return note(arena, "tokenizer.ggml.pre", pre, "smollm, gpt-2, default or aquila: name a tokenizer folder with --tokenizer", out_note);
    s.kind = AQ_TOKENIZER_BPE;
    s.pre = pre.n ? known[k].pre : AQ_PRE_GPT2;
    AQ_TRY(read_lists(arena, g, &s));
    AQ_TRY(read_id(g, "tokenizer.ggml.bos_token_id", s.n_vocab, &s.bos));
    AQ_TRY(read_id(g, "tokenizer.ggml.eos_token_id", s.n_vocab, &s.eos));
    AQ_TRY(read_id(g, "tokenizer.ggml.padding_token_id", s.n_vocab, &s.pad));
    AQ_TRY(read_id(g, "tokenizer.ggml.unknown_token_id", s.n_vocab, &s.unk));
    AQ_TRY(read_flag(g, "tokenizer.ggml.add_bos_token", &s.add_bos));
    AQ_TRY(read_flag(g, "tokenizer.ggml.add_eos_token", &s.add_eos));
    AQ_TRY(read_flag(g, "tokenizer.ggml.add_space_prefix", &s.add_prefix_space));
    *out = s;
    return AQ_OK;
}

/* ---- the entries ---- */

aq_status aq_gguf_config(aq_arena *arena, const char *path, aq_config *out) {
    aq_file file;
    aq_gguf g;
    AQ_TRY(aq_file_map(path, &file));
    aq_status status = aq_gguf_read(arena, path, &file, &g);
    if (status == AQ_OK)
        status = read_config(arena, &g, out);
    aq_file_unmap(&file);
    return status;
}

aq_status aq_import_gguf(aq_checkpoint *c) {
    const aq_file *file;
    AQ_TRY(aq_import_map(c, c->path, &file));
    return aq_gguf_open(c, file);
}

aq_status aq_gguf_open(aq_checkpoint *c, const aq_file *file) {
    aq_gguf g;
    AQ_TRY(aq_gguf_read(&c->arena, c->path, file, &g));
    AQ_TRY(read_config(&c->arena, &g, &c->config));
    AQ_TRY(aq_import_bind(c, &g.tensors, c->path));
    AQ_TRY(aq_gguf_tokenizer(&c->arena, &g, &c->tokenizer, &c->tokenizer_note));
    if (c->tokenizer.n_vocab > (uint64_t)c->config.V)
        return aq_import_refuse(AQ_WHY_GGUF_TOKENS, c->path, "key", "tokenizer.ggml.tokens", 21, "%u tokens: expected at most the %lld rows of the embedding",
                                c->tokenizer.n_vocab, (long long)c->config.V);
    aq_bytes chat = text_of(&g, "tokenizer.chat_template");
    if (chat.n)
        AQ_TRY(aq_arena_string(&c->arena, chat.s, chat.n, &c->chat_template));
    return AQ_OK;
}
