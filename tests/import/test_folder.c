/* test_folder.c: models as folders: safetensors in one file and in shards, Hugging Face and FlagAI names and keys; what is broken is refused in
 * one line. */
#include "frontend/import/internal.h"
#include "frontend/import/write_gguf.h"
#include "ir/memory.h"
#include "ir/random.h"
#include "tests/support/micro.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char folder[64];
static aq_micro m;

static int open_all(void **state) {
    (void)state;
    aq_micro_open(&m, AQ_BF16, 0, 1);
    aq_micro_folder(folder);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    aq_micro_remove(folder);
    aq_micro_close(&m);
    return 0;
}

static void put_text(const char *name, const char *text) { aq_micro_put(folder, name, text, strlen(text)); }

static void put_weights(const char *name, uint32_t first, uint32_t last, int naming) {
    unsigned char *bytes;
    size_t n;
    aq_micro_safetensors(&m, first, last, naming, &bytes, &n);
    aq_micro_put(folder, name, bytes, n);
    aq_mem_free(bytes);
}

static void assert_opens(const char *path, int naming) {
    aq_checkpoint c;
    if (aq_checkpoint_open(path, &c) != AQ_OK)
        fail_msg("%s", aq_error());
    assert_int_equal(c.n_tensors, m.n_tensors);
    assert_true(c.config.D == 32 && c.config.HKV == 1 && c.config.F == 64 && c.config.V == 16 && c.config.tied == m.config.tied);
    for (uint32_t i = 0; i < m.n_tensors; i++) {
        const aq_tensor *t = aq_checkpoint_find(&c, m.tensors[i].name);
        assert_non_null(t);
        assert_string_equal(t->file_name, aq_micro_name(&m, i, naming));
        assert_true(t->bytes == m.tensors[i].bytes && t->dtype == m.tensors[i].dtype);
        assert_memory_equal(t->data, m.tensors[i].data, t->bytes);
        int rotates = naming == AQ_NAMING_HF && (strncmp(t->name, "wq.", 3) == 0 || strncmp(t->name, "wk.", 3) == 0);
        assert_int_equal(t->rotate_half, rotates);
    }
    aq_checkpoint_close(&c);
}

static void assert_refused(const char *path, const char *message) {
    aq_checkpoint c;
    if (aq_checkpoint_open(path, &c) != AQ_REFUSED)
        fail_msg("not refused; expected \"%s\"", message);
    const char *said = aq_error();
    size_t n = strlen(folder);
    if (strncmp(said, folder, n) == 0)
        said += n;
    if (strcmp(said, message) != 0)
        fail_msg("it says      %s\n       expected  %s", said, message);
}

static void one_file(void **state) {
    (void)state;
    char path[128];
    for (int naming = AQ_NAMING_HF; naming <= AQ_NAMING_FLAGAI; naming++) {
        put_text("config.json", aq_micro_config(&m, naming));
        put_weights("model.safetensors", 0, m.n_tensors, naming);
        assert_opens(folder, naming);
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        assert_opens(path, naming);
    }
}

static void put_index(const char *first, const char *second, uint32_t split) {
    char text[8192] = "{\"metadata\": {}, \"weight_map\": {";
    for (uint32_t i = 0; i < m.n_tensors; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s\"%s\": \"%s\"", i ? ", " : "", aq_micro_name(&m, i, AQ_NAMING_HF),
                 i < split ? first : second);
    strcat(text, "}}");
    put_text("model.safetensors.index.json", text);
}

