/* test_gguf.c: GGUF files: what we write we read, what the gguf package writes we read, and what is broken is refused in one line that names
 * file, place, what was found and what was expected: cut off at every byte, with bytes changed, with values that contradict each other. */
#include "frontend/import/gguf.h"
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

/* Opens bytes as the file "m.gguf" would be; bytes must stay until aq_checkpoint_close. */
static aq_status open_bytes(const unsigned char *bytes, size_t n, aq_checkpoint *c) {
    aq_file file = {.bytes = bytes, .size = n};
    *c = (aq_checkpoint){.path = "m.gguf"};
    aq_status status = aq_gguf_open(c, &file);
    if (status != AQ_OK)
        aq_checkpoint_close(c);
    return status;
}

static void assert_same_tokenizer(const aq_tokenizer_source *a, const aq_tokenizer_source *b) {
    assert_int_equal(a->n_vocab, b->n_vocab);
    assert_int_equal(a->n_merges, b->n_merges);
    assert_int_equal(a->n_added, b->n_added);
    for (uint32_t i = 0; i < a->n_vocab; i++) {
        assert_int_equal(a->vocab[i].n, b->vocab[i].n);
        if (a->vocab[i].n)
            assert_memory_equal(a->vocab[i].s, b->vocab[i].s, a->vocab[i].n);
    }
    for (uint32_t i = 0; i < a->n_merges; i++)
        assert_memory_equal(a->merges[i].s, b->merges[i].s, a->merges[i].n);
    for (uint32_t i = 0; i < a->n_added; i++) {
        assert_int_equal(a->added[i].id, b->added[i].id);
        assert_int_equal(a->added[i].special, b->added[i].special);
        assert_memory_equal(a->added[i].text.s, b->added[i].text.s, a->added[i].text.n);
    }
    assert_true(a->pre == b->pre && a->bos == b->bos && a->eos == b->eos && a->pad == b->pad && a->unk == b->unk && a->add_bos == b->add_bos);
}

/* GGUF holds eps and theta as f32. */
static void assert_same_config(const aq_config *a, const aq_config *b) {
    assert_true(a->D == b->D && a->L == b->L && a->H == b->H && a->HKV == b->HKV && a->DH == b->DH && a->F == b->F && a->V == b->V);
    assert_true(a->max_length == b->max_length && (float)a->eps == (float)b->eps && (float)a->theta == (float)b->theta);
    assert_true(a->scaling == b->scaling && (float)a->scaling_factor == (float)b->scaling_factor && a->tied == b->tied);
    assert_true(a->bos == b->bos && a->eos == b->eos && a->pad == b->pad);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->family, b->family);
}

/* As llama-quantize writes it: a feed-forward layer of width 1. */
static void a_matrix_of_one_row_may_stand_as_a_vector(void **state) {
    (void)state;
    aq_micro m;
    aq_checkpoint c;
    unsigned char *bytes;
    size_t n;
    aq_micro_open(&m, AQ_F32, 0, 3);
    m.config.F = 1;
    for (uint32_t i = 0; i < m.n_tensors; i++) {
        aq_tensor *t = &m.tensors[i];
        if (t->name[0] != 'w' || t->name[1] < '1' || t->name[1] > '3')
            continue;
        t->rank = t->name[1] == '2' ? 2 : 1;
        t->dim[0] = m.config.D;
        t->dim[1] = t->rank == 2;
        t->bytes = (size_t)m.config.D * sizeof(float);
    }
    aq_micro_gguf(&m, &bytes, &n);
    if (open_bytes(bytes, n, &c) != AQ_OK)
        fail_msg("%s", aq_error());
    const aq_tensor *t = aq_checkpoint_find(&c, "w1.0");
    assert_true(t && t->rank == 2 && t->dim[0] == 1 && t->dim[1] == m.config.D);
    aq_checkpoint_close(&c);
    aq_mem_free(bytes);
    aq_micro_close(&m);
}

