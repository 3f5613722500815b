/* risk_c.c: in which form should a quantised weight meet the activations? f32 (each weight unpacked to f32 where it is used), an f32 or
 * bf16 panel (unpacked once for 32 rows, then plain dots), int16 and int8 blocks, for q4_0 q4_1 q8_0 at T = 1, 8, 512. Speed and the error
 * against f64. */
#include "bench/dots/hand.h"
#include "ir/clock.h"
#include "tests/cpu/kernel.h"

enum { N = 1536, K = 1536 };

typedef struct form {
    const char *name, *act;
    const char *text; /* of the tile's inside; %s: weight type */
} form;

#define HEAD "axis t: T, n: 1536, d: 1536\nphase { tiles n by 32 lanes 16 { "
static const form forms[] = {
    {"f32", "f32",
     HEAD
     "tiles t by %d { acc %%a sum [t, n] for d by 8 { %%a += dot(%%x[t, d], cast(@w[n, d]) {dtype=f32}) } store %%y[t, n] = %%a } } } }"},
    {"f32 panel", "f32",
     HEAD "for d by 8 { store %%l[imod(n, 32), d] = cast(@w[n, d]) {dtype=f32} }\n for t by %d { acc %%a sum [t, n] for d by 8 { %%a += "
          "dot(%%x[t, d], %%l[imod(n, 32), d]) } "
          "store %%y[t, n] = %%a } } } }"},
    {"int16", "a16",
     HEAD "tiles t by %d { acc %%a sum [t, n] for d by 32 { %%a += dot(%%x[t, d], @w[n, d]) } store %%y[t, n] = %%a } } } }"},
    {"int8", "a8", HEAD "tiles t by %d { acc %%a sum [t, n] for d by 32 { %%a += dot(%%x[t, d], @w[n, d]) } store %%y[t, n] = %%a } } } }"},
};

/* The work list in 32 pieces, the best time of each, added: on a shared machine a whole run is never undisturbed. */
static double best_time(kernel *k, void *local) {
    void *buf[64];
    for (int i = 0; i < k->n_bufs; i++)
        buf[i] = k->at[i];
    double best[32], sum = 0;
    int64_t n = kernel_items(k, 0), pieces = n * k->sym[1] > 2000 ? 32 : 1;
    for (int p = 0; p < 32; p++)
        best[p] = 1e9;
    for (int64_t t0 = aq_clock_ns(), i = 0; i < 5 || aq_clock_ns() - t0 < 400000000; i++)
        for (int64_t p = 0; p < pieces; p++) {
            int64_t a = aq_clock_ns();
            kernel_phase(k, 0)(buf, k->sym, local, n * p / pieces, n * (p + 1) / pieces);
            best[p] = fmin(best[p], (double)(aq_clock_ns() - a) * 1e-9);
        }
    for (int64_t p = 0; p < pieces; p++)
        sum += best[p];
    return sum;
}

static double relative(const float *y, const double *want, int64_t n) {
    double up = 0, down = 0;
    for (int64_t i = 0; i < n; i++) {
        up += (y[i] - want[i]) * (y[i] - want[i]);
        down += want[i] * want[i];
    }
    return sqrt(up / down);
}

typedef struct world {
    const char *weight;
    int64_t T;
    float *x, *w;
    double *want; /* of the first four rows */
    unsigned char *packed;
} world;

static void run_form(const world *o, const form *f) {
    char text[2048], body[1024];
    int tile = o->T >= 6 ? 6 : (int)o->T;
    snprintf(body, sizeof body, f->text, tile);
    snprintf(text, sizeof text, "nest f(in %%x: %s[T, 1536], in @w: %s[1536, 1536] panel, out %%y: f32[T, 1536]%s) {\n%s", f->act,
             o->weight, strchr(f->name, 'p') ? ", local %l: f32[32, 1536] panel" : "", body);
    kernel k;
    kernel_open(&k, text, o->T);
    kernel_fill(&k, 1, 8);
    aq_dtype_encode_f32(aq_dtype_by_name(f->act, strlen(f->act)), o->x, (size_t)(o->T * K), k.at[0]);
    memcpy(k.at[1], o->packed, k.bytes[1]);
    kernel_compile(&k, "cpu");
    void *local;
    OK(aq_mem_alloc(k.local_bytes + 64, &local));
    double s = best_time(&k, local);
    int64_t rows = o->T < 4 ? o->T : 4;
    printf("| %s | %lld | %s | %.0f | %.1f | %.1e |\n", o->weight, (long long)o->T, f->name, s * 1e6, 2.0 * (double)o->T * N * K / s * 1e-9,
           relative(k.at[2], o->want, rows * N));
    fflush(stdout);
    aq_mem_free(local);
    kernel_close(&k);
}