static void shards(void **state) {
    (void)state;
    put_text("config.json", aq_micro_config(&m, AQ_NAMING_HF));
    put_weights("a.safetensors", 0, 8, AQ_NAMING_HF);
    put_weights("b.safetensors", 8, m.n_tensors, AQ_NAMING_HF);
    put_index("a.safetensors", "b.safetensors", 8);
    assert_opens(folder, AQ_NAMING_HF);
    put_index("a.safetensors", "b.safetensors", 9);
    assert_refused(folder, "/b.safetensors:tensor model.layers.1.self_attn.k_proj.weight: the index puts it a.safetensors: expected it here");
    put_index("a.safetensors", "a.safetensors", 8);
    assert_refused(folder, "/model.safetensors.index.json: lists 21 tensors, the shards hold 8: expected the same");
    put_index("a.safetensors", "../b.safetensors", 8);
    assert_refused(folder, "/model.safetensors.index.json:tensor model.layers.1.self_attn.k_proj.weight: not the name of a file beside the index");
    put_index("a.safetensors", "c.safetensors", 8);
    assert_refused(folder, "/c.safetensors: no such file");
    put_text("model.safetensors.index.json", "{\"weight_map\": {}}");
    assert_refused(folder, "/model.safetensors.index.json:key weight_map: empty: expected the tensors of the model");
    put_text("model.safetensors.index.json", "[]");
    assert_refused(folder, "/model.safetensors.index.json:key weight_map: missing: expected an object of tensor names and file names");
}

/* FlagAI's one matrix of q, k and v: written under one name here by giving wq the rows of all three. */
static void fused_q_k_v_is_cut_into_views(void **state) {
    (void)state;
    aq_checkpoint c;
    aq_tensor kept[64], *all[2][3] = {{0}};
    uint32_t n = 0;
    static const char *const parts[] = {"wq.", "wk.", "wv."};
    put_text("config.json", aq_micro_config(&m, AQ_NAMING_FLAGAI));
    for (uint32_t i = 0; i < m.n_tensors; i++)
        for (int k = 0; k < 3; k++)
            if (strncmp(m.tensors[i].name, parts[k], 3) == 0)
                all[m.tensors[i].name[3] - '0'][k] = &m.tensors[i];
    for (uint32_t i = 0; i < m.n_tensors; i++) {
        const char *name = m.tensors[i].name;
        if (strncmp(name, "wk.", 3) == 0 || strncmp(name, "wv.", 3) == 0)
            continue;
        kept[n] = m.tensors[i];
        if (strncmp(name, "wq.", 3) == 0) {
            unsigned char *whole = NULL;
            aq_tensor **p = all[name[3] - '0'];
            size_t at = 0;
            void *room;
            assert_int_equal(aq_arena_alloc(&m.arena, p[0]->bytes + p[1]->bytes + p[2]->bytes, 1, &room), AQ_OK);
            whole = room;
            for (int k = 0; k < 3; at += p[k]->bytes, k++)
                memcpy(whole + at, p[k]->data, p[k]->bytes);
            kept[n].data = whole;
            kept[n].bytes = at;
            kept[n].dim[0] += p[1]->dim[0] + p[2]->dim[0];
        }
        n++;
    }
    aq_micro fused = m;
    unsigned char *bytes;
    size_t size;
    fused.tensors = kept;
    aq_micro_safetensors(&fused, 0, n, AQ_NAMING_FLAGAI, &bytes, &size);
    uint64_t header;
    memcpy(&header, bytes, 8);
    for (size_t i = 8; i + 22 < 8 + header; i++) /* the same length: "attention.wq.weight" becomes "attention.Wqkv.weight", two spaces go */
        if (memcmp(bytes + i, "attention.wq.weight\"", 20) == 0) {
            size_t rest = 8 + header - i - 20;
            assert_true(bytes[8 + header - 1] == ' ' && bytes[8 + header - 2] == ' ');
            memmove(bytes + i + 22, bytes + i + 20, rest - 2);
            memcpy(bytes + i, "attention.Wqkv.weight\"", 22);
        }
    aq_micro_put(folder, "model.safetensors", bytes, size);
    aq_mem_free(bytes);
    if (aq_checkpoint_open(folder, &c) != AQ_OK)
        fail_msg("%s", aq_error());
    assert_int_equal(c.n_tensors, m.n_tensors);
    for (uint32_t i = 0; i < m.n_tensors; i++) {
        const aq_tensor *t = aq_checkpoint_find(&c, m.tensors[i].name);
        assert_true(t && t->bytes == m.tensors[i].bytes && t->dim[0] == m.tensors[i].dim[0] && !t->rotate_half);
        assert_memory_equal(t->data, m.tensors[i].data, t->bytes);
    }
    aq_checkpoint_close(&c);
}

