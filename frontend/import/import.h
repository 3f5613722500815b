/* import.h: a model of the outside world as one structure, whatever file it came from.
 *
 * aq_checkpoint_open looks at PATH (a .gguf file, a folder in Hugging Face form, a .safetensors file, later more), maps the
 * files, and gives: the figures of the architecture, every tensor under its house name, and what a tokenizer needs. Nothing
 * is copied: tensor bytes point into the maps and live until close. Every figure is checked: a checkpoint that opens is
 * consistent (each house tensor present once, with the shape that the figures say, inside the file). */
#ifndef AQ_FRONTEND_IMPORT_H
#define AQ_FRONTEND_IMPORT_H

#include "frontend/tokenizer/tokenizer.h"
#include "ir/arena.h"
#include "ir/dtype.h"
#include "ir/file.h"
#include "ir/rope.h"

typedef enum aq_rope_scaling { AQ_ROPE_NONE, AQ_ROPE_LINEAR, AQ_ROPE_DYNAMIC, AQ_ROPE_LLAMA3, AQ_ROPE_YARN } aq_rope_scaling;
const char *aq_rope_scaling_name(aq_rope_scaling s); /* as config.json spells it; "none" */

enum { AQ_MOST_ENDS = 16 };

/* The figures of the architecture; the names are those of models/aquila/aquila.aq. All positive and bounded so that products
 * of any two fit 2^48. */
typedef struct aq_config {
    const char *name;      /* "" if the file says none */
    const char *family;    /* "aquila", "llama": what the file calls the architecture */
    int64_t D, L, H, HKV, DH, F, V;
    int64_t max_length;    /* positions the model was trained for */
    double eps, theta;
    aq_rope_scaling scaling;
    double scaling_factor; /* 1 where there is none */
    double original;       /* llama3, yarn: positions before the scaling; 0 elsewhere */
    double low, high;      /* turns within them. llama3: low_freq_factor, high_freq_factor; yarn: beta_slow, beta_fast */
    double gain;           /* yarn's attention factor; 0 and 1: none */
    int exact_pairs;       /* yarn: the band's ends are not rounded to whole pairs (truncate: false) */
    int tied;              /* the output projection is tok_embeddings */
    int32_t bos, eos, pad; /* -1 where the file says none */
    int32_t ends[AQ_MOST_ENDS]; /* what ends an answer beside eos: a list in config.json or generation_config.json, eot and eom of GGUF */
    uint32_t n_ends;
    double initializer_range;
} aq_config;

/* One stored tensor. name: the house name: "tok_embeddings", "norm", "output", and "attn_norm.3", "wq.3", "wk.3", "wv.3", "wo.3",
 * "ffn_norm.3", "w1.3" (gate), "w3.3" (up), "w2.3" (down) for layer 3. dim[0] is the slowest axis: matrices are [out, in]. */
typedef struct aq_tensor {
    const char *name;
    const char *file_name;  /* its name in the file, for messages */
    aq_dtype dtype;
    uint8_t rank;
    int64_t dim[2];
    const void *data;       /* NULL: it is made row by row (made.h) */
    size_t bytes;
    const struct aq_tensor_maker *maker; /* who makes it; NULL if data is there */
    int rotate_half;        /* rows are in rotate-half order inside each head: the recipe must interleave them (wq, wk of HF form) */
} aq_tensor;

typedef struct aq_checkpoint {
    aq_arena arena;
    const char *path;
    aq_config config;
    const aq_tensor *tensors; /* sorted by name (strcmp) */
    uint32_t n_tensors;
    aq_tokenizer_source tokenizer; /* kind AQ_TOKENIZER_NONE if the model carries none */
    const char *tokenizer_note;    /* why tokenizer is NONE although the file has one ("tokenizer model \"llama\" ..."), else NULL */
    const char *chat_template;     /* the Jinja text of GGUF or tokenizer_config.json, or NULL */
    aq_file *files;
    uint32_t n_files;
    uint32_t n_adapters;           /* files of adapters read so far */
    AQ_VEC(struct aq_lora) adapters; /* read and neither merged nor made dots yet (frontend/lora.h) */
    void *made;                    /* bytes of tensors that were made (aq_checkpoint_make) */
    size_t made_bytes;
} aq_checkpoint;

/* The attributes of rope (ir/rope.h), with dim; dynamic scaling's base is not in theta yet. */
aq_rope aq_config_rope(const aq_config *c);

/* On failure *out is closed already. AQ_REFUSED with "PATH:place: ...", AQ_NO_MEMORY. */
AQ_MUST_USE aq_status aq_checkpoint_open(const char *path, aq_checkpoint *out);
void aq_checkpoint_close(aq_checkpoint *c);
const aq_tensor *aq_checkpoint_find(const aq_checkpoint *c, const char *house_name); /* NULL if absent */

/* A built-in architecture, `NAME:random[:SEED]` (see models/aquila/configs): tensors are filled with normal(0, initializer_range)
 * in `dtype` (any FLOAT or WEIGHT type; ones for norms), from the counter-based generator, the same bytes for the same seed.
 * AQ_DTYPE_NONE means bf16. Anonymous memory, freed by close; AQ_NO_MEMORY beforehand if less is free than the weights need. */
AQ_MUST_USE aq_status aq_checkpoint_random(const char *spec, aq_dtype dtype, aq_checkpoint *out);

/* Is it NAME:random[:SEED], and no file of that name? */
int aq_checkpoint_is_random(const char *spec);

/* The same without the bytes: every tensor's data is NULL and its rows are made when they are asked for (made.h): a model of any size takes
 * no memory until then. */
AQ_MUST_USE aq_status aq_checkpoint_outline(const char *spec, aq_dtype dtype, aq_checkpoint *out);

/* Only the figures: from a config.json (HF or FlagAI keys), a .gguf, a folder, or a built-in NAME or NAME:random... */
AQ_MUST_USE aq_status aq_config_read(aq_arena *arena, const char *path, aq_config *out);

/* Only the tokenizer of a .gguf, which may be of any architecture and need not hold a tensor; its texts lie in *file, which the caller unmaps
 * (on success). AQ_REFUSED: none, or none that is known. */
AQ_MUST_USE aq_status aq_gguf_tokenizer_read(aq_arena *arena, const char *path, aq_file *file, aq_tokenizer_source *out);

#endif
