/* Chat templates of published checkpoints (tests/oracle/chat.py forms): those that are known render every conversation to Jinja's bytes and
 * refuse those for which Jinja raises an error; the others are refused as a whole. And the six Aquila templates as FlagAI's own code has them. */
#include "frontend/chat/chat.h"
#include "frontend/chat/recognise.h"
#include "tests/tokenizer/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
// cmocka wants these first
#include <cmocka.h>

enum { MESSAGES = 16 };

static const char *next_text(aq_arena *arena, vocab_data *at) {
    const char *s;
    aq_bytes b = vocab_list(at, 1);
    VOCAB_NEED(aq_arena_string(arena, b.s, b.n, &s) == AQ_OK);
    return s;
}

static uint32_t next_messages(vocab_data *at, aq_chat_message m[MESSAGES]) {
    uint32_t n = vocab_u32(at);
    VOCAB_NEED(n <= MESSAGES);
    for (uint32_t k = 0; k < n; k++) {
        m[k].role = (aq_chat_role)vocab_u32(at);
        m[k].text = vocab_list(at, 1);
    }
    return n;
}

/* A system message between turns: some templates do something with it by accident, and here it is refused. */
static int has_late_system(const aq_chat_request *r) {
    for (uint32_t i = 1; i < r->n_messages; i++)
        if (r->messages[i].role == AQ_CHAT_SYSTEM)
            return 1;
    return 0;
}

static void compare(const char *what, uint32_t i, const aq_chat_request *r, const aq_bytes *want) {
    aq_arena arena = {0};
    aq_chat_text text;
    aq_bytes got;
    aq_status status = aq_chat_render(&arena, r, &text);
    if (!want && status == AQ_OK)
        fail_msg("%s, conversation %u: Jinja raises an error, here it is fine", what, i);
    if (want && status == AQ_REFUSED && has_late_system(r))
        want = NULL;
    if (want && status != AQ_OK)
        fail_msg("%s, conversation %u: %s", what, i, aq_error());
    if (want) {
        VOCAB_NEED(aq_chat_join(&arena, &text, &got) == AQ_OK);
        if (got.n != want->n || memcmp(got.s, want->s, got.n))
            fail_msg("%s, conversation %u:\n%.*s\n--- expected:\n%.*s", what, i, (int)got.n, got.s, (int)want->n, want->s);
    }
    aq_arena_close(&arena);
}

static void test_published_templates(void **state) {
    (void)state;
    size_t size, known = 0;
    char *file = vocab_gunzip("../chat/forms.gz", &size);
    vocab_data at = {file, file + size};
    aq_arena arena = {0};
    uint32_t n = vocab_u32(&at);
    for (uint32_t i = 0; i < n; i++) {
        const char *name = next_text(&arena, &at), *own = next_text(&arena, &at);
        aq_chat_choice choice = {.jinja = next_text(&arena, &at), .place = own};
        choice.bos = next_text(&arena, &at);
        choice.eos = next_text(&arena, &at);
        uint32_t n_cases = vocab_u32(&at);
        aq_chat_template t = {0};
        aq_status status = aq_chat_template_open(&arena, &choice, &t);
        if (!*name && status != AQ_REFUSED)
            fail_msg("%s: taken for %s", own, t.name);
        if (*name && (status != AQ_OK || strcmp(t.name, name)))
            fail_msg("%s: %s, expected %s", own, status == AQ_OK ? t.name : aq_error(), name);
        known += *name != 0;
        for (uint32_t k = 0; k < n_cases; k++) {
            aq_chat_message m[MESSAGES];
            aq_chat_request r = {&t, NULL, NULL, m, next_messages(&at, m), NULL};
            int is_fine = vocab_u32(&at) == 1;
            aq_bytes want = is_fine ? vocab_list(&at, 1) : (aq_bytes){0};
            compare(own, k, &r, is_fine ? &want : NULL);
        }
    }
    assert_true(at.at == at.end);
    assert_int_equal(known, 40);
    assert_int_equal(n - known, 78);
    free(file);
    aq_arena_close(&arena);
}

/* A template cut off anywhere is another program, or none: it must be looked at without harm. */
static void test_cut_templates(void **state) {
    (void)state;
    size_t size;
    char *file = vocab_gunzip("../chat/forms.gz", &size);
    vocab_data at = {file, file + size};
    uint32_t n = vocab_u32(&at);
    for (uint32_t i = 0; i < n; i++) {
        aq_arena arena = {0};
        vocab_list(&at, 1);
        vocab_list(&at, 1);
        char *jinja = (char *)(uintptr_t)next_text(&arena, &at);
        vocab_list(&at, 1);
        vocab_list(&at, 1);
        for (uint32_t k = vocab_u32(&at); k > 0; k--) {
            aq_chat_message m[MESSAGES];
            next_messages(&at, m);
            if (vocab_u32(&at))
                vocab_list(&at, 1);
        }
        for (size_t end = strlen(jinja); end > 0; end -= end < 7 ? end : 7) {
            aq_arena inner = {0};
            const char *name, *system;
            jinja[end] = 0;
            VOCAB_NEED(aq_chat_recognise(&inner, jinja, &name, &system) == AQ_OK);
            aq_arena_close(&inner);
        }
        aq_arena_close(&arena);
    }
    free(file);
}

static void test_spelling(void **state) {
    (void)state;
    aq_arena arena = {0};
    const char *out;
    assert_int_equal(aq_chat_spelling(&arena, " a\n  {%- if x -%}\n b {{ message[\"content\"] + 'it''s \\'' + \"don't\n\" }} {# no {{ #}\n{% end %}\nc {{- y }}{", &out), AQ_OK);
    assert_string_equal(out, " a{%ifx%}b {{message.content+'it''s \\''+'don\\'t\\n'}} {%end%}c{{y}}{");
    assert_int_equal(aq_chat_spelling(&arena, "{{ 'open", &out), AQ_OK);
    assert_string_equal(out, "{{'open'");
    assert_int_equal(aq_chat_spelling(&arena, "{#", &out), AQ_OK);
    assert_string_equal(out, "");
    aq_arena_close(&arena);
}

static void test_aquila_as_flagai(void **state) {
    (void)state;
    size_t size;
    char *file = vocab_gunzip("../chat/aquila.gz", &size);
    vocab_data at = {file, file + size};
    aq_arena arena = {0};
    uint32_t n = vocab_u32(&at);
    assert_true(n == 6 * 48);
    for (uint32_t i = 0; i < n; i++) {
        aq_chat_template t;
        aq_chat_choice choice = {.wanted = next_text(&arena, &at)};
        const char *system = vocab_u32(&at) ? next_text(&arena, &at) : NULL, *instruction = vocab_u32(&at) ? next_text(&arena, &at) : NULL;
        aq_chat_message m[MESSAGES];
        aq_chat_request r = {&t, system, instruction, m, next_messages(&at, m), NULL};
        aq_bytes want = vocab_list(&at, 1);
        assert_int_equal(aq_chat_template_open(&arena, &choice, &t), AQ_OK);
        compare(choice.wanted, i, &r, &want);
    }
    assert_true(at.at == at.end);
    free(file);
    aq_arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spelling),
        cmocka_unit_test(test_published_templates),
        cmocka_unit_test(test_cut_templates),
        cmocka_unit_test(test_aquila_as_flagai),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed ? failed : aq_mem_open_blocks() != 0;
}
