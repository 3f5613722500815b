/* micro.c: see micro.h. */
#define _GNU_SOURCE
#include "tests/support/micro.h"

#include "frontend/import/internal.h"
#include "frontend/import/write_gguf.h"
#include "ir/memory.h"
#include "ir/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(aq_status status) {
    if (status == AQ_OK)
        return;
    fprintf(stderr, "micro model: %s\n", aq_error());
    abort();
}

static void *take(aq_arena *arena, size_t count, size_t size) {
    void *p;
    must(aq_arena_alloc(arena, count, size, &p));
    return p;
}

static void fill(aq_arena *arena, aq_tensor *t, aq_random *r) {
    size_t n = (size_t)t->dim[0] * (size_t)(t->rank == 2 ? t->dim[1] : 1);
    float *x = take(arena, n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)aq_random_normal(r);
    must(aq_dtype_bytes(t->dtype, n, "micro", &t->bytes));
    void *data = take(arena, t->bytes, 1);
    aq_dtype_encode_f32(t->dtype, x, n, data);
    t->data = data;
}

static aq_bytes text(const char *s) { return (aq_bytes){s, (uint32_t)strlen(s)}; }

static void make_tokenizer(aq_micro *m) {
    static const char *const words[16] = {"a", "b", "c", "d", "e", "f", "g", "h", "ab", "abc", "de", "\304\240", "\304\240ab", "x", "", ""};
    static const char *const merges[4] = {"a b", "ab c", "d e", "\304\240 ab"};
    aq_bytes *vocab = take(&m->arena, 16, sizeof *vocab), *ranks = take(&m->arena, 4, sizeof *ranks);
    aq_added_token *added = take(&m->arena, 2, sizeof *added);
    for (int i = 0; i < 16; i++)
        vocab[i] = text(words[i]);
    for (int i = 0; i < 4; i++)
        ranks[i] = text(merges[i]);
    added[0] = (aq_added_token){.text = text("<end>"), .id = 14, .special = 1};
    added[1] = (aq_added_token){.text = text("two words"), .id = 15};
    m->tokenizer = (aq_tokenizer_source){.kind = AQ_TOKENIZER_BPE, .place = "micro", .pre = AQ_PRE_SMOLLM, .n_vocab = 16, .vocab = vocab, .n_merges = 4,
                                         .merges = ranks, .n_added = 2, .added = added, .bos = 14, .eos = 14, .pad = -1, .unk = 0, .add_bos = 1};
}

void aq_micro_open(aq_micro *m, aq_dtype dtype, int tied, uint64_t seed) {
    aq_random r = aq_random_open(seed);
    *m = (aq_micro){.config = {.name = "micro", .family = "llama", .D = 32, .L = 2, .H = 2, .HKV = 1, .DH = 16, .F = 64, .V = 16, .max_length = 128,
                               .eps = 1e-5, .theta = 10000, .scaling_factor = 1, .tied = tied, .bos = 14, .eos = 14, .pad = -1,
                               .initializer_range = 0.02}};
    m->tensors = take(&m->arena, 2 * aq_tensor_rows_count, sizeof *m->tensors);
    for (uint32_t row = 0; row < aq_tensor_rows_count; row++) {
        int64_t shape[2];
        aq_tensor_shape(&m->config, row, shape);
        for (int64_t layer = 0; layer < (aq_tensor_rows[row].layered ? 2 : 1); layer++) {
            if (aq_tensor_rows[row].output && tied)
                continue;
            aq_tensor *t = &m->tensors[m->n_tensors++];
            *t = (aq_tensor){.dtype = shape[1] ? dtype : AQ_F32, .rank = shape[1] ? 2 : 1, .dim = {shape[0], shape[1]}};
            must(aq_tensor_house_name(&m->arena, row, layer, &t->name));
            fill(&m->arena, t, &r);
        }
    }
    make_tokenizer(m);
}

void aq_micro_close(aq_micro *m) { aq_arena_close(&m->arena); }

void aq_micro_folder(char *room) {
    strcpy(room, "/dev/shm/aq_micro_XXXXXX"); /* in memory where that is to be had: no test waits for a disk */
    if (mkdtemp(room))
        return;
    strcpy(room, "/tmp/aq_micro_XXXXXX");
    if (!mkdtemp(room))
        abort();
}

