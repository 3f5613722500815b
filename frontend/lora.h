/* lora.h: low-rank adapters on a checkpoint: y = W x + s B (A x), in two ways.
 *
 *   aq_lora_add -> (again for further adapters) -> aq_lora_merge | aq_lora_dots
 *
 * Formats: what PEFT saves (a folder with adapter_config.json and adapter_model.safetensors or .bin), what llama.cpp's convert_lora_to_gguf makes of
 * it (a .gguf file), and FlagAI, whose trainer saves through its
 * own copy of PEFT: the same files with FlagAI's names (base_model.model.layers.0.attention.wq.lora_A.weight). Which naming, the names show.
 * In Hugging Face's naming the rows of B for wq and wk are in rotate-half order, as those of the weights: the recipe moves them. */
#ifndef AQ_FRONTEND_LORA_H
#define AQ_FRONTEND_LORA_H

#include "frontend/import/import.h"

/* One adapted matrix. A is [r, in], B is [out, r], as stored; both live as long as the checkpoint. */
typedef struct aq_lora {
    const char *house; /* "wq.3" */
    aq_tensor a, b;
    double scale;      /* alpha / r (or / sqrt(r)) times the user's scale */
} aq_lora;

/* Reads an adapter, FOLDER or FILE with adapter_config.json beside it, or llama.cpp's .gguf, and adds its pairs to c->adapters. scale: the user's factor. Every name,
 * rank and shape is checked against the model. AQ_REFUSED with a number from 700. */
AQ_MUST_USE aq_status aq_lora_add(aq_checkpoint *c, const char *path, double scale);

/* "PATH" or "PATH:SCALE" into its parts; what is a path as a whole has no scale. */
AQ_MUST_USE aq_status aq_lora_parse(const char *text, aq_arena *arena, const char **out_path, double *out_scale);

/* Into the weights: every adapted matrix becomes W + s B A, summed in f32, made row by row when bound (import/made.h), in type `to`; AQ_DTYPE_NONE:
 * its own type if that is a floating-point type, else bf16, whose rounding is finer than that of any block type. A tied output that is adapted
 * becomes a matrix of its own. The adapters are gone from c->adapters then. */
AQ_MUST_USE aq_status aq_lora_merge(aq_checkpoint *c, aq_dtype to);

/* Beside the weights: A and s B become tensors of the checkpoint ("wq_lora_a.3", "wq_lora_b.3", of a second adapter "wq_lora_a2.3"), which
 * aq_compile_module gives two dots each. s B is f32. */
AQ_MUST_USE aq_status aq_lora_dots(aq_checkpoint *c);

/* Is one of the adapted matrices of a block type? Then merging would round the adapter away with the weight. */
int aq_lora_on_blocks(const aq_checkpoint *c);

/* ---- what its own files tell each other ---------------------------------------------------------------------------------------------- */

/* alpha of the modules whose names end so (lora_settings.c: ends_like). */
typedef struct aq_lora_alpha_pattern {
    const char *end;
    double alpha;
} aq_lora_alpha_pattern;

typedef struct aq_lora_settings {
    const char *file; /* for messages */
    double alpha;
    int by_root;      /* rslora: the scale is alpha / sqrt(r) */
    int no_alpha;     /* the scale is 1 */
    AQ_VEC(aq_lora_alpha_pattern) alphas; /* the first that fits counts */
    AQ_VEC(const char *) saved;           /* modules_to_save: ends of names */
} aq_lora_settings;

struct aq_gguf;
AQ_MUST_USE aq_status aq_lora_settings_read(aq_arena *arena, const char *file, aq_lora_settings *out);
AQ_MUST_USE aq_status aq_lora_settings_of_gguf(const struct aq_gguf *g, aq_lora_settings *out);
double aq_lora_alpha(const aq_lora_settings *s, aq_bytes module); /* of a module by its name */
int aq_lora_saves(const aq_lora_settings *s, aq_bytes module);    /* was the module itself trained? */

/* *now in the place of the weight of its name. Of a tied model embedding and output part then, as in PEFT: what is not replaced keeps its value. */
AQ_MUST_USE aq_status aq_lora_replace(aq_checkpoint *c, const aq_tensor *now);

#endif