/* Llama 3's factors as llama.cpp's converter computes them, in f32: figures are found that give them again, and those of Llama 3.1 exactly. */
static void factors_are_found_again(void **state) {
    (void)state;
    aq_random r = aq_random_open(5);
    for (int k = 0; k < 3000; k++) {
        aq_config c = {.DH = 8 << (k % 5), .theta = k ? exp(2 + 14 * aq_random_unit(&r)) : 500000, .scaling_factor = 1}, true_one = c;
        float g[64];
        int64_t n = c.DH / 2;
        true_one.scaling = AQ_ROPE_LLAMA3;
        true_one.scaling_factor = k ? 1.5 + 40 * aq_random_unit(&r) : 8;
        true_one.original = k ? 2 + floor(20000 * aq_random_unit(&r)) : 8192;
        true_one.low = k ? 0.2 + 3 * aq_random_unit(&r) : 1;
        true_one.high = k ? true_one.low * (1.05 + 8 * aq_random_unit(&r)) : 4;
        if (!k)
            c.DH = true_one.DH = 128, n = 64;
        if (true_one.original * pow(c.theta, -2 * (double)(n - 1) / (double)c.DH) / 6.2831853 > true_one.low)
            continue; /* no pair is divided by all of the factor */
        for (int64_t i = 0; i < n; i++) {
            float freq = 1 / powf((float)c.theta, 2 * (float)i / (float)c.DH), length = 6.2831853f / freq, original = (float)true_one.original;
            float low = (float)true_one.low, high = (float)true_one.high, F = (float)true_one.scaling_factor;
            float smooth = (original / length - low) / (high - low);
            g[i] = length < original / high ? 1 : length > original / low ? F : 1 / ((1 - smooth) / F + smooth);
        }
        aq_stored t = {.file = "f", .name = {"rope_freqs.weight", 17}, .dtype = AQ_F32, .rank = 1, .dim = {n}, .data = (const unsigned char *)g, .bytes = 4 * (size_t)n};
        if (aq_scaling_from_factors(&t, &c) != AQ_OK)
            fail_msg("%d: width %lld, theta %g, factor %g, turns %g to %g of %g: %s", k, (long long)c.DH, c.theta, true_one.scaling_factor, true_one.low, true_one.high,
                     true_one.original, aq_error());
        aq_rope found = aq_config_rope(&c), want = aq_config_rope(&true_one);
        for (int64_t i = 0; i < n; i++)
            assert_true(fabs(aq_rope_angle(&found, i, 1) / aq_rope_angle(&want, i, 1) - 1) < 4e-5);
        assert_true(k || (c.scaling_factor == 8 && c.original == 8192 && c.low == 1 && c.high == 4));
    }
}

static void what_is_written_is_read(void **state) {
    (void)state;
    const aq_dtype types[] = {AQ_F32, AQ_F16, AQ_BF16, AQ_Q8_0, AQ_Q4_0, AQ_Q4_1, AQ_F64, AQ_Q5_0, AQ_Q5_1, AQ_IQ4_NL};
    for (size_t k = 0; k < 2 * sizeof types / sizeof *types; k++) {
        aq_micro m;
        aq_checkpoint c;
        unsigned char *bytes;
        size_t n;
        aq_micro_open(&m, types[k / 2], k % 2, k);
        m.config.scaling = (aq_rope_scaling)(k % 3);
        m.config.scaling_factor = k % 3 ? 4.5 : 1;
        m.config.family = k % 4 == 3 ? "aquila" : "llama";
        aq_micro_gguf(&m, &bytes, &n);
        if (open_bytes(bytes, n, &c) != AQ_OK)
            fail_msg("%s: %s", aq_dtype_of(types[k / 2])->name, aq_error());
        assert_same_config(&c.config, &m.config);
        assert_same_tokenizer(&c.tokenizer, &m.tokenizer);
        assert_string_equal(c.chat_template, "{{ messages }}");
        assert_int_equal(c.n_tensors, m.n_tensors);
        for (uint32_t i = 0; i < m.n_tensors; i++) {
            const aq_tensor *t = aq_checkpoint_find(&c, m.tensors[i].name);
            assert_non_null(t);
            assert_true(t->dtype == m.tensors[i].dtype && t->bytes == m.tensors[i].bytes && t->rank == m.tensors[i].rank);
            assert_true(t->dim[0] == m.tensors[i].dim[0] && t->dim[1] == m.tensors[i].dim[1] && !t->rotate_half);
            assert_true((uintptr_t)t->data % 8 == 0);
            assert_memory_equal(t->data, m.tensors[i].data, t->bytes);
        }
        assert_null(aq_checkpoint_find(&c, "wq.2"));
        assert_true((aq_checkpoint_find(&c, "output") == NULL) == k % 2);
        aq_checkpoint_close(&c);
        aq_mem_free(bytes);
        aq_micro_close(&m);
    }
}

