/* test_convert.c: every form into every other keeps every bit of plain types, the figures and the tokenizer; the same source gives the same bytes, on
 * any number of threads; block types come out as their encoder makes them, with the rules for what stays; folders that are not convert's are left
 * alone, and what an earlier conversion left over goes. */
#include "frontend/convert.h"
#include "frontend/import/gguf.h"
#include "frontend/import/write_gguf.h"
#include "ir/memory.h"
#include "ir/random.h"
#include "tests/support/micro.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char folder[64];
static aq_arena arena;
static const char *const form_name[] = {"gguf", "hf", "flagai"};

static int open_all(void **state) {
    (void)state;
    aq_micro_folder(folder);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    aq_micro_remove(folder);
    aq_arena_close(&arena);
    if (aq_mem_open_blocks())
        fprintf(stderr, "%ld blocks are open\n", aq_mem_open_blocks());
    return aq_mem_open_blocks() != 0;
}

static const char *path_of(const char *name, int form) {
    const char *out;
    assert_int_equal(aq_arena_format(&arena, &out, "%s/%s%s", folder, name, form == AQ_FORM_GGUF ? ".gguf" : ""), AQ_OK);
    return out;
}

static void must(aq_status status) {
    if (status != AQ_OK)
        fail_msg("%s", aq_error());
}

static void convert(const char *from, const char *to, aq_convert_options o, aq_convert_report *report) {
    aq_convert_report mine;
    aq_checkpoint c;
    must(aq_checkpoint_open(from, &c));
    if (!o.shard_size)
        o.shard_size = 1 << 30;
    o.threads = o.threads ? o.threads : 1;
    must(aq_convert(&arena, &c, to, &o, report ? report : &mine));
    aq_checkpoint_close(&c);
}

/* Row r of a tensor in interleaved order. */
static const unsigned char *row_of(const aq_tensor *t, int64_t r, int64_t DH) {
    size_t bytes = t->bytes / (size_t)t->dim[0];
    int64_t i = r % DH;
    if (t->rotate_half)
        r = r - i + i / 2 + i % 2 * (DH / 2);
    return (const unsigned char *)t->data + (size_t)r * bytes;
}

static void assert_same_tensor(const aq_tensor *a, const aq_tensor *b, int64_t DH) {
    if (!b)
        fail_msg("%s is missing", a->name);
    if (a->dtype != b->dtype || a->bytes != b->bytes || a->dim[0] != b->dim[0] || a->dim[1] != b->dim[1])
        fail_msg("%s: %s of %zu bytes became %s of %zu", a->name, aq_dtype_of(a->dtype)->name, a->bytes, aq_dtype_of(b->dtype)->name, b->bytes);
    for (int64_t r = 0; r < a->dim[0]; r++)
        if (memcmp(row_of(a, r, DH), row_of(b, r, DH), a->bytes / (size_t)a->dim[0]) != 0)
            fail_msg("%s: row %lld differs", a->name, (long long)r);
}

static void ids_of(const aq_checkpoint *c, aq_ids *ids) {
    static const char text[] = "abc de<end>two words ab 12 xyz";
    aq_tokenizer *t;
    must(aq_tokenizer_build(&c->tokenizer, &t));
    must(aq_tokenizer_encode(t, text, sizeof text - 1, 1, ids));
    assert_int_equal(aq_tokenizer_adds_bos(t), 1);
    assert_int_equal(aq_tokenizer_bos(t), 14);
    aq_tokenizer_close(t);
}

