/* random.c: built-in architectures with random weights, so that any size can be run and measured without owning its weights.
 *
 * Every tensor has its own stream of the counter-based generator (seed and house name give the key), so bytes depend on nothing else:
 * not on the order of filling, the thread, the other tensors. Plain types take 16 bits an element through a table of the normal
 * distribution's quantiles (65536 levels, up to 4.2 deviations). Block types take the generator's bytes as codes, made symmetric, with one
 * scale that gives the same deviation: quantising real normals would cost 50 times as much and teach a kernel nothing.
 *   q4_0   codes -7..7, 0 twice as likely (the code of -8 becomes that of 0): variance 17.5
 *   q4_1   codes 0..15 with m = -7.5 d: variance 21.25; d has 7 bits, so that m is exact
 *   q8_0   codes -127..127, 0 twice as likely: variance 5397.5
 *   q4_k   codes 0..15, every scale 2 d and minimum 15 d: variance 85
 *   q6_k   codes -32..31, the scales of 16 elements d and -d in turn, so that the mean is 0: variance 341.5
 *   others   the plain types' values, quantised by the type's rule: slow
 * Rows are made when they are asked for (made.h): counters follow from the place of an element, so pieces can be made in any order.
 * Cost: about 0.4 s of one core per GB of block types (aquila-7b in q4_0, 3.8 GB: 1.9 s with its pages), 1.5 s per GB of bf16. */
#include "frontend/import/internal.h"
#include "frontend/import/made.h"
#include "frontend/retype.h"
#include "frontend/import/names.h"
#include "ir/memory.h"
#include "ir/random.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS = 1 << 16, CHUNK = 512 /* generator blocks of 16 bytes at a time */ };

/* What all tensors of a checkpoint share. The table takes 20 ms to fill: done when the first row of a plain type is wanted, since a model
 * whose packed weights are in the cache wants none. */
typedef struct source {
    aq_dtype dtype;
    double deviation;
    pthread_mutex_t lock;
    int filled;
    aq_dtype table_dtype; /* dtype, or f32 for block types without a rule of their own */
    unsigned char *table; /* LEVELS encoded values; NULL for block types with a rule */
    float *values;        /* of as many */
} source;

typedef struct random_maker {
    aq_tensor_maker maker;
    source *from;
    uint64_t key;
    size_t row; /* elements */
} random_maker;

typedef struct filler { /* one of a thread */
    const source *from;
    uint64_t key;
    uint32_t words[4 * CHUNK];
} filler;

/* value[i] = the (i + 1/2) / LEVELS quantile of the normal distribution, times the deviation. Newton's method on the upper tail, started at
 * the quantile before: the tail is convex and falling, so the steps approach from one side. */
static void fill_quantiles(float *value, double deviation) {
    double x = 0;
    for (int i = LEVELS / 2; i < LEVELS; i++) {
        double tail = (LEVELS - i - 0.5) / LEVELS, step = 1;
        for (int k = 0; k < 20 && fabs(step) > 1e-10; k++) {
            step = (0.5 * erfc(x * M_SQRT1_2) - tail) / (exp(-0.5 * x * x) * 0.5 * M_SQRT1_2 * M_2_SQRTPI);
            x += step;
        }
        value[i] = (float)(x * deviation);
        value[LEVELS - 1 - i] = -value[i];
    }
}

static void fill_table(source *s) {
    pthread_mutex_lock(&s->lock);
    if (!s->filled && s->table) {
        fill_quantiles(s->values, s->deviation);
        aq_dtype_encode_f32(s->table_dtype, s->values, LEVELS, s->table);
    }
    s->filled = 1;
    pthread_mutex_unlock(&s->lock);
}

/* n elements of the table's type from 16-bit halves of the words; n at most 8 * CHUNK. */
static void look_up(const filler *f, size_t n, unsigned char *out) {
    const unsigned char *half = (const unsigned char *)f->words, *table = f->from->table;
    uint16_t h;
    switch (aq_dtype_of(f->from->table_dtype)->bytes) { /* the size constant, so that memcpy is one move */
#define COPY(size)                                                                                                                          \
    case size:                                                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                                                    \
            memcpy(&h, half + 2 * i, 2);                                                                                                    \
            memcpy(out + i * (size), table + (size_t)h * (size), size);                                                                  \
        }                                                                                                                                   \
        break;
        COPY(2)
        COPY(4)
        COPY(8)
    default: assert(!"a plain type of another size");
    }
}

/* Zero nibbles become 8. */
static uint64_t symmetric_nibbles(uint64_t x) {
    uint64_t any = (x | x >> 1 | x >> 2 | x >> 3) & 0x1111111111111111u;
    return x | (any ^ 0x1111111111111111u) << 3;
}

