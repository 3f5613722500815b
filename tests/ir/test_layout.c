/* test_layout.c: the layouts of weights and caches: the fast packer writes the bytes that the definition reads. */
#include "ir/block.h"
#include "ir/layout.h"
#include "ir/memory.h"
#include "ir/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const aq_dtype panel_types[] = {AQ_F64, AQ_F32, AQ_BF16, AQ_F16, AQ_I8, AQ_I32, AQ_Q4_0, AQ_Q4_1, AQ_Q8_0,
                                        AQ_Q5_0, AQ_Q5_1, AQ_Q2_K, AQ_Q3_K, AQ_Q4_K, AQ_Q5_K, AQ_Q6_K, AQ_IQ4_NL, AQ_IQ4_XS};

static void *bytes_of(aq_layout l, aq_dtype t, const int64_t *dim, int rank, size_t *out_size) {
    void *p = NULL;
    if (aq_layout_bytes(l, t, dim, rank, "test", out_size) != AQ_OK || aq_mem_alloc(*out_size, &p) != AQ_OK)
        fail_msg("%s", aq_error());
    return p;
}

/* Random stored bytes that decode to finite numbers. */
static void fill(aq_dtype t, int64_t n, void *to, uint64_t seed) {
    aq_random r = aq_random_open(seed);
    float *x = calloc((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(aq_random_normal(&r) * 20);
    aq_dtype_encode_f32(t, x, (size_t)n, to);
    free(x);
}

/* Where row `row` of the interleaved order stands among rotate-half rows. */
static int64_t from_row(int64_t row, int64_t head) {
    return head ? row / head * head + (row % head % 2 ? head / 2 : 0) + row % head / 2 : row;
}

static void check_panel(aq_dtype t, int64_t n, int64_t k, int64_t head, uint64_t seed) {
    const int64_t dim[2] = {n, k};
    size_t rows_size, size;
    char *rows = bytes_of(AQ_LAYOUT_ROWS, t, dim, 2, &rows_size), *panel = bytes_of(AQ_LAYOUT_PANEL, t, dim, 2, &size);
    fill(t, n * k, rows, seed);
    int64_t half = (n / 2 + 15) / 16 * 16; /* two workers */
    aq_layout_pack_panel(t, rows, n, k, head, half, n - half, panel);
    aq_layout_pack_panel(t, rows, n, k, head, 0, half < n ? half : n, panel);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++) {
            const int64_t at[2] = {i, j}, from[2] = {from_row(i, head), j};
            double want = aq_layout_get(AQ_LAYOUT_ROWS, t, dim, 2, from, rows), got = aq_layout_get(AQ_LAYOUT_PANEL, t, dim, 2, at, panel);
            if (want != got)
                fail_msg("%s [%d,%d] heads of %d: element (%d,%d) is %g in panels, %g as stored", aq_dtype_of(t)->name, (int)n, (int)k, (int)head, (int)i,
                         (int)j, got, want);
        }
    aq_mem_free(rows);
    aq_mem_free(panel);
}

static void wide_blocks_hold_what_panels_hold(void **state) {
    (void)state;
    for (size_t i = 6; i < sizeof panel_types / sizeof *panel_types; i++) {
        aq_dtype t = panel_types[i];
        int64_t k = aq_dtype_of(t)->block, dim[2] = {16, k};
        size_t rows_size, size, wide_size;
        char *rows = bytes_of(AQ_LAYOUT_ROWS, t, dim, 2, &rows_size), *panel = bytes_of(AQ_LAYOUT_PANEL, t, dim, 2, &size);
        unsigned char *wide = (void *)bytes_of(AQ_LAYOUT_WIDE, t, dim, 2, &wide_size);
        fill(t, 16 * k, rows, i);
        aq_layout_pack_panel(t, rows, 16, k, 0, 0, 16, panel);
        assert_int_equal(wide_size, (size_t)(k / 32) * aq_wide_of(t).bytes);
        for (int64_t at[2] = {0, 0}; at[0] < 16; at[0]++) {
            for (at[1] = 0; at[1] < k; at[1] += 32)
                aq_wide_put(t, (unsigned char *)panel, (int)(at[1] / 32), (int)at[0], wide + at[1] / 32 * aq_wide_of(t).bytes);
            for (at[1] = 0; at[1] < k; at[1]++)
                if (aq_layout_get(AQ_LAYOUT_WIDE, t, dim, 2, at, wide) != aq_layout_get(AQ_LAYOUT_PANEL, t, dim, 2, at, panel))
                    fail_msg("%s: element %d of row %d differs", aq_dtype_of(t)->name, (int)at[1], (int)at[0]);
        }
        aq_mem_free(rows);
        aq_mem_free(panel);
        aq_mem_free(wide);
    }
    const int64_t dim[2] = {16, 32};
    size_t size;
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_WIDE, AQ_F32, dim, 2, "test", &size), AQ_REFUSED);
}