/* tests/oracle/micro_gguf.py says what is in it. */
static void the_packages_file_is_read(void **state) {
    (void)state;
    aq_checkpoint c;
    if (aq_checkpoint_open("tests/data/micro_gguf.bin", &c) != AQ_OK)
        fail_msg("%s", aq_error());
    const aq_config want = {.name = "from the package", .family = "llama", .D = 32, .L = 1, .H = 2, .HKV = 2, .DH = 16, .F = 32, .V = 6, .max_length = 64,
                            .eps = 1e-6, .theta = 500, .scaling = AQ_ROPE_LINEAR, .scaling_factor = 4, .tied = 1, .bos = 0, .eos = 0, .pad = -1};
    assert_same_config(&c.config, &want);
    static const char *const house[] = {"tok_embeddings", "norm", "attn_norm.0", "wq.0", "wk.0", "wv.0", "wo.0", "ffn_norm.0", "w1.0", "w3.0", "w2.0"};
    assert_int_equal(c.n_tensors, 11);
    for (int k = 0; k < 11; k++) {
        const aq_tensor *t = aq_checkpoint_find(&c, house[k]);
        assert_non_null(t);
        size_t n = (size_t)t->dim[0] * (size_t)(t->rank == 2 ? t->dim[1] : 1);
        float x[1024];
        aq_dtype_decode_f32(t->dtype, t->data, 0, n, x);
        for (size_t i = 0; i < n; i++)
            assert_true(x[i] == ((float)(i % 7) - 3) / (float)(1 << k));
    }
    assert_int_equal(c.tokenizer.kind, AQ_TOKENIZER_BPE);
    assert_int_equal(c.tokenizer.pre, AQ_PRE_GPT2);
    assert_int_equal(c.tokenizer.n_vocab, 6);
    assert_int_equal(c.tokenizer.n_added, 2);
    assert_int_equal(c.tokenizer.added[1].id, 5);
    assert_int_equal(c.tokenizer.added[1].special, 0);
    assert_true(c.tokenizer.vocab[0].n == 0 && c.tokenizer.vocab[4].n == 0 && c.tokenizer.vocab[3].n == 2);
    assert_string_equal(c.chat_template, "{{ x }}");
    aq_checkpoint_close(&c);
}

static void version_2_is_the_same(void **state) {
    (void)state;
    aq_micro m;
    aq_checkpoint c;
    unsigned char *bytes;
    size_t n;
    aq_micro_open(&m, AQ_F16, 0, 1);
    aq_micro_gguf(&m, &bytes, &n);
    bytes[4] = 2;
    assert_int_equal(open_bytes(bytes, n, &c), AQ_OK);
    aq_checkpoint_close(&c);
    aq_mem_free(bytes);
    aq_micro_close(&m);
}

/* Each copy is exactly as long as it claims, so that reading past the end is seen by the address sanitizer. */
static void cut_off_anywhere_it_is_refused(void **state) {
    (void)state;
    aq_micro m;
    aq_checkpoint c;
    unsigned char *bytes;
    size_t n;
    aq_micro_open(&m, AQ_Q4_0, 1, 1);
    aq_micro_gguf(&m, &bytes, &n);
    long open = aq_mem_open_blocks();
    size_t padding = (32 - m.tensors[m.n_tensors - 1].bytes % 32) % 32;
    for (size_t cut = 0; cut < n - padding; cut++) {
        unsigned char *copy = malloc(cut ? cut : 1);
        memcpy(copy, bytes, cut);
        if (open_bytes(copy, cut, &c) != AQ_REFUSED)
            fail_msg("cut to %zu of %zu bytes it was not refused", cut, n);
        if (strncmp(aq_error(), "m.gguf:", 7) != 0 || strchr(aq_error(), '\n'))
            fail_msg("cut to %zu bytes the message is \"%s\"", cut, aq_error());
        free(copy);
        if (aq_mem_open_blocks() != open)
            fail_msg("cut to %zu bytes it leaks", cut);
    }
    aq_mem_free(bytes);
    aq_micro_close(&m);
}

