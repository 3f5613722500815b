/* internal.h: what the files of this folder share. A form's reader (gguf.c, safetensors.c) turns a file into figures and stored
 * tensors; figures.c makes an aq_config of the first, bind.c house tensors of the second; forms.c chooses the reader. */
#ifndef AQ_FRONTEND_IMPORT_INTERNAL_H
#define AQ_FRONTEND_IMPORT_INTERNAL_H

#include "frontend/import/import.h"

/* The columns of tensors.def and figures.def. */
typedef enum aq_naming { AQ_NAMING_GGUF, AQ_NAMING_HF, AQ_NAMING_FLAGAI, AQ_NAMINGS } aq_naming;

/* "FILE:KIND NAME: message". name may be hostile and need not end with NUL: at most 120 bytes of it are shown. */
aq_status aq_import_refuse(int reason, const char *file, const char *kind, const char *name, size_t n, const char *format, ...) AQ_PRINTF(6, 7);

/* ---- figures ---- */

typedef enum aq_figure_kind { AQ_FIGURE_ABSENT, AQ_FIGURE_NUMBER, AQ_FIGURE_BOOL, AQ_FIGURE_TEXT, AQ_FIGURE_OTHER } aq_figure_kind;

/* One value of a file's metadata. number: exact for whole numbers up to 2^53 (larger ones are no figure of a model). */
typedef struct aq_figure {
    aq_figure_kind kind;
    double number; /* also of BOOL: 0, 1 */
    aq_bytes text;
} aq_figure;

/* Where figures come from: get looks a key up (absent keys are not an error). */
typedef struct aq_figure_source {
    const char *file;
    aq_naming naming;
    const char *prefix; /* GGUF: the architecture's name, put before keys that start with '.' */
    const void *from;
    aq_figure (*get)(const struct aq_figure_source *s, const char *key);
} aq_figure_source;

/* figures.c: a key ('.KEY' follows the prefix) looked up; a whole number from 1 to 2^24, a positive one of at most 1e12; "FILE:KEY: message". */
aq_figure aq_figure_look(const aq_figure_source *s, const char *key);
int aq_figure_is(aq_figure f, const char *text);
AQ_MUST_USE aq_status aq_figure_size(const aq_figure_source *s, const char *key, aq_figure f, int64_t *out);
AQ_MUST_USE aq_status aq_figure_real(const aq_figure_source *s, const char *key, aq_figure f, double *out);
AQ_MUST_USE aq_status aq_figure_missing(const aq_figure_source *s, const char *key, const char *expected);
const char *aq_figure_key(const aq_figure_source *s, const char *key, char room[200]);
#define AQ_FIGURE_REFUSE(why, s, key, ...) aq_import_refuse(why, (s)->file, "key", aq_figure_key(s, key, (char[200]){0}), 200, __VA_ARGS__)

/* scaling.c: how rotary positions are scaled, from the keys (the other figures must be there) ... */
AQ_MUST_USE aq_status aq_scaling_read(const aq_figure_source *s, aq_config *c);
/* ... and from rope_freqs.weight of a GGUF file, what each pair's frequency is divided by: Llama 3's figures that give it. */
#define AQ_GGUF_FACTORS "rope_freqs.weight"
struct aq_stored;
AQ_MUST_USE aq_status aq_scaling_from_factors(const struct aq_stored *t, aq_config *c);
/* The same for writing: DH / 2 numbers. Only for llama3. */
void aq_scaling_factors(const aq_config *c, float *out);
/* yarn's attention factor where a file says none. */
double aq_scaling_gain(double factor, double mscale);

/* Fills every member but name, family, V and tied where the source does not say them (V 0 then), checks all bounds. */
AQ_MUST_USE aq_status aq_figures_read(const aq_figure_source *s, aq_config *out);

/* What ends an answer beside eos, into c->ends unless it is there (what AQ_MOST_ENDS has no room for is left out): an id; the ids under a key, one
 * or a list. */
void aq_config_add_end(aq_config *c, int32_t id);
AQ_MUST_USE aq_status aq_figure_ends(const aq_figure_source *s, const char *key, aq_config *c);
/* Ids that no row of the embedding stands for (some files number a padding token past the end) name no token. c->V must be there. */
void aq_config_drop_ids(aq_config *c);

/* generation_config.json, if the folder has one: what ends an answer. */
AQ_MUST_USE aq_status aq_generation_read(const char *file, aq_config *c);

