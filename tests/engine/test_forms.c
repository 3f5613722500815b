/* test_forms.c: every form of a checkpoint folder (tests/data/forms, made by tests/oracle/torch_forms.py with transformers and by flagai_logits.py with
 * FlagAI's own code) gives the reference's logits: by the interpreter (relative L2 at most 1e-5) and by compiled kernels (at most 5e-3). The shapes are odd: widths that are no multiple of
 * a vector, heads of 8, 257 rows. */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "frontend/import/json.h"
#include "ir/memory.h"
#include "tests/support/micro.h"

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
    const cJSON *adapter = aq_json_get(form, "lora");
    const char *lora = adapter ? adapter->valuestring : NULL;
    aq_engine_options o = {.target = target, .context = aq_json_get(form, "context")->valueint, .batch = MOST, .threads = 2, .lora = &lora, .n_lora = lora != NULL,
                           .lora_mode = "dots"};
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
    assert_int_equal(check_file("tests/data/forms_flagai.json", target, tolerance), 3);
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

/* The micro model in `type`, its norms too, by `target`. */
static void micro_logits(aq_dtype type, const char *target, float logits[16]) {
    static const int32_t ids[] = {1, 5, 9, 2, 11};
    char folder[64], path[96];
    unsigned char *bytes;
    const float *row;
    size_t n;
    aq_micro m;
    aq_engine *e;
    aq_engine_options o = {.target = target, .context = 16, .threads = 1};
    aq_micro_open(&m, type, 0, 11);
    for (uint32_t i = 0; type == AQ_F64 && i < m.n_tensors; i++)
        if (m.tensors[i].rank == 1) {
            void *wide;
            assert_int_equal(aq_arena_alloc(&m.arena, (size_t)m.tensors[i].dim[0], sizeof(double), &wide), AQ_OK);
            aq_dtype_decode_f64(AQ_F32, m.tensors[i].data, 0, (size_t)m.tensors[i].dim[0], wide);
            m.tensors[i].data = wide;
            m.tensors[i].dtype = AQ_F64;
            m.tensors[i].bytes *= 2;
        }
    aq_micro_gguf(&m, &bytes, &n);
    aq_micro_folder(folder);
    aq_micro_put(folder, "m.gguf", bytes, n);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    if (aq_engine_open(path, &o, &e) != AQ_OK || aq_engine_feed(e, 0, ids, 5, 1, &row) != AQ_OK)
        fail_msg("%s, %s: %s", aq_dtype_of(type)->name, target, aq_error());
    memcpy(logits, row, 16 * sizeof *logits);
    aq_engine_close(e);
    aq_micro_remove(folder);
    aq_mem_free(bytes);
    aq_micro_close(&m);
}

/* Weights in f64 whose values f32 holds: the same bits come out. */
static void doubles_are_computed_in_f32(void **state) {
    (void)state;
    float want[16], got[16];
    const char *version, *path;
    for (int cpu = 0; cpu < 1 + (aq_cpu_llvm_version(&version, &path) == AQ_OK); cpu++) {
        micro_logits(AQ_F32, cpu ? NULL : "ref", want);
        micro_logits(AQ_F64, cpu ? NULL : "ref", got);
        assert_memory_equal(got, want, sizeof want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_form_interpreted), cmocka_unit_test(every_form_compiled),
                                       cmocka_unit_test(doubles_are_computed_in_f32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