/* What opens after bytes were changed must be whole: every tensor's bytes are read, every string too. */
static unsigned touch(const aq_checkpoint *c) {
    unsigned sum = 0;
    for (uint32_t i = 0; i < c->n_tensors; i++)
        for (size_t k = 0; k < c->tensors[i].bytes; k++)
            sum += ((const unsigned char *)c->tensors[i].data)[k];
    for (uint32_t i = 0; i < c->tokenizer.n_vocab; i++)
        for (uint32_t k = 0; k < c->tokenizer.vocab[i].n; k++)
            sum += (unsigned char)c->tokenizer.vocab[i].s[k];
    return sum;
}

static void changed_bytes_do_no_harm(void **state) {
    (void)state;
    aq_micro m;
    aq_checkpoint c;
    unsigned char *bytes;
    size_t n, opened = 0;
    unsigned sum = 0;
    aq_micro_open(&m, AQ_Q8_0, 0, 1);
    aq_micro_gguf(&m, &bytes, &n);
    unsigned char *copy = malloc(n);
    aq_random r = aq_random_open(5);
    long open = aq_mem_open_blocks();
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, bytes, n);
        for (uint32_t k = aq_random_below(&r, 4) + 1; k; k--) {
            static const unsigned char strange[] = {0, 1, 0x7f, 0x80, 0xff};
            uint32_t at = aq_random_below(&r, 2600); /* the metadata and tensor infos */
            copy[at] = aq_random_below(&r, 2) ? strange[aq_random_below(&r, 5)] : (unsigned char)(copy[at] ^ 1u << aq_random_below(&r, 8));
        }
        aq_status status = open_bytes(copy, n, &c);
        assert_true(status == AQ_OK || status == AQ_REFUSED);
        if (status == AQ_OK) {
            sum += touch(&c);
            opened++;
            aq_checkpoint_close(&c);
        }
        assert_int_equal(aq_mem_open_blocks(), open);
    }
    print_message("%zu of 20000 still opened (sum %u)\n", opened, sum);
    free(copy);
    aq_mem_free(bytes);
    aq_micro_close(&m);
}

/* Finds `what` (its bytes) and puts `by` of the same length in its place. */
static void replace(unsigned char *bytes, size_t n, const char *what, const char *by) {
    size_t m = strlen(what);
    for (size_t i = 0; i + m <= n; i++)
        if (memcmp(bytes + i, what, m) == 0) {
            memcpy(bytes + i, by, m);
            return;
        }
    fail_msg("%s is not in the file", what);
}

/* Writes a 32-bit number `skip` bytes after the end of the text `after`. */
static void poke(unsigned char *bytes, size_t n, const char *after, size_t skip, uint32_t value) {
    size_t m = strlen(after);
    for (size_t i = 0; i + m + skip + 4 <= n; i++)
        if (memcmp(bytes + i, after, m) == 0) {
            memcpy(bytes + i + m + skip, &value, 4);
            return;
        }
    fail_msg("%s is not in the file", after);
}