/* Figures out of config.json bytes; the keys decide between HF and FlagAI. */
AQ_MUST_USE aq_status aq_config_parse(aq_arena *arena, const char *file, const char *json, size_t n, aq_config *out, aq_naming *out_naming);

/* ---- tensors ---- */

typedef struct aq_stored {
    const char *file; /* for messages */
    aq_bytes name;
    aq_dtype dtype;
    uint8_t rank;
    int64_t dim[4]; /* slowest first */
    const unsigned char *data;
    size_t bytes;
} aq_stored;
typedef AQ_VEC(aq_stored) aq_stored_list;

/* c->tensors from the stored ones, by the naming that the names themselves show; c->config must be complete but for `tied`. where names
 * the whole in messages. */
AQ_MUST_USE aq_status aq_import_bind(aq_checkpoint *c, const aq_stored_list *stored, const char *where);

/* Is `name` what `pattern` says, with ".weight" behind it, whatever wraps the model ("module.", "_orig_mod.", no "model.")? *layer: the
 * number that stands for '#' (0 where there is none). */
int aq_import_matches(const char *pattern, aq_bytes name, int64_t *layer);
/* The row of tensors.def that calls a tensor so. */
int aq_import_find(aq_naming naming, aq_bytes name, uint32_t *row, int64_t *layer);

/* One row of tensors.def. name[] may hold one '#' for the layer; shape[1] 0: a vector. */
typedef struct aq_tensor_row {
    const char *house;
    int layered, rotates, output;
    const char *name[AQ_NAMINGS];
} aq_tensor_row;
extern const aq_tensor_row aq_tensor_rows[];
extern const uint32_t aq_tensor_rows_count;
void aq_tensor_shape(const aq_config *c, uint32_t row, int64_t shape[2]);
/* "wq.3" or "norm" */
AQ_MUST_USE aq_status aq_tensor_house_name(aq_arena *a, uint32_t row, int64_t layer, const char **out);
void aq_import_sort(aq_checkpoint *c); /* by house name, as aq_checkpoint_find wants it */

/* ---- forms ---- */

AQ_MUST_USE aq_status aq_import_gguf(aq_checkpoint *c);
AQ_MUST_USE aq_status aq_import_folder(aq_checkpoint *c);
/* Only the figures of a GGUF file. */
AQ_MUST_USE aq_status aq_gguf_config(aq_arena *arena, const char *path, aq_config *out);

/* The tensors of a mapped safetensors file, appended to `out`. */
AQ_MUST_USE aq_status aq_safetensors_read(aq_arena *arena, const char *path, const aq_file *file, aq_stored_list *out);

/* The tensors of a mapped torch archive, appended to `out`; their bytes are in the map, but for transposed ones, which are copied into the arena. */
AQ_MUST_USE aq_status aq_torch_read(aq_arena *arena, const char *path, const aq_file *file, aq_stored_list *out);

/* Files of one model. */
enum { AQ_MOST_SHARDS = 1000 };
/* FOLDER/NAME; and the map of a file, kept by the checkpoint. */
AQ_MUST_USE aq_status aq_import_path(aq_arena *arena, const char *folder, const char *name, const char **out);
AQ_MUST_USE aq_status aq_import_map(aq_checkpoint *c, const char *path, const aq_file **out);
/* A small file of a model (at most 64 MiB) as aq_file_read gives it, but only a regular one: a pipe would let us wait for ever. */
AQ_MUST_USE aq_status aq_import_read(const char *path, char **text, size_t *n);
/* A text out of a file that people will see: a copy in the arena without control characters. */
AQ_MUST_USE aq_status aq_import_name(aq_arena *arena, const char *s, size_t n, const char **out);
/* The number of what ir/file.h refuses, for the status of one of its functions. */
aq_status aq_import_unreadable(aq_status status);

/* The built-in architectures: config.json texts of models/aquila/configs, put into the program by the build. Ends with a NULL name. */
typedef struct aq_builtin_config {
    const char *name, *json;
} aq_builtin_config;
extern const aq_builtin_config aq_builtin_configs[];
/* n bytes of spec name it; AQ_REFUSED with the list of names otherwise. */
AQ_MUST_USE aq_status aq_builtin_config_read(aq_arena *arena, const char *spec, size_t n, aq_config *out);

#endif
