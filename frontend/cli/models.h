/* models.h: opening what MODEL and --tokenizer name. */
#ifndef AQ_FRONTEND_CLI_MODELS_H
#define AQ_FRONTEND_CLI_MODELS_H

#include "frontend/cli/options.h"
#include "frontend/import/import.h"
#include "frontend/tokenizer/tokenizer.h"

/* Is it flagai-v1 or flagai-v1:PATH? */
int aq_tokenizer_is_way(const char *name);

/* The tokenizer that NAME is: a tokenizer's folder or file, a model's folder, a .gguf file; flagai-v1:PATH is that of PATH in FlagAI's own way. */
AQ_MUST_USE aq_status aq_tokenizer_of(const char *name, aq_tokenizer **out);

/* That of --tokenizer: what aq_tokenizer_of takes, or flagai-v1 alone for `own` of the model in FlagAI's way; without it `own` as it is; NULL if there
 * is none. AQ_USAGE: --tokenizer names one of more than `vocab` tokens. */
AQ_MUST_USE aq_status aq_tokenizer_given(const char *given, const char *model, int64_t vocab, const aq_tokenizer_source *own, aq_tokenizer **out);

/* AQ_USAGE if that tokenizer of `size` tokens is larger than the model's vocabulary: it would give ids that are none. */
AQ_MUST_USE aq_status aq_tokenizer_fits(const char *given, const char *model, uint32_t size, int64_t vocab);

/* A file or folder through aq_checkpoint_open, NAME:random[:SEED] through aq_checkpoint_outline. */
AQ_MUST_USE aq_status aq_model_open(const char *model, aq_dtype random_dtype, aq_checkpoint *out);

#endif