/* One contradiction each, and the whole line that must say so. `by` NULL: a number is put `skip` bytes after the text. */
static const struct {
    const char *what, *by;
    size_t skip;
    uint32_t value;
    const char *message;
} contradictions[] = {
    {"GGUF", "GGML", 0, 0, "m.gguf: not a GGUF file: expected it to begin with \"GGUF\""},
    {"GGUF", NULL, 0, 1, "m.gguf: GGUF version 1: expected 2 or 3"},
    {"GGUF", NULL, 0, 3u << 24, "m.gguf: GGUF version 50331648 (a big-endian file): expected 2 or 3"},
    {"GGUF", NULL, 8, 1, "m.gguf:byte 1481: more tensors than the file can hold"},
    {"GGUF", NULL, 16, 1, "m.gguf:byte 24: more metadata than the file can hold"},
    {"general.architecture", "general.architektur.", 0, 0, "m.gguf:key general.architecture: missing: expected \"llama\" or \"aquila\""},
    {"llama", "falco", 0, 0, "m.gguf:key general.architecture: another architecture: expected \"llama\" or \"aquila\""},
    {"llama.block_count", "llama.block_kount", 0, 0, "m.gguf:key llama.block_count: missing: expected a whole number"},
    {"llama.block_count", NULL, 4, 3, "m.gguf:tensor attn_norm.2: missing: expected it as blk.#.attn_norm.weight (# is the layer)"},
    {"llama.block_count", NULL, 0, 6, "m.gguf:key llama.block_count: 2.8025969286496341e-45: expected a whole number from 1 to 16777216"},
    {"llama.block_count", NULL, 4, 0, "m.gguf:key llama.block_count: 0: expected a whole number from 1 to 16777216"},
    {"llama.block_count", NULL, 4, 5000, "m.gguf:key llama.block_count: 5000: expected at most 4096 layers"},
    {"llama.block_count", NULL, 4, 1, "m.gguf:tensor blk.1.attn_norm.weight: belongs to layer 1: expected layers 0 to 0"},
    {"llama.attention.head_count_kv", NULL, 4, 3, "m.gguf:key llama.attention.head_count_kv: 3: expected a divisor of the 2 heads"},
    {"llama.attention.key_length", NULL, 4, 15, "m.gguf:key llama.attention.key_length: a head's width of 15: expected an even number"},
    {"llama.attention.value_length", NULL, 4, 8, "m.gguf:key llama.attention.value_length: differs from the head's width: expected 16"},
    {"llama.embedding_length", NULL, 4, 64, "m.gguf:tensor token_embd.weight: shape [16, 32]: expected [16, 64]"},
    {"llama.vocab_size", NULL, 4, 17, "m.gguf:tensor token_embd.weight: shape [16, 32]: expected [17, 32]"},
    {"llama.attention.layer_norm_rms_epsilon", NULL, 4, 0x7fc00000,
     "m.gguf:key llama.attention.layer_norm_rms_epsilon: nan: expected a number above 0, at most 1e12, in f32"},
    {"llama.rope.freq_base", NULL, 4, 0xbf800000, "m.gguf:key llama.rope.freq_base: -1: expected a number above 0, at most 1e12, in f32"},
    {"tokenizer.ggml.eos_token_id", NULL, 0, 6, "m.gguf:key tokenizer.ggml.eos_token_id: not a token number: expected a whole number from -1 to 2147483647"},
    {"general.alignment", NULL, 4, 24, "m.gguf:key general.alignment: expected a power of two from 8 to 65536"},
    {"llama.feed_forward_length", "llama.embedding_length_xx", 0, 0, "m.gguf:key llama.feed_forward_length: missing: expected a whole number"},
    {"tokenizer.ggml.pre", "tokenizer.ggml.mod", 0, 0, NULL}, /* an unknown key is no error */
    {"llama.context_length", NULL, 0, 77, "m.gguf:key llama.context_length: unknown value type 77: expected less than 13"},
    {"blk.0.attn_q.weight", "blk.0.attn_q.biases", 0, 0,
     "m.gguf:tensor blk.0.attn_q.biases: has no place in this architecture: expected names like blk.#.attn_q.weight"},
    {"blk.0.attn_q.weight", "blk.1.attn_q.weight", 0, 0, "m.gguf:tensor blk.1.attn_q.weight: occurs twice: expected once"},
    {"blk.0.ffn_up.weight", "blk.01.ffn_u.weight", 0, 0,
     "m.gguf:tensor blk.01.ffn_u.weight: has no place in this architecture: expected names like blk.#.attn_q.weight"},
    {"blk.0.attn_v.weight", NULL, 0, 5, "m.gguf:tensor blk.0.attn_v.weight: 5 axes: expected 1 to 4"},
    {"blk.0.attn_v.weight", NULL, 4, 0, "m.gguf:tensor blk.0.attn_v.weight: an axis of 0: expected a size above 0 that fits memory"},
    {"blk.0.attn_v.weight", NULL, 8, 1u << 30, "m.gguf:tensor blk.0.attn_v.weight: an axis of 4611686018427387936: expected a size above 0 that fits memory"},
    {"blk.0.attn_v.weight", NULL, 20, 15,
     "m.gguf:tensor blk.0.attn_v.weight: type number 15 (q8_K) is not supported: expected one of f64 f32 bf16 f16 q4_0 q4_1 q8_0 q5_0 q5_1 q2_k q3_k q4_k q5_k "
     "q6_k iq4_nl iq4_xs (llama-quantize makes such a file of the unquantised model)"},
    {"blk.0.attn_v.weight", NULL, 20, 21,
     "m.gguf:tensor blk.0.attn_v.weight: type number 21 (iq3_s) is not supported: expected one of f64 f32 bf16 f16 q4_0 q4_1 q8_0 q5_0 q5_1 q2_k q3_k q4_k q5_k "
     "q6_k iq4_nl iq4_xs (llama-quantize makes such a file of the unquantised model)"},
    {"blk.0.attn_v.weight", NULL, 20, 24, "m.gguf:tensor blk.0.attn_v.weight: type i8: expected a floating-point or block-quantised type"},
    {"blk.0.attn_norm.weight", NULL, 12, 8, "m.gguf:tensor blk.0.attn_norm.weight: type q8_0: expected a floating-point type for the weight of a norm"},
    {"blk.0.attn_v.weight", NULL, 24, 7, "m.gguf:tensor blk.0.attn_v.weight: offset 7: expected a multiple of the alignment of 32"},
    {"blk.0.attn_v.weight", NULL, 24, 32, "m.gguf:tensor blk.0.attn_v.weight: its data overlap those of token_embd.weight"},
    {"blk.0.attn_v.weight", NULL, 27, 1,
     "m.gguf:tensor blk.0.attn_v.weight: 1024 bytes at offset 16785792 of the data, which begin at byte 2720: the file has only 42272 bytes"},
    {"tokenizer.ggml.token_type", NULL, 8, 15, "m.gguf:byte 1163: a string of more than 4 GiB"},
};