static void assert_same_model(const char *first, const char *second) {
    aq_checkpoint a, b;
    aq_ids ids[2] = {0};
    must(aq_checkpoint_open(first, &a));
    must(aq_checkpoint_open(second, &b));
    const aq_config *x = &a.config, *y = &b.config;
    assert_true(x->D == y->D && x->L == y->L && x->H == y->H && x->HKV == y->HKV && x->DH == y->DH && x->F == y->F && x->V == y->V);
    assert_true(x->max_length == y->max_length && (float)x->eps == (float)y->eps && x->theta == y->theta && x->tied == y->tied && x->bos == y->bos);
    assert_true(x->scaling == y->scaling && x->scaling_factor == y->scaling_factor && x->eos == y->eos && x->pad == y->pad);
    assert_true(x->original == y->original && x->low == y->low && x->high == y->high && x->exact_pairs == y->exact_pairs);
    assert_true(fabs(x->gain - y->gain) <= 1e-7);
    assert_string_equal(x->name, y->name);
    assert_int_equal(a.n_tensors, b.n_tensors);
    for (uint32_t i = 0; i < a.n_tensors; i++)
        assert_same_tensor(&a.tensors[i], aq_checkpoint_find(&b, a.tensors[i].name), x->DH);
    ids_of(&a, &ids[0]);
    ids_of(&b, &ids[1]);
    assert_int_equal(ids[0].n, ids[1].n);
    assert_memory_equal(ids[0].at, ids[1].at, ids[0].n * sizeof *ids[0].at);
    assert_true(ids[0].n > 5);
    assert_string_equal(a.chat_template, b.chat_template);
    aq_ids_close(&ids[0]);
    aq_ids_close(&ids[1]);
    aq_checkpoint_close(&a);
    aq_checkpoint_close(&b);
}

static void assert_same_file(const char *first, const char *second) {
    aq_file a, b;
    must(aq_file_map(first, &a));
    must(aq_file_map(second, &b));
    assert_int_equal(a.size, b.size);
    for (size_t i = 0; i < a.size; i++)
        if (a.bytes[i] != b.bytes[i])
            fail_msg("%s and %s differ at byte %zu", first, second, i);
    aq_file_unmap(&a);
    aq_file_unmap(&b);
}

/* Two outputs of the same form: file by file. */
static void assert_same_output(const aq_convert_report *a, const aq_convert_report *b) {
    assert_int_equal(a->files.n, b->files.n);
    for (uint32_t i = 0; i < a->files.n; i++)
        assert_same_file(a->files.at[i], b->files.at[i]);
}

static const char *micro(const char *name, aq_dtype dtype, int tied, aq_rope_scaling scaling) {
    const char *path = path_of(name, AQ_FORM_GGUF);
    aq_micro m;
    aq_micro_open(&m, dtype, tied, 7);
    m.config.scaling = scaling;
    m.config.scaling_factor = scaling == AQ_ROPE_NONE ? 1 : 2.5;
    if (scaling == AQ_ROPE_LLAMA3 || scaling == AQ_ROPE_YARN) {
        m.config.original = 128;
        m.config.low = 1;
        m.config.high = 16;
    }
    if (scaling == AQ_ROPE_YARN) {
        m.config.gain = 1.3;
        m.config.exact_pairs = 1;
    }
    must(aq_gguf_write(path, &m.config, m.tensors, m.n_tensors, &m.tokenizer, "{{ \"a\\n\" }} \303\244"));
    aq_micro_close(&m);
    return path;
}

static void every_form_into_every_other(void **state) {
    (void)state;
    static const aq_dtype types[] = {AQ_F32, AQ_BF16, AQ_F16, AQ_F64};
    for (int k = AQ_ROPE_NONE; k <= AQ_ROPE_YARN; k++) {
        const char *source = micro("source", types[k % 4], k % 2, (aq_rope_scaling)k);
        for (int from = 0; from < 3; from++) {
            const char *first = path_of(form_name[from], from);
            convert(source, first, (aq_convert_options){.to = (aq_form)from}, NULL);
            assert_same_model(source, first);
            for (int to = 0; to < 3; to++) {
                const char *second = path_of("second", to), *again = path_of("again", to);
                aq_convert_report one, two;
                convert(first, second, (aq_convert_options){.to = (aq_form)to}, &one);
                assert_same_model(first, second);
                convert(first, again, (aq_convert_options){.to = (aq_form)to, .threads = 3}, &two);
                assert_same_output(&one, &two);
                aq_micro_remove(second);
                aq_micro_remove(again);
            }
        }
    }
}