/* A tied model may store its output once more, old files store inverse frequencies: both are left out. */
static void what_is_redundant_is_left_out(void **state) {
    (void)state;
    put_text("config.json", "{\"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"intermediate_size\": 64,"
                            "\"vocab_size\": 16, \"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-05, \"tie_word_embeddings\": true}");
    put_weights("model.safetensors", 0, m.n_tensors, AQ_NAMING_HF);
    aq_checkpoint c;
    assert_int_equal(aq_checkpoint_open(folder, &c), AQ_OK);
    assert_true(c.n_tensors == m.n_tensors - 1 && c.config.tied && !aq_checkpoint_find(&c, "output"));
    aq_checkpoint_close(&c);
}

static void templates(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"{\"chat_template\": \"T\"}", "T"},
                                           {"{\"chat_template\": [{\"name\": \"x\", \"template\": \"X\"}, {\"name\": \"default\", \"template\": \"D\"}]}", "D"},
                                           {"{\"chat_template\": 3}", NULL}};
    put_text("config.json", aq_micro_config(&m, AQ_NAMING_HF));
    put_weights("model.safetensors", 0, m.n_tensors, AQ_NAMING_HF);
    aq_checkpoint c;
    for (int i = 0; i < 3; i++) {
        put_text("tokenizer_config.json", cases[i][0]);
        assert_int_equal(aq_checkpoint_open(folder, &c), AQ_OK);
        assert_true(cases[i][1] ? c.chat_template && strcmp(c.chat_template, cases[i][1]) == 0 : !c.chat_template);
        aq_checkpoint_close(&c);
    }
    put_text("chat_template.jinja", "J");
    assert_int_equal(aq_checkpoint_open(folder, &c), AQ_OK);
    assert_string_equal(c.chat_template, "J");
    aq_checkpoint_close(&c);
}

/* Into GGUF and back: rows of wq and wk come out interleaved, the rest as it was. */
static void rotate_half_is_interleaved_on_the_way_to_gguf(void **state) {
    (void)state;
    char path[128];
    aq_checkpoint c, g;
    put_text("config.json", aq_micro_config(&m, AQ_NAMING_HF));
    put_weights("model.safetensors", 0, m.n_tensors, AQ_NAMING_HF);
    assert_int_equal(aq_checkpoint_open(folder, &c), AQ_OK);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    assert_int_equal(aq_gguf_write(path, &c.config, c.tensors, c.n_tensors, NULL, NULL), AQ_OK);
    assert_int_equal(aq_checkpoint_open(path, &g), AQ_OK);
    for (uint32_t i = 0; i < c.n_tensors; i++) {
        const aq_tensor *a = &c.tensors[i], *b = aq_checkpoint_find(&g, a->name);
        size_t row = a->bytes / (size_t)a->dim[0];
        for (int64_t r = 0; r < a->dim[0]; r++) {
            /* heads of 16: rotate-half row j of a head pairs with row j + 8; interleaved they are rows 2j and 2j + 1 */
            int64_t j = r % 16, to = !a->rotate_half ? r : j < 8 ? r - j + 2 * j : r - j + 2 * (j - 8) + 1;
            assert_memory_equal((const char *)a->data + (size_t)r * row, (const char *)b->data + (size_t)to * row, row);
        }
    }
    aq_checkpoint_close(&g);
    aq_checkpoint_close(&c);
}

