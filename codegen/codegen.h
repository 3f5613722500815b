/* codegen.h: from a region to a nest: targets, schedules, lowering. The backends are codegen/cpu (LLVM) and later codegen/cuda; codegen/ref
 * interprets graphs and nests and is the oracle of both. */
#ifndef AQ_CODEGEN_H
#define AQ_CODEGEN_H

#include "ir/graph.h"
#include "ir/nest.h"

/* What the passes and the scheduler may know of a machine. Numbers are per core; a wrong one costs speed, never correctness. */
typedef struct aq_target {
    const char *name;        /* "ref", "cpu:v3", "cpu:v4", "cpu:v4+vnni", "cpu:v4+bf16+vnni" */
    uint8_t is_ref;
    uint8_t has_avx512, has_bf16, has_vnni; /* cpu features an emitter may use; without has_avx512: x86-64-v3 */
    uint16_t vector_registers; /* of 16 f32: 32 with AVX-512; 8 (16 halves) on v3 */
    uint32_t l1_bytes, l2_bytes;
    double read_gb_per_s, f32_gflops, bf16_gflops, i16_gops, i8_gops;
} aq_target;

/* target.c: parses "cpu" (this machine), "cpu:v3", "cpu:v4", "cpu:v4+bf16", "cpu:v4+vnni", "cpu:v4+bf16+vnni", "ref". A named level gives
 * typical figures from targets.def; "cpu" takes the highest level that cpuid offers. AQ_USAGE for a name that is none. */
AQ_MUST_USE aq_status aq_target_parse(const char *text, aq_target *out);
/* Can this machine run code of that target? AQ_MISSING with the feature it lacks. */
AQ_MUST_USE aq_status aq_target_runs_here(const aq_target *t);
/* Does a schedule that a text has for target `word` (`schedule cpu.v4 {..}`: a target's name with dots) hold for t? One for `cpu` holds for all of them, one
 * for a level also for those that have more, ref interprets what any of them leads to. AQ_REFUSED at `place` if not, or if there is no such target. */
AQ_MUST_USE aq_status aq_target_takes(const aq_target *t, const char *word, const char *place);

/* schedule.c: an always legal, good schedule for region `body` on `t`, for t_lo <= T <= t_hi. In the arena of m. */
AQ_MUST_USE aq_status aq_schedule_default(aq_module *m, aq_id body, const aq_target *t, int64_t t_lo, int64_t t_hi, aq_schedule **out);
/* A random legal one, for tests and the tuner. */
struct aq_random;
AQ_MUST_USE aq_status aq_schedule_random(aq_module *m, aq_id body, const aq_target *t, struct aq_random *r, aq_schedule **out);

/* lower.c: the nest of a region under a schedule. Buffers of the nest, in order: one for each param of the body (a batch param gives one for
 * each of its fields that the region reads, in order of batch.def), then one for each result that is not a version of a state param, then
 * SCRATCH and LOCAL ones. A state param and the result that is its next version are one STATE buffer. Buffer names are the values' names.
 * AQ_REFUSED with the reason (the region and the value named) where the schedule does not fit the region. */
AQ_MUST_USE aq_status aq_lower(const aq_module *m, aq_id body, const aq_schedule *s, const char *kernel_name, aq_arena *arena, aq_nest **out);

/* attend.c: used by lower for a region that holds one `attend`. */

/* The params of `body` as the nest's buffers will have them: buf_of_param. n_fields entries for a batch param. Used by the plan builder to
 * bind arguments: for each non-SCRATCH, non-LOCAL buffer of the nest in order: which param (or result) of the region and which field. */
typedef struct aq_nest_arg {
    uint8_t is_result;
    uint32_t index;  /* param or result of the region */
    int32_t field;   /* row of batch.def for a batch param, else -1 */
} aq_nest_arg;
AQ_MUST_USE aq_status aq_lower_args(const aq_module *m, aq_id body, aq_arena *arena, aq_nest_arg **out, uint32_t *out_n);

#endif
