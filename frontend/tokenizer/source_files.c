/* source_files.c: which files of a folder make a tokenizer, and the two oldest of them, vocab.json and merges.txt.
 *
 * tokenizer.json says everything, tokenizer_config.json and special_tokens_map.json then only name bos, eos, pad and unk. Without it
 * vocab.json + merges.txt are GPT-2's "slow" form, read as transformers reads it: the texts that added_tokens.json,
 * tokenizer_config.json and special_tokens_map.json name are added tokens, and `<|endoftext|>` is one even where no file says so. Without
 * those, tokenizer.model (source_model.c) is read with the same files beside it. */
#include "frontend/import/internal.h"
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include "ir/file.h"
#include "ir/memory.h"

#include <string.h>

typedef aq_status parse(aq_source_reader *r, const char *text, size_t n);

static aq_status parse_special_fast(aq_source_reader *r, const char *text, size_t n) { return aq_source_parse_special(r, text, n, 0); }
static aq_status parse_special_slow(aq_source_reader *r, const char *text, size_t n) { return aq_source_parse_special(r, text, n, 1); }

/* What a folder may hold, in the order of reading. */
enum { FAST = 1, SLOW = 2, SENTENCEPIECE = 4, NEEDED = 8 };
static const struct {
    const char *name;
    parse *parse;
    int when;
} files[] = {
    {"tokenizer.json", aq_source_parse_json, FAST | NEEDED},
    {"vocab.json", aq_source_parse_vocab, SLOW | NEEDED},
    {"merges.txt", aq_source_parse_merges, SLOW | NEEDED},
    {"tokenizer.model", aq_source_parse_model, SENTENCEPIECE | NEEDED},
    {"added_tokens.json", aq_source_parse_added, SLOW | SENTENCEPIECE},
    {"special_tokens_map.json", parse_special_fast, FAST},
    {"tokenizer_config.json", parse_special_fast, FAST},
    {"special_tokens_map.json", parse_special_slow, SLOW | SENTENCEPIECE},
    {"tokenizer_config.json", parse_special_slow, SLOW | SENTENCEPIECE},
};
enum { N_FILES = sizeof files / sizeof *files };

static aq_status read_one(aq_source_reader *r, const char *path, parse *parse) {
    char *text;
    size_t n;
    AQ_TRY(aq_import_read(path, &text, &n)); /* not mapped: a file that is cut while it is read does no harm */
    r->place = path;
    aq_status status = parse(r, text, n);
    aq_mem_free(text);
    return status;
}

static aq_status read_files(aq_source_reader *r, const char *folder, int form) {
    for (int i = 0; i < N_FILES; i++) {
        const char *path;
        if (!(files[i].when & form))
            continue;
        AQ_TRY(aq_arena_format(r->arena, &path, "%s/%s", folder, files[i].name));
        if ((files[i].when & NEEDED) || aq_file_kind(path) == 1)
            AQ_TRY(read_one(r, path, files[i].parse));
    }
    return AQ_OK;
}

static aq_status holds(aq_arena *arena, const char *folder, const char *name, int *out) {
    const char *path;
    AQ_TRY(aq_arena_format(arena, &path, "%s/%s", folder, name));
    *out = aq_file_kind(path) == 1;
    return AQ_OK;
}

static aq_status add_end_of_text(aq_source_reader *r) {
    const aq_bytes text = {"<|endoftext|>", 13};
    int32_t id;
    AQ_TRY(aq_source_find(r, text, &id));
    if (id < 0)
        return AQ_OK;
    for (uint32_t i = 0; i < r->added.n; i++)
        if (r->added.at[i].id == id)
            return AQ_OK;
    return aq_source_add(r, (aq_added_token){.text = text, .id = id, .special = 1});
}

