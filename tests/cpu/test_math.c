/* test_math.c: the emitter's own functions of numbers against libm in f64: error relative to the value (absolute near the zeros of sin and
 * cos), over the range of every function, its ends and the numbers that are none. Printed, so that a loss of accuracy is seen before it
 * matters. */
#include "tests/cpu/kernel.h"

enum { N = 4096 };

typedef double (*function)(double);
static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}
static double silu(double x) {
    return x / (1 + exp(-x));
}
static double rsqrt(double x) {
    return 1 / sqrt(x);
}

typedef struct subject {
    const char *name;
    function f;
    double lo, hi, tolerance; /* relative; results below 1e-37 are not looked at */
} subject;

static const subject subjects[] = {
    {"exp", exp, -87, 88.7, 1.2e-7},     {"exp", exp, -1e-3, 1e-3, 1.2e-7},     {"log", log, 1e-30, 1e30, 1.5e-7},
    {"log", log, 0.5, 1.5, 2e-7},        {"log", log, 1e-44, 1e-38, 1.5e-7},    {"tanh", tanh, -20, 20, 2e-7},
    {"tanh", tanh, -0.7, 0.7, 2e-7},     {"sigmoid", sigmoid, -80, 80, 2.5e-7}, {"silu", silu, -80, 80, 2.5e-7},
    {"rsqrt", rsqrt, 1e-30, 1e30, 2e-7}, {"sqrt", sqrt, 0, 1e30, 1e-7},
};

/* Values from lo to hi: evenly spaced, or by their logarithm where the range spans many powers. */
static void spread(float *x, double lo, double hi) {
    for (int i = 0; i < N; i++) {
        double u = (double)i / (N - 1);
        x[i] = (float)(lo > 0 && hi / lo > 100 ? lo * pow(hi / lo, u) : lo + (hi - lo) * u);
    }
}

static double worst_of(kernel *k, const char *target, const subject *s) {
    k->elf = NULL;
    kernel_compile(k, target);
    void *buf[2] = {k->at[0], k->at[1]};
    kernel_run(k, buf);
    const float *x = k->at[0], *y = k->at[1];
    double worst = 0;
    for (int i = 0; i < N; i++) {
        double want = s->f(x[i]);
        if (fabs(want) > 1e-37)
            worst = fmax(worst, fabs(y[i] - want) / fabs(want));
    }
    return worst;
}

static void functions(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "nest f(in %%x: f32[4096], out %%y: f32[4096]) { axis n: 4096\nphase { tiles n by 64 lanes 16 { store %%y[n] = %s(%%x[n]) "
                 "} } }",
                 subjects[i].name);
        for (size_t t = 0; t < sizeof kernel_targets / sizeof *kernel_targets; t += 2) {
            aq_target target;
            OK(aq_target_parse(kernel_targets[t], &target));
            if (aq_target_runs_here(&target))
                continue;
            kernel k;
            kernel_open(&k, text, 1);
            kernel_fill(&k, 1, 8);
            spread(k.at[0], subjects[i].lo, subjects[i].hi);
            double worst = worst_of(&k, kernel_targets[t], &subjects[i]);
            printf("%-8s %10.3g .. %-10.3g %-12s %.2e\n", subjects[i].name, subjects[i].lo, subjects[i].hi, kernel_targets[t], worst);
            if (!(worst <= subjects[i].tolerance))
                fail_msg("%s from %g to %g on %s: relative error %.3g, at most %.3g wanted", subjects[i].name, subjects[i].lo,
                         subjects[i].hi, kernel_targets[t], worst, subjects[i].tolerance);
            kernel_close(&k);
        }
    }
}

static void ends_of_the_range(void **state) {
    (void)state;
    static const float in[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 1e38f, -1e38f, 1e-45f};
    static const struct {
        const char *name;
        float want[8];
    } rows[] = {
        {"exp", {1, 1, INFINITY, 0, NAN, INFINITY, 0, 1}},
        {"log", {-INFINITY, -INFINITY, INFINITY, NAN, NAN, 87.49823f, NAN, -103.27893f}},
        {"tanh", {0, 0, 1, -1, NAN, 1, -1, 0}},
        {"sigmoid", {0.5f, 0.5f, 1, 0, NAN, 1, 0, 0.5f}},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        char text[512];
        snprintf(text, sizeof text,
                 "nest f(in %%x: f32[8], out %%y: f32[8]) { axis n: 8\nphase { tiles n by 8 lanes 8 { store %%y[n] = %s(%%x[n]) } } }",
                 rows[r].name);
        kernel k;
        kernel_open(&k, text, 1);
        kernel_fill(&k, 1, 8);
        memcpy(k.at[0], in, sizeof in);
        kernel_compile(&k, "cpu");
        kernel_run(&k, (void *[]){k.at[0], k.at[1]});
        const float *y = k.at[1];
        for (int i = 0; i < 8; i++)
            if (isnan(rows[r].want[i])
                    ? !isnan(y[i])
                    : !(y[i] == rows[r].want[i] || fabsf(y[i] - rows[r].want[i]) <= 2e-7f * fabsf(rows[r].want[i]) + 1e-44f))
                fail_msg("%s(%g) is %.9g: expected %.9g", rows[r].name, in[i], y[i], rows[r].want[i]);
        kernel_close(&k);
    }
}

static void rotation_at_a_million(void **state) { /* sin and cos through rope: pairs (1, 0) become (cos, sin) */
    (void)state;
    kernel k;
    kernel_open(&k,
                "nest r(in %x: f32[T, 64], in %pos: i32[T], out %y: f32[T, 64]) { axis t: T, n: 64\n"
                "phase { tiles t by 1 { for n by 64 lanes 16 { store %y[t, n] = rope(%x[t, n], %pos[t]) {dim=64, theta=10000} } } } }",
                2000);
    kernel_fill(&k, 1, 1000001);
    float *x = k.at[0];
    for (int i = 0; i < 2000 * 64; i++)
        x[i] = i % 2 ? 0 : 1;
    for (size_t t = 0; t < 2; t++) {
        aq_target target;
        OK(aq_target_parse(kernel_targets[t], &target));
        if (aq_target_runs_here(&target))
            continue;
        kernel_compile(&k, kernel_targets[t]);
        kernel_run(&k, (void *[]){k.at[0], k.at[1], k.at[2]});
        double worst = 0;
        for (int i = 0; i < 2000 * 64; i++) {
            double angle = ((int32_t *)k.at[1])[i / 64] * pow(10000, -(double)(i % 64 / 2 * 2) / 64);
            worst = fmax(worst, fabs(((float *)k.at[2])[i] - (i % 2 ? sin(angle) : cos(angle))));
        }
        printf("rope, positions up to 1e6: %s %.2e\n", kernel_targets[t], worst);
        assert_true(worst <= 1.5e-7);
    }
    kernel_close(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(functions), cmocka_unit_test(ends_of_the_range),
                                       cmocka_unit_test(rotation_at_a_million)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