static void run_bf16(const world *o) {
    uint16_t *xb = malloc((size_t)(o->T * K) * 2), *panel = malloc(32 * K * 2);
    float *y = malloc((size_t)(o->T * N) * 4);
    aq_dtype_encode_f32(AQ_BF16, o->x, (size_t)(o->T * K), xb);
    double best = 0;
    for (int64_t n = 0; n < N; n += 96) {
        double piece = 1e9;
        for (int i = 0; i < 10; i++) {
            int64_t a = aq_clock_ns();
            hand_bf16_panel(xb, o->w + n * K, y + n, panel, o->T, 96, K, N);
            piece = fmin(piece, (double)(aq_clock_ns() - a) * 1e-9);
        }
        best += piece;
    }
    printf("| %s | %lld | bf16 panel, vdpbf16ps, by hand | %.0f | %.1f | %.1e |\n", o->weight, (long long)o->T, best * 1e6,
           2.0 * (double)o->T * N * K / best * 1e-9, relative(y, o->want, (o->T < 4 ? o->T : 4) * N));
    free(xb);
    free(panel);
    free(y);
}

static void run_world(world *o) {
    aq_dtype t = aq_dtype_by_name(o->weight, strlen(o->weight));
    int64_t rows = o->T < 4 ? o->T : 4, dim[2] = {N, K};
    aq_random r = aq_random_open(5);
    o->x = malloc((size_t)(o->T * K) * 4);
    o->w = malloc((size_t)N * K * 4);
    o->want = calloc((size_t)(rows * N), 8);
    for (int64_t i = 0; i < o->T * K; i++)
        o->x[i] = (float)aq_random_normal(&r);
    for (int64_t i = 0; i < (int64_t)N * K; i++)
        o->w[i] = (float)aq_random_normal(&r);
    size_t bytes, panel_bytes;
    OK(aq_dtype_bytes(t, (uint64_t)N * K, "w", &bytes));
    OK(aq_layout_bytes(AQ_LAYOUT_PANEL, t, dim, 2, "w", &panel_bytes));
    unsigned char *rows_bytes = malloc(bytes);
    o->packed = calloc(1, panel_bytes);
    aq_dtype_encode_f32(t, o->w, (size_t)N * K, rows_bytes);
    aq_dtype_decode_f32(t, rows_bytes, 0, (size_t)N * K, o->w);
    aq_layout_pack_panel(t, rows_bytes, N, K, 0, 0, N, o->packed);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t n = 0; n < N; n++)
            for (int64_t d = 0; d < K; d++)
                o->want[i * N + n] += (double)o->x[i * K + d] * o->w[n * K + d];
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
        run_form(o, &forms[f]);
    if (o->T > 1 && __builtin_cpu_supports("avx512bf16"))
        run_bf16(o);
    free(o->x), free(o->w), free(o->want), free(rows_bytes), free(o->packed);
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

int main(void) {
    static const char *const weights[] = {"q4_0", "q4_1", "q8_0"};
    static const int64_t rows[] = {1, 8, 512};
    printf("limits: f32 FMA %.0f GF/s, vpdpwssd %.0f Gop/s, vpdpbusd %.0f Gop/s", rate(limit_fma), rate(limit_i16), rate(limit_i8));
    if (__builtin_cpu_supports("avx512bf16"))
        printf(", vdpbf16ps %.0f GF/s", rate(limit_bf16));
    printf("\n\n| weight | T | form | us | Gop/s | error |\n|---|---|---|---|---|---|\n");
    for (int w = 0; w < 3; w++)
        for (int t = 0; t < 3; t++) {
            world o = {.weight = weights[w], .T = rows[t]};
            run_world(&o);
        }
    return 0;
}
