/* features.h: what this processor (and its system) can run. The table is features.def. */
#ifndef AQ_RUNTIME_CPU_FEATURES_H
#define AQ_RUNTIME_CPU_FEATURES_H

#include "ir/status.h"

enum {
#define FEATURE(id, name, part, leaf, sub, reg, bit) AQ_CPU_##id,
#include "runtime/cpu/features.def"
    AQ_CPU_FEATURE_COUNT
};

/* 1 if processor and system offer it. */
int aq_rt_cpu_has(int feature);
/* "avx512_bf16"; NULL past the last. For doctor. */
const char *aq_rt_cpu_feature_name(int feature);
/* The processor's own name ("AMD EPYC ..."), at most 48 characters. */
void aq_rt_cpu_name(char out[64]);

/* Can this machine run code of `target` ("cpu:v4+bf16+vnni")? AQ_MISSING with the features it lacks; AQ_REFUSED for a name that is none. */
AQ_MUST_USE aq_status aq_rt_cpu_check(const char *file, const char *target);

#endif
