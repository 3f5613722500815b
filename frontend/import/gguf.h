/* gguf.h: the GGUF container, versions 2 and 3, little endian: a header, key-value metadata, tensor infos, aligned tensor data.
 * Format: github.com/ggml-org/ggml, docs/gguf.md. Strings and data point into the mapped file,
 * which another process may write to: what was checked (a length, a count) is never read from there again. */
#ifndef AQ_FRONTEND_IMPORT_GGUF_H
#define AQ_FRONTEND_IMPORT_GGUF_H

#include "frontend/import/internal.h"

/* The numbers are the file's. */
typedef enum aq_gguf_type {
    AQ_GGUF_U8, AQ_GGUF_I8, AQ_GGUF_U16, AQ_GGUF_I16, AQ_GGUF_U32, AQ_GGUF_I32, AQ_GGUF_F32, AQ_GGUF_BOOL, AQ_GGUF_STRING,
    AQ_GGUF_ARRAY, AQ_GGUF_U64, AQ_GGUF_I64, AQ_GGUF_F64, AQ_GGUF_TYPES
} aq_gguf_type;

/* The numbers of tokenizer.ggml.token_type that mean something to us. */
enum { AQ_GGUF_TOKEN_NORMAL = 1, AQ_GGUF_TOKEN_UNKNOWN = 2, AQ_GGUF_TOKEN_CONTROL = 3, AQ_GGUF_TOKEN_USER = 4, AQ_GGUF_TOKEN_UNUSED = 5, AQ_GGUF_TOKEN_BYTE = 6 };

typedef struct aq_gguf_value {
    aq_bytes key;
    aq_gguf_type type;         /* of the value */
    aq_gguf_type element;      /* of an array's elements */
    uint64_t n;                /* elements of an array; bytes of a string; 1 */
    const unsigned char *data; /* the first element, a string's bytes, or the number */
} aq_gguf_value;

typedef struct aq_gguf {
    const char *path;
    const aq_file *file;
    const aq_gguf_value *values; /* sorted by key, no key twice */
    uint32_t n_values;
    aq_stored_list tensors;      /* in the order of the file, checked against type, size, alignment, overlap, the file's end */
} aq_gguf;

/* Everything allocated in arena; file must stay mapped. AQ_REFUSED "PATH:byte N: ...", "PATH:tensor NAME: ...". Cost: one walk over the
 * metadata; tensor data is not touched. */
AQ_MUST_USE aq_status aq_gguf_read(aq_arena *arena, const char *path, const aq_file *file, aq_gguf *out);

/* gguf_parts.c: a model in several files. The first part's path if `path` names another part of it, else path. */
AQ_MUST_USE aq_status aq_gguf_first(aq_arena *arena, const char *path, const char **out);
/* g, of the first part, gets the tensors of the others, which c maps and keeps; nothing happens to a whole file. arena: of g. AQ_REFUSED with the
 * part's name: missing, another model's, not all. */
AQ_MUST_USE aq_status aq_gguf_join(aq_arena *arena, aq_checkpoint *c, aq_gguf *g);

const aq_gguf_value *aq_gguf_find(const aq_gguf *g, const char *key); /* NULL if absent */
int aq_gguf_number(const aq_gguf_value *v, double *out);              /* 1 if v is one number */
/* The strings of an array of strings, in arena; the value must be one (AQ_REFUSED otherwise). */
AQ_MUST_USE aq_status aq_gguf_strings(aq_arena *arena, const aq_gguf *g, const aq_gguf_value *v, const aq_bytes **out, uint32_t *out_n);

/* The tokenizer.ggml.* keys as a source; kind NONE and *out_note = why where we cannot use it. */
AQ_MUST_USE aq_status aq_gguf_tokenizer(aq_arena *arena, const aq_gguf *g, aq_tokenizer_source *out, const char **out_note);

/* c->path's file, mapped: everything of aq_import_gguf after the map. */
AQ_MUST_USE aq_status aq_gguf_open(aq_checkpoint *c, const aq_file *file);

#endif
