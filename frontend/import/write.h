/* write.h: a model on its way into a file: what the writers of the forms (write_*.c) share. A writer is told names, types and sizes, and gets
 * the bytes of one tensor after the other from a pump, which turns types and puts rows in order piece by piece: beyond the maps of the source
 * never more than a few MiB are in memory. Order: aq_pump_open, aq_out_name ..., aq_gguf_put | aq_safetensors_put | aq_torch_put. */
#ifndef AQ_FRONTEND_IMPORT_WRITE_H
#define AQ_FRONTEND_IMPORT_WRITE_H

#include "frontend/import/internal.h"
#include "frontend/import/put.h"

/* Inside each head of DH rows, interleaved row 2i is rotate-half row i, and row 2i + 1 is row i + DH / 2. */
typedef enum aq_row_order { AQ_ROWS_KEEP, AQ_ROWS_INTERLEAVE, AQ_ROWS_HALVE } aq_row_order;

typedef struct aq_out_tensor {
    const char *name; /* in the file */
    const aq_tensor *from;
    aq_dtype dtype;
    aq_row_order order;
    size_t bytes;    /* of all of it in dtype */
    uint32_t shares; /* 0; or 1 + the index of the tensor before it in the list whose bytes are its own too (torch archives only) */
} aq_out_tensor;

/* Turns the rows of a tensor into the bytes of a file, on several threads. progress may be NULL; a status that is not AQ_OK stops the writing. */
typedef struct aq_pump aq_pump;
AQ_MUST_USE aq_status aq_pump_open(int threads, int64_t head_dim, aq_status (*progress)(void *user, uint64_t bytes), void *user, aq_pump **out);
void aq_pump_close(aq_pump *p); /* NULL is fine */
void aq_pump_run(aq_pump *p, const aq_out_tensor *t, aq_put *to);

typedef struct aq_out_model {
    const aq_config *config;
    const aq_out_tensor *tensors;
    uint32_t n;
    const aq_tokenizer_source *tokenizer; /* NULL or kind NONE: none */
    const char *chat_template;            /* or NULL */
    aq_pump *pump;
} aq_out_model;

/* "wq.3" -> "blk.3.attn_q.weight"; AQ_REFUSED for what is no house name. */
AQ_MUST_USE aq_status aq_out_name(aq_arena *arena, const char *house, aq_naming naming, const char **out);

/* Whole files. w stays the caller's: nothing is committed. */
AQ_MUST_USE aq_status aq_gguf_put(const aq_out_model *m, aq_file_writer *w);
AQ_MUST_USE aq_status aq_safetensors_put(const aq_out_model *m, uint32_t first, uint32_t end, aq_file_writer *w); /* tensors [first, end) */
AQ_MUST_USE aq_status aq_torch_put(const aq_out_model *m, aq_file_writer *w);

/* config.json in Hugging Face's keys or FlagAI's. dtype: that of most weights. */
AQ_MUST_USE aq_status aq_config_put(const aq_config *c, aq_naming naming, aq_dtype dtype, aq_file_writer *w);

/* One of the files of a tokenizer in a folder; their names, and which of them a form wants: convert.c. */
typedef enum aq_tokenizer_file { AQ_FILE_TOKENIZER_JSON, AQ_FILE_TOKENIZER_CONFIG, AQ_FILE_SPECIAL_MAP, AQ_FILE_FLAGAI_MAP, AQ_FILE_VOCAB, AQ_FILE_MERGES, AQ_FILE_ADDED, AQ_TOKENIZER_FILES } aq_tokenizer_file;
AQ_MUST_USE aq_status aq_tokenizer_put(const aq_tokenizer_source *t, const char *chat_template, int64_t max_length, aq_tokenizer_file f, aq_file_writer *w);

#endif