static const aq_tensor *find(const aq_checkpoint *c, const char *name) {
    const aq_tensor *t = aq_checkpoint_find(c, name);
    assert_non_null(t);
    return t;
}

/* Rows of 32 and 64: q8_0 and q4_0 fit; types of 256 a block give way. */
static void block_types(void **state) {
    (void)state;
    const struct {
        const char *asked, *matrix, *head;
    } cases[] = {{"q8_0", "q8_0", "q8_0"}, {"q4_0", "q4_0", "q8_0"}, {"q4_1", "q4_1", "q8_0"}, {"q4_k", "q5_0", "q8_0"}, {"q6_k", "q8_0", "q8_0"}, {"q3_k", "q4_0", "q8_0"}, {"iq4_nl", "iq4_nl", "q8_0"}, {"iq4_xs", "iq4_nl", "q8_0"}};
    const char *out = path_of("out", AQ_FORM_GGUF);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int tied = 0; tied < 2; tied++) {
            const char *source = micro("source", AQ_BF16, tied, AQ_ROPE_NONE);
            aq_convert_report report;
            aq_checkpoint a, b;
            convert(source, out, (aq_convert_options){.type = aq_dtype_by_name(cases[i].asked, strlen(cases[i].asked)), .threads = 2}, &report);
            assert_int_equal(report.notes.n, strcmp(cases[i].asked, cases[i].matrix) != 0);
            must(aq_checkpoint_open(source, &a));
            must(aq_checkpoint_open(out, &b));
            const aq_tensor *w = find(&b, "w2.1"), *from = find(&a, "w2.1"), *head = find(&b, tied ? "tok_embeddings" : "output");
            assert_string_equal(aq_dtype_of(w->dtype)->name, cases[i].matrix);
            assert_string_equal(aq_dtype_of(head->dtype)->name, cases[i].head);
            assert_int_equal(find(&b, "norm")->dtype, AQ_F32);
            float row[64];
            unsigned char want[64 * 4];
            aq_dtype_decode_f32(from->dtype, from->data, 0, 64, row);
            aq_dtype_encode_f32(w->dtype, row, 64, want);
            assert_memory_equal(w->data, want, w->bytes / (size_t)w->dim[0]);
            aq_checkpoint_close(&a);
            aq_checkpoint_close(&b);
        }
}

/* Blocks become f32 with the very values that they stand for; asked for bf16, they are rounded once. */
static void blocks_into_folders(void **state) {
    (void)state;
    const char *source = micro("source", AQ_Q4_1, 0, AQ_ROPE_NONE);
    static const aq_dtype asked[] = {AQ_DTYPE_NONE, AQ_BF16, AQ_F16}, got[] = {AQ_F32, AQ_BF16, AQ_F16};
    for (int k = 0; k < 3; k++)
        for (int to = 1; to < 3; to++) {
            const char *out = path_of("out", to);
            aq_checkpoint a, b;
            convert(source, out, (aq_convert_options){.to = (aq_form)to, .type = asked[k]}, NULL);
            must(aq_checkpoint_open(source, &a));
            must(aq_checkpoint_open(out, &b));
            for (uint32_t i = 0; i < a.n_tensors; i++) {
                const aq_tensor *x = &a.tensors[i], *y = find(&b, x->name);
                size_t n = (size_t)(x->rank == 2 ? x->dim[1] : 1);
                float values[64];
                unsigned char want[64 * 4];
                assert_int_equal(y->dtype, got[k]);
                for (int64_t r = 0; r < x->dim[0]; r++) {
                    aq_dtype_decode_f32(x->dtype, row_of(x, r, 16), 0, n, values);
                    aq_dtype_encode_f32(y->dtype, values, n, want);
                    assert_memory_equal(row_of(y, r, 16), want, y->bytes / (size_t)y->dim[0]);
                }
            }
            aq_checkpoint_close(&a);
            aq_checkpoint_close(&b);
            aq_micro_remove(out);
        }
}

