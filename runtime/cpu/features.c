/* features.c: cpuid, read by the table. About 100 cycles a question (a microsecond and more inside a virtual machine, where cpuid traps):
 * asked when a plan opens, never in a step. */
#include "runtime/cpu/features.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

static const struct row {
    const char *name, *part;
    uint32_t leaf, sub;
    int reg, bit;
} rows[] = {
#define eax 0
#define ebx 1
#define ecx 2
#define edx 3
#define FEATURE(id, name, part, leaf, sub, reg, bit) {name, part, leaf, sub, reg, bit},
#include "runtime/cpu/features.def"
#undef eax
#undef ebx
#undef ecx
#undef edx
};

static const struct {
    const char *part;
    uint32_t mask;
} systems[] = {
#define FEATURE(id, name, part, leaf, sub, reg, bit)
#define OS(part, mask) {part, mask},
#include "runtime/cpu/features.def"
};

static uint32_t ask(uint32_t leaf, uint32_t sub, int reg) {
    uint32_t r[4] = {0};
    if (!__get_cpuid_count(leaf, sub, &r[0], &r[1], &r[2], &r[3]))
        return 0;
    return r[reg];
}

/* What the system saves at a switch of threads: without that bit the registers do not exist for us. */
static uint32_t saved(void) {
    uint32_t low, high;
    if (!(ask(1, 0, 2) >> 27 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static uint32_t needs_saved(const char *part) {
    uint32_t mask = 0;
    int wide = strcmp(part, "v3") != 0; /* every other part works on 512-bit registers */
    for (size_t i = 0; i < sizeof systems / sizeof *systems; i++)
        if (strcmp(systems[i].part, "v3") == 0 || wide)
            mask |= systems[i].mask;
    return mask;
}

int aq_rt_cpu_has(int feature) {
    const struct row *r = &rows[feature];
    if (r->sub > ask(r->leaf, 0, 0) && r->sub)
        return 0; /* leaf 7 tells in eax how many parts it has */
    uint32_t mask = needs_saved(r->part);
    return (ask(r->leaf, r->sub, r->reg) >> r->bit & 1) && (saved() & mask) == mask;
}

const char *aq_rt_cpu_feature_name(int feature) { return feature < AQ_CPU_FEATURE_COUNT ? rows[feature].name : NULL; }

void aq_rt_cpu_name(char out[64]) {
    memset(out, 0, 64);
    if (ask(0x80000000, 0, 0) < 0x80000004)
        return;
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t word = ask(0x80000002 + i / 4, 0, (int)(i % 4));
        memcpy(out + 4 * i, &word, 4);
    }
    for (size_t n = strlen(out); n && out[n - 1] == ' '; n--)
        out[n - 1] = 0;
}

/* The features of `part` that are not here, joined to `missing`; -1: there is no such part. */
static int lacks(const char *part, size_t n, char *missing, size_t room) {
    int known = 0;
    for (int i = 0; i < AQ_CPU_FEATURE_COUNT; i++) {
        int mine = *rows[i].part && strlen(rows[i].part) == n && memcmp(rows[i].part, part, n) == 0;
        int below = n == 2 && memcmp(part, "v4", 2) == 0 && strcmp(rows[i].part, "v3") == 0;
        known |= mine;
        if ((mine || below) && !aq_rt_cpu_has(i)) {
            size_t at = strlen(missing);
            snprintf(missing + at, room - at, "%s%s", at ? ", " : "", rows[i].name);
        }
    }
    return known ? 0 : -1;
}

aq_status aq_rt_cpu_check(const char *file, const char *target) {
    char missing[256] = "";
    if (strncmp(target, "cpu:", 4) != 0)
        return aq_fail(AQ_REFUSED, file, "target: is %s: expected a plan for cpu", target);
    for (const char *part = target + 4;; part++) {
        size_t n = strcspn(part, "+");
        if (lacks(part, n, missing, sizeof missing))
            return aq_fail(AQ_REFUSED, file, "target: %s has a part %.*s: expected v3, v4, bf16, vnni", target, (int)n, part);
        part += n;
        if (!*part)
            break;
    }
    if (*missing)
        return aq_fail(AQ_MISSING, file, "target: %s needs %s, which this processor lacks: compile for --target cpu", target, missing);
    return AQ_OK;
}
