/* compile.h: the pieces of the pipeline that compile.c puts in a row; `opt`, `score --target ref` and tests use them singly. */
#ifndef AQ_FRONTEND_COMPILE_H
#define AQ_FRONTEND_COMPILE_H

#include "codegen/codegen.h"
#include "frontend/aquila.h"
#include "frontend/edits.h"
#include "frontend/import/import.h"
#include "ir/plan.h"
#include "passes/passes.h"

/* models/aquila/ *.aq, put into the program by the build; ends with a NULL name. */
typedef struct aq_model_text {
    const char *name, *text;
} aq_model_text;
extern const aq_model_text aq_model_texts[];

enum { AQ_CONFIG_BINDS = 14 };
/* The config symbols of aquila.aq from the figures, NAN for what the model has not; writes AQ_CONFIG_BINDS. `context` for dynamic rotary
 * scaling (0: the model's maximum). */
void aq_config_binds(const aq_config *c, int64_t context, aq_bind *out);

/* compile_model.c: the module of a checkpoint: text read, figures bound, weights typed as they are stored. */
AQ_MUST_USE aq_status aq_compile_module(const aq_checkpoint *c, const aq_compile_options *o, aq_module *out);
/* Regions that stand in a text read weights whose types were not known yet: their params get them now. */
void aq_compile_type_regions(aq_module *m);
/* What passes are told for this target and range of T. */
AQ_MUST_USE aq_status aq_compile_pass_options(const aq_target *t, const aq_compile_options *o, int64_t t_lo, int64_t t_hi, aq_pass_options *out);

/* compile_kernels.c: every distinct region of a module's graph lowered once. */
typedef struct aq_kernel_of {
    aq_id node;        /* the fused node */
    uint32_t kernel;   /* index of its kernel */
} aq_kernel_of;
typedef struct aq_kernel_made {
    const char *key;   /* the region, its types and the target as text */
    const char *name;
    aq_id body;
    aq_schedule *schedule;
    const char *schedule_text, *sum_class;
    aq_nest *nest;
    const char *origin; /* "default", "model text", "edits": where the schedule comes from; "nest": none, the nest is a person's */
} aq_kernel_made;
typedef struct aq_kernels {
    aq_edits *edits; /* set before aq_compile_kernels; NULL = none */
    AQ_VEC(aq_kernel_made) made;
    AQ_VEC(aq_kernel_of) of; /* by step, in order of the body */
} aq_kernels;
AQ_MUST_USE aq_status aq_compile_kernels(aq_module *m, aq_id body, const aq_target *t, int64_t t_lo, int64_t t_hi, const char *prefix, aq_arena *arena, aq_kernels *out);
/* Canonical text of a region: equal regions (whatever their values are called) have equal text. */
AQ_MUST_USE aq_status aq_region_key(const aq_module *m, aq_id body, aq_arena *arena, const char **out);

/* compile_plan.c: tables of a plan, filled variant by variant. */
typedef struct aq_plan_builder aq_plan_builder;
AQ_MUST_USE aq_status aq_plan_builder_open(aq_arena *arena, const aq_module *m, const aq_checkpoint *c, const char *target, const char *options, aq_plan_builder **out);
AQ_MUST_USE aq_status aq_plan_builder_variant(aq_plan_builder *b, const aq_module *m, aq_id body, const aq_kernels *k,
                                              const uint64_t *local_bytes, int64_t t_lo, int64_t t_hi);
AQ_MUST_USE aq_status aq_plan_builder_finish(aq_plan_builder *b, const unsigned char *code, size_t code_size, unsigned char **out_bytes, size_t *out_size);

#endif
