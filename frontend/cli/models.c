/* models.c: which door a name on the command line goes through. */
#include "frontend/cli/models.h"

#include <inttypes.h>
#include <string.h>

static const char flagai[] = "flagai-v1";

static aq_status build(const aq_tokenizer_source *source, int in_flagais_way, aq_tokenizer **out) {
    return in_flagais_way ? aq_tokenizer_build_flagai(source, out) : aq_tokenizer_build(source, out);
}

/* Whatever it is called: a model is opened by what is in it, and its tokenizer as well. */
static int is_gguf(const char *path) {
    aq_file file;
    if (aq_path_ends(path, ".gguf"))
        return aq_file_kind(path) == 1;
    if (aq_file_kind(path) != 1 || aq_file_map(path, &file) != AQ_OK)
        return 0;
    int is = file.size >= 4 && !memcmp(file.bytes, "GGUF", 4);
    aq_file_unmap(&file);
    return is;
}

static aq_status open_file(const char *path, int in_flagais_way, aq_tokenizer **out) {
    aq_arena arena = {0};
    aq_tokenizer_source source;
    aq_file file = {0};
    aq_status status = is_gguf(path) ? aq_gguf_tokenizer_read(&arena, path, &file, &source) : aq_tokenizer_source_open(&arena, path, &source);
    if (status == AQ_OK)
        status = build(&source, in_flagais_way, out);
    if (file.bytes)
        aq_file_unmap(&file);
    aq_arena_close(&arena);
    return status;
}

int aq_tokenizer_is_way(const char *name) {
    char next = strncmp(name, flagai, sizeof flagai - 1) ? 'x' : name[sizeof flagai - 1];
    return next == ':' || !next;
}

aq_status aq_tokenizer_of(const char *name, aq_tokenizer **out) {
    int in_flagais_way = aq_tokenizer_is_way(name) && strcmp(name, flagai) != 0;
    return open_file(in_flagais_way ? name + sizeof flagai : name, in_flagais_way, out);
}

/* What a checkpoint brings itself is looked at where it is opened. */
aq_status aq_tokenizer_fits(const char *given, const char *model, uint32_t size, int64_t vocab) {
    if (size <= vocab)
        return AQ_OK;
    return aq_fail(AQ_USAGE, NULL, "--tokenizer %s: %" PRIu32 " tokens: expected at most %" PRId64 ", the vocabulary of %s", given, size, vocab, model);
}

aq_status aq_tokenizer_given(const char *given, const char *model, int64_t vocab, const aq_tokenizer_source *own, aq_tokenizer **out) {
    int in_flagais_way = given && !strcmp(given, flagai), has_own = own->kind != AQ_TOKENIZER_NONE;
    *out = NULL;
    if (given && !in_flagais_way) {
        AQ_TRY(aq_tokenizer_of(given, out));
        return aq_tokenizer_fits(given, model, aq_tokenizer_size(*out), vocab);
    }
    if (in_flagais_way && !has_own)
        return aq_fail(AQ_USAGE, NULL, "--tokenizer flagai-v1: %s has no tokenizer to read so: expected flagai-v1:FOLDER", model);
    return has_own ? build(own, in_flagais_way, out) : AQ_OK;
}

aq_status aq_model_open(const char *model, aq_dtype random_dtype, aq_checkpoint *out) {
    if (aq_checkpoint_is_random(model))
        return aq_checkpoint_outline(model, random_dtype, out); /* whoever looks at a model wants no bytes */
    return aq_checkpoint_open(model, out);
}
