/* fuzz_chat.c: messages and chat templates are hostile. The input is a letter and sections with a zero byte between: a --messages file, a template in
 * Jinja, a system text. The letter picks a row of templates.def, or asks for the one that the Jinja is. What is accepted renders to a text whose
 * parts are whole and whose stops are texts. */
#include "frontend/chat/chat.h"
#include "frontend/chat/messages.h"
#include "frontend/chat/recognise.h"
#include "ir/memory.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/sections.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    static const char *const words[] = {
        "{\"role\": \"user\", \"content\": \"a\"}", "{\"role\": \"assistant\", \"content\": \"\"}", "{\"role\": \"system\", \"content\": \"b\"}", "\"human\"", "\"gpt\"",
        "\\u0000", "\\u2028", "\\ud83d\\ude00", "\\ud800", "<|im_end|>", "[INST]", "</s>", "###", "\\n", "{%", "%}", "{{", "}}", "{#", "#}", "for", "message", "in",
        "messages", "endfor", "if", "else", "elif", "endif", "set", "loop.first", "loop.index0", "message['role']", "message.content", "| trim", "==", "+", "~", "-%}", "{%-",
        "bos_token", "eos_token", "add_generation_prompt", "raise_exception('x')", "'", "\"", "{", "}", "[", "]", ",", ":", NULL};
    edit e = edit_open(data, size, max_size, seed);
    size_t from[4] = {1}, n = 1;
    for (size_t i = 1; i < size && n < 3; i++)
        if (data[i] == 0)
            from[n++] = i + 1;
    if (size < 2 || roll(&e, 12) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    if (roll(&e, 6) == 0)
        data[0] = (uint8_t)roll(&e, 40);
    size_t k = roll(&e, n), to = k + 1 < n ? from[k + 1] - 1 : size;
    if (to > from[k])
        mutate_text(&e, from[k], to, words);
    return e.n;
}

static void one_line(aq_status status) { need(status == AQ_OK || (*aq_error() && !strchr(aq_error(), '\n'))); }

static void render(aq_arena *arena, const aq_chat_template *t, const aq_chat_messages *m, const char *system) {
    aq_chat_request request = {.template = t, .system = system, .messages = m->at, .n_messages = m->n}, shorter;
    aq_chat_text text;
    aq_bytes joined;
    size_t n = 0;
    aq_status status = aq_chat_render(arena, &request, &text);
    one_line(status);
    if (status != AQ_OK)
        return;
    for (uint32_t i = 0; i < text.parts.n; i++)
        n += text.parts.at[i].text.n;
    need(aq_chat_join(arena, &text, &joined) == AQ_OK && joined.n == n);
    if (m->n > 1)
        need(aq_chat_cut(arena, &request, 1, &shorter) == AQ_OK && shorter.n_messages <= m->n);
    for (int i = 0; i < AQ_CHAT_STOPS && t->stops[i]; i++)
        need(*t->stops[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    const char *at = (const char *)data + 1, *end = (const char *)data + size, *jinja, *system;
    aq_arena arena = {0};
    aq_bytes messages = next_section(&at, end), template = next_section(&at, end), own = next_section(&at, end);
    need(aq_arena_string(&arena, template.n ? template.s : "", template.n, &jinja) == AQ_OK);
    need(aq_arena_string(&arena, own.n ? own.s : "", own.n, &system) == AQ_OK);
    const aq_chat_template *row = aq_chat_template_at(data[0]);
    aq_chat_choice choice = {.wanted = row ? row->name : NULL, .jinja = template.n ? jinja : NULL, .place = "f", .bos = "<s>", .eos = "</s>"};
    aq_chat_template t;
    aq_chat_messages list = {0};
    const char *spelling;
    if (aq_chat_spelling(&arena, jinja, &spelling) == AQ_OK)
        need(strlen(spelling) <= 2 * strlen(jinja) + 4);
    aq_status status = aq_chat_template_open(&arena, &choice, &t);
    one_line(status);
    if (status == AQ_OK) {
        status = aq_chat_messages_read(&arena, "f", messages.n ? messages.s : "", messages.n, &list);
        one_line(status);
        if (status == AQ_OK)
            render(&arena, &t, &list, own.n ? system : NULL);
    }
    aq_arena_close(&arena);
    need(aq_mem_open_blocks() == 0);
    return 0;
}