void aq_micro_remove(const char *folder) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command))
        abort();
}

void aq_micro_put(const char *folder, const char *name, const void *bytes, size_t n) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb"); /* no fsync: thousands of these a second */
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f))
        abort();
}

void aq_micro_gguf(const aq_micro *m, unsigned char **out, size_t *out_size) {
    char folder[64], path[96], *bytes;
    aq_micro_folder(folder);
    snprintf(path, sizeof path, "%s/m", folder);
    must(aq_gguf_write(path, &m->config, m->tensors, m->n_tensors, &m->tokenizer, "{{ messages }}"));
    must(aq_file_read(path, 1 << 24, &bytes, out_size));
    *out = (unsigned char *)bytes;
    aq_micro_remove(folder);
}

const char *aq_micro_name(aq_micro *m, uint32_t i, int naming) {
    const char *house = m->tensors[i].name, *dot = strchr(house, '.'), *out = NULL;
    for (uint32_t row = 0; row < aq_tensor_rows_count; row++) {
        const char *pattern = aq_tensor_rows[row].name[naming], *mark = strchr(pattern, '#');
        size_t n = dot ? (size_t)(dot - house) : strlen(house);
        if (strlen(aq_tensor_rows[row].house) != n || memcmp(aq_tensor_rows[row].house, house, n) != 0)
            continue;
        if (mark)
            must(aq_arena_format(&m->arena, &out, "%.*s%s%s.weight", (int)(mark - pattern), pattern, dot + 1, mark + 1));
        else
            must(aq_arena_format(&m->arena, &out, "%s.weight", pattern));
    }
    return out;
}

void aq_micro_safetensors(const aq_micro *m, uint32_t first, uint32_t last, int naming, unsigned char **out, size_t *out_size) {
    static char header[1 << 16];
    size_t n = (size_t)snprintf(header, sizeof header, "{\"__metadata__\":{\"format\":\"pt\"}"), at = 0;
    aq_micro names = *m;
    names.arena = (aq_arena){0};
    for (uint32_t i = first; i < last; i++) {
        const aq_tensor *t = &m->tensors[i];
        char shape[64];
        snprintf(shape, sizeof shape, t->rank == 2 ? "%lld,%lld" : "%lld", (long long)t->dim[0], (long long)t->dim[1]);
        n += (size_t)snprintf(header + n, sizeof header - n, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                              aq_micro_name(&names, i, naming), aq_dtype_of(t->dtype)->safetensors, shape, at, at + t->bytes);
        at += t->bytes;
    }
    header[n++] = '}';
    for (int spare = 16; spare-- > 0 || n % 8;) /* white space after the header is part of the format */
        header[n++] = ' ';
    void *p;
    must(aq_mem_alloc(8 + n + at, &p));
    *out = p;
    *out_size = 8 + n + at;
    memcpy(*out, &(uint64_t){n}, 8);
    memcpy(*out + 8, header, n);
    for (uint32_t i = first, k = 0; i < last; k += (uint32_t)m->tensors[i].bytes, i++)
        memcpy(*out + 8 + n + k, m->tensors[i].data, m->tensors[i].bytes);
    aq_arena_close(&names.arena);
}

const char *aq_micro_config(aq_micro *m, int naming) {
    const char *out;
    if (naming == AQ_NAMING_HF)
        must(aq_arena_format(&m->arena, &out,
                             "{\"model_type\": \"llama\", \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 2,\n"
                             " \"num_key_value_heads\": 1, \"intermediate_size\": 64, \"vocab_size\": 16, \"max_position_embeddings\": 128,\n"
                             " \"rms_norm_eps\": 1e-05, \"tie_word_embeddings\": %s, \"bos_token_id\": 14, \"eos_token_id\": [14, 15]}\n",
                             m->config.tied ? "true" : "false"));
    else
        must(aq_arena_format(&m->arena, &out,
                             "{\"dim\": 32, \"n_layers\": 2, \"n_heads\": 2, \"n_kv_heads\": 1, \"multiple_of\": 32, \"norm_eps\": 1e-05,\n"
                             " \"intermediate_size\": 64, \"vocab_size\": 16, \"max_seq_len\": 128, \"flash_atten\": false}\n"));
    return out;
}
