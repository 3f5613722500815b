/* aquila.h: compile a model to a plan. C99, no third-party type. (One of the two public headers; the other, runtime/aquila_rt.h, runs plans.)
 *
 *   aq_checkpoint_open (import/import.h) -> aq_compile -> bytes of an .aqp file */
#ifndef AQUILA_H
#define AQUILA_H

#include "ir/arena.h"

struct aq_checkpoint;

typedef struct aq_compile_options {
    const char *target;      /* "cpu" (this machine), "cpu:v3", "cpu:v4+vnni" ...; NULL = "cpu" */
    const char *activations; /* "int16" (default, NULL), "int8", "f32": what block-quantised weights are multiplied with; "bf16": all weights */
    int as_stored;           /* weights are read as files have them (mapped, nothing packed but rows that have to move): slower */
    int64_t context;         /* positions a user will ask for: only `dynamic` rotary scaling depends on it; 0 = the model's maximum */
    const char *text;        /* the model's text; NULL = the built-in models/aquila/aquila.aq */
    const char *text_name;   /* for messages */
    const char *edits;       /* schedules and nests for single kernels (edits.h); NULL = none */
    const char *edits_name;  /* for messages */
    int jobs;                /* threads that make machine code; 0 = one a core. The bytes are the same with any number */
} aq_compile_options;

/* What a compile did, for people. Strings live in the arena given to aq_compile. */
typedef struct aq_compile_report {
    uint32_t kernels, steps; /* distinct kernels of all variants; steps of all variants */
    int64_t passes_ns, lower_ns, emit_ns;
    const char *target;
    const char *schedules, *nests; /* of every kernel, in the form that `edits` takes */
} aq_compile_report;

/* The plan's bytes, in `arena`: the same for the same model figures, options, target and LLVM, wherever and whenever it runs. AQ_REFUSED: the
 * model or the text does not fit; AQ_MISSING: no LLVM 19; AQ_USAGE: no such target. report may be NULL. */
AQ_MUST_USE aq_status aq_compile(const struct aq_checkpoint *c, const aq_compile_options *o, aq_arena *arena, unsigned char **out_bytes, size_t *out_size,
                                 aq_compile_report *report);

/* What the plan's bytes depend on, as one line: figures, tensor types, options, target, versions. Two models with the same key have the same
 * plan. Does not open LLVM. */
AQ_MUST_USE aq_status aq_compile_key(const struct aq_checkpoint *c, const aq_compile_options *o, aq_arena *arena, const char **out);

#endif