static void fill_q4_0(const filler *f, size_t blocks, unsigned char *out) {
    uint16_t d = aq_f32_to_f16((float)(f->from->deviation / sqrt(17.5)));
    for (size_t b = 0; b < blocks; b++, out += 18) {
        uint64_t codes[2];
        memcpy(codes, f->words + 4 * b, 16);
        codes[0] = symmetric_nibbles(codes[0]);
        codes[1] = symmetric_nibbles(codes[1]);
        memcpy(out, &d, 2);
        memcpy(out + 2, codes, 16);
    }
}

static void fill_q4_1(const filler *f, size_t blocks, unsigned char *out) {
    double exact = f->from->deviation / sqrt(21.25);
    int e = ilogb(exact) - 6;
    exact = ldexp(rint(ldexp(exact, -e)), e); /* 7 bits: 15/2 times it has 11, as many as a half */
    uint16_t d = aq_f32_to_f16((float)exact), m = aq_f32_to_f16((float)(-7.5 * exact));
    for (size_t b = 0; b < blocks; b++, out += 20) {
        memcpy(out, &d, 2);
        memcpy(out + 2, &m, 2);
        memcpy(out + 4, f->words + 4 * b, 16);
    }
}

static void fill_q8_0(const filler *f, size_t blocks, unsigned char *out) {
    const unsigned char *codes = (const unsigned char *)f->words;
    uint16_t d = aq_f32_to_f16((float)(f->from->deviation / sqrt(5397.5)));
    for (size_t b = 0; b < blocks; b++, out += 34, codes += 32) {
        memcpy(out, &d, 2);
        for (int i = 0; i < 32; i++)
            out[2 + i] = codes[i] == 0x80 ? 0 : codes[i];
    }
}

static void fill_q4_k(const filler *f, size_t blocks, unsigned char *out) {
    static const unsigned char scales[12] = {2, 2, 2, 2, 15, 15, 15, 15, 0xf2, 0xf2, 0xf2, 0xf2}; /* eight times 2, eight times 15 */
    uint16_t d = aq_f32_to_f16((float)(f->from->deviation / sqrt(85)));
    for (size_t b = 0; b < blocks; b++, out += 144) {
        memcpy(out, &d, 2);
        memcpy(out + 2, &d, 2);
        memcpy(out + 4, scales, 12);
        memcpy(out + 16, f->words + 32 * b, 128);
    }
}

static void fill_q6_k(const filler *f, size_t blocks, unsigned char *out) {
    uint16_t d = aq_f32_to_f16((float)(f->from->deviation / sqrt(341.5)));
    for (size_t b = 0; b < blocks; b++, out += 210) {
        memcpy(out, f->words + 64 * b, 192); /* of 256 bytes */
        for (int i = 0; i < 16; i++)
            out[192 + i] = i % 2 ? 0xff : 1;
        memcpy(out + 208, &d, 2);
    }
}

static uint64_t key_of(uint64_t seed, const char *name) {
    uint64_t h = 0xcbf29ce484222325u ^ seed; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h ^ h >> 31;
}

/* Elements that one generator block of 16 bytes gives. */
static size_t elements_per_draw(aq_dtype t) {
    return t == AQ_Q8_0 || t == AQ_Q6_K ? 16 : t == AQ_Q4_0 || t == AQ_Q4_1 || t == AQ_Q4_K ? 32 : 8;
}

static int has_rule(aq_dtype t) { return elements_per_draw(t) != 8; }

/* n elements from `first` on, at most a chunk, first a multiple of what one draw gives. */
static void fill_chunk(filler *f, size_t first, size_t n, unsigned char *out) {
    aq_dtype t = f->from->dtype;
    aq_random_fill(f->key, first / elements_per_draw(t), CHUNK, f->words);
    switch (t) {
    case AQ_Q4_0: fill_q4_0(f, n / 32, out); break;
    case AQ_Q4_1: fill_q4_1(f, n / 32, out); break;
    case AQ_Q8_0: fill_q8_0(f, n / 32, out); break;
    case AQ_Q4_K: fill_q4_k(f, n / 256, out); break;
    case AQ_Q6_K: fill_q6_k(f, n / 256, out); break;
    default: look_up(f, n, out);
    }
}

static void fill_elements(filler *f, size_t first, size_t n, unsigned char *out) {
    size_t draw = elements_per_draw(f->from->dtype), most = CHUNK * draw, odd = first % draw;
    const aq_dtype_info *type = aq_dtype_of(f->from->table ? f->from->table_dtype : f->from->dtype);
    if (odd) { /* rows of plain types may begin within a draw */
        unsigned char some[8 * 8];
        size_t m = draw - odd < n ? draw - odd : n;
        fill_chunk(f, first - odd, draw, some);
        memcpy(out, some + odd * type->bytes, m * type->bytes);
        first += m, n -= m, out += m * type->bytes;
    }
    for (size_t m; n; first += m, n -= m, out += m / type->block * type->bytes)
        fill_chunk(f, first, m = n < most ? n : most, out);
}

