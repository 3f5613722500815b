/* test_random.c: random weights: the same bytes for the same seed whatever else is asked for, the deviation that the config says in every
 * type, ones for norms, a clean refusal of what cannot be. */
#include "frontend/import/made.h"
#include "ir/memory.h"
#include "ir/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static aq_checkpoint opened(const char *spec, aq_dtype t) {
    aq_checkpoint c;
    if (aq_checkpoint_random(spec, t, &c) != AQ_OK)
        fail_msg("%s", aq_error());
    return c;
}

static void many_at_a_time_are_the_same_numbers(void **state) {
    (void)state;
    uint32_t all[4 * 37], one[4];
    for (uint64_t counter = 0xfffffffcu; counter < 0x100000004u; counter += 3) {
        aq_random_fill(77, counter, 37, all);
        for (uint64_t i = 0; i < 37; i++) {
            aq_random_block(77, counter + i, one);
            assert_memory_equal(all + 4 * i, one, sizeof one);
        }
    }
}

static void deviation_and_mean_in_every_type(void **state) {
    (void)state;
    const aq_dtype types[] = {AQ_F64, AQ_F32, AQ_BF16, AQ_F16, AQ_Q8_0, AQ_Q4_0, AQ_Q4_1, AQ_Q5_0, AQ_Q4_K, AQ_Q5_K, AQ_Q6_K};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        aq_checkpoint c = opened(aq_dtype_of(types[k])->block == 256 ? "tiny-wide:random:1" : "tiny:random:1", types[k]);
        assert_int_equal(c.n_tensors, 3 + 9 * 2);
        for (uint32_t i = 0; i < c.n_tensors; i++) {
            const aq_tensor *t = &c.tensors[i];
            size_t n = (size_t)t->dim[0] * (size_t)(t->rank == 2 ? t->dim[1] : 1);
            float *x = malloc(n * sizeof *x);
            double sum = 0, squares = 0;
            aq_dtype_decode_f32(t->dtype, t->data, 0, n, x);
            for (size_t j = 0; j < n; j++) {
                sum += x[j];
                squares += (double)x[j] * x[j];
                assert_true(t->rank == 2 || x[j] == 1);
            }
            free(x);
            double deviation = sqrt(squares / (double)n), error = 4 / sqrt((double)n) + (types[k] == AQ_Q5_0 || types[k] == AQ_Q5_K ? 0.02 : 0); /* quantised */
            if (t->rank == 2 && (fabs(deviation / 0.1 - 1) > error || fabs(sum / (double)n) > 0.1 * error))
                fail_msg("%s in %s: deviation %g, mean %g: expected 0.1 and 0", t->name, aq_dtype_of(types[k])->name, deviation, sum / (double)n);
            assert_true((uintptr_t)t->data % 64 == 0);
        }
        aq_checkpoint_close(&c);
    }
    assert_int_equal(aq_mem_open_blocks(), 0);
}

static void seeds_and_names_give_the_bytes(void **state) {
    (void)state;
    aq_checkpoint a = opened("tiny:random:9", AQ_Q4_0), b = opened("tiny:random:9", AQ_Q4_0), other = opened("tiny:random:10", AQ_Q4_0);
    aq_checkpoint mha = opened("tiny-mha:random:9", AQ_Q4_0), none = opened("tiny:random", AQ_Q4_0), zero = opened("tiny:random:0", AQ_Q4_0);
    for (uint32_t i = 0; i < a.n_tensors; i++) {
        const aq_tensor *t = &a.tensors[i], *same = aq_checkpoint_find(&mha, t->name);
        assert_memory_equal(t->data, b.tensors[i].data, t->bytes);
        assert_memory_equal(none.tensors[i].data, zero.tensors[i].data, t->bytes);
        if (t->rank == 2)
            assert_memory_not_equal(t->data, other.tensors[i].data, t->bytes);
        if (t->bytes == same->bytes) /* another model's tensor of the same name and size */
            assert_memory_equal(t->data, same->data, t->bytes);
    }
    assert_memory_not_equal(aq_checkpoint_find(&a, "w1.0")->data, aq_checkpoint_find(&a, "w1.1")->data, 1000);
    aq_checkpoint_close(&a), aq_checkpoint_close(&b), aq_checkpoint_close(&other);
    aq_checkpoint_close(&mha), aq_checkpoint_close(&none), aq_checkpoint_close(&zero);
}