/* The norms of a bf16 model are f32 in GGUF; back in a folder they are bf16 where that is exact, so a model comes back as it was. */
static void norms_come_back(void **state) {
    (void)state;
    const char *hf = path_of("hf", AQ_FORM_HF), *gguf = path_of("m", AQ_FORM_GGUF), *back = path_of("back", AQ_FORM_HF);
    aq_checkpoint c;
    aq_convert_report a, b;
    must(aq_checkpoint_open("tests/data/tiny-hf", &c)); /* all of it bf16 */
    aq_convert_options o = {.to = AQ_FORM_HF, .shard_size = 1 << 30, .threads = 1};
    must(aq_convert(&arena, &c, hf, &o, &a));
    aq_checkpoint_close(&c);
    convert(hf, gguf, (aq_convert_options){.to = AQ_FORM_GGUF}, NULL);
    must(aq_checkpoint_open(gguf, &c));
    assert_int_equal(find(&c, "norm")->dtype, AQ_F32);
    aq_checkpoint_close(&c);
    convert(gguf, back, (aq_convert_options){.to = AQ_FORM_HF}, &b);
    assert_same_output(&a, &b);
}

/* Whichever matrices are which: norms that fit become what most bytes of matrices are. */
static void norms_follow_most_bytes(void **state) {
    (void)state;
    const char *gguf = path_of("m", AQ_FORM_GGUF);
    const aq_convert_options o = {.to = AQ_FORM_HF, .shard_size = 1 << 30, .threads = 1};
    aq_random r = aq_random_open(7);
    convert("tests/data/tiny-hf", gguf, (aq_convert_options){.to = AQ_FORM_GGUF}, NULL); /* bf16, norms f32 that are bf16 all the same */
    for (int round = 0; round < 100; round++) {
        aq_checkpoint c;
        aq_convert_report report = {0};
        aq_out_tensor *list;
        uint32_t n;
        uint64_t narrow = 0, wide = 0;
        must(aq_checkpoint_open(gguf, &c));
        for (uint32_t i = 0; i < c.n_tensors; i++) {
            aq_tensor *t = (aq_tensor *)(uintptr_t)&c.tensors[i];
            if (t->rank == 2 && aq_random_below(&r, 3) == 0) { /* only its type and size are looked at */
                t->dtype = AQ_F32;
                t->bytes *= 2;
            }
            *(t->dtype == AQ_F32 ? &wide : &narrow) += t->rank == 2 ? t->bytes : 0;
        }
        must(aq_convert_list(&arena, &c, &o, &report, &list, &n));
        for (uint32_t i = 0; i < n; i++)
            if (list[i].from->rank == 1 && list[i].dtype != (narrow > wide ? AQ_BF16 : AQ_F32))
                fail_msg("round %d: %llu bytes are bf16, %llu f32: %s is %s", round, (unsigned long long)narrow, (unsigned long long)wide, list[i].name,
                         aq_dtype_of(list[i].dtype)->name);
        aq_checkpoint_close(&c);
    }
}

/* The bytes of its tensors, and how many they are. */
static uint64_t shard_of(const char *path, int *count) {
    aq_file file;
    uint64_t header;
    must(aq_file_map(path, &file));
    memcpy(&header, file.bytes, 8);
    *count = 0;
    for (uint64_t i = 8; i + 6 < 8 + header; i++)
        *count += !memcmp(file.bytes + i, "\"dtype", 6);
    uint64_t bytes = file.size - 8 - header;
    aq_file_unmap(&file);
    return bytes;
}

