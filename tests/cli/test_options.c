/* test_options.c: the command line: every spelling of an option, every refusal with its message, and the tables themselves. */
#include "frontend/cli/options.h"
#include "frontend/cli/values.h"
#include "ir/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Parses the words of one line (single spaces) into *a. */
static aq_status parse(const char *line, aq_args *a) {
    static char text[512];
    static char *argv[64];
    int argc = 0;
    assert_true(strlen(line) < sizeof text);
    strcpy(text, line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    return aq_args_parse(argc, argv, a);
}

static void refused(const char *line, const char *message) {
    aq_args a;
    aq_status status = parse(line, &a);
    aq_args_close(&a);
    if (status != AQ_USAGE || !strstr(aq_error(), message))
        fail_msg("%s: status %d, \"%s\": expected 2 and \"%s\"", line, status, aq_error(), message);
}

static void spellings(void **state) {
    (void)state;
    aq_args a;
    assert_int_equal(parse("aquila tokenize --file=x -vv --decode M --file y -- --json", &a), AQ_OK);
    assert_string_equal(a.verb->name, "tokenize");
    assert_int_equal(a.n_operands, 2);
    assert_string_equal(a.operand[0], "M");
    assert_string_equal(a.operand[1], "--json");
    assert_int_equal(a.at[AQ_OPT_VERBOSE].n, 2);
    assert_int_equal(a.at[AQ_OPT_DECODE].n, 1);
    assert_int_equal(a.at[AQ_OPT_JSON].n, 0);
    assert_int_equal(a.at[AQ_OPT_TEXT_FILE].n_list, 2);
    assert_string_equal(a.at[AQ_OPT_TEXT_FILE].list[0], "x");
    assert_string_equal(a.at[AQ_OPT_TEXT_FILE].list[1], "y");
    aq_args_close(&a);

    assert_int_equal(parse("aquila show -", &a), AQ_OK); /* a lone dash is an operand */
    assert_string_equal(a.operand[0], "-");
    aq_args_close(&a);
    assert_int_equal(parse("aquila tokenize --help", &a), AQ_OK); /* help needs no operands */
    aq_args_close(&a);
    assert_int_equal(parse("aquila --help", &a), AQ_OK);
    assert_string_equal(a.verb->name, "help");
    aq_args_close(&a);
}

static void refusals(void **state) {
    (void)state;
    refused("aquila", "no verb");
    refused("aquila tokenise M", "did you mean tokenize?");
    refused("aquila qqqqqq", "aquila help");
    refused("aquila tokenize --decod M", "did you mean --decode?");
    refused("aquila tokenize --dceode M", "did you mean --decode?");
    refused("aquila tokenize --zzzzzz M", "aquila tokenize --help");
    refused("aquila tokenize --zzzzzz=3 M", "--zzzzzz: no such option");
    refused("aquila tokenize -Z M", "-Z: no such option");
    refused("aquila tokenize --decode=1 M", "--decode takes no value");
    refused("aquila tokenize M --file", "--file: no value");
    refused("aquila tokenize", "missing");
    refused("aquila score a b", "b is one too many");
    refused("aquila doctor x", "x is one too many");
    refused("aquila show --decode ops", "no such option"); /* an option of another verb */
}

static aq_status set(aq_option_kind kind, const char *argument, const char *text, aq_option_value *v) {
    static aq_arena arena;
    const aq_option o = {'x', "x", kind, argument, -5, 100, NULL, ""};
    *v = (aq_option_value){0};
    aq_status status = aq_value_set(&arena, &o, text, v);
    if (kind != AQ_OPTION_INTS && kind != AQ_OPTION_LIST)
        aq_arena_close(&arena);
    return status;
}

static void numbers(void **state) {
    (void)state;
    aq_option_value v;
    static const char *const good[] = {"0", "-5", "100", "007"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(set(AQ_OPTION_INT, "N", good[i], &v), AQ_OK);
    assert_int_equal(v.number, 7);
    static const char *const bad[] = {"", "x", "1x", " 1", "+1", "101", "-6", "1.5", "0x10", "99999999999999999999", "1 ", "nan"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (set(AQ_OPTION_INT, "N", bad[i], &v) != AQ_USAGE || !strstr(aq_error(), "from -5 to 100"))
            fail_msg("\"%s\" was taken for a whole number", bad[i]);
    assert_int_equal(set(AQ_OPTION_REAL, "X", "0.5", &v), AQ_OK);
    assert_true(v.real == 0.5);
    static const char *const unreal[] = {"", "nan", "inf", "1e9", "0x1p3", "1.5x", " 1", "--1"};
    for (size_t i = 0; i < sizeof unreal / sizeof *unreal; i++)
        if (set(AQ_OPTION_REAL, "X", unreal[i], &v) != AQ_USAGE)
            fail_msg("\"%s\" was taken for a number", unreal[i]);
}

static void lists_sizes_choices(void **state) {
    (void)state;
    aq_option_value v;
    assert_int_equal(set(AQ_OPTION_INTS, "N,N", "1,2,33", &v), AQ_OK);
    assert_int_equal(v.n_list, 3);
    assert_int_equal(v.numbers[2], 33);
    static const char *const bad[] = {"", "1,", ",1", "1,,2", "1;2", "1,200"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (set(AQ_OPTION_INTS, "N,N", bad[i], &v) != AQ_USAGE)
            fail_msg("\"%s\" was taken for a list of numbers", bad[i]);
    static const struct {
        const char *text;
        int64_t bytes;
    } sizes[] = {{"1", 1}, {"16GiB", 17179869184}, {"2K", 2048}, {"3kB", 3000}, {"1.5MiB", 1572864}, {"7B", 7}, {"1TB", 1000000000000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(set(AQ_OPTION_SIZE, "SIZE", sizes[i].text, &v), AQ_OK);
        if (v.number != sizes[i].bytes)
            fail_msg("%s is %lld bytes: expected %lld", sizes[i].text, (long long)v.number, (long long)sizes[i].bytes);
    }
    static const char *const unsized_[] = {"", "GiB", "-1", "1X", "1GiBs", "1e30", "1iB"};
    for (size_t i = 0; i < sizeof unsized_ / sizeof *unsized_; i++)
        if (set(AQ_OPTION_SIZE, "SIZE", unsized_[i], &v) != AQ_USAGE)
            fail_msg("\"%s\" was taken for a size", unsized_[i]);
    assert_int_equal(set(AQ_OPTION_CHOICE, "f32|bf16|int8", "bf16", &v), AQ_OK);
    assert_int_equal(v.number, 1);
    assert_int_equal(set(AQ_OPTION_CHOICE, "f32|bf16|int8", "bf1", &v), AQ_USAGE);
    assert_int_equal(set(AQ_OPTION_CHOICE, "f32|bf16|int8", "f32|bf16", &v), AQ_USAGE);
}

/* What help and completion rely on: within a verb no name and no letter stands for two options, and every fallback is a legal value. */
static void tables(void **state) {
    (void)state;
    for (uint32_t i = 0; aq_verb_at(i); i++) {
        const aq_verb *v = aq_verb_at(i);
        const aq_verb *found = NULL;
        assert_int_equal(aq_verb_find(v->name, &found), AQ_OK);
        assert_ptr_equal(found, v);
        for (const uint8_t *o = v->options; *o; o++)
            for (const uint8_t *p = v->options; p < o; p++) {
                const aq_option *x = aq_option_of(*o), *y = aq_option_of(*p);
                if (!strcmp(x->name, y->name) || (x->letter && x->letter == y->letter))
                    fail_msg("%s: --%s and --%s collide", v->name, x->name, y->name);
            }
    }
    for (int id = 1; id < AQ_OPT_COUNT; id++) {
        const aq_option *o = aq_option_of((aq_option_id)id);
        aq_arena arena = {0};
        aq_option_value v = {0};
        if (o->fallback && aq_value_set(&arena, o, o->fallback, &v) != AQ_OK)
            fail_msg("--%s: its own fallback %s is refused: %s", o->name, o->fallback, aq_error());
        aq_arena_close(&arena);
    }
}

static void memory_runs_out(void **state) {
    (void)state;
    long open = aq_mem_open_blocks();
    for (long nth = 1; nth < 50; nth++) {
        aq_args a;
        aq_mem_fail_after(nth);
        aq_status status = parse("aquila tokenize --file a --file b --file c M", &a);
        aq_mem_fail_after(0);
        aq_args_close(&a);
        assert_int_equal(aq_mem_open_blocks(), open);
        if (status == AQ_OK)
            return;
        assert_int_equal(status, AQ_NO_MEMORY);
    }
    fail_msg("it never succeeds");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spellings), cmocka_unit_test(refusals), cmocka_unit_test(numbers),
        cmocka_unit_test(lists_sizes_choices), cmocka_unit_test(tables), cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
