/* test_jobs.c: several nests, compiled by several threads: the object has the same bytes with any number of them, each kernel in it computes
 * what it should, a nest that is refused is named whoever met it, and no allocation that fails leaves anything open. */
#include "tests/cpu/kernel.h"

#include "codegen/cpu/join.h"

enum { NESTS = 5 };

static void open_all(kernel k[NESTS], const aq_nest *list[NESTS]) {
    for (int i = 0; i < NESTS; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 i % 2 ? "nest n%d(in %%x: f32[T, 64], out %%y: f32[T, 64]) { axis t: T, d: 64\n"
                         "phase { tiles t by 2 { for d by 16 lanes 16 { store %%y[t, d] = mul(exp(%%x[t, d]), %d) } } } }"
                       : "nest n%d(in %%x: f32[T, 64], out %%y: f32[T]) { axis t: T, d: 64\n"
                         "phase { tiles t by 1 { acc %%s sum [t] for d by 16 lanes 16 { %%s += mul(%%x[t, d], %d) } store %%y[t] = rsqrt(%%s) } } }",
                 i, i + 2);
        kernel_open(&k[i], text, 3);
        list[i] = k[i].n;
    }
}

static void close_all(kernel k[NESTS]) {
    for (int i = 0; i < NESTS; i++)
        kernel_close(&k[i]);
}

static void same_bytes_from_any_number_of_threads(void **state) {
    (void)state;
    kernel k[NESTS];
    const aq_nest *list[NESTS];
    aq_target t;
    aq_arena arena = {0};
    unsigned char *one, *more;
    const char *text_of_one, *text;
    size_t size, n;
    uint64_t local[NESTS];
    open_all(k, list);
    OK(aq_target_parse("cpu:v3", &t));
    OK(aq_cpu_emit(list, NESTS, &t, 1, &arena, &one, &size, local, &text_of_one));
    for (int threads = 2; threads <= 7; threads++) {
        OK(aq_cpu_emit(list, NESTS, &t, threads, &arena, &more, &n, local, &text));
        assert_int_equal(n, size);
        assert_memory_equal(more, one, size);
        assert_string_equal(text, text_of_one);
    }
    aq_elf *elf;
    OK(aq_elf_load("jobs", one, size, &elf));
    for (int i = 0; i < NESTS; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d.p0", i);
        assert_non_null(aq_elf_symbol(elf, name));
        assert_non_null(strstr(text, name));
    }
    float x[3 * 64], y[3 * 64];
    void *buf[2] = {x, y};
    int64_t sym[AQ_SYM_COUNT] = {0, 3};
    aq_kernel f;
    for (int i = 0; i < 3 * 64; i++)
        x[i] = (float)(i % 7) / 8;
    *(void **)&f = aq_elf_symbol(elf, "n3.p0");
    f(buf, sym, NULL, 0, 2);
    for (int i = 0; i < 3 * 64; i++)
        assert_true(fabs(y[i] - 5 * exp(x[i])) < 1e-5 * y[i]);
    aq_elf_close(elf);
    aq_arena_close(&arena);
    close_all(k);
}

static void the_first_refusal_is_told(void **state) {
    (void)state;
    kernel k[NESTS], bad;
    const aq_nest *list[NESTS];
    aq_target t;
    unsigned char *object;
    size_t size;
    uint64_t local[NESTS];
    open_all(k, list);
    kernel_open(&bad, "nest bad(in %x: f32[T, 64], out %y: f32[T, 64]) { axis t: T, d: 64\n"
                      "phase { tiles t by 2 { for d by 64 lanes 16 vec 4 { store %y[t, d] = exp(%x[t, d]) } } } }", 3);
    list[2] = list[4] = bad.n;
    OK(aq_target_parse("cpu:v3", &t));
    for (int threads = 1; threads <= 5; threads++) {
        aq_arena arena = {0};
        long open = aq_mem_open_blocks();
        assert_int_equal(aq_cpu_emit(list, NESTS, &t, threads, &arena, &object, &size, local, NULL), AQ_REFUSED);
        assert_string_equal(aq_error(), "bad: vec on axis d is a mark for a GPU: expected only lanes on a CPU");
        aq_arena_close(&arena);
        assert_int_equal(aq_mem_open_blocks(), open);
    }
    kernel_close(&bad);
    close_all(k);
}

static void failing_allocations(void **state) {
    (void)state;
    kernel k[NESTS];
    const aq_nest *list[NESTS];
    aq_target t;
    unsigned char *object;
    size_t size;
    uint64_t local[NESTS];
    open_all(k, list);
    OK(aq_target_parse("cpu:v3", &t));
    int done = 0;
    for (long nth = 1; nth < 400 && !done; nth++) {
        aq_arena arena = {0};
        long open = aq_mem_open_blocks();
        aq_mem_fail_after(nth);
        aq_status s = aq_cpu_emit(list, NESTS, &t, 3, &arena, &object, &size, local, NULL);
        aq_mem_fail_after(0);
        assert_true(s == AQ_OK || s == AQ_NO_MEMORY);
        assert_true(s == AQ_OK || *aq_error());
        done = s == AQ_OK;
        aq_arena_close(&arena);
        assert_int_equal(aq_mem_open_blocks(), open);
    }
    assert_true(done);
    close_all(k);
}

/* What is no object of LLVM's is said, and nothing is read outside of it. */
static void joined_nonsense(void **state) {
    (void)state;
    unsigned char bytes[256] = "\x7f" "ELF", *out;
    size_t size;
    aq_arena arena = {0};
    aq_object o = {bytes, sizeof bytes};
    for (size_t n = 0; n < 64; n++)
        assert_int_equal(aq_objects_join(&(aq_object){bytes, n}, 1, &arena, &out, &size), AQ_FAILED);
    bytes[40] = 0xf8; /* the section table begins there and has 9 rows */
    bytes[60] = 9;
    assert_int_equal(aq_objects_join(&o, 1, &arena, &out, &size), AQ_FAILED);
    OK(aq_objects_join(&o, 0, &arena, &out, &size));
    aq_arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_from_any_number_of_threads),
        cmocka_unit_test(the_first_refusal_is_told),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(joined_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