static int64_t unit(aq_dtype t) { return aq_dtype_of(t)->block > 32 ? aq_dtype_of(t)->block : 32; }

static void panels_hold_what_rows_hold(void **state) {
    (void)state;
    static const int64_t n[] = {1, 15, 16, 17, 48, 61};
    for (size_t t = 0; t < sizeof panel_types / sizeof *panel_types; t++)
        for (size_t i = 0; i < sizeof n / sizeof *n; i++)
            for (int64_t k = unit(panel_types[t]); k <= (unit(panel_types[t]) > 32 ? 512 : 96); k += unit(panel_types[t]))
                check_panel(panel_types[t], n[i], k, 0, t * 100 + i);
    for (size_t t = 0; t < sizeof panel_types / sizeof *panel_types; t++) {
        check_panel(panel_types[t], 48, 2 * unit(panel_types[t]), 16, t);
        check_panel(panel_types[t], 24, unit(panel_types[t]), 8, t);
        check_panel(panel_types[t], 20, unit(panel_types[t]), 10, t);
    }
    check_panel(AQ_F32, 17, 5, 0, 1); /* plain types need no multiple of 32 */
    check_panel(AQ_BF16, 33, 19, 0, 1);
}

static void planes_hold_what_rows_hold(void **state) {
    (void)state;
    static const aq_dtype types[] = {AQ_Q4_0, AQ_Q4_1, AQ_Q8_0};
    static const int64_t dim[2] = {5, 96};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        size_t rows_size, size;
        char *rows = bytes_of(AQ_LAYOUT_ROWS, types[t], dim, 2, &rows_size), *planes = bytes_of(AQ_LAYOUT_PLANES, types[t], dim, 2, &size);
        fill(types[t], dim[0] * dim[1], rows, t);
        assert_int_equal(size, rows_size);
        aq_layout_pack_planes(types[t], rows, dim[0], dim[1], planes);
        for (int64_t i = 0; i < dim[0] * dim[1]; i++) {
            const int64_t at[2] = {i / dim[1], i % dim[1]};
            assert_true(aq_layout_get(AQ_LAYOUT_PLANES, types[t], dim, 2, at, planes) == aq_layout_get(AQ_LAYOUT_ROWS, types[t], dim, 2, at, rows));
        }
        size_t codes = types[t] == AQ_Q8_0 ? 32 : 16; /* the codes of block 1 behind those of block 0, its scale behind all codes */
        assert_memory_equal(planes + codes, rows + aq_dtype_of(types[t])->bytes * 2 - codes, codes);
        assert_memory_equal(planes + 15 * codes + 2, rows + aq_dtype_of(types[t])->bytes, 2);
        aq_mem_free(rows);
        aq_mem_free(planes);
    }
}

static void rows_past_the_end_stay_zero(void **state) {
    (void)state;
    const int64_t dim[2] = {17, 32};
    size_t rows_size, size;
    char *rows = bytes_of(AQ_LAYOUT_ROWS, AQ_Q4_1, dim, 2, &rows_size);
    unsigned char *panel = bytes_of(AQ_LAYOUT_PANEL, AQ_Q4_1, dim, 2, &size);
    assert_int_equal(size, 2 * 320);
    fill(AQ_Q4_1, 17 * 32, rows, 3);
    aq_layout_pack_panel(AQ_Q4_1, rows, 17, 32, 0, 0, 17, panel);
    for (size_t i = 320; i < size; i++)
        if (panel[i] && (i - 320) % 64 >= 4 && i < 320 + 256)
            fail_msg("byte %zu of the last panel belongs to no row and is %d", i, panel[i]);
    aq_mem_free(rows);
    aq_mem_free(panel);
}

/* One word of a panel holds four consecutive bytes of one row: elements (b, b + 2) pair up for vpdpwssd. */
static void words_are_as_the_emitter_reads_them(void **state) {
    (void)state;
    const int64_t dim[2] = {16, 32};
    size_t rows_size, size;
    unsigned char *rows = bytes_of(AQ_LAYOUT_ROWS, AQ_Q4_0, dim, 2, &rows_size), *panel = bytes_of(AQ_LAYOUT_PANEL, AQ_Q4_0, dim, 2, &size);
    fill(AQ_Q4_0, 16 * 32, rows, 9);
    aq_layout_pack_panel(AQ_Q4_0, rows, 16, 32, 0, 0, 16, panel);
    for (int r = 0; r < 16; r++)
        for (int j = 0; j < 4; j++)
            for (int b = 0; b < 4; b++) {
                const unsigned char *q = rows + r * 18 + 2;
                int e = 8 * j + b, low = e < 16 ? q[e] & 15 : q[e - 16] >> 4, e2 = e + 4, high = e2 < 16 ? q[e2] & 15 : q[e2 - 16] >> 4;
                assert_int_equal(panel[(j * 16 + r) * 4 + b], low | high << 4);
            }
    assert_memory_equal(panel + 256, rows, 2);
    aq_mem_free(rows);
    aq_mem_free(panel);
}

