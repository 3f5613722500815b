/* test_dtype.c: every stored number has the value its format says: against an independent implementation (tests/data/blocks.bin, made by
 * tests/oracle/blocks.py), against the compiler's own half type, and against the rules of dtype.def. */
#include "ir/block.h"
#include "ir/file.h"
#include "ir/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint32_t bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

/* Equal (a zero of either sign), or both NaN. */
static int same(float a, float b) { return a == b || bits(a) == bits(b) || (a != a && b != b); }

static void halves_are_the_compilers(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        _Float16 c;
        uint16_t u = (uint16_t)h, back;
        memcpy(&c, &u, 2);
        if (!same(aq_f16_to_f32(u), (float)c))
            fail_msg("half %04x is %a, the compiler says %a", h, aq_f16_to_f32(u), (float)c);
        back = aq_f32_to_f16((float)c);
        if ((float)c == (float)c && back != u)
            fail_msg("half %04x goes through f32 to %04x", h, back);
        if ((float)c != (float)c && (back & 0x7fff) <= 0x7c00)
            fail_msg("NaN %04x became %04x", h, back);
    }
}

static uint16_t compilers_half(float x) {
    _Float16 c = (_Float16)x;
    uint16_t u;
    memcpy(&u, &c, 2);
    return u;
}