static void fill_ones(aq_dtype t, size_t n, unsigned char *out) {
    const float one = 1;
    for (size_t i = 0; i < n; i++)
        aq_dtype_encode_f32(t, &one, 1, out + i * aq_dtype_of(t)->bytes);
}

static aq_status make_ones(const aq_tensor_maker *m, int64_t first, int64_t count, void *out) {
    aq_dtype t = ((const random_maker *)m)->from->dtype;
    (void)first;
    fill_ones(aq_dtype_of(t)->kind == AQ_KIND_FLOAT ? t : AQ_F32, (size_t)count, out);
    return AQ_OK;
}

static aq_status make_rows(const aq_tensor_maker *maker, int64_t first, int64_t count, void *out) {
    const random_maker *m = (const random_maker *)maker;
    filler f = {.from = m->from, .key = m->key};
    void *row;
    if (m->from->table)
        fill_table(m->from);
    if (has_rule(m->from->dtype) || m->from->table_dtype == m->from->dtype) {
        fill_elements(&f, (size_t)first * m->row, (size_t)count * m->row, out);
        return AQ_OK;
    }
    size_t stored = m->row / aq_dtype_of(m->from->dtype)->block * aq_dtype_of(m->from->dtype)->bytes;
    AQ_TRY(aq_mem_alloc(m->row * sizeof(float), &row));
    for (int64_t i = 0; i < count; i++) {
        fill_elements(&f, (size_t)(first + i) * m->row, m->row, row);
        aq_dtype_encode_f32(m->from->dtype, row, m->row, (char *)out + (size_t)i * stored);
    }
    aq_mem_free(row);
    return AQ_OK;
}

/* ---- the checkpoint ---- */

/* All tensors of the architecture with their sizes. */
static aq_status list_tensors(aq_checkpoint *c, aq_dtype dtype) {
    aq_tensor *list;
    uint32_t n = 0;
    AQ_ALLOC(&c->arena, list, (size_t)c->config.L * aq_tensor_rows_count);
    for (uint32_t row = 0; row < aq_tensor_rows_count; row++) {
        int64_t shape[2];
        aq_tensor_shape(&c->config, row, shape);
        for (int64_t layer = 0; layer < (aq_tensor_rows[row].layered ? c->config.L : 1); layer++) {
            if (aq_tensor_rows[row].output && c->config.tied)
                continue;
            aq_tensor t = {.rank = shape[1] ? 2 : 1, .dim = {shape[0], shape[1]}};
            t.dtype = shape[1] || aq_dtype_of(dtype)->kind == AQ_KIND_FLOAT ? dtype : AQ_F32;
            AQ_TRY(aq_tensor_house_name(&c->arena, row, layer, &t.name));
            t.file_name = t.name;
            if (shape[1])
                AQ_TRY(aq_tensor_fits(c, &t, dtype));
            AQ_TRY(aq_dtype_bytes(t.dtype, (uint64_t)shape[0] * (uint64_t)(shape[1] ? shape[1] : 1), c->path, &t.bytes));
            list[n++] = t;
        }
    }
    c->tensors = list;
    c->n_tensors = n;
    return AQ_OK;
}

static aq_status open_source(aq_checkpoint *c, aq_dtype dtype, source **out) {
    source *s;
    AQ_ALLOC(&c->arena, s, 1);
    *s = (source){.dtype = dtype, .deviation = c->config.initializer_range, .lock = PTHREAD_MUTEX_INITIALIZER, .table_dtype = dtype};
    if (aq_dtype_of(dtype)->kind != AQ_KIND_FLOAT)
        s->table_dtype = AQ_F32;
    if (!has_rule(dtype)) {
        AQ_ALLOC(&c->arena, s->values, LEVELS);
        AQ_ALLOC(&c->arena, s->table, (size_t)LEVELS * aq_dtype_of(s->table_dtype)->bytes);
    }
    *out = s;
    return AQ_OK;
}