static void what_is_not_there_is_named(void **state) {
    (void)state;
    char path[128];
    assert_refused(folder, "/config.json: no such file: expected the figures of the model beside its weights");
    put_text("config.json", aq_micro_config(&m, AQ_NAMING_HF));
    assert_refused(folder, ": no weights: expected model.safetensors, pytorch_model.bin, or shards with model.safetensors.index.json or "
                           "pytorch_model.bin.index.json");
    put_text("pytorch_model.bin", "PK");
    assert_refused(folder, "/pytorch_model.bin: 2 bytes without the end of a zip archive: expected a torch archive, whole");
    snprintf(path, sizeof path, "%s/pytorch_model.bin", folder);
    assert_refused(path, "/pytorch_model.bin: 2 bytes without the end of a zip archive: expected a torch archive, whole");
    assert_refused("/dev/null", "/dev/null: a device or pipe: expected a file or a folder");
    put_weights("model.safetensors", 0, m.n_tensors - 1, AQ_NAMING_HF);
    assert_refused(folder, "/model.safetensors:tensor w2.1: missing: expected it as model.layers.#.mlp.down_proj.weight (# is the layer)");
    put_weights("model.safetensors", 1, m.n_tensors, AQ_NAMING_HF);
    assert_refused(folder, "/model.safetensors:tensor tok_embeddings: missing: expected it as token_embd.weight, model.embed_tokens.weight or "
                           "tok_embeddings.weight");
}

/* ---- broken containers: parsed from memory, exactly as long as they claim ---- */

static aq_status parse(const unsigned char *bytes, size_t n, aq_stored_list *list, aq_arena *arena) {
    aq_file file = {.bytes = bytes, .size = n};
    *list = (aq_stored_list){0};
    *arena = (aq_arena){0};
    return aq_safetensors_read(arena, "m.safetensors", &file, list);
}

static void cut_off_anywhere_it_is_refused(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t n;
    aq_stored_list list;
    aq_arena arena;
    aq_micro_safetensors(&m, 0, 6, AQ_NAMING_HF, &bytes, &n);
    long open = aq_mem_open_blocks();
    for (size_t cut = 0; cut < n; cut++) {
        unsigned char *copy = malloc(cut ? cut : 1);
        memcpy(copy, bytes, cut);
        if (parse(copy, cut, &list, &arena) != AQ_REFUSED || strncmp(aq_error(), "m.safetensors:", 14) != 0)
            fail_msg("cut to %zu of %zu: not refused, or \"%s\"", cut, n, aq_error());
        aq_arena_close(&arena);
        free(copy);
    }
    assert_int_equal(aq_mem_open_blocks(), open);
    aq_mem_free(bytes);
}

static void changed_bytes_do_no_harm(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t n;
    uint64_t header;
    aq_stored_list list;
    aq_arena arena;
    unsigned sum = 0, opened = 0;
    aq_random r = aq_random_open(6);
    aq_micro_safetensors(&m, 0, 6, AQ_NAMING_HF, &bytes, &n);
    memcpy(&header, bytes, 8);
    unsigned char *copy = malloc(n);
    long open = aq_mem_open_blocks();
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, bytes, n);
        for (uint32_t k = aq_random_below(&r, 3) + 1; k; k--) {
            static const char strange[] = "0123456789{}[],:\"-e. \\";
            uint32_t at = aq_random_below(&r, (uint32_t)header + 8);
            copy[at] = at < 8 ? (unsigned char)aq_random_u32(&r) : (unsigned char)strange[aq_random_below(&r, sizeof strange)];
        }
        if (parse(copy, n, &list, &arena) == AQ_OK) {
            opened++;
            for (uint32_t i = 0; i < list.n; i++)
                for (size_t k = 0; k < list.at[i].bytes; k++)
                    sum += list.at[i].data[k];
        }
        aq_arena_close(&arena);
        assert_int_equal(aq_mem_open_blocks(), open);
    }
    print_message("%u of 20000 still parsed (sum %u)\n", opened, sum);
    free(copy);
    aq_mem_free(bytes);
}

