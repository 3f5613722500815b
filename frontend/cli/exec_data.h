/* exec_data.h: tensors of the reference as bytes of a buffer and back, and as .npy files: what `exec` feeds and takes. */
#ifndef AQ_FRONTEND_CLI_EXEC_DATA_H
#define AQ_FRONTEND_CLI_EXEC_DATA_H

#include "codegen/ref/ref.h"
#include "frontend/cli/options.h"

int64_t aq_exec_count(const int64_t *dim, int rank);

/* dst (bytes of aq_layout_bytes for l, t->dtype, t->dim; zeroed) = the tensor. Values round to nearest even. */
AQ_MUST_USE aq_status aq_exec_store(const aq_ref_tensor *t, aq_layout l, aq_arena *arena, void *dst);
/* The elements of a buffer, row-major, in `arena`. */
AQ_MUST_USE aq_status aq_exec_load(aq_layout l, aq_dtype dtype, const int64_t *dim, int rank, const void *src, aq_arena *arena, const double **out);

/* `--in NAME=FILE` and `--out NAME=FILE`: the file of NAME (with its sigil), NULL if none was given. */
const char *aq_exec_file_of(const aq_option_value *option, const char *name);
/* AQ_USAGE for a word without `=`, or for a name that no earlier call of aq_exec_file_of was asked for: `known` says which exist. */
AQ_MUST_USE aq_status aq_exec_files_check(const aq_option_value *option, const char *what, const char *const *known, uint32_t n_known);

/* The shape of FILE binds the symbols of a type: k*S with size 512 gives S = 512/k. AQ_REFUSED where it does not fit; symbols with one value
 * keep it. */
AQ_MUST_USE aq_status aq_exec_bind_shape(aq_module *m, const char *file, const aq_type *type);
/* *t (dtype, rank, dims set) gets the numbers of FILE: values, or blocks for a block type. */
AQ_MUST_USE aq_status aq_exec_read(const char *file, aq_arena *arena, aq_ref_tensor *t);
/* Values as f64 of `n` elements to FILE: i32 for integer types, else f32. */
AQ_MUST_USE aq_status aq_exec_write(const char *file, aq_dtype dtype, const int64_t *dim, int rank, const double *values, aq_arena *arena);

/* sqrt(sum (a-b)^2 / sum b^2); both NaN or equal counts as no difference; 0 / 0 is 0. */
double aq_exec_distance(const double *a, const double *b, int64_t n);

#endif
