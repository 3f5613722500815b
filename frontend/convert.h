/* convert.h: a model in one form written in another: `aquila convert`. FlagAI folder, Hugging Face folder, GGUF file; any weight type that the form
 * holds. The tensors are turned one at a time and streamed out; nothing but maps and a few MiB is in memory. The same source and options give
 * the same bytes.
 *
 * What becomes of a tensor, by default: floating-point types stay, and every value with them. In a folder, matrices in blocks become f32, which
 * holds their values exactly; vectors take the type of the matrices where that is narrower and loses nothing. In GGUF, vectors are f32, as llama.cpp wants
 * them. With a type: matrices get it, in a folder vectors too. In GGUF with a type of blocks the rules are llama.cpp's: the output projection
 * (the embedding where it is tied) is q6_k, or q8_0, and where rows are no multiple of the block, a type of smaller blocks stands in, else f16. */
#ifndef AQ_FRONTEND_CONVERT_H
#define AQ_FRONTEND_CONVERT_H

#include "frontend/import/write.h"

typedef enum aq_form { AQ_FORM_GGUF, AQ_FORM_HF, AQ_FORM_FLAGAI } aq_form;

typedef struct aq_convert_options {
    aq_form to;
    aq_dtype type;       /* AQ_DTYPE_NONE: as stored */
    uint64_t shard_size; /* HF: most bytes of a file of weights */
    int threads;
    const aq_tokenizer_source *tokenizer; /* instead of the model's; NULL: the model's */
    const char *tokenizer_folder;         /* instead of the model's: where its files are copied from, or NULL */
    aq_status (*progress)(void *user, uint64_t done, uint64_t all); /* may be NULL; what is not AQ_OK ends the work */
    void *user;
} aq_convert_options;

typedef struct aq_convert_count {
    uint32_t tensors;
    uint64_t bytes;
} aq_convert_count;

typedef struct aq_convert_report {
    aq_convert_count of[AQ_DTYPE_COUNT];
    uint64_t bytes; /* of all files */
    AQ_VEC(const char *) files;
    AQ_VEC(const char *) notes; /* what did not become what was asked for, and why */
} aq_convert_report;

/* Writes OUT: a file, or a folder, which must not exist, be empty, or have been written by `convert`. All files are on the disk before the first gets its
 * name. A folder's config.json first becomes one without figures, and gets them last: whatever interrupts the work between leaves what no one
 * takes for a model, never a mixture of two. On failure before that, OUT is as it was. The report's texts are in `arena`. AQ_REFUSED for what
 * the form cannot hold; AQ_USAGE for a type that it never holds. */
AQ_MUST_USE aq_status aq_convert(aq_arena *arena, const aq_checkpoint *c, const char *out, const aq_convert_options *o, aq_convert_report *report);

/* "hf" ...; 0 if there is none. */
int aq_form_by_name(const char *name, aq_form *out);

/* ---- between the files of convert ---- */

/* What each tensor becomes, in the order of writing: embedding, layers, norm, output. */
AQ_MUST_USE aq_status aq_convert_list(aq_arena *arena, const aq_checkpoint *c, const aq_convert_options *o, aq_convert_report *report, aq_out_tensor **out_list,
                                      uint32_t *out_n);
/* Notes of what the form, or who reads it, does not hold. */
AQ_MUST_USE aq_status aq_convert_losses(aq_arena *arena, const aq_out_model *m, aq_form to, aq_convert_report *report);
AQ_MUST_USE aq_status aq_convert_note(aq_arena *arena, aq_convert_report *report, const char *format, ...) AQ_PRINTF(3, 4);

#endif
