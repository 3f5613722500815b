/* ref.h: the meaning of graphs and nests, by plain loops in f64: the oracle. Floats are held as doubles; only `cast`, `quantize` and stores
 * into narrower buffers round; sums run in order. Slow by design; big dots run on `threads` threads (rows apart, so the bits do not depend
 * on it) because whole models are checked with it. */
#ifndef AQ_CODEGEN_REF_H
#define AQ_CODEGEN_REF_H

#include "codegen/codegen.h"

/* A tensor of the interpreter. FLOAT types: f64 values (rounded to dtype where an op rounds). I8, I32: f64 integers as well.
 * WEIGHT and ACT types: `blocks` holds the stored bytes in layout ROWS, values is NULL. */
typedef struct aq_ref_tensor {
    aq_dtype dtype;
    int rank;
    int64_t dim[AQ_MAX_RANK];
    double *values;
    const void *blocks;   /* also: a FLOAT weight may be given as stored bytes (values NULL): read by dtype */
} aq_ref_tensor;

/* A batch by its arrays, in order of batch.def. */
typedef struct aq_ref_batch {
    const int32_t *field[6];
    int64_t n[6];
} aq_ref_batch;

typedef struct aq_ref_env {
    const int64_t *sym;          /* value of each symbol of the module, by id */
    aq_ref_tensor *weights;      /* by row of module->weights; rotate-half ones already interleaved */
    aq_ref_tensor *states;       /* by row of module->states; updated in place */
    const aq_ref_batch *batch;
    int threads;
} aq_ref_env;

/* Runs graph `body`: inputs by param (a batch param's entry is ignored: env->batch), results into `out` (one tensor each, values allocated in
 * `arena`). Regions are interpreted by their bodies. */
AQ_MUST_USE aq_status aq_ref_run(const aq_module *m, aq_id body, const aq_ref_env *env, const aq_ref_tensor *in, aq_arena *arena, aq_ref_tensor *out);

/* Runs a checked nest on raw buffers, exactly as a kernel would be called: buf[i] for each buffer that is not LOCAL, in order, bytes in the
 * buffer's dtype and layout; sym by id of the module. Arithmetic in f64, stores round. Items run in a random order of `seed` (0: in order);
 * scratch and local memory is poisoned with NaN before a launch. */
AQ_MUST_USE aq_status aq_ref_run_nest(const aq_nest *n, void *const *buf, const int64_t *sym, uint64_t seed);

#endif
