/* write_gguf.h: a checkpoint's parts as a GGUF file, version 3: for `convert`, and for tests that need a small file without Python. */
#ifndef AQ_FRONTEND_IMPORT_WRITE_GGUF_H
#define AQ_FRONTEND_IMPORT_WRITE_GGUF_H

#include "frontend/import/import.h"

/* Writes config, n tensors under their house names (any order; every type must have a GGUF number), and, where not NULL, the tokenizer and the
 * chat template. Keys get config->family as prefix ("llama" is what other programs read). Rows in rotate-half order are put into
 * interleaved order, which GGUF demands. The file appears whole or not at all. AQ_REFUSED for what the form cannot hold, AQ_FAILED for
 * write errors. */
AQ_MUST_USE aq_status aq_gguf_write(const char *path, const aq_config *config, const aq_tensor *tensors, uint32_t n,
                                    const aq_tokenizer_source *tokenizer, const char *chat_template);

#endif
