/* test_flips.c: one small file of every form, cut off at every byte and with every single bit turned: each of these is a whole model (the change did
 * no harm, or none that can be seen: a weight is a number like any other) or refused with one line and the number of a reason; nothing is leaked, and
 * refusing takes at most 64 MiB and four times the file. The files are seeds of the fuzz targets, which take any bytes as such a file. */
#include "frontend/chat/messages.h"
#include "frontend/import/gguf.h"
#include "frontend/lora.h"
#include "frontend/tokenizer/internal.h"
#include "ir/memory.h"
#include "tests/support/micro.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef aq_status open_form(const unsigned char *bytes, size_t n);

static volatile unsigned sum; /* of what is read: an address outside is seen by the sanitizer */

static void touch(const void *p, size_t n) {
    if (n)
        sum += ((const unsigned char *)p)[0] + ((const unsigned char *)p)[n - 1];
}

static aq_status gguf(const unsigned char *bytes, size_t n) {
    aq_checkpoint c = {.path = "f"};
    aq_file file = {.bytes = bytes, .size = n};
    aq_tokenizer *t = NULL;
    aq_status status = aq_gguf_open(&c, &file);
    for (uint32_t i = 0; status == AQ_OK && i < c.n_tensors; i++)
        touch(c.tensors[i].data, c.tensors[i].bytes);
    if (status == AQ_OK && c.tokenizer.kind != AQ_TOKENIZER_NONE)
        status = aq_tokenizer_build(&c.tokenizer, &t);
    aq_tokenizer_close(t);
    aq_checkpoint_close(&c);
    return status;
}

/* The weights of a model of width 2, as the seeds have them. */
static aq_status weights(const unsigned char *bytes, size_t n, aq_status (*read)(aq_arena *, const char *, const aq_file *, aq_stored_list *)) {
    aq_checkpoint c = {.path = "f", .config = {.name = "", .family = "llama", .D = 2, .L = 1, .H = 1, .HKV = 1, .DH = 2, .F = 2, .V = 2, .tied = 1}};
    aq_file file = {.bytes = bytes, .size = n};
    aq_stored_list stored = {0};
    aq_status status = read(&c.arena, "f", &file, &stored);
    for (uint32_t i = 0; status == AQ_OK && i < stored.n; i++)
        touch(stored.at[i].data, stored.at[i].bytes);
    if (status == AQ_OK)
        status = aq_import_bind(&c, &stored, "f");
    aq_checkpoint_close(&c);
    return status;
}

static aq_status safetensors(const unsigned char *bytes, size_t n) { return weights(bytes, n, aq_safetensors_read); }
static aq_status torch(const unsigned char *bytes, size_t n) { return weights(bytes, n, aq_torch_read); }

static aq_status config(const unsigned char *bytes, size_t n) {
    aq_arena arena = {0};
    aq_config c;
    aq_naming naming;
    aq_status status = aq_config_parse(&arena, "f", (const char *)bytes, n, &c, &naming);
    aq_arena_close(&arena);
    return status;
}

static aq_status messages(const unsigned char *bytes, size_t n) {
    aq_arena arena = {0};
    aq_chat_messages list = {0};
    aq_status status = aq_chat_messages_read(&arena, "f", (const char *)bytes, n, &list);
    aq_arena_close(&arena);
    return status;
}