/* Every tensor gets its maker. What a maker makes: its generator (VERSION of this file), seed and name in the key, type and deviation. */
static aq_status give_makers(aq_checkpoint *c, aq_dtype dtype, uint64_t seed) {
    enum { VERSION = 1 };
    source *s;
    uint64_t deviation;
    aq_tensor *tensors = (aq_tensor *)(uintptr_t)c->tensors; /* ours, just made */
    AQ_TRY(open_source(c, dtype, &s));
    memcpy(&deviation, &s->deviation, sizeof deviation);
    for (uint32_t i = 0; i < c->n_tensors; i++) {
        random_maker *m;
        AQ_ALLOC(&c->arena, m, 1);
        *m = (random_maker){.from = s, .key = key_of(seed, tensors[i].name), .row = (size_t)(tensors[i].rank > 1 ? tensors[i].dim[1] : 1)};
        m->maker.rows = tensors[i].rank > 1 ? make_rows : make_ones;
        m->maker.content[0] = m->key;
        m->maker.content[1] = deviation ^ (uint64_t)VERSION << 56 ^ (uint64_t)dtype << 48;
        tensors[i].maker = &m->maker;
    }
    return AQ_OK;
}

static aq_status parse_spec(const char *spec, size_t *name_length, uint64_t *seed) {
    const char *colon = strchr(spec, ':');
    *seed = 0;
    if (!colon || strncmp(colon, ":random", 7) != 0 || (colon[7] && colon[7] != ':'))
        return aq_fail(AQ_REFUSED, spec, "not a built-in architecture: expected NAME:random or NAME:random:SEED");
    *name_length = (size_t)(colon - spec);
    const char *digits = colon[7] ? colon + 8 : "0";
    if (!*digits)
        return aq_fail(AQ_REFUSED, spec, "no seed after the colon: expected a number");
    for (; *digits; digits++) {
        if (*digits < '0' || *digits > '9' || __builtin_mul_overflow(*seed, (uint64_t)10, seed) ||
            __builtin_add_overflow(*seed, (uint64_t)(*digits - '0'), seed))
            return aq_fail(AQ_REFUSED, spec, "the seed is no number below 2^64");
    }
    return AQ_OK;
}

static aq_status open_random(aq_checkpoint *c, const char *spec, aq_dtype dtype) {
    size_t name_length = 0;
    uint64_t seed;
    aq_dtype_kind kind = aq_dtype_of(dtype)->kind;
    if (kind != AQ_KIND_FLOAT && kind != AQ_KIND_WEIGHT)
        return aq_fail(AQ_REFUSED, spec, "random weights in %s: expected a floating-point or block type", aq_dtype_of(dtype)->name);
    AQ_TRY(aq_arena_string(&c->arena, spec, strlen(spec), &c->path));
    AQ_TRY(parse_spec(c->path, &name_length, &seed));
    AQ_TRY(aq_builtin_config_read(&c->arena, c->path, name_length, &c->config));
    AQ_TRY(list_tensors(c, dtype));
    AQ_TRY(give_makers(c, dtype, seed));
    aq_import_sort(c);
    c->tokenizer = (aq_tokenizer_source){.place = c->path, .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    return AQ_OK;
}

int aq_checkpoint_is_random(const char *spec) {
    const char *colon = strchr(spec, ':');
    return colon && !strncmp(colon + 1, "random", 6) && (!colon[7] || colon[7] == ':') && aq_file_kind(spec) == 0;
}

aq_status aq_checkpoint_outline(const char *spec, aq_dtype dtype, aq_checkpoint *out) {
    aq_checkpoint c = {0};
    aq_status status = open_random(&c, spec, dtype == AQ_DTYPE_NONE ? AQ_BF16 : dtype);
    if (status != AQ_OK)
        aq_checkpoint_close(&c);
    *out = c;
    return status;
}

aq_status aq_checkpoint_random(const char *spec, aq_dtype dtype, aq_checkpoint *out) {
    AQ_TRY(aq_checkpoint_outline(spec, dtype, out));
    aq_status status = aq_checkpoint_make(out, 1);
    if (status != AQ_OK)
        aq_checkpoint_close(out);
    return status;
}

aq_status aq_builtin_config_read(aq_arena *arena, const char *spec, size_t n, aq_config *out) {
    char names[512] = "";
    aq_naming naming;
    for (const aq_builtin_config *b = aq_builtin_configs; b->name; b++) {
        if (strlen(b->name) == n && memcmp(b->name, spec, n) == 0)
            return aq_config_parse(arena, b->name, b->json, strlen(b->json), out, &naming);
        snprintf(names + strlen(names), sizeof names - strlen(names), " %s", b->name);
    }
    const aq_known_model *known = aq_known_model_exact(spec, n);
    if (known && known->config) {
        AQ_TRY(aq_builtin_config_read(arena, known->config, strlen(known->config), out));
        out->name = known->name;
        return AQ_OK;
    }
    return aq_fail(AQ_REFUSED, spec, "no such file or built-in architecture: expected a path, or one of%s", names);
}