/* As full as they can be and no fuller: a shard that is too large holds one tensor, and two neighbours would be too large. */
static void shards_are_filled(const aq_convert_report *report, uint64_t size) {
    uint64_t before = 0;
    int count, shards = 0;
    for (uint32_t i = 0; i < report->files.n; i++) {
        if (!aq_path_ends(report->files.at[i], ".safetensors"))
            continue;
        uint64_t bytes = shard_of(report->files.at[i], &count);
        if (bytes > size && count > 1)
            fail_msg("%s: %llu bytes of %d tensors: expected at most %llu", report->files.at[i], (unsigned long long)bytes, count, (unsigned long long)size);
        if (shards++ && before + bytes <= size)
            fail_msg("%s and the one before it fit into one", report->files.at[i]);
        before = bytes;
    }
    assert_true(shards > 1);
}

static void shards(void **state) {
    (void)state;
    const char *source = micro("source", AQ_F32, 0, AQ_ROPE_NONE), *out = path_of("out", AQ_FORM_HF);
    aq_convert_report report;
    convert(source, out, (aq_convert_options){.to = AQ_FORM_HF, .shard_size = 10000}, &report);
    assert_true(report.files.n > 10);
    for (uint64_t size = 3000; size < 40000; size += 3700) {
        convert(source, out, (aq_convert_options){.to = AQ_FORM_HF, .shard_size = size}, &report);
        shards_are_filled(&report, size);
    }
    convert(source, out, (aq_convert_options){.to = AQ_FORM_HF, .shard_size = 10000}, &report);
    assert_same_model(source, out);
    assert_int_equal(aq_file_kind(path_of("out/model.safetensors.index.json", 1)), 1);
    uint32_t before = report.files.n;
    convert(source, out, (aq_convert_options){.to = AQ_FORM_HF, .shard_size = 20000}, &report); /* fewer: the others go */
    assert_true(report.files.n < before);
    assert_same_model(source, out);
    convert(source, out, (aq_convert_options){.to = AQ_FORM_FLAGAI}, &report);
    assert_same_model(source, out);
    assert_int_equal(aq_file_kind(path_of("out/model.safetensors.index.json", 1)), 0);
    convert(out, out, (aq_convert_options){.to = AQ_FORM_HF}, &report); /* onto itself */
    assert_same_model(source, out);
    assert_int_equal(aq_file_kind(path_of("out/pytorch_model.bin", 1)), 0);
}

/* llama.cpp opens no file that does not say which tokenizer it has; that there is none is said too, and read again without a word. */
static void without_a_tokenizer(void **state) {
    (void)state;
    const char *gguf = path_of("plain", AQ_FORM_GGUF), *again = path_of("again", AQ_FORM_GGUF);
    aq_convert_report report;
    aq_checkpoint c;
    aq_file file;
    aq_gguf g;
    double size;
    convert("tests/data/tiny-hf", gguf, (aq_convert_options){.to = AQ_FORM_GGUF}, NULL);
    must(aq_file_map(gguf, &file));
    must(aq_gguf_read(&arena, gguf, &file, &g));
    const aq_gguf_value *model = aq_gguf_find(&g, "tokenizer.ggml.model"), *tokens = aq_gguf_find(&g, "llama.vocab_size");
    assert_true(model && model->type == AQ_GGUF_STRING && model->n == 8 && !memcmp(model->data, "no_vocab", 8));
    must(aq_checkpoint_open(gguf, &c));
    assert_true(tokens && aq_gguf_number(tokens, &size) && size == (double)c.config.V);
    assert_int_equal(c.tokenizer.kind, AQ_TOKENIZER_NONE);
    assert_null(c.tokenizer_note);
    aq_checkpoint_close(&c);
    aq_file_unmap(&file);
    convert(gguf, again, (aq_convert_options){.to = AQ_FORM_GGUF}, &report);
    assert_int_equal(report.notes.n, 0);
    assert_same_file(gguf, again);
}

