/* test_forms.c: every form of a checkpoint folder (tests/data/forms, made by tests/oracle/torch_forms.py with transformers) gives the reference's
 * logits: by the interpreter (relative L2 at most 1e-5) and by compiled kernels (at most 5e-3). The shapes are odd: widths that are no multiple of
 * a vector, heads of 8, 257 rows. */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "frontend/import/json.h"
#include "ir/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 96 };

/* Relative L2 error of the logits behind the tokens, fed as pieces of `step`. */
static double error_of(aq_engine *e, const cJSON *form, int64_t step) {
    int32_t ids[MOST];
    int64_t n = 0, id, i = 0;
    const float *logits = NULL;
    double difference = 0, size = 0;
    const cJSON *x;
    assert_int_equal(aq_engine_truncate(e, 0, 0), AQ_OK);
    cJSON_ArrayForEach(x, aq_json_get(form, "ids")) {
        assert_true(aq_json_whole(x, &id) && n < MOST);
        ids[n++] = (int32_t)id;
    }
    for (int64_t first = 0; first < n; first += step)
        if (aq_engine_feed(e, 0, ids + first, n - first < step ? n - first : step, 1, &logits) != AQ_OK)
            fail_msg("%s: %s", form->string, aq_error());
    cJSON_ArrayForEach(x, aq_json_get(form, "logits")) {
        double d = logits[i++] - x->valuedouble;
        difference += d * d;
        size += x->valuedouble * x->valuedouble;
    }
    assert_true(i == aq_engine_checkpoint(e)->config.V);
    return sqrt(difference / size);
}

static void check_form(const cJSON *form, const char *target, double tolerance) {
    char folder[256];
    aq_engine *e;
    aq_engine_options o = {.target = target, .context = aq_json_get(form, "context")->valueint, .batch = MOST, .threads = 2};
    snprintf(folder, sizeof folder, "tests/data/forms/%s", aq_json_get(form, "folder")->valuestring);
    if (aq_engine_open(folder, &o, &e) != AQ_OK)
        fail_msg("%s, %s: %s", folder, target, aq_error());
    double whole = error_of(e, form, MOST), pieces = error_of(e, form, 5);
    print_message("%-22s %s: relative L2 error of the logits %.1e, in pieces of 5 tokens %.1e\n", form->string, target, whole, pieces);
    if (!(whole <= tolerance && pieces <= tolerance))
        fail_msg("%s, %s: relative error %g of the logits, in pieces %g: expected at most %g", form->string, target, whole, pieces, tolerance);
    aq_engine_close(e);
}

static int check_file(const char *file, const char *target, double tolerance) {
    char *text;
    size_t n;
    cJSON *root = NULL;
    const cJSON *form;
    int forms = 0;
    if (aq_file_read(file, 1 << 20, &text, &n) != AQ_OK || aq_json_parse(file, text, n, &root) != AQ_OK)
        fail_msg("%s", aq_error());
    cJSON_ArrayForEach(form, root) {
        check_form(form, target, tolerance);
        forms++;
    }
    cJSON_Delete(root);
    aq_mem_free(text);
    return forms;
}

static void check_all(const char *target, double tolerance) {
    assert_true(check_file("tests/data/forms.json", target, tolerance) >= 11);
    assert_true(check_file("tests/data/rope.json", target, tolerance) >= 12); /* rope_forms.py: positions stretched in every way */
    assert_true(check_file("tests/data/names.json", target, tolerance) >= 7); /* name_forms.py: names of what wrapped a model */
}

static void every_form_interpreted(void **state) {
    (void)state;
    check_all("ref", 1e-5);
}

static void every_form_compiled(void **state) {
    const char *version, *path;
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK) {
        print_message("left out: %s\n", aq_error());
        skip();
    }
    check_all("cpu", 5e-3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_form_interpreted), cmocka_unit_test(every_form_compiled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
