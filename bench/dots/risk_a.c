/* risk_a.c: the five nests of design risk (a) through the CPU emitter, against hand.c, in turns in the same process: best time of each,
 * share of the hand-written one, share of the machine's limit measured in between. Run by bench/dots/run.sh; prints the table of
 * bench/results/risk-a.md. */
#include "bench/dots/hand.h"
#include "ir/clock.h"
#include "ir/file.h"
#include "tests/cpu/kernel.h"

typedef struct subject {
    const char *name;
    int64_t T;
    aq_kernel hand;
    double flops, bytes; /* of one run */
} subject;

static const subject subjects[] = {
    {"matvec", 1, hand_matvec, 2.0 * 4096 * 2048, 2.0 * 4096 * 2048},
    {"qkv", 1, hand_qkv, 2.0 * 960 * 576, 2.0 * 960 * 576},
    {"gate", 512, hand_gate, 2.0 * 3072 * 576 * 512, 0},
    {"attend", 1, hand_attend, 4.0 * 9 * 64 * 2048, 8.0 * 3 * 64 * 2048},
    {"q4_1", 1, hand_q4_1, 2.0 * 12288 * 576, 12288 * 576 * 0.625},
};

static double seconds(aq_kernel f, kernel *k, void **buf, void *local) {
    int64_t t0 = aq_clock_ns();
    f(buf, k->sym, local, 0, kernel_items(k, 0));
    return (double)(aq_clock_ns() - t0) * 1e-9;
}

static double rate(double (*f)(int64_t)) {
    double best = 0;
    for (int i = 0; i < 20; i++) {
        int64_t t0 = aq_clock_ns();
        double n = f(100000), s = (double)(aq_clock_ns() - t0) * 1e-9;
        best = n / s > best ? n / s : best;
    }
    return best * 1e-9;
}

static void run_subject(const subject *s, const char *folder) {
    char path[512];
    const char *text;
    kernel k;
    aq_file file;
    snprintf(path, sizeof path, "%s/%s.nest", folder, s->name);
    OK(aq_file_map(path, &file));
    char *copy = calloc(1, file.size + 1);
    memcpy(copy, file.bytes, file.size);
    text = copy;
    kernel_open(&k, text, s->T);
    kernel_fill(&k, 1, 32);
    if (!strcmp(s->name, "attend")) {
        for (int i = 0; i < 32; i++)
            ((int32_t *)kernel_buf(&k, "%pages"))[i] = (i * 7) % 32;
        *(int32_t *)kernel_buf(&k, "%pos") = 2047;
    }
    kernel_compile(&k, "cpu");
    void *buf[64], *mine[64], *local;
    for (int i = 0; i < k.n_bufs; i++) {
        buf[i] = k.at[i];
        OK(aq_mem_alloc(k.bytes[i] + 64, &mine[i]));
        memcpy(mine[i], buf[i], k.bytes[i]);
    }
    OK(aq_mem_alloc(k.local_bytes + 64, &local));
    aq_kernel emitted = kernel_phase(&k, 0);
    double a = 1e9, b = 1e9;
    for (int64_t t0 = aq_clock_ns(), i = 0; i < 8 || aq_clock_ns() - t0 < 1500000000; i++) {
        double e = seconds(emitted, &k, buf, local), h = seconds(s->hand, &k, mine, local);
        a = e < a ? e : a;
        b = h < b ? h : b;
    }
    double worst = 0;
    int j = 0;
    for (aq_id i = 1; i < k.n->bufs.n; i++, j++)
        worst = fmax(worst, difference(&k, &k.n->bufs.at[i], buf[j], mine[j]));
    double read = 0;
    if (s->bytes > 0) {
        double best = 1e9;
        int big = 1;
        for (int i = 2; i < k.n_bufs; i++)
            big = k.bytes[i] > k.bytes[big] ? i : big;
        for (int i = 0; i < 30; i++) {
            int64_t t0 = aq_clock_ns();
            volatile int64_t sink = limit_read(buf[big], (int64_t)k.bytes[big] / 256 * 256);
            (void)sink;
            best = fmin(best, (double)(aq_clock_ns() - t0) * 1e-9);
        }
        read = (double)k.bytes[big] / best * 1e-9;
    }
    printf("| %s | %lld | %.1f | %.1f | **%.0f %%** | %.1f | %.1f | %.1f | %.1e |\n", s->name, (long long)s->T, a * 1e6, b * 1e6,
           b / a * 100, s->flops / a * 1e-9, s->bytes / a * 1e-9, read, worst);
    fflush(stdout);
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "bench/dots";
    printf("limits: f32 FMA %.0f GF/s, vpdpwssd %.0f Gop/s, vpdpbusd %.0f Gop/s", rate(limit_fma), rate(limit_i16), rate(limit_i8));
    if (__builtin_cpu_supports("avx512bf16"))
        printf(", vdpbf16ps %.0f GF/s", rate(limit_bf16));
    printf("\n\n| nest | T | emitted us | by hand us | speed | Gop/s | GB/s | read loop GB/s | difference "
           "|\n|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        run_subject(&subjects[i], folder);
    return 0;
}