/* Rows in any order and number are the rows of the whole, also where a row is no multiple of what one draw of the generator gives. */
static void rows_are_those_of_the_whole(void **state) {
    (void)state;
    const aq_dtype types[] = {AQ_F32, AQ_BF16, AQ_Q8_0, AQ_Q4_0, AQ_Q4_1, AQ_Q4_K, AQ_Q6_K, AQ_Q5_K};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        const char *spec = aq_dtype_of(types[k])->block == 256 ? "tiny-wide:random:5" : "tiny:random:5";
        aq_checkpoint whole = opened(spec, types[k]), outline;
        assert_int_equal(aq_checkpoint_outline(spec, types[k], &outline), AQ_OK);
        for (uint32_t i = 0; i < outline.n_tensors; i++) {
            const aq_tensor *t = &outline.tensors[i];
            assert_null(t->data);
            assert_string_equal(t->name, whole.tensors[i].name);
            size_t row = aq_tensor_row_bytes(t);
            unsigned char *some = malloc(t->bytes);
            for (int64_t first = 0; first < t->dim[0]; first += 1 + first % 5) {
                int64_t n = t->dim[0] - first < 1 + first % 7 ? t->dim[0] - first : 1 + first % 7;
                assert_int_equal(aq_tensor_read(t, first, n, some), AQ_OK);
                assert_memory_equal(some, (const char *)whole.tensors[i].data + (size_t)first * row, (size_t)n * row);
            }
            free(some);
        }
        aq_checkpoint_close(&outline);
        aq_checkpoint_close(&whole);
    }
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        aq_dtype t;
        aq_status status;
        const char *message;
    } cases[] = {
        {"tiny", AQ_F32, AQ_REFUSED, "tiny: not a built-in architecture: expected NAME:random or NAME:random:SEED"},
        {"tiny:rand", AQ_F32, AQ_REFUSED, "tiny:rand: not a built-in architecture: expected NAME:random or NAME:random:SEED"},
        {"tiny:random:", AQ_F32, AQ_REFUSED, "tiny:random:: no seed after the colon: expected a number"},
        {"tiny:random:-1", AQ_F32, AQ_REFUSED, "tiny:random:-1: the seed is no number below 2^64"},
        {"tiny:random:18446744073709551616", AQ_F32, AQ_REFUSED, "tiny:random:18446744073709551616: the seed is no number below 2^64"},
        {"tiny:random", AQ_I8, AQ_REFUSED, "tiny:random: random weights in i8: expected a floating-point or block type"},
        {"tiny:random", AQ_A8, AQ_REFUSED, "tiny:random: random weights in a8: expected a floating-point or block type"},
        {"big:random", AQ_F32, AQ_REFUSED, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        aq_checkpoint c;
        assert_int_equal(aq_checkpoint_random(cases[i].spec, cases[i].t, &c), cases[i].status);
        if (cases[i].message)
            assert_string_equal(aq_error(), cases[i].message);
    }
    assert_int_equal(aq_mem_open_blocks(), 0);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    aq_status status = AQ_NO_MEMORY;
    for (long nth = 1; status != AQ_OK; nth++) {
        aq_checkpoint c;
        aq_mem_fail_after(nth);
        status = aq_checkpoint_random("tiny:random", AQ_BF16, &c);
        aq_mem_fail_after(0);
        assert_true(status == AQ_OK || status == AQ_NO_MEMORY);
        if (status == AQ_OK)
            aq_checkpoint_close(&c);
        assert_int_equal(aq_mem_open_blocks(), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_at_a_time_are_the_same_numbers), cmocka_unit_test(deviation_and_mean_in_every_type),
        cmocka_unit_test(seeds_and_names_give_the_bytes),      cmocka_unit_test(rows_are_those_of_the_whole), cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
