/* target.c: target names to what passes, scheduler and emitter may know of a machine. Features come from cpuid by the compiler's builtins,
 * which also ask the system whether it saves the registers. */
#include "codegen/codegen.h"

#include <string.h>

static const aq_target targets[] = {
#define TARGET(name, avx512, bf16, vnni, registers, l1, l2, read, f32, bf16_rate, i16, i8)                                                 \
    {name, 0, avx512, bf16, vnni, registers, l1, l2, read, f32, bf16_rate, i16, i8},
#include "codegen/targets.def"
#undef TARGET
};
enum { N = sizeof targets / sizeof *targets };

static const aq_target ref = {.name = "ref",
                              .is_ref = 1,
                              .vector_registers = 32,
                              .l1_bytes = 32768,
                              .l2_bytes = 1 << 20,
                              .read_gb_per_s = 10,
                              .f32_gflops = 1,
                              .bf16_gflops = 1,
                              .i16_gops = 1,
                              .i8_gops = 1};

/* The feature of t that this machine lacks, NULL if none. */
static const char *lacks(const aq_target *t) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2") ||
        !__builtin_cpu_supports("f16c"))
        return "AVX2, FMA, F16C or BMI2 (x86-64-v3)";
    if (t->has_avx512 &&
        (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
         !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512cd")))
        return "AVX-512 (x86-64-v4)";
    if (t->has_bf16 && !__builtin_cpu_supports("avx512bf16"))
        return "AVX512-BF16";
    if (t->has_vnni && !__builtin_cpu_supports("avx512vnni"))
        return "AVX512-VNNI";
    return NULL;
}

aq_status aq_target_runs_here(const aq_target *t) {
    const char *feature = t->is_ref ? NULL : lacks(t);
    return feature ? aq_fail(AQ_MISSING, t->name, "this processor lacks %s: expected a machine that has it, or a lower target", feature)
                   : AQ_OK;
}

aq_status aq_target_parse(const char *text, aq_target *out) {
    if (!strcmp(text, "ref")) {
        *out = ref;
        return AQ_OK;
    }
    if (!strcmp(text, "cpu")) {
        int i = N - 1;
        while (i >= 0 && lacks(&targets[i]))
            i--;
        if (i < 0)
            return aq_fail(AQ_MISSING, "cpu", "this processor lacks %s: expected one of 2013 or later, or --target ref",
                           lacks(&targets[0]));
        *out = targets[i];
        return AQ_OK;
    }
    for (int i = 0; i < N; i++)
        if (!strcmp(text, targets[i].name)) {
            *out = targets[i];
            return AQ_OK;
        }
    return aq_fail(AQ_USAGE, NULL,
                   "target %s %s: expected ref, cpu, cpu:v3, cpu:v4, cpu:v4+bf16, cpu:v4+vnni or cpu:v4+bf16+vnni", text,
                   !strncmp(text, "cuda", 4) ? "is not built yet" : "does not exist");
}

/* Is `word` what texts call the target `name`? Their words hold no ':' and no '+'. */
static int is_word_of(const char *word, const char *name) {
    while (*word && (*word == *name || (*word == '.' && (*name == ':' || *name == '+'))))
        word++, name++;
    return !*word && !*name;
}

aq_status aq_target_takes(const aq_target *t, const char *word, const char *place) {
    int known = !strcmp(word, "ref") || !strcmp(word, "cpu"), fits = t->is_ref || !strcmp(word, "cpu");
    for (int i = 0; i < N; i++)
        if (is_word_of(word, targets[i].name)) {
            known = 1;
            fits |= t->has_avx512 >= targets[i].has_avx512 && t->has_bf16 >= targets[i].has_bf16 && t->has_vnni >= targets[i].has_vnni;
        }
    if (!known)
        return aq_fail(AQ_REFUSED, place, "schedule %.60s: no such target: expected ref, cpu, cpu.v3, cpu.v4, cpu.v4.bf16, cpu.v4.vnni or cpu.v4.bf16.vnni", word);
    return fits ? AQ_OK : aq_fail(AQ_REFUSED, place, "schedule %s does not hold for %s: expected one for it, for less than it has, or schedule cpu", word, t->name);
}