static const struct {
    const char *header, *message;
} headers[] = {
    {"[]", "m.safetensors: the header is no JSON object"},
    {"{\"a\":", "m.safetensors:header:1:8: not JSON: expected a value here"},
    {"{\"a\":1}x", "m.safetensors:header:1:8: text after the JSON value: expected the end of the file"},
    {"{\"a\":{}}", "m.safetensors:tensor a: no dtype: expected the name of one"},
    {"{\"a\":{\"dtype\":\"F7_E4M2\"}}", "m.safetensors:tensor a: type F7_E4M2 is not known: expected F32, F16, BF16 or F64"},
    {"{\"a\":{\"dtype\":\"F32\"}}", "m.safetensors:tensor a: no shape: expected a list of sizes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1]}}", "m.safetensors:tensor a: more than 4 axes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,-1]}}", "m.safetensors:tensor a: axis 1 of its shape: expected a whole number above 0 that fits memory"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9007199254740992,9007199254740992]}}",
     "m.safetensors:tensor a: axis 1 of its shape: expected a whole number above 0 that fits memory"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5]}}", "m.safetensors:tensor a: axis 0 of its shape: expected a whole number above 0 that fits memory"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "m.safetensors:tensor a: no data_offsets: expected [begin, end]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", "m.safetensors:tensor a: no data_offsets: expected [begin, end]"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
     "m.safetensors:tensor a: data_offsets [8, 0]: expected them inside the 64 bytes of data"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[60,68]}}",
     "m.safetensors:tensor a: data_offsets [60, 68]: expected them inside the 64 bytes of data"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]}}",
     "m.safetensors:tensor a: data_offsets hold 12 bytes: expected 8 for its shape and type"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[2,10]}}",
     "m.safetensors:tensor a: its data begin at an odd place: expected a multiple of 4 bytes (save the file again with safetensors 0.3 or newer)"},
    {"{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
     "m.safetensors:tensor b: its data overlap those of a"},
};

static void contradictions_are_named(void **state) {
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        _Alignas(64) static unsigned char bytes[512];
        uint64_t n = (strlen(headers[i].header) + 7) & ~(uint64_t)7;
        aq_stored_list list;
        aq_arena arena;
        memset(bytes, ' ', sizeof bytes);
        memcpy(bytes, &n, 8);
        memcpy(bytes + 8, headers[i].header, strlen(headers[i].header));
        aq_status status = parse(bytes, 8 + n + 64, &list, &arena);
        if (status != AQ_REFUSED || strcmp(aq_error(), headers[i].message) != 0) {
            print_error("%s\n  said     %s\n  expected %s\n", headers[i].header, status ? aq_error() : "(parsed)", headers[i].message);
            bad++;
        }
        aq_arena_close(&arena);
    }
    assert_int_equal(bad, 0);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    put_text("config.json", aq_micro_config(&m, AQ_NAMING_HF));
    put_text("tokenizer_config.json", "{\"chat_template\": \"T\"}");
    put_weights("a.safetensors", 0, 8, AQ_NAMING_HF);
    put_weights("b.safetensors", 8, m.n_tensors, AQ_NAMING_HF);
    put_index("a.safetensors", "b.safetensors", 8);
    long open = aq_mem_open_blocks();
    aq_status status = AQ_NO_MEMORY;
    long nth = 1;
    for (; status != AQ_OK; nth++) {
        aq_checkpoint c;
        aq_mem_fail_after(nth);
        status = aq_checkpoint_open(folder, &c);
        aq_mem_fail_after(0);
        if (status != AQ_OK && status != AQ_NO_MEMORY)
            fail_msg("failing allocation %ld gives status %d, \"%s\"", nth, status, aq_error());
        if (status == AQ_OK)
            aq_checkpoint_close(&c);
        assert_int_equal(aq_mem_open_blocks(), open);
    }
    print_message("%ld allocations failed one after the other\n", nth - 2);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)
    const struct CMUnitTest tests[] = {
        TEST(one_file), TEST(shards), TEST(fused_q_k_v_is_cut_into_views), TEST(what_is_redundant_is_left_out), TEST(templates), TEST(rotate_half_is_interleaved_on_the_way_to_gguf),
        TEST(what_is_not_there_is_named), TEST(cut_off_anywhere_it_is_refused), TEST(changed_bytes_do_no_harm), TEST(contradictions_are_named),
        TEST(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
