/* test_torch.c: torch archives: tensors are views into the map; cut off anywhere, with any bit changed or without memory a file opens or is refused in one
 * line with a reason; a pickle that names what is no tensor is refused by that name. The seeds are torch.save's (tests/oracle/torch_seeds.py). */
#include "frontend/import/internal.h"
#include "ir/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const seeds[] = {"hf", "flagai", "views", "zip64", "training", "parameters", "mixed"};
enum { SEEDS = sizeof seeds / sizeof *seeds, OPEN_SEEDS = 5 };

static char *read_seed(const char *name, size_t *n) {
    char path[128], *bytes;
    snprintf(path, sizeof path, "tests/fuzz/corpus/torch/%s", name);
    if (aq_file_read(path, 1 << 20, &bytes, n) != AQ_OK)
        fail_msg("%s", aq_error());
    return bytes;
}

/* The bytes as the archive of the seeds' model; every tensor that it gives is read at both ends. A refusal must be one line with a reason. */
static aq_status open_bytes(const char *bytes, size_t n) {
    aq_checkpoint c = {.path = "f", .config = {.name = "", .family = "llama", .D = 2, .L = 1, .H = 1, .HKV = 1, .DH = 2, .F = 2, .V = 2}};
    aq_file file = {.bytes = (const unsigned char *)bytes, .size = n};
    aq_stored_list stored = {0};
    static volatile unsigned sum;
    aq_status status = aq_torch_read(&c.arena, "f", &file, &stored);
    for (uint32_t i = 0; status == AQ_OK && i < stored.n; i++)
        sum += stored.at[i].data[0] + stored.at[i].data[stored.at[i].bytes - 1];
    if (status == AQ_OK)
        status = aq_import_bind(&c, &stored, "f");
    if (status == AQ_REFUSED && (strncmp(aq_error(), "f:", 2) != 0 || strchr(aq_error(), '\n') || aq_error_reason() == 0))
        fail_msg("refused without place or reason: %s", aq_error());
    aq_checkpoint_close(&c);
    return status;
}

static void seeds_open(void **state) {
    (void)state;
    for (int i = 0; i < OPEN_SEEDS; i++) {
        size_t n;
        char *bytes = read_seed(seeds[i], &n);
        if (open_bytes(bytes, n) != AQ_OK)
            fail_msg("%s: %s", seeds[i], aq_error());
        aq_mem_free(bytes);
    }
}

static void tensors_lie_in_the_map(void **state) {
    static const char *const folders[] = {"tests/data/forms/hf-bin-tied", "tests/data/forms/hf-bin-sharded", "tests/data/forms/flagai-fused-module",
                                          "tests/data/forms/flagai-plain/pytorch_model.bin"};
    (void)state;
    for (size_t k = 0; k < sizeof folders / sizeof *folders; k++) {
        aq_checkpoint c;
        if (aq_checkpoint_open(folders[k], &c) != AQ_OK)
            fail_msg("%s", aq_error());
        for (uint32_t i = 0; i < c.n_tensors; i++) {
            const unsigned char *p = c.tensors[i].data;
            int inside = 0;
            for (uint32_t f = 0; f < c.n_files; f++)
                inside |= p >= c.files[f].bytes && p + c.tensors[i].bytes <= c.files[f].bytes + c.files[f].size;
            if (!inside)
                fail_msg("%s: %s was copied", folders[k], c.tensors[i].file_name);
        }
        aq_checkpoint_close(&c);
    }
}

static void cut_off_anywhere_it_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < SEEDS; i++) {
        size_t n, cut;
        char *bytes = read_seed(seeds[i], &n);
        for (cut = 0; cut < n; cut++) {
            char *part = malloc(cut + 1); /* its own block, so that the sanitizer sees a read behind its end */
            assert_non_null(part);
            memcpy(part, bytes, cut);
            if (open_bytes(part, cut) != AQ_REFUSED)
                fail_msg("%s opened after %zu of %zu bytes", seeds[i], cut, n);
            free(part);
        }
        aq_mem_free(bytes);
    }
}

static void with_any_bit_changed_it_opens_or_is_refused(void **state) {
    (void)state;
    size_t n, opened = 0;
    char *bytes = read_seed(seeds[0], &n);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        aq_status status = open_bytes(bytes, n);
        if (status != AQ_OK && status != AQ_REFUSED)
            fail_msg("bit %zu: status %d: %s", bit, status, aq_error());
        opened += status == AQ_OK;
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    print_message("%zu bits, one after the other: %zu archives opened, the others were refused\n", 8 * n, opened);
    assert_true(opened > 0 && opened < 8 * n);
    aq_mem_free(bytes);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    size_t n;
    char *bytes = read_seed("views", &n);
    long open = aq_mem_open_blocks(), failed = 0;
    for (long nth = 1;; nth++) {
        aq_mem_fail_after(nth);
        aq_status status = open_bytes(bytes, n);
        aq_mem_fail_after(0);
        assert_int_equal(aq_mem_open_blocks(), open);
        if (status == AQ_OK)
            break;
        assert_int_equal(status, AQ_NO_MEMORY);
        failed++;
    }
    print_message("%ld allocations failed one after the other\n", failed);
    assert_true(failed >= 2);
    aq_mem_free(bytes);
}

/* The name of one class in an archive, replaced by another of the same length. */
static void assert_named(const char *old, const char *new, const char *message) {
    size_t n, length = strlen(old), at = 0;
    char *bytes = read_seed("parameters", &n);
    assert_int_equal(length, strlen(new));
    while (at + length <= n && memcmp(bytes + at, old, length) != 0)
        at++;
    assert_true(at + length <= n);
    memcpy(bytes + at, new, length);
    assert_int_equal(open_bytes(bytes, n), AQ_REFUSED);
    if (!strstr(aq_error(), message))
        fail_msg("it says  %s\nexpected %s", aq_error(), message);
    aq_mem_free(bytes);
}

static void foreign_names_are_named(void **state) {
    (void)state;
    assert_named("collections\nOrderedDict", "posix\nsystem\nNNNNNNNNNN", "it names posix.system: expected only tensors");
    assert_named("torch._utils\n_rebuild_tensor_v2", "builtins\neval\nNNNNNNNNNNNNNNNNN", "it names builtins.eval: expected only tensors");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds_open),
        cmocka_unit_test(tensors_lie_in_the_map),
        cmocka_unit_test(cut_off_anywhere_it_is_refused),
        cmocka_unit_test(with_any_bit_changed_it_opens_or_is_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(foreign_names_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
