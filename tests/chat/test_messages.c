/* Conversations as JSON: what is read, by which number the rest is refused, and memory that runs out at any point. */
#include "frontend/chat/messages.h"
#include "frontend/reasons.h"
#include "ir/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// cmocka wants these first
#include <cmocka.h>

static void test_what_is_read(void **state) {
    (void)state;
    static const char json[] = "[{\"role\": \"system\", \"content\": \"\"}, {\"name\": {\"x\": [1, 2]}, \"content\": \"\\u4f60\\n\\\"\\\\u0000\\uD83D\\uDE00\", \"role\": \"human\"},\n"
                               " {\"role\": \"gpt\", \"content\": \"你\"}]\r\n";
    aq_arena arena = {0};
    aq_chat_messages m;
    assert_int_equal(aq_chat_messages_read(&arena, "f", json, sizeof json - 1, &m), AQ_OK);
    assert_int_equal(m.n, 3);
    assert_int_equal(m.at[0].role, AQ_CHAT_SYSTEM);
    assert_int_equal(m.at[0].text.n, 0);
    assert_int_equal(m.at[1].role, AQ_CHAT_USER);
    assert_string_equal(m.at[1].text.s, "你\n\"\\u0000😀");
    assert_int_equal(m.at[2].role, AQ_CHAT_ASSISTANT);
    assert_string_equal(m.at[2].text.s, "你");
    aq_arena_close(&arena);
}

static void test_refusals(void **state) {
    (void)state;
#define USER "{\"role\": \"user\", \"content\": \"x\"}"
    static const struct {
        const char *json, *says;
    } bad[] = {
        {"[" USER ", {\"role\": \"user\"}]", "f:message 1: no \"content\""},
        {"[{\"role\": \"user\", \"content\": [\"x\"]}]", "f:message 0: no text in \"content\""},
        {"[{\"content\": \"x\"}]", "f:message 0: no \"role\""},
        {"[{\"role\": null, \"content\": \"x\"}]", "f:message 0: no text in \"role\""},
        {"[{\"role\": \"User\", \"content\": \"x\"}]", "f:message 0: an unknown \"role\""},
        {"[{\"role\": \"user\", \"role\": \"system\", \"content\": \"x\"}]", "\"role\" occurs twice"},
        {"[[]]", "f:message 0: no JSON object"},
        {"{}", "f: no JSON list"},
        {"[]", "f: an empty list"},
        {"[{\"role\": \"user\", \"content\": \"\n\\\\\\u0000\"}]", "f: line 2: \\u0000 in a text"},
        {"[\"\xed\xa0\x80\"]", "byte 3 of the file is not UTF-8"},
        {"[\"\\ud800\"]", "not JSON"},
        {"[" USER "] x", "after the JSON value"},
        {"", "not JSON"},
        {"[" USER, "not JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aq_arena arena = {0};
        aq_chat_messages m = {0};
        aq_status status = aq_chat_messages_read(&arena, "f", bad[i].json, strlen(bad[i].json), &m);
        if (status != AQ_REFUSED || !strstr(aq_error(), bad[i].says) || !aq_error_reason() || m.at)
            fail_msg("%s: status %d, \"%s\": expected \"%s\"", bad[i].json, status, aq_error(), bad[i].says);
        aq_arena_close(&arena);
    }
}

static aq_status everything(void) {
    static const char json[] = "[" USER ", {\"role\": \"assistant\", \"content\": \"y\"}, " USER "]";
    aq_arena arena = {0};
    aq_chat_messages m;
    aq_chat_template t;
    aq_chat_text text;
    aq_bytes joined;
    aq_chat_choice choice = {.jinja = "{{ bos_token }}{% for message in messages %}{{ 'GPT4 Correct ' + message['role'].title() + ': ' + message['content'] + '<|end_of_turn|>'}}"
                                      "{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}",
                             .bos = "<s>"};
    aq_status status = aq_chat_messages_read(&arena, "f", json, sizeof json - 1, &m);
    if (status == AQ_OK)
        status = aq_chat_template_open(&arena, &choice, &t);
    if (status == AQ_OK)
        status = aq_chat_render(&arena, &(aq_chat_request){.template = &t, .messages = m.at, .n_messages = m.n}, &text);
    if (status == AQ_OK)
        status = aq_chat_join(&arena, &text, &joined);
    if (status == AQ_OK)
        assert_string_equal(joined.s, "<s>GPT4 Correct User: x<|end_of_turn|>GPT4 Correct Assistant: y<|end_of_turn|>GPT4 Correct User: x<|end_of_turn|>GPT4 Correct Assistant:");
    aq_arena_close(&arena);
    return status;
}

static void test_memory_runs_out(void **state) {
    (void)state;
    aq_status status = AQ_NO_MEMORY;
    for (long n = 1; status != AQ_OK; n++) {
        aq_mem_fail_after(n);
        status = everything();
        aq_mem_fail_after(0);
        assert_true(status == AQ_OK || status == AQ_NO_MEMORY);
        assert_int_equal(aq_mem_open_blocks(), 0);
        assert_true(n < 200);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_is_read), cmocka_unit_test(test_refusals), cmocka_unit_test(test_memory_runs_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