static void contradictions_are_named(void **state) {
    (void)state;
    aq_micro m;
    aq_checkpoint c;
    unsigned char *bytes;
    size_t n;
    aq_micro_open(&m, AQ_F16, 0, 1);
    aq_micro_gguf(&m, &bytes, &n);
    unsigned char *copy = malloc(n);
    int bad = 0;
    for (size_t i = 0; i < sizeof contradictions / sizeof *contradictions; i++) {
        memcpy(copy, bytes, n);
        if (contradictions[i].by)
            replace(copy, n, contradictions[i].what, contradictions[i].by);
        else
            poke(copy, n, contradictions[i].what, contradictions[i].skip, contradictions[i].value);
        aq_status status = open_bytes(copy, n, &c);
        const char *want = contradictions[i].message, *got = status == AQ_OK ? "(opened)" : aq_error();
        if (want && strcmp(got, want) != 0) {
            print_error("%zu, %s\n  said     %s\n  expected %s\n", i, contradictions[i].what, got, want);
            bad++;
        }
        if (status == AQ_OK)
            aq_checkpoint_close(&c);
    }
    free(copy);
    aq_mem_free(bytes);
    aq_micro_close(&m);
    assert_int_equal(bad, 0);
}

static void an_unusable_tokenizer_leaves_a_note(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"smollm", "qwen25", "the file's tokenizer.ggml.pre is \"qwen25\": expected llama-bpe, gpt-2, qwen2, tekken, deepseek-llm or another name of a known pattern: name a tokenizer folder with --tokenizer"},
        {"gpt2", "bert", "the file's tokenizer.ggml.model is \"bert\": expected gpt2 (byte-level BPE) or llama (SentencePiece): name a tokenizer folder with --tokenizer"},
    };
    aq_micro m;
    unsigned char *bytes;
    size_t n;
    aq_micro_open(&m, AQ_F16, 0, 1);
    for (int i = 0; i < 2; i++) {
        aq_checkpoint c;
        aq_arena arena = {0};
        aq_file file;
        aq_tokenizer_source source;
        char folder[64], path[96];
        aq_micro_gguf(&m, &bytes, &n);
        replace(bytes, n, cases[i][0], cases[i][1]);
        aq_micro_folder(folder);
        aq_micro_put(folder, "m.gguf", bytes, n);
        snprintf(path, sizeof path, "%s/m.gguf", folder);
        assert_int_equal(aq_gguf_tokenizer_read(&arena, path, &file, &source), AQ_REFUSED);
        aq_arena_close(&arena);
        assert_non_null(strstr(aq_error(), cases[i][2]));
        aq_micro_remove(folder);
        assert_int_equal(open_bytes(bytes, n, &c), AQ_OK);
        assert_int_equal(c.tokenizer.kind, AQ_TOKENIZER_NONE);
        assert_string_equal(c.tokenizer_note, cases[i][2]);
        aq_checkpoint_close(&c);
        aq_mem_free(bytes);
    }
    aq_micro_close(&m);
}

