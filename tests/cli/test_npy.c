/* test_npy.c: arrays written are read back; what numpy would not write is refused with a reason. (The seeds in fuzz/corpus/npy were
 * written by numpy itself.) */
#include "frontend/cli/npy.h"
#include "ir/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void there_and_back(void **state) {
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "/tmp/aquila-npy-%ld.npy", (long)getpid());
    const float x[6] = {1, -2, 3.5f, 0, 1e-30f, 7};
    const int64_t dim[2] = {2, 3};
    aq_npy a;
    for (int rank = 0; rank <= 2; rank++) {
        assert_int_equal(aq_npy_write(path, AQ_F32, dim, rank, x), AQ_OK);
        assert_int_equal(aq_npy_read(path, &a), AQ_OK);
        assert_int_equal(a.dtype, AQ_F32);
        assert_int_equal(a.rank, rank);
        assert_int_equal(a.n, rank == 0 ? 1 : rank == 1 ? 2 : 6);
        assert_memory_equal(a.data, x, a.n * sizeof *x);
        aq_npy_close(&a);
    }
    unlink(path);
    assert_int_equal(aq_npy_write(path, AQ_Q4_0, dim, 1, x), AQ_REFUSED);
}

static void numpy_wrote_these(void **state) {
    (void)state;
    aq_npy a;
    assert_int_equal(aq_npy_read("tests/fuzz/corpus/npy/f4.npy", &a), AQ_OK);
    assert_int_equal(a.dim[1], 3);
    for (int i = 0; i < 6; i++)
        assert_true(((float *)a.data)[i] == (float)i);
    aq_npy_close(&a);
    assert_int_equal(aq_npy_read("tests/fuzz/corpus/npy/i8.npy", &a), AQ_OK);
    assert_int_equal(a.dtype, AQ_I32);
    assert_int_equal(((int32_t *)a.data)[2], 2);
    aq_npy_close(&a);
    assert_int_equal(aq_npy_read("tests/fuzz/corpus/npy/scalar.npy", &a), AQ_OK);
    assert_int_equal(a.rank, 0);
    assert_true(*(double *)a.data == 1.5);
    aq_npy_close(&a);
    assert_int_equal(aq_npy_read("tests/fuzz/corpus/npy/empty.npy", &a), AQ_OK);
    assert_int_equal(a.n, 0);
    aq_npy_close(&a);
}

static void refused(void **state) {
    (void)state;
    static const struct {
        const char *header, *why;
    } bad[] = {{"{'descr': '<f4', 'fortran_order': True, 'shape': (), }", "C order"},
               {"{'descr': '>f4', 'fortran_order': False, 'shape': (), }", "'<f8'"},
               {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "expected 12"},
               {"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999,999999999999999), }", "x.npy"},
               {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "a size"},
               {"{'descr': '<f4', 'fortran_order': False, }", "'shape'"},
               {"{'shape': (), }", "'descr'"},
               {"", "{"},
               {"{", "each once"},
               {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", "axes"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        unsigned char bytes[256] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)strlen(bad[i].header)};
        memcpy(bytes + 10, bad[i].header, strlen(bad[i].header));
        aq_npy a;
        aq_status status = aq_npy_parse("x.npy", bytes, 10 + strlen(bad[i].header) + 4, &a);
        if (status != AQ_REFUSED || !strstr(aq_error(), bad[i].why))
            fail_msg("%s: status %d, \"%s\": expected \"%s\"", bad[i].header, status, aq_error(), bad[i].why);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(numpy_wrote_these), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
