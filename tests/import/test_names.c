/* Which row of the table of models a name is; every row's architecture and template are there. */
#include "frontend/chat/chat.h"
#include "frontend/import/internal.h"
#include "frontend/import/names.h"
#include "ir/file.h"
#include "tests/support/micro.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// cmocka wants these first
#include <cmocka.h>

static void test_matching(void **state) {
    (void)state;
    static const char *const want[][2] = {
        {"AquilaChat-7B", "AquilaChat-7B"},
        {"aquilachat-33b", "AquilaChat-33B"},
        {"BAAI/AquilaChat2-7B", "AquilaChat2-7B"},
        {"models/AquilaChat2-34B/", "AquilaChat2-34B"},
        {"aquila_chat2 34b", "AquilaChat2-34B"},
        {"AQUILACHAT2-70B-EXPR", "AquilaChat2-70B-Expr"},
        {"AquilaChat2-7B-16K", "AquilaChat2-7B-16K"},
        {"/x/aquilachat2-34b-16k-v1.2.Q4_0.gguf", "AquilaChat2-34B-16K"},
        {"Aquila2-7B-16K", "Aquila2-7B"},
        {"Aquila-7B:random:3", "Aquila-7B"},
        {"aquilacode-7b-nv", "AquilaCode-7B-NV"},
        {"AquilaCode-7B-TS", "AquilaCode-7B-TS"},
        {"SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"},
        {"smollm2-1.7b", "SmolLM2-1.7B"},
        {"BAAI_AquilaChat2-7B-Q4_K_M.gguf", "AquilaChat2-7B"},
        {"models--BAAI--AquilaChat2-34B-16K", "AquilaChat2-34B-16K"},
        {"models--HuggingFaceTB--SmolLM2-135M-Instruct/", "SmolLM2-135M-Instruct"},
        {"models--BAAI-AquilaChat2-7B", NULL},
        {"models--", NULL},
        {"BAAI", NULL},
        {"BAAI_", NULL},
        {"Aquila-7Bx", NULL},
        {"MyAquila-7B", NULL},
        {"Aquila", NULL},
        {"Aquila-7B/other", NULL},
        {"", NULL},
        {"/", NULL},
        {"-", NULL},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const aq_known_model *m = aq_known_model_find(want[i][0]);
        if (!m != !want[i][1] || (m && strcmp(m->name, want[i][1])))
            fail_msg("%s is %s, expected %s", want[i][0], m ? m->name : "nothing", want[i][1] ? want[i][1] : "nothing");
    }
    assert_null(aq_known_model_exact("AquilaChat2-7B-16K", 13));
    assert_string_equal(aq_known_model_exact("AquilaChat2-7B-16K", 14)->name, "AquilaChat2-7B");
    assert_null(aq_known_model_exact("aquila-7b ", 10));
    assert_string_equal(aq_known_model_of("whatever", "a/AquilaChat-7B")->name, "AquilaChat-7B");
    assert_string_equal(aq_known_model_of("Aquila-7B", "a/AquilaChat-7B")->name, "AquilaChat-7B");
    assert_string_equal(aq_known_model_of("BAAI/AquilaChat-7B", "a/model.gguf")->name, "AquilaChat-7B");
    assert_string_equal(aq_known_model_of("", "checkpoints/AquilaChat-33B/pytorch_model.bin")->name, "AquilaChat-33B");
    assert_string_equal(aq_known_model_of("Aquila2-7B", "AquilaChat-33B/model.gguf")->name, "Aquila2-7B");
    assert_string_equal(aq_known_model_of("", "hub/models--BAAI--AquilaChat2-7B/snapshots/0123abcd/")->name, "AquilaChat2-7B");
    assert_string_equal(aq_known_model_of("", "models--BAAI--Aquila2-7B/snapshots/0123abcd")->name, "Aquila2-7B");
    assert_null(aq_known_model_of("", "snapshots/0123abcd"));
    assert_null(aq_known_model_of("", "AquilaChat-33B/x/model.gguf"));
    assert_null(aq_known_model_of("x", "/"));
    assert_null(aq_known_model_of(NULL, NULL));
}

/* In a model's own folder. */
static void test_dots(void **state) {
    (void)state;
    char folder[64], before[AQ_FILE_PATH], path[96];
    aq_micro_folder(folder);
    snprintf(path, sizeof path, "%s/AquilaChat2-7B", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(path), 0);
    static const char *const here[] = {".", "./", "./."};
    for (int i = 0; i < 3; i++) {
        const aq_known_model *m = aq_known_model_of("", here[i]);
        assert_non_null(m);
        assert_string_equal(m->name, "AquilaChat2-7B");
    }
    aq_micro_put(".", "m.gguf", "x", 1);
    assert_string_equal(aq_known_model_of("", "m.gguf")->name, "AquilaChat2-7B");
    assert_null(aq_known_model_of("tiny", "tiny:random"));
    assert_null(aq_known_model_of("", ".."));
    assert_int_equal(chdir(before), 0);
    aq_micro_remove(folder);
}

static void test_rows(void **state) {
    (void)state;
    for (uint32_t i = 0; aq_known_model_at(i); i++) {
        const aq_known_model *m = aq_known_model_at(i);
        aq_arena arena = {0};
        aq_config c;
        char spec[80];
        assert_ptr_equal(aq_known_model_find(m->name), m);
        assert_non_null(aq_chat_template_find(m->template));
        snprintf(spec, sizeof spec, "%s:random", m->name);
        if (aq_config_read(&arena, spec, &c) != AQ_OK)
            fail_msg("%s: %s", m->name, aq_error());
        assert_ptr_equal(aq_known_model_of(c.name, spec), m);
        aq_arena_close(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_matching), cmocka_unit_test(test_dots), cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