/* Files of vocabularies hold no tensor that we know, and may be of any architecture. */
static void a_tokenizer_needs_no_model(void **state) {
    (void)state;
    aq_micro m;
    aq_arena arena = {0};
    aq_file file;
    aq_tokenizer_source source;
    char folder[64], path[96];
    unsigned char *bytes;
    size_t n;
    aq_micro_open(&m, AQ_F16, 0, 1);
    aq_micro_gguf(&m, &bytes, &n);
    replace(bytes, n, "llama", "falco");
    replace(bytes, n, "token_embd", "wordnembed");
    aq_micro_folder(folder);
    aq_micro_put(folder, "m.gguf", bytes, n);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    if (aq_gguf_tokenizer_read(&arena, path, &file, &source) != AQ_OK)
        fail_msg("%s", aq_error());
    assert_same_tokenizer(&source, &m.tokenizer);
    aq_file_unmap(&file);
    aq_arena_close(&arena);
    aq_micro_remove(folder);
    aq_mem_free(bytes);
    aq_micro_close(&m);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    aq_micro m;
    char folder[64], path[96];
    unsigned char *bytes;
    size_t n;
    aq_checkpoint c;
    aq_micro_open(&m, AQ_F16, 0, 1);
    aq_micro_gguf(&m, &bytes, &n);
    aq_micro_folder(folder);
    aq_micro_put(folder, "m.gguf", bytes, n);
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    long open = aq_mem_open_blocks();
    aq_status status = AQ_NO_MEMORY;
    for (long nth = 1; status != AQ_OK; nth++) {
        aq_mem_fail_after(nth);
        status = aq_checkpoint_open(path, &c);
        aq_mem_fail_after(0);
        assert_true(status == AQ_OK || status == AQ_NO_MEMORY);
        if (status == AQ_OK)
            aq_checkpoint_close(&c);
        assert_int_equal(aq_mem_open_blocks(), open);
    }
    aq_micro_remove(folder);
    aq_mem_free(bytes);
    aq_micro_close(&m);
}

/* The real file, where the environment names it: its figures are those of models/aquila/configs/smollm2-135m.json. */
static void the_real_model_opens(void **state) {
    (void)state;
    const char *path = getenv("AQ_TEST_MODEL");
    if (!path) {
        print_message("AQ_TEST_MODEL names no file: left out\n");
        skip();
    }
    aq_checkpoint c;
    aq_config want;
    if (aq_checkpoint_open(path, &c) != AQ_OK)
        fail_msg("%s", aq_error());
    assert_int_equal(aq_config_read(&c.arena, "smollm2-135m", &want), AQ_OK);
    want.name = c.config.name;
    assert_same_config(&c.config, &want);
    assert_int_equal(c.n_tensors, 272);
    assert_int_equal(c.tokenizer.n_vocab, 49152);
    assert_int_equal(c.tokenizer.n_merges, 48900);
    assert_int_equal(c.tokenizer.n_added, 17);
    assert_non_null(strstr(c.chat_template, "<|im_start|>"));
    aq_checkpoint_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_are_found_again), cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_matrix_of_one_row_may_stand_as_a_vector),
        cmocka_unit_test(the_packages_file_is_read),
        cmocka_unit_test(version_2_is_the_same),
        cmocka_unit_test(cut_off_anywhere_it_is_refused),
        cmocka_unit_test(changed_bytes_do_no_harm),
        cmocka_unit_test(contradictions_are_named),
        cmocka_unit_test(an_unusable_tokenizer_leaves_a_note),
        cmocka_unit_test(a_tokenizer_needs_no_model),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(the_real_model_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