/* Symbols that SentencePiece finds among its pieces are ordinary added tokens elsewhere. */
static void user_defined_symbols_are_told(void **state) {
    (void)state;
    aq_added_token added[3] = {{.id = 1}, {.id = 2, .frozen = 1}, {.id = 3, .frozen = 1}};
    aq_tokenizer_source t = {.kind = AQ_TOKENIZER_SPM, .added = added, .n_added = 3};
    aq_config c = {.V = 10};
    const aq_out_model m = {.config = &c, .tokenizer = &t};
    static const char *const readers[] = {"who reads GGUF in", "who reads tokenizer.json in", NULL};
    for (int form = 0; form < 3; form++) {
        aq_convert_report report = {0};
        must(aq_convert_losses(&arena, &m, (aq_form)form, &report));
        assert_int_equal(report.notes.n, readers[form] != NULL);
        assert_true(!readers[form] || (strstr(report.notes.at[0], readers[form]) && strstr(report.notes.at[0], "2 user-defined symbols: ")));
    }
}

static void expect_failure(const char *to, aq_convert_options o, aq_status want, const char *message) {
    aq_checkpoint c;
    aq_convert_report report;
    must(aq_checkpoint_open(path_of("source", AQ_FORM_GGUF), &c));
    o.shard_size = o.shard_size ? o.shard_size : 1 << 30;
    o.threads = 1;
    assert_int_equal(aq_convert(&arena, &c, to, &o, &report), want);
    if (!strstr(aq_error(), message) || strchr(aq_error(), '\n'))
        fail_msg("\"%s\" does not say \"%s\"", aq_error(), message);
    aq_checkpoint_close(&c);
}

static void what_cannot_be_is_said(void **state) {
    (void)state;
    const char *out = path_of("out", AQ_FORM_HF);
    micro("source", AQ_F32, 0, AQ_ROPE_NONE);
    expect_failure(out, (aq_convert_options){.to = AQ_FORM_HF, .type = AQ_Q4_0}, AQ_USAGE, "a folder holds plain types");
    expect_failure(out, (aq_convert_options){.type = AQ_A8}, AQ_USAGE, "expected a floating-point or block type");
    expect_failure(out, (aq_convert_options){.to = AQ_FORM_HF, .shard_size = 1}, AQ_OK, "");
    expect_failure(path_of("none/out", 0), (aq_convert_options){.to = AQ_FORM_GGUF}, AQ_FAILED, "no such folder");
    expect_failure(folder, (aq_convert_options){.to = AQ_FORM_GGUF}, AQ_FAILED, "is a folder");
    expect_failure(path_of("source", AQ_FORM_GGUF), (aq_convert_options){.to = AQ_FORM_HF}, AQ_FAILED, "a file: expected the name of a folder");
    expect_failure(folder, (aq_convert_options){.to = AQ_FORM_HF}, AQ_FAILED, "which convert does not write"); /* it holds source.gguf */
    aq_micro_put(out, "notes.txt", "mine", 4);
    expect_failure(out, (aq_convert_options){.to = AQ_FORM_HF}, AQ_FAILED, "notes.txt, which convert does not write");
    assert_int_equal(aq_file_kind(path_of("out/notes.txt", 1)), 1);
    const char *theirs = path_of("theirs", AQ_FORM_HF);
    must(aq_file_make_folder(theirs));
    aq_micro_put(theirs, "config.json", "{}", 2);
    expect_failure(theirs, (aq_convert_options){.to = AQ_FORM_HF}, AQ_FAILED, "holds files that convert has not written");
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)
    const struct CMUnitTest tests[] = {
        TEST(every_form_into_every_other), TEST(block_types), TEST(blocks_into_folders), TEST(norms_come_back), TEST(norms_follow_most_bytes), TEST(shards), TEST(without_a_tokenizer), TEST(user_defined_symbols_are_told),
        TEST(what_cannot_be_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