static aq_status read_form(aq_arena *arena, const char *folder, int form, aq_tokenizer_source *out) {
    aq_tokenizer_source source = {.kind = AQ_TOKENIZER_BPE, .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    aq_source_reader r = {.arena = arena, .out = &source};
    AQ_TRY(aq_arena_format(arena, &source.place, form == FAST ? "%s/tokenizer.json" : "%s", folder));
    AQ_TRY(read_files(&r, folder, form));
    if (form == SLOW)
        AQ_TRY(add_end_of_text(&r));
    source.added = r.added.at;
    source.n_added = r.added.n;
    *out = source;
    return AQ_OK;
}

aq_status aq_tokenizer_source_read(aq_arena *arena, const char *folder, aq_tokenizer_source *out) {
    int has_json, has_vocab, has_merges, has_model;
    AQ_TRY(holds(arena, folder, "tokenizer.json", &has_json));
    AQ_TRY(holds(arena, folder, "vocab.json", &has_vocab));
    AQ_TRY(holds(arena, folder, "merges.txt", &has_merges));
    AQ_TRY(holds(arena, folder, "tokenizer.model", &has_model));
    if (has_json)
        return read_form(arena, folder, FAST, out);
    if (has_vocab && has_merges)
        return read_form(arena, folder, SLOW, out);
    if (has_model)
        return read_form(arena, folder, SENTENCEPIECE, out);
    *out = (aq_tokenizer_source){.kind = AQ_TOKENIZER_NONE, .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    return AQ_OK;
}

/* PATH is a folder, or a file of one; tokenizer.json asks for its form, any other for the slow one. */
aq_status aq_tokenizer_source_open(aq_arena *arena, const char *path, aq_tokenizer_source *out) {
    int kind = aq_file_kind(path);
    if (kind == 2) {
        AQ_TRY(aq_tokenizer_source_read(arena, path, out));
        if (out->kind == AQ_TOKENIZER_NONE)
            return aq_refuse(AQ_WHY_TOKENIZER_FOLDER, path, "no tokenizer in this folder: tokenizer.json, vocab.json and merges.txt, or tokenizer.model expected");
        return AQ_OK;
    }
    if (kind != 1)
        return aq_refuse(AQ_WHY_TOKENIZER_PATH, path, "no such file or folder: a folder with a tokenizer, or its tokenizer.json expected");
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *folder = ".";
    if (slash)
        AQ_TRY(aq_arena_string(arena, path, slash == path ? 1 : (size_t)(slash - path), &folder));
    for (int i = 0; i < N_FILES; i++)
        if ((files[i].when & NEEDED) && strcmp(files[i].name, name) == 0)
            return read_form(arena, folder, files[i].when & (FAST | SLOW | SENTENCEPIECE), out);
    return aq_refuse(AQ_WHY_TOKENIZER_FILE, path, "no tokenizer: a folder, tokenizer.json, tokenizer.model, vocab.json or merges.txt expected");
}

aq_status aq_tokenizer_open(const char *path, aq_tokenizer **out) {
    aq_arena arena = {0};
    aq_tokenizer_source source;
    aq_status status = aq_tokenizer_source_open(&arena, path, &source);
    if (status == AQ_OK)
        status = aq_tokenizer_build(&source, out);
    aq_arena_close(&arena);
    return status;
}

/* ---- merges.txt: a line "#version: ...", then "left right" a line ---- */

static aq_status add_line(aq_source_reader *r, const char *line, size_t n, uint32_t number) {
    if (n && line[n - 1] == '\r')
        n--;
    if (n >= 8 && memcmp(line, "#version", 8) == 0)
        return AQ_OK;
    const char *space = n ? memchr(line, ' ', n) : NULL;
    if (!space || memchr(space + 1, ' ', (size_t)(line + n - space - 1)))
        return aq_refuse(AQ_WHY_TOKENIZER_MERGE_LINE, r->place, "line %u: not a merge: two texts with one space between expected", number);
    aq_bytes *merges = (aq_bytes *)r->out->merges; /* ours until the source is given away */
    merges[r->out->n_merges++] = (aq_bytes){line, (uint32_t)n};
    return AQ_OK;
}

aq_status aq_source_parse_merges(aq_source_reader *r, const char *text, size_t n) {
    const char *copy;
    aq_bytes *merges;
    size_t lines = 1;
    for (const char *at = text; n && (at = memchr(at, '\n', n - (size_t)(at - text))); at++)
        lines++;
    if (n >= UINT32_MAX || lines > AQ_TOKENIZER_LIMIT)
        return aq_tokenizer_refuse_size(r->place, "merges", lines);
    AQ_TRY(aq_arena_string(r->arena, text, n, &copy));
    AQ_ALLOC(r->arena, merges, lines);
    r->out->merges = merges;
    r->out->n_merges = 0;
    uint32_t number = 0;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(copy + at, '\n', n - at);
        size_t length = end ? (size_t)(end - copy) - at : n - at;
        AQ_TRY(add_line(r, copy + at, length, ++number));
        at += length + 1;
    }
    return AQ_OK;
}
