/* gguf_tokenizer.c: the tokenizer.ggml.* keys of a GGUF file. `gpt2` is byte-level BPE with a list of merges and a named pattern, `llama` is
 * SentencePiece's BPE with scores and byte tokens, as llama.cpp reads them; a model with another tokenizer may still be used with
 * --tokenizer, so those leave a note instead of a refusal. */
#include "frontend/import/gguf.h"
#include "frontend/reasons.h"

#include <math.h>
#include <string.h>

static aq_bytes text_of(const aq_gguf *g, const char *key) {
    const aq_gguf_value *v = aq_gguf_find(g, key);
    return v && v->type == AQ_GGUF_STRING ? (aq_bytes){(const char *)v->data, (uint32_t)v->n} : (aq_bytes){0};
}

static int is(aq_bytes b, const char *text) { return b.n == strlen(text) && b.n && memcmp(b.s, text, b.n) == 0; }

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
    if (v)
        *out = x != 0;
    return AQ_OK;
}

/* Control, unknown and user-defined tokens are matched as raw text. They and unused entries are holes of the vocabulary that merges make; but
 * scores may make user-defined and unused ones, as in SentencePiece. */
static aq_status split_added(aq_arena *arena, const aq_gguf *g, aq_bytes *vocab, uint32_t n, aq_tokenizer_source *out) {
    const aq_gguf_value *types = aq_gguf_find(g, "tokenizer.ggml.token_type");
    if (!types)
        return AQ_OK;
    if (types->type != AQ_GGUF_ARRAY || (types->element != AQ_GGUF_I32 && types->element != AQ_GGUF_U32) || types->n != n)
        return aq_import_refuse(AQ_WHY_GGUF_TOKEN_TYPES, g->path, "key", types->key.s, types->key.n, "expected an array of %u 32-bit numbers, one for each token", n);
    aq_added_token *added = NULL;
    uint32_t count = 0;
    int32_t type, *copy; /* the two passes must see the same */
    AQ_ALLOC(arena, copy, n);
    memcpy(copy, types->data, n * sizeof *copy);
    for (uint32_t pass = 0; pass < 2; pass++) {
        if (pass)
            AQ_ALLOC(arena, added, count);
        count = 0;
        for (uint32_t i = 0; i < n; i++) {
            type = copy[i];
            if ((type != AQ_GGUF_TOKEN_CONTROL && type != AQ_GGUF_TOKEN_USER && type != AQ_GGUF_TOKEN_UNKNOWN) || vocab[i].n == 0)
                continue;
            if (pass)
                added[count] = (aq_added_token){.text = vocab[i], .id = (int32_t)i, .special = type != AQ_GGUF_TOKEN_USER};
            count++;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        type = copy[i];
        if (type == AQ_GGUF_TOKEN_CONTROL || type == AQ_GGUF_TOKEN_UNKNOWN ||
            (!out->scores && (type == AQ_GGUF_TOKEN_USER || type == AQ_GGUF_TOKEN_UNUSED)))
            vocab[i] = (aq_bytes){0};
    }
    out->added = added;
    out->n_added = count;
    return AQ_OK;
}

static aq_status find_needed(const aq_gguf *g, const char *key, const char *model, const aq_gguf_value **out) {
    *out = aq_gguf_find(g, key);
    return *out ? AQ_OK : aq_import_refuse(AQ_WHY_GGUF_NO_LISTS, g->path, "key", key, strlen(key), "missing: a %s tokenizer needs it", model);
}

static aq_status read_bpe(aq_arena *arena, const aq_gguf *g, aq_tokenizer_source *out) {
    const aq_gguf_value *tokens, *merges;
    AQ_TRY(find_needed(g, "tokenizer.ggml.tokens", "gpt2", &tokens));
    AQ_TRY(find_needed(g, "tokenizer.ggml.merges", "gpt2", &merges));
    AQ_TRY(aq_gguf_strings(arena, g, merges, &out->merges, &out->n_merges));
    AQ_TRY(aq_gguf_strings(arena, g, tokens, &out->vocab, &out->n_vocab));
    AQ_TRY(split_added(arena, g, (aq_bytes *)(uintptr_t)out->vocab, out->n_vocab, out)); /* fresh in our arena */
    if (out->pre == AQ_PRE_SPLITS)
        return AQ_OK; /* a space in front of such pieces is no tokenizer's; llama.cpp does not look at the flag for gpt2 */
    return read_flag(g, "tokenizer.ggml.add_space_prefix", &out->add_prefix_space);
}

/* ---- llama ---- */

static aq_status read_scores(aq_arena *arena, const aq_gguf *g, aq_tokenizer_source *out) {
    const aq_gguf_value *scores;
    AQ_TRY(find_needed(g, "tokenizer.ggml.scores", "llama", &scores));
    if (scores->type != AQ_GGUF_ARRAY || scores->element != AQ_GGUF_F32 || scores->n != out->n_vocab)
        return aq_import_refuse(AQ_WHY_GGUF_SCORES, g->path, "key", scores->key.s, scores->key.n,
                                "expected an array of %u 32-bit floats, one for each token", out->n_vocab);
    float *copy; /* the file need not align them */
    AQ_ALLOC(arena, copy, scores->n);
    memcpy(copy, scores->data, scores->n * sizeof *copy);
    out->scores = copy;
    return AQ_OK;
}

static aq_status read_spm(aq_arena *arena, const aq_gguf *g, aq_tokenizer_source *out) {
    const aq_gguf_value *tokens;
    AQ_TRY(find_needed(g, "tokenizer.ggml.tokens", "llama", &tokens));
    AQ_TRY(aq_gguf_strings(arena, g, tokens, &out->vocab, &out->n_vocab));
    AQ_TRY(read_scores(arena, g, out));
    AQ_TRY(aq_tokenizer_source_bytes(arena, out, 1));
    AQ_TRY(split_added(arena, g, (aq_bytes *)(uintptr_t)out->vocab, out->n_vocab, out));
    uint8_t prefix = 1;
    AQ_TRY(read_flag(g, "tokenizer.ggml.add_space_prefix", &prefix));
    out->add_prefix_space = prefix ? AQ_PREFIX_ALWAYS : AQ_PREFIX_NONE;
    out->strips = prefix;
    out->normalizes = 1;
    out->pre = AQ_PRE_WHOLE;
    out->add_bos = 1; /* the defaults of the kind, which files leave out */
    out->unk = 0 < out->n_vocab ? 0 : -1;
    out->bos = 1 < out->n_vocab ? 1 : -1;
    out->eos = 2 < out->n_vocab ? 2 : -1;
    return AQ_OK;
}

/* ---- which ---- */

static aq_status read_kind(aq_arena *arena, const aq_gguf *g, aq_tokenizer_source *s, const char **out_note) {
    aq_bytes model = text_of(g, "tokenizer.ggml.model"), pre = text_of(g, "tokenizer.ggml.pre");
    if (is(model, "llama")) {
        s->kind = AQ_TOKENIZER_SPM;
        return read_spm(arena, g, s);
    }
    if (!is(model, "gpt2"))
        return note(arena, "tokenizer.ggml.model", model, "gpt2 (byte-level BPE) or llama (SentencePiece): name a tokenizer folder with --tokenizer",
                    out_note);
    const aq_named_pattern *pattern = aq_pattern_find(pre.n ? pre : (aq_bytes){"default", 7});
    if (!pattern)
        return note(arena, "tokenizer.ggml.pre", pre, "llama-bpe, gpt-2, qwen2, tekken, deepseek-llm or another name of a known pattern: name a tokenizer folder with --tokenizer",
                    out_note);
    s->kind = AQ_TOKENIZER_BPE;
    s->pre = pattern->pre;
    s->splits = pattern->splits;
    s->n_splits = pattern->n_splits;
    s->ignore_merges = pattern->ignore_merges;
    s->add_bos = pattern->add_bos;
    return read_bpe(arena, g, s);
}

aq_status aq_gguf_tokenizer(aq_arena *arena, const aq_gguf *g, aq_tokenizer_source *out, const char **out_note) {
    const aq_tokenizer_source none = {.place = g->path, .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    aq_tokenizer_source s = none;
    *out_note = NULL;
    *out = none;
    aq_bytes model = text_of(g, "tokenizer.ggml.model");
    if (!model.n || is(model, "no_vocab") || is(model, "none")) /* llama.cpp's words for a file without one */
        return AQ_OK;
    AQ_TRY(read_kind(arena, g, &s, out_note));
    if (s.kind == AQ_TOKENIZER_NONE)
        return AQ_OK;
    AQ_TRY(read_id(g, "tokenizer.ggml.bos_token_id", s.n_vocab, &s.bos));
    AQ_TRY(read_id(g, "tokenizer.ggml.eos_token_id", s.n_vocab, &s.eos));
    AQ_TRY(read_id(g, "tokenizer.ggml.padding_token_id", s.n_vocab, &s.pad));
    AQ_TRY(read_id(g, "tokenizer.ggml.unknown_token_id", s.n_vocab, &s.unk));
    AQ_TRY(read_flag(g, "tokenizer.ggml.add_bos_token", &s.add_bos));
    AQ_TRY(read_flag(g, "tokenizer.ggml.add_eos_token", &s.add_eos));
    *out = s;
    return AQ_OK;
}

static aq_status read_mapped(aq_arena *arena, const char *path, const aq_file *file, aq_tokenizer_source *out) {
    aq_gguf g;
    const char *why;
    AQ_TRY(aq_gguf_read(arena, path, file, &g));
    AQ_TRY(aq_gguf_tokenizer(arena, &g, out, &why));
    if (out->kind == AQ_TOKENIZER_NONE)
        return aq_refuse(AQ_WHY_TOKENIZER_NONE, path, "%s", why ? why : "no tokenizer in this file: expected one, or --tokenizer FOLDER");
    return AQ_OK;
}

aq_status aq_gguf_tokenizer_read(aq_arena *arena, const char *path, aq_file *file, aq_tokenizer_source *out) {
    AQ_TRY(aq_gguf_first(arena, path, &path)); /* the keys of a model in parts are all there */
    AQ_TRY(aq_import_unreadable(aq_file_map(path, file)));
    aq_status status = read_mapped(arena, path, file, out);
    if (status != AQ_OK) {
        aq_file_unmap(file);
        *file = (aq_file){0};
    }
    return status;
}