static void caches_lie_by_pages(void **state) {
    (void)state;
    const int64_t dim[3] = {130, 3, 8}; /* three pages, the last mostly empty */
    static const aq_layout layouts[] = {AQ_LAYOUT_ROWS, AQ_LAYOUT_KV_ROWS, AQ_LAYOUT_KV_PANEL};
    for (int l = 0; l < 3; l++) {
        size_t size;
        unsigned char *base = bytes_of(layouts[l], AQ_F16, dim, 3, &size), *seen = calloc(size, 1);
        assert_int_equal(size, (l ? 192 : 130) * 3 * 8 * 2);
        for (int64_t i = 0; i < 130 * 24; i++) {
            const int64_t at[3] = {i / 24, i / 8 % 3, i % 8};
            size_t offset = aq_layout_offset(layouts[l], AQ_F16, dim, 3, at);
            if (offset + 2 > size || seen[offset]++)
                fail_msg("%s: element %d lies at %zu, outside or on another", aq_layout_name(layouts[l]), (int)i, offset);
            aq_layout_set(layouts[l], AQ_F16, dim, 3, at, base, (double)i / 8);
        }
        for (int64_t i = 0; i < 130 * 24; i++) {
            const int64_t at[3] = {i / 24, i / 8 % 3, i % 8};
            assert_true(aq_layout_get(layouts[l], AQ_F16, dim, 3, at, base) == (double)aq_f16_to_f32(aq_f32_to_f16((float)i / 8)));
        }
        free(seen);
        aq_mem_free(base);
    }
    const int64_t a[3] = {65, 2, 3}, b[3] = {66, 2, 3}, c[3] = {65, 2, 4};
    assert_int_equal(aq_layout_offset(AQ_LAYOUT_KV_PANEL, AQ_F32, dim, 3, b) - aq_layout_offset(AQ_LAYOUT_KV_PANEL, AQ_F32, dim, 3, a), 4);
    assert_int_equal(aq_layout_offset(AQ_LAYOUT_KV_ROWS, AQ_F32, dim, 3, c) - aq_layout_offset(AQ_LAYOUT_KV_ROWS, AQ_F32, dim, 3, a), 4);
}

static void stores_round_and_saturate(void **state) {
    (void)state;
    const int64_t one = 1, zero = 0;
    union {
        int32_t i32;
        int8_t i8;
        double f64;
        unsigned char bytes[8];
    } u;
    aq_layout_set(AQ_LAYOUT_ROWS, AQ_I32, &one, 1, &zero, &u, 123456789.0);
    assert_int_equal(u.i32, 123456789);
    aq_layout_set(AQ_LAYOUT_ROWS, AQ_I32, &one, 1, &zero, &u, 1e30);
    assert_int_equal(u.i32, INT32_MAX);
    aq_layout_set(AQ_LAYOUT_ROWS, AQ_I8, &one, 1, &zero, &u, -1000);
    assert_int_equal(u.i8, -128);
    aq_layout_set(AQ_LAYOUT_ROWS, AQ_I8, &one, 1, &zero, &u, (double)NAN);
    assert_int_equal(u.i8, 0);
    aq_layout_set(AQ_LAYOUT_ROWS, AQ_F64, &one, 1, &zero, &u, 0.1);
    assert_true(u.f64 == 0.1);
}

static void what_a_layout_does_not_offer_is_refused(void **state) {
    (void)state;
    const int64_t two[2] = {16, 40}, three[3] = {64, 2, 32}, huge[2] = {INT64_MAX / 2, 1024}, negative[1] = {-1};
    size_t size;
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_PANEL, AQ_Q4_0, two, 2, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_PANEL, AQ_F32, three, 3, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_PANEL, AQ_A16, three + 1, 2, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_PLANES, AQ_F32, two, 2, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_PLANES, AQ_Q4_0, two, 2, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_KV_ROWS, AQ_F32, two, 2, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_KV_PANEL, AQ_Q8_0, three, 3, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_ROWS, AQ_F32, huge, 2, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_bytes(AQ_LAYOUT_ROWS, AQ_F32, negative, 1, "t", &size), AQ_REFUSED);
    assert_int_equal(aq_layout_by_name("panel", 5), AQ_LAYOUT_PANEL);
    assert_int_equal(aq_layout_by_name("pane", 4), AQ_LAYOUT_COUNT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_blocks_hold_what_panels_hold),
        cmocka_unit_test(panels_hold_what_rows_hold),          cmocka_unit_test(planes_hold_what_rows_hold),
        cmocka_unit_test(rows_past_the_end_stay_zero), cmocka_unit_test(words_are_as_the_emitter_reads_them),
        cmocka_unit_test(caches_lie_by_pages),                 cmocka_unit_test(stores_round_and_saturate),   cmocka_unit_test(what_a_layout_does_not_offer_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