/* The seeds of fuzz_tokenizer: a letter, then files with a zero byte between, then a text. */
static aq_status tokenizer(const unsigned char *bytes, size_t n, char form) {
    aq_arena arena = {0};
    aq_tokenizer_source source = {.kind = AQ_TOKENIZER_BPE, .place = "f", .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    aq_source_reader r = {.arena = &arena, .place = "f", .out = &source};
    aq_tokenizer *t = NULL;
    aq_ids ids = {0};
    const char *at = (const char *)bytes, *zero = form == 's' ? memchr(at, 0, n) : NULL;
    size_t first = zero ? (size_t)(zero - at) : n;
    aq_status status = form == 's' ? aq_source_parse_vocab(&r, at, first) : form == 'm' ? aq_source_parse_model(&r, at, n) : aq_source_parse_json(&r, at, n);
    if (status == AQ_OK && zero)
        status = aq_source_parse_merges(&r, zero + 1, n - first - 1);
    source.added = r.added.at;
    source.n_added = r.added.n;
    if (status == AQ_OK && (status = aq_tokenizer_build(&source, &t)) == AQ_OK)
        status = aq_tokenizer_encode(t, "a bab  <s>\n12", 13, 1, &ids);
    aq_ids_close(&ids);
    aq_tokenizer_close(t);
    aq_arena_close(&arena);
    return status;
}

static aq_status tokenizer_json(const unsigned char *bytes, size_t n) { return tokenizer(bytes, n, 'j'); }
static aq_status vocab_and_merges(const unsigned char *bytes, size_t n) { return tokenizer(bytes, n, 's'); }
static aq_status tokenizer_model(const unsigned char *bytes, size_t n) { return tokenizer(bytes, n, 'm'); }

/* ---- forms of several files: the one at hand in a folder of the others ---- */

static char folder[64];
static aq_micro micro;
static unsigned char *micro_file;
static size_t micro_bytes;

static int make_folder(void **state) {
    (void)state;
    aq_micro_open(&micro, AQ_F16, 1, 1);
    aq_micro_gguf(&micro, &micro_file, &micro_bytes);
    aq_micro_folder(folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    aq_micro_remove(folder);
    aq_mem_free(micro_file);
    aq_micro_close(&micro);
    return 0;
}

static aq_status sharded(const unsigned char *bytes, size_t n) {
    aq_checkpoint c;
    aq_micro_put(folder, "model.safetensors.index.json", bytes, n);
    aq_status status = aq_checkpoint_open(folder, &c);
    aq_checkpoint_close(&c);
    return status;
}

static aq_status adapter(const char *name, const unsigned char *bytes, size_t n) {
    aq_checkpoint c = {.path = "m.gguf"};
    aq_file file = {.bytes = micro_file, .size = micro_bytes};
    aq_micro_put(folder, name, bytes, n);
    aq_status status = aq_gguf_open(&c, &file);
    assert_int_equal(status, AQ_OK);
    status = aq_lora_add(&c, folder, 1);
    if (status == AQ_OK)
        status = aq_lora_merge(&c, AQ_F32);
    aq_checkpoint_close(&c);
    return status;
}

static aq_status adapter_weights(const unsigned char *bytes, size_t n) { return adapter("adapter_model.safetensors", bytes, n); }
static aq_status adapter_config(const unsigned char *bytes, size_t n) { return adapter("adapter_config.json", bytes, n); }

/* Each copy is exactly as long as it claims to be, so that reading past the end is seen. */
static unsigned try(const char *name, open_form *open, const unsigned char *bytes, size_t n, const char *what, size_t where) {
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, bytes, n);
    long blocks = aq_mem_open_blocks();
    size_t before = aq_mem_peak(1);
    aq_status status = open(copy, n);
    size_t peak = aq_mem_peak(0) - before;
    if (status != AQ_OK && (status != AQ_REFUSED || !*aq_error() || strchr(aq_error(), '\n') || !aq_error_reason()))
        fail_msg("%s, %s %zu: status %d, reason %d: \"%s\"", name, what, where, status, aq_error_reason(), aq_error());
    if (aq_mem_open_blocks() != blocks)
        fail_msg("%s, %s %zu: %ld blocks are not freed", name, what, where, aq_mem_open_blocks() - blocks);
    if (status != AQ_OK && peak > ((size_t)64 << 20) + 4 * n)
        fail_msg("%s, %s %zu: refusing took %zu bytes of memory", name, what, where, peak);
    free(copy);
    return status == AQ_OK;
}

static void turn_every_bit(const char *name, open_form *open, unsigned char *bytes, size_t n) {
    unsigned cut_ok = 0, flip_ok = 0;
    if (!try(name, open, bytes, n, "whole", 0))
        fail_msg("%s: the whole file is refused: %s", name, aq_error());
    for (size_t cut = 0; cut < n; cut++)
        cut_ok += try(name, open, bytes, cut, "cut to", cut);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        flip_ok += try(name, open, bytes, n, "bit", bit);
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    print_message("%s: %zu bytes: %u of %zu cut files and %u of %zu with a bit turned are whole all the same\n", name, n, cut_ok, n, flip_ok, 8 * n);
}

/* A seed without its first `skip` bytes, up to the zero byte behind `sections` of them (0: whole; -N: without its last N bytes). */
static void turn_seed(const char *name, const char *path, open_form *open, size_t skip, int sections) {
    char *text;
    size_t n;
    if (aq_file_read(path, 1 << 16, &text, &n) != AQ_OK)
        fail_msg("%s", aq_error());
    unsigned char *bytes = (unsigned char *)text + skip;
    n -= skip + (sections < 0 ? (size_t)-sections : 0);
    for (size_t i = 0; sections > 0 && i < n; i++)
        if (bytes[i] == 0 && --sections == 0)
            n = i;
    turn_every_bit(name, open, bytes, n);
    aq_mem_free(text);
}

#define FORM(name, path, open, skip, sections)                                                                                              \
    static void form_##name(void **state) {                                                                                                 \
        (void)state;                                                                                                                        \
        turn_seed(#name, "tests/fuzz/corpus/" path, open, skip, sections);                                                             \
    }
FORM(gguf, "gguf/f16", gguf, 0, 0)
FORM(safetensors, "safetensors/tied", safetensors, 0, 0)
FORM(torch, "torch/hf", torch, 0, 0)
FORM(config_hf, "config/hf", config, 0, 0)
FORM(config_flagai, "config/flagai", config, 0, 0)
FORM(tokenizer_json, "tokenizer/json", tokenizer_json, 1, 1)
FORM(vocab_and_merges, "tokenizer/slow", vocab_and_merges, 1, 2)
FORM(tokenizer_model, "tokenizer/model", tokenizer_model, 3, -11) /* without the text at the end */
FORM(messages, "chat/row0", messages, 1, 1)

static void form_index(void **state) {
    (void)state;
    char index[4096] = "{\"weight_map\": {";
    for (uint32_t part = 0; part < 2; part++) {
        unsigned char *bytes;
        size_t n;
        uint32_t first = part ? micro.n_tensors / 2 : 0, last = part ? micro.n_tensors : micro.n_tensors / 2;
        aq_micro_safetensors(&micro, first, last, AQ_NAMING_HF, &bytes, &n);
        aq_micro_put(folder, part ? "b" : "a", bytes, n);
        aq_mem_free(bytes);
        for (uint32_t i = first; i < last; i++)
            sprintf(index + strlen(index), "%s\"%s\": \"%s\"", i ? ", " : "", aq_micro_name(&micro, i, AQ_NAMING_HF), part ? "b" : "a");
    }
    strcat(index, "}}");
    const char *json = aq_micro_config(&micro, AQ_NAMING_HF);
    aq_micro_put(folder, "config.json", json, strlen(json));
    turn_every_bit("index", sharded, (unsigned char *)index, strlen(index));
}

static void form_adapter(void **state) {
    (void)state;
    static const char header[] = "{\"base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight\":{\"dtype\":\"F16\",\"shape\":[2,32],\"data_offsets\":[0,128]},"
                                 "\"base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight\":{\"dtype\":\"F16\",\"shape\":[32,2],\"data_offsets\":[128,256]}}       ";
    char settings[] = "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"use_rslora\": false, \"bias\": \"none\", \"target_modules\": [\"q_proj\"]}";
    unsigned char bytes[1024] = {0};
    size_t n = sizeof header - 1 - (sizeof header - 1) % 8;
    memcpy(bytes, &(uint64_t){n}, 8);
    memcpy(bytes + 8, header, n);
    aq_micro_put(folder, "adapter_config.json", settings, sizeof settings - 1);
    turn_every_bit("adapter", adapter_weights, bytes, 8 + n + 256);
    aq_micro_put(folder, "adapter_model.safetensors", bytes, 8 + n + 256);
    turn_every_bit("adapter_config", adapter_config, (unsigned char *)settings, sizeof settings - 1);
}

/* ---- files that somebody writes to while they are read: they are mapped, so what was looked at may be another thing a moment later ---- */

typedef struct writer {
    unsigned char *at;    /* n bytes, every step-th of which is now `values`[0], now the other */
    size_t n, step;
    unsigned char values[2];
    atomic_int stop;
} writer;

static void *scribble(void *user) {
    writer *w = user;
    for (int k = 0; !atomic_load_explicit(&w->stop, memory_order_relaxed); k ^= 1)
        for (size_t i = 0; i < w->n; i += w->step)
            ((volatile unsigned char *)w->at)[i] = w->values[k];
    return NULL;
}

/* Opens it again and again while somebody writes. The sanitizers' build knows nothing of the race, it sees what is read or written outside. */
static void written_to(const char *name, open_form *open, unsigned char *bytes, size_t n, writer w, int times) {
    pthread_t thread;
    int good = 0;
    long blocks = aq_mem_open_blocks();
    assert_int_equal(pthread_create(&thread, NULL, scribble, &w), 0);
    for (int i = 0; i < times; i++) {
        aq_status status = open(bytes, n);
        good += status == AQ_OK;
        if ((status != AQ_OK && status != AQ_REFUSED) || aq_mem_open_blocks() != blocks)
            fail_msg("%s: status %d: %s", name, status, aq_error());
    }
    atomic_store(&w.stop, 1);
    pthread_join(thread, NULL);
    print_message("%s, written to while it is read: %d of %d times whole all the same\n", name, good, times);
}

static unsigned char *put(unsigned char *to, const void *from, size_t n) {
    memcpy(to, from, n);
    return to + n;
}

static unsigned char *put_number(unsigned char *to, uint64_t x, size_t n) { return put(to, &x, n); }

static unsigned char *put_key(unsigned char *to, const char *key, uint32_t type) {
    to = put_number(to, strlen(key), 8);
    return put_number(put(to, key, strlen(key)), type, 4);
}

static unsigned char *put_array(unsigned char *to, const char *key, uint32_t type, uint64_t n) {
    return put_number(put_number(put_key(to, key, AQ_GGUF_ARRAY), type, 4), n, 8);
}

static aq_status gguf_tokenizer(const unsigned char *bytes, size_t n) {
    aq_arena arena = {0};
    aq_tokenizer_source source;
    aq_gguf g;
    const char *note;
    aq_status status = aq_gguf_read(&arena, "f", &(aq_file){.bytes = bytes, .size = n}, &g);
    if (status == AQ_OK)
        status = aq_gguf_tokenizer(&arena, &g, &source, &note);
    aq_arena_close(&arena);
    return status;
}

/* Many tokens, so that a pass over them takes a while: their kinds, or the length of each, change between two. */
static void a_gguf_file(void **state) {
    (void)state;
    enum { TOKENS = 50000 };
    unsigned char *bytes = malloc(200 + TOKENS * 13 + 200), *to = put_number(put(bytes, "GGUF", 4), 3, 4), *tokens, *types;
    to = put_number(put_number(to, 0, 8), 4, 8);
    to = put(put_number(put_key(to, "tokenizer.ggml.model", AQ_GGUF_STRING), 4, 8), "gpt2", 4);
    to = put(put_number(put_array(to, "tokenizer.ggml.merges", AQ_GGUF_STRING, 1), 3, 8), "a b", 3);
    tokens = to = put_array(to, "tokenizer.ggml.tokens", AQ_GGUF_STRING, TOKENS);
    for (int i = 0; i < TOKENS; i++)
        to = put(put_number(to, 1, 8), "a", 1);
    types = to = put_array(to, "tokenizer.ggml.token_type", AQ_GGUF_I32, TOKENS);
    for (int i = 0; i < TOKENS; i++)
        to = put_number(to, AQ_GGUF_TOKEN_NORMAL, 4);
    size_t n = (size_t)(to - bytes), kinds = (size_t)(types - bytes), middle = (size_t)(tokens - bytes) + 9 * (TOKENS / 2);
    bytes = realloc(bytes, n); /* exactly as long */
    written_to("kinds of tokens", gguf_tokenizer, bytes, n, (writer){.at = bytes + kinds, .n = TOKENS * 4, .step = 4, .values = {1, 3}}, 100);
    for (size_t i = 0; i < TOKENS; i++)
        bytes[kinds + 4 * i] = AQ_GGUF_TOKEN_NORMAL;
    written_to("a token's length", gguf_tokenizer, bytes, n, (writer){.at = bytes + middle, .n = 1, .step = 1, .values = {1, 200}}, 100);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(form_gguf),          cmocka_unit_test(form_safetensors),    cmocka_unit_test(form_torch),
        cmocka_unit_test(form_config_hf),     cmocka_unit_test(form_config_flagai),  cmocka_unit_test(form_tokenizer_json),
        cmocka_unit_test(form_vocab_and_merges), cmocka_unit_test(form_messages),
        cmocka_unit_test(form_tokenizer_model), cmocka_unit_test(a_gguf_file),
        cmocka_unit_test_setup_teardown(form_index, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(form_adapter, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
