/* models.c: which door a name on the command line goes through. */
#include "frontend/cli/models.h"

#include "frontend/reasons.h"

#include <string.h>

int aq_name_ends(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

aq_status aq_tokenizer_of(const char *path, aq_tokenizer **out) {
    if (aq_file_kind(path) != 1 || !aq_name_ends(path, ".gguf"))
        return aq_tokenizer_open(path, out);
    aq_checkpoint c;
    AQ_TRY(aq_checkpoint_open(path, &c));
    aq_status status = c.tokenizer.kind == AQ_TOKENIZER_NONE
                           ? aq_refuse(AQ_WHY_TOKENIZER_NONE, path, "no tokenizer in this file: expected one, or --tokenizer FOLDER")
                           : aq_tokenizer_build(&c.tokenizer, out);
    aq_checkpoint_close(&c);
    return status;
}

int aq_model_is_random(const char *model) {
    const char *colon = strchr(model, ':');
    return colon && !strncmp(colon + 1, "random", 6) && (!colon[7] || colon[7] == ':') && aq_file_kind(model) == 0;
}

aq_status aq_model_open(const char *model, aq_dtype random_dtype, aq_checkpoint *out) {
    if (aq_model_is_random(model))
        return aq_checkpoint_outline(model, random_dtype, out); /* whoever looks at a model wants no bytes */
    return aq_checkpoint_open(model, out);
}
