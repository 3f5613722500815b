/* models.h: opening what MODEL and --tokenizer name. */
#ifndef AQ_FRONTEND_CLI_MODELS_H
#define AQ_FRONTEND_CLI_MODELS_H

#include "frontend/cli/options.h"
#include "frontend/import/import.h"
#include "frontend/tokenizer/tokenizer.h"

/* Does the name end so? */
int aq_name_ends(const char *name, const char *end);

/* The tokenizer that PATH holds: a tokenizer's folder or file, a model's folder, a .gguf file. */
AQ_MUST_USE aq_status aq_tokenizer_of(const char *path, aq_tokenizer **out);

/* Is it NAME:random[:SEED]? */
int aq_model_is_random(const char *model);

/* A file or folder through aq_checkpoint_open, NAME:random[:SEED] through aq_checkpoint_outline. */
AQ_MUST_USE aq_status aq_model_open(const char *model, aq_dtype random_dtype, aq_checkpoint *out);

#endif