/* Every half, the midpoint to its neighbour and the numbers just beside the midpoint; then random patterns. */
static void rounding_to_half_is_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = aq_f16_to_f32((uint16_t)h), high = aq_f16_to_f32((uint16_t)(h + 1)), middle = (low + high) / 2;
        float x[3] = {nextafterf(middle, 0), middle, nextafterf(middle, INFINITY)};
        for (int i = 0; i < 6; i++) {
            float y = i < 3 ? x[i] : -x[i - 3];
            if (aq_f32_to_f16(y) != compilers_half(y))
                fail_msg("%a rounds to half %04x, the compiler says %04x", y, aq_f32_to_f16(y), compilers_half(y));
        }
    }
    aq_random r = aq_random_open(1);
    for (int i = 0; i < 200000; i++) {
        uint32_t u = aq_random_u32(&r);
        float x;
        memcpy(&x, &u, 4);
        if (x == x && aq_f32_to_f16(x) != compilers_half(x))
            fail_msg("%a rounds to half %04x, the compiler says %04x", x, aq_f32_to_f16(x), compilers_half(x));
    }
    assert_int_equal(aq_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(aq_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(aq_f32_to_f16(-INFINITY), 0xfc00);
}

static void rounding_to_bf16_is_to_nearest_even(void **state) {
    (void)state;
    aq_random r = aq_random_open(2);
    for (int i = 0; i < 200000; i++) {
        uint32_t u = aq_random_u32(&r);
        if (i % 4 == 0)
            u = (u & 0xffff0000u) | 0x8000; /* a tie */
        float x;
        memcpy(&x, &u, 4);
        uint16_t got = aq_f32_to_bf16(x);
        if (x != x) {
            assert_true(aq_bf16_to_f32(got) != aq_bf16_to_f32(got));
            continue;
        }
        /* the neighbour nearer to x, by differences that f64 holds exactly; the next past the largest counts as 2^128 */
        uint16_t down = (uint16_t)(u >> 16), up = (uint16_t)(down + 1);
        double limit = copysign(0x1p128, x), above = (up & 0x7fff) == 0x7f80 ? limit : aq_bf16_to_f32(up), below = aq_bf16_to_f32(down);
        if ((down & 0x7fff) == 0x7f80) {
            assert_int_equal(got, down);
            continue;
        }
        double to_up = fabs(above - x), to_down = fabs(x - below);
        uint16_t want = to_up < to_down || (to_up == to_down && (up & 1) == 0) ? up : down;
        if (got != want)
            fail_msg("%a rounds to bf16 %04x, expected %04x", x, got, want);
    }
}

static uint32_t u32_at(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static void check_decode(aq_dtype t, const unsigned char *raw, const unsigned char *values, uint32_t n) {
    static float f32[4096];
    static double f64[4096];
    assert_true(n <= 4096);
    aq_dtype_decode_f32(t, raw, 0, n, f32);
    aq_dtype_decode_f64(t, raw, 0, n, f64);
    for (uint32_t i = 0; i < n; i++) {
        float want;
        memcpy(&want, values + 4 * i, 4);
        if (!same(f32[i], want))
            fail_msg("%s element %u is %a, expected %a", aq_dtype_of(t)->name, i, f32[i], want);
        if ((float)f64[i] != want)
            fail_msg("%s element %u is %a in f64, expected %a", aq_dtype_of(t)->name, i, f64[i], want);
    }
    /* from the middle, an odd number of blocks in */
    uint32_t first = 3 * aq_dtype_of(t)->block;
    float part[256];
    uint32_t count = aq_dtype_of(t)->block < 32 ? 32 : aq_dtype_of(t)->block;
    aq_dtype_decode_f32(t, raw, first, count, part);
    assert_memory_equal(part, f32 + first, count * sizeof *part);
}

static void check_encode(aq_dtype t, const unsigned char *raw, uint32_t size, const unsigned char *values, uint32_t n) {
    static float x[4096];
    static unsigned char got[16384];
    assert_true(n <= 4096 && size <= sizeof got);
    memcpy(x, values, 4 * (size_t)n);
    aq_dtype_encode_f32(t, x, n, got);
    for (uint32_t i = 0; i < size; i++)
        if (got[i] != raw[i])
            fail_msg("%s encoded: byte %u is %02x, expected %02x (block %u)", aq_dtype_of(t)->name, i, got[i], raw[i], i / aq_dtype_of(t)->bytes);
}

static void blocks_are_the_packages(void **state) {
    (void)state;
    aq_file f;
    int seen[2] = {0, 0};
    if (aq_file_map("tests/data/blocks.bin", &f) != AQ_OK)
        fail_msg("%s", aq_error());
    for (size_t at = 0; at < f.size;) {
        uint32_t kind = u32_at(f.bytes + at), number = u32_at(f.bytes + at + 4), n = u32_at(f.bytes + at + 8), size = u32_at(f.bytes + at + 12);
        aq_dtype t = aq_dtype_by_gguf(number);
        const unsigned char *raw = f.bytes + at + 16, *values = raw + size;
        size_t bytes;
        assert_int_not_equal(t, AQ_DTYPE_NONE);
        assert_int_equal(aq_dtype_bytes(t, n, "test", &bytes), AQ_OK);
        assert_int_equal(bytes, size);
        if (kind == 0)
            check_decode(t, raw, values, n);
        else
            check_encode(t, raw, size, values, n);
        seen[kind]++;
        at += 16 + size + 4 * (size_t)n;
    }
    assert_true(seen[0] == 13 && seen[1] == 7);
    aq_file_unmap(&f);
}

/* Activations: the rule of dtype.def, element by element; a16 is stored 0 2 1 3. */
static void activations_follow_the_rule(void **state) {
    (void)state;
    aq_random r = aq_random_open(3);
    for (int round = 0; round < 200; round++) {
        float x[32], max = 0, back[32];
        for (int i = 0; i < 32; i++) {
            x[i] = round == 0 ? 0 : (float)aq_random_normal(&r);
            max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
        }
        for (int wide = 0; wide < 2; wide++) {
            aq_dtype t = wide ? AQ_A16 : AQ_A8;
            unsigned char block[72];
            float d, s;
            int sum = 0;
            aq_dtype_encode_f32(t, x, 32, block);
            memcpy(&d, block, 4);
            memcpy(&s, block + 4, 4);
            assert_true(d == max / (float)(wide ? 32767 : 127));
            for (int i = 0; i < 32; i++) {
                static const int place[4] = {0, 2, 1, 3};
                int16_t q;
                memcpy(&q, block + 8 + 2 * (i / 4 * 4 + place[i % 4]), 2);
                int code = wide ? q : (signed char)block[8 + i];
                assert_true(code == (d == 0 ? 0 : (int)lrintf(x[i] * (1 / d))));
                sum += code;
            }
            assert_true(s == d * (float)sum);
            aq_dtype_decode_f32(t, block, 0, 32, back);
            for (int i = 0; i < 32; i++)
                assert_true(fabsf(back[i] - x[i]) <= 0.505f * d);
        }
    }
}

/* The rules of dtype.h for blocks of 32 without steps, one number after the other. Codes of q4_0, q5_0 in f64, as gguf-py has it. */
static void encode_by_the_rule(aq_dtype t, const float *x, int *code, float *d, float *m) {
    float far = 0, min = INFINITY, max = -INFINITY;
    for (int i = 0; i < 32; i++) {
        far = fabsf(x[i]) > fabsf(far) ? x[i] : far;
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    int zero = t == AQ_Q4_0 ? 8 : 16, most = t == AQ_Q8_0 ? 127 : t == AQ_Q4_1 || t == AQ_Q4_0 ? 15 : 31, offset = t == AQ_Q4_1 || t == AQ_Q5_1;
    *d = t == AQ_Q8_0 ? fabsf(far) / 127 : offset ? (max - min) / (float)most : far / (float)-zero;
    *m = offset ? min : 0;
    float inv = fabsf(*d) < 0x1p-126f ? 0 : 1 / *d;
    for (int i = 0; i < 32; i++) {
        double v = t == AQ_Q8_0 ? (double)roundf(x[i] * inv) : offset ? (double)floorf((x[i] - min) * inv + 0.5f) : floor((double)x[i] * inv + zero + 0.5);
        double low = t == AQ_Q8_0 ? -127 : 0;
        code[i] = v != v ? 0 : v < low ? (int)low : v > most ? most : (int)v;
    }
}

static void check_block(aq_dtype t, const float *x) {
    unsigned char block[34];
    uint8_t got[32];
    uint16_t half;
    int code[32];
    float d, m;
    encode_by_the_rule(t, x, code, &d, &m);
    aq_dtype_encode_f32(t, x, 32, block);
    aq_block_codes(t, block, 0, got);
    memcpy(&half, block, 2);
    assert_int_equal(half, aq_f32_to_f16(d));
    if (aq_block_of(t)->m_at > 0) {
        memcpy(&half, block + aq_block_of(t)->m_at, 2);
        assert_int_equal(half, aq_f32_to_f16(m));
    }
    for (int i = 0; i < 32; i++)
        if ((t == AQ_Q8_0 ? (int8_t)got[i] : got[i]) != code[i])
            fail_msg("%s: %a (%d of its block) becomes %d, expected %d", aq_dtype_of(t)->name, x[i], i, (int8_t)got[i], code[i]);
}

/* Zeros, normal, with ties and equal ends, tiny, huge, with NaN and infinities, any bits at all. */
static void blocks_of_32_follow_the_files_rules(void **state) {
    (void)state;
    static const aq_dtype types[] = {AQ_Q4_0, AQ_Q4_1, AQ_Q5_0, AQ_Q5_1, AQ_Q8_0};
    aq_random r = aq_random_open(4);
    for (int round = 0; round < 12000; round++) {
        float x[32];
        for (int i = 0; i < 32; i++) {
            uint32_t u = aq_random_u32(&r);
            float ends[] = {NAN, INFINITY, -INFINITY, -0.0f}, bits;
            memcpy(&bits, &u, 4);
            x[i] = (float)aq_random_normal(&r) * (round % 6 == 1 ? 1e-38f : round % 6 == 2 ? 1e37f : 1);
            x[i] = round % 50 == 0 ? 0 : round % 6 == 3 ? (float)((int)(u % 17) - 8) * 0.25f : round % 6 == 4 && u % 40 < 4 ? ends[u % 40] : round % 6 == 5 ? bits : x[i];
        }
        for (size_t k = 0; k < sizeof types / sizeof *types; k++)
            check_block(types[k], x);
    }
}

static void strange_numbers_make_no_trouble(void **state) {
    (void)state;
    float x[256];
    unsigned char block[1024];
    const float strange[] = {INFINITY, -INFINITY, NAN, 1e-45f, 3.4e38f, -3.4e38f};
    for (size_t k = 0; k < sizeof strange / sizeof *strange; k++)
        for (int t = 1; t < AQ_DTYPE_COUNT; t++) {
            for (int i = 0; i < 256; i++)
                x[i] = i % 5 == 0 ? strange[k] : 1e-40f;
            aq_dtype_encode_f32((aq_dtype)t, x, aq_dtype_of((aq_dtype)t)->block, block);
            float back[256];
            aq_dtype_decode_f32((aq_dtype)t, block, 0, aq_dtype_of((aq_dtype)t)->block, back);
        }
    const float ints[] = {2.5f, 3.5f, -2.5f, 200, -200, 3e9f};
    const int8_t want[] = {2, 4, -2, 127, -128, 127};
    int8_t got[6];
    int32_t wide[6];
    aq_dtype_encode_f32(AQ_I8, ints, 6, got);
    assert_memory_equal(got, want, sizeof want);
    aq_dtype_encode_f32(AQ_I32, ints, 6, wide);
    assert_int_equal(wide[5], INT32_MAX);
}

static double error_of(aq_dtype t, const float *x, uint32_t n) {
    static unsigned char block[1 << 16];
    static float back[1 << 14];
    double e = 0, all = 0;
    aq_dtype_encode_f32(t, x, n, block);
    aq_dtype_decode_f32(t, block, 0, n, back);
    for (uint32_t i = 0; i < n; i++) {
        e += pow(back[i] - (double)x[i], 2);
        all += pow(x[i], 2);
    }
    return sqrt(e / all);
}

/* About the errors of llama.cpp's reference quantisers on such data (tests/oracle/blocks.py --errors). */
static void quantisers_lose_no_more_than_others(void **state) {
    (void)state;
    static const struct {
        aq_dtype t;
        double most;
    } c[] = {{AQ_Q5_0, 0.0440}, {AQ_Q5_1, 0.0390}, {AQ_Q2_K, 0.2962}, {AQ_Q3_K, 0.1510}, {AQ_Q4_K, 0.0727}, {AQ_Q5_K, 0.0361}, {AQ_Q6_K, 0.01775}, {AQ_IQ4_NL, 0.0760}, {AQ_IQ4_XS, 0.0760}};
    static float x[1 << 14];
    aq_random r = aq_random_open(5);
    for (int i = 0; i < 1 << 14; i++)
        x[i] = (float)(0.02 * aq_random_normal(&r));
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        double e = error_of(c[i].t, x, 1 << 14);
        print_message("%s: relative error %.5f of normal numbers\n", aq_dtype_of(c[i].t)->name, e);
        if (!(e < c[i].most))
            fail_msg("%s loses %.5f of normal numbers: expected less than %.5f", aq_dtype_of(c[i].t)->name, e, c[i].most);
    }
}

/* What a K type holds exactly comes back exactly, whatever the scales: constants, zeros, runs of one sign, tiny and large numbers. */
static void special_rows_survive(void **state) {
    (void)state;
    static const aq_dtype types[] = {AQ_Q2_K, AQ_Q3_K, AQ_Q4_K, AQ_Q5_K, AQ_Q6_K, AQ_IQ4_NL, AQ_IQ4_XS};
    float x[256], back[256];
    unsigned char block[210];
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        for (int kind = 0; kind < 6; kind++) {
            double most = 0, far = 0;
            for (int i = 0; i < 256; i++) {
                float ramp = (float)(i % 16) / 16 + 0.25f;
                x[i] = kind == 0 ? 0 : kind == 1 ? 3.25f : kind == 2 ? -3.25f : kind == 3 ? ramp : kind == 4 ? -ramp : 1e5f * (ramp - 0.7f);
            }
            aq_dtype_encode_f32(types[k], x, 256, block);
            aq_dtype_decode_f32(types[k], block, 0, 256, back);
            for (int i = 0; i < 256; i++) {
                most = fabs(back[i] - (double)x[i]) > most ? fabs(back[i] - (double)x[i]) : most;
                far = fabsf(x[i]) > far ? fabsf(x[i]) : far;
            }
            static const double share[] = {0.26, 0.16, 0.06, 0.03, 0.02, 0.1, 0.1};
            if (!(most <= share[k] * far))
                fail_msg("%s, row %d: off by %g of %g", aq_dtype_of(types[k])->name, kind, most, far);
        }
}

static void the_table_answers(void **state) {
    (void)state;
    for (int t = 1; t < AQ_DTYPE_COUNT; t++) {
        const aq_dtype_info *row = aq_dtype_of((aq_dtype)t);
        assert_int_equal(aq_dtype_by_name(row->name, strlen(row->name)), t);
        if (row->gguf >= 0)
            assert_int_equal(aq_dtype_by_gguf((uint32_t)row->gguf), t);
        if (*row->safetensors)
            assert_int_equal(aq_dtype_by_safetensors(row->safetensors, strlen(row->safetensors)), t);
    }
    assert_int_equal(aq_dtype_by_name("q4_", 3), AQ_DTYPE_NONE);
    assert_int_equal(aq_dtype_by_name("", 0), AQ_DTYPE_NONE);
    assert_int_equal(aq_dtype_by_safetensors("", 0), AQ_DTYPE_NONE);
    assert_int_equal(aq_dtype_by_gguf(UINT32_MAX), AQ_DTYPE_NONE);
    assert_string_equal(aq_dtype_of(AQ_DTYPE_NONE)->name, "any");
    size_t bytes = 7;
    assert_int_equal(aq_dtype_bytes(AQ_Q4_0, 33, "w", &bytes), AQ_REFUSED);
    assert_string_equal(aq_error(), "w: 33 elements of type q4_0: expected a multiple of its block of 32");
    assert_int_equal(aq_dtype_bytes(AQ_F64, UINT64_MAX, "w", &bytes), AQ_REFUSED);
    assert_int_equal(bytes, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_are_the_compilers),    cmocka_unit_test(rounding_to_half_is_to_nearest_even),
        cmocka_unit_test(rounding_to_bf16_is_to_nearest_even), cmocka_unit_test(blocks_are_the_packages),
        cmocka_unit_test(activations_follow_the_rule), cmocka_unit_test(blocks_of_32_follow_the_files_rules),
        cmocka_unit_test(strange_numbers_make_no_trouble),
        cmocka_unit_test(quantisers_lose_no_more_than_others), cmocka_unit_test(special_rows_survive),
        cmocka_unit_test(the_table_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
