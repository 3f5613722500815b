/* bind.c: stored tensors to house tensors. Each name of a file is matched against the patterns of tensors.def; each house tensor must come
 * exactly once, with the shape that the figures say; a tensor that has no place in the architecture is refused, because leaving it out
 * would compute another model. Nothing is copied. Cost: names x rows of the table. */
#include "frontend/import/internal.h"
#include "frontend/reasons.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROTATES = 1, OUTPUT = 2 };

const aq_tensor_row aq_tensor_rows[] = {
#define TENSOR(house, layered, rows, cols, gguf, hf, flagai, flags)                                                                          \
    {#house, layered, ((flags) & ROTATES) != 0, ((flags) & OUTPUT) != 0, {gguf, hf, flagai}},
#include "frontend/import/tensors.def"
#undef TENSOR
};
const uint32_t aq_tensor_rows_count = sizeof aq_tensor_rows / sizeof *aq_tensor_rows;

void aq_tensor_shape(const aq_config *c, uint32_t row, int64_t shape[2]) {
    const int64_t all[][2] = {
#define TENSOR(house, layered, rows, cols, gguf, hf, flagai, flags) {rows, cols},
#include "frontend/import/tensors.def"
#undef TENSOR
    };
    memcpy(shape, all[row], sizeof all[row]);
}

aq_status aq_tensor_house_name(aq_arena *a, uint32_t row, int64_t layer, const char **out) {
    const aq_tensor_row *r = &aq_tensor_rows[row];
    return r->layered ? aq_arena_format(a, out, "%s.%lld", r->house, (long long)layer) : aq_arena_string(a, r->house, strlen(r->house), out);
}

static int skip_text(aq_bytes *s, const char *text, size_t n) {
    if (s->n < n || memcmp(s->s, text, n) != 0)
        return 0;
    s->s += n;
    s->n -= (uint32_t)n;
    return 1;
}

/* The layer's number as the file writes it: digits without leading zeros. */
static int skip_number(aq_bytes *s, int64_t *out) {
    uint32_t n = 0;
    int64_t x = 0;
    for (; n < s->n && n < 7 && s->s[n] >= '0' && s->s[n] <= '9'; n++)
        x = 10 * x + (s->s[n] - '0');
    if (n == 0 || n == 7 || (n > 1 && s->s[0] == '0'))
        return 0;
    s->s += n;
    s->n -= n;
    *out = x;
    return 1;
}

/* What wraps a model puts a word in front of all names: DDP, torch.compile, DeepSpeed, FSDP; a LlamaModel saved without its head has no
 * "model." there. */
static aq_bytes without_wraps(aq_bytes name) {
    static const char *const wraps[] = {"module.", "_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.", "model."};
    for (size_t i = 0; i < sizeof wraps / sizeof *wraps;)
        i = skip_text(&name, wraps[i], strlen(wraps[i])) ? 0 : i + 1;
    return name;
}

int aq_import_matches(const char *pattern, aq_bytes name, int64_t *layer) {
    name = without_wraps(name);
    pattern += strncmp(pattern, "model.", 6) ? 0 : 6;
    const char *mark = strchr(pattern, '#');
    *layer = 0;
    if (mark && (!skip_text(&name, pattern, (size_t)(mark - pattern)) || !skip_number(&name, layer)))
        return 0;
    const char *rest = mark ? mark + 1 : pattern;
    return skip_text(&name, rest, strlen(rest)) && skip_text(&name, ".weight", 7) && name.n == 0;
}

int aq_import_find(aq_naming naming, aq_bytes name, uint32_t *row, int64_t *layer) {
    for (uint32_t i = 0; i < aq_tensor_rows_count; i++)
        if (aq_import_matches(aq_tensor_rows[i].name[naming], name, layer)) {
            *row = i;
            return 1;
        }
    return 0;
}

/* The naming in which the embedding is there; the names of the three forms have none in common but "norm" and "output". */
static aq_naming naming_of(const aq_stored_list *stored) {
    int64_t layer;
    for (int naming = 0; naming < AQ_NAMINGS; naming++)
        for (uint32_t i = 0; i < stored->n; i++)
            if (aq_import_matches(aq_tensor_rows[0].name[naming], stored->at[i].name, &layer))
                return (aq_naming)naming;
    return AQ_NAMINGS;
}

static int ends_with(aq_bytes name, const char *end) {
    size_t n = strlen(end);
    return name.n >= n && memcmp(name.s + name.n - n, end, n) == 0;
}

/* Left out without harm: rotary frequencies that files store beside the weights (the figures say the same), the causal mask that some old
 * modules kept (a bias would be a vector), and an output that a tied model stores once more. */
static int is_redundant(const aq_config *c, const aq_stored *t, uint32_t row, int found) {
    static const char *const ends[] = {"rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached", "rope.freqs", "freqs_cis", AQ_GGUF_FACTORS};
    static const char *const masks[] = {".attention.bias", ".attn.bias", ".attention.masked_bias", ".attn.masked_bias"};
    for (size_t i = 0; !found && i < sizeof ends / sizeof *ends; i++)
        if (ends_with(t->name, ends[i]))
            return 1;
    for (size_t i = 0; !found && t->rank != 1 && i < sizeof masks / sizeof *masks; i++)
        if (ends_with(t->name, masks[i]))
            return 1;
    return found && aq_tensor_rows[row].output && c->tied;
}

#define REFUSE(why, t, ...) aq_import_refuse(why, (t)->file, "tensor", (t)->name.s, (t)->name.n, __VA_ARGS__)

static aq_status check_tensor(const aq_config *c, const aq_stored *t, uint32_t row) {
    int64_t want[2];
    aq_tensor_shape(c, row, want);
    aq_dtype_kind kind = aq_dtype_of(t->dtype)->kind;
    if (t->dtype == AQ_DTYPE_NONE || (kind != AQ_KIND_FLOAT && kind != AQ_KIND_WEIGHT))
        return REFUSE(AQ_WHY_TENSOR_KIND, t, "type %s: expected a floating-point or block-quantised type",
                      t->dtype ? aq_dtype_of(t->dtype)->name : "unknown (of integers, or of 8 bits)");
    if (want[1] == 0 && kind != AQ_KIND_FLOAT)
        return REFUSE(AQ_WHY_TENSOR_NORM, t, "type %s: expected a floating-point type for the weight of a norm", aq_dtype_of(t->dtype)->name);
    int rank = want[1] ? 2 : 1;
    if (t->rank == rank && t->dim[0] == want[0] && (rank == 1 || t->dim[1] == want[1]))
        return AQ_OK;
    char found[120] = "", expected[60];
    for (int i = 0; i < t->rank; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    if (rank == 2)
        snprintf(expected, sizeof expected, "%lld, %lld", (long long)want[0], (long long)want[1]);
    else
        snprintf(expected, sizeof expected, "%lld", (long long)want[0]);
    return REFUSE(AQ_WHY_TENSOR_SHAPE, t, "shape [%s]: expected [%s]", found, expected);
}

/* GGUF writes no outermost axis of 1: a matrix of one row stands there as a vector. */
static aq_stored with_row_axis(const aq_config *c, const aq_stored *t, uint32_t row) {
    int64_t want[2];
    aq_stored matrix = *t;
    aq_tensor_shape(c, row, want);
    if (t->rank == 1 && want[0] == 1 && want[1]) {
        matrix.rank = 2;
        matrix.dim[0] = 1;
        matrix.dim[1] = t->dim[0];
    }
    return matrix;
}

static aq_status place(aq_checkpoint *c, const aq_stored *stored, uint32_t row, int64_t layer, aq_naming naming, aq_tensor *slot) {
    const aq_stored with_axis = with_row_axis(&c->config, stored, row), *t = naming == AQ_NAMING_GGUF ? &with_axis : stored;
    if (slot->name)
        return REFUSE(AQ_WHY_TENSOR_TWICE, t, "occurs twice: expected once");
    AQ_TRY(check_tensor(&c->config, t, row));
    aq_tensor house = {.dtype = t->dtype, .rank = t->rank, .dim = {t->dim[0], t->rank > 1 ? t->dim[1] : 0}, .data = t->data, .bytes = t->bytes,
                       .rotate_half = naming == AQ_NAMING_HF && aq_tensor_rows[row].rotates};
    AQ_TRY(aq_arena_string(&c->arena, t->name.s, t->name.n, &house.file_name));
    AQ_TRY(aq_tensor_house_name(&c->arena, row, layer, &house.name));
    *slot = house;
    return AQ_OK;
}

/* FlagAI may store wq, wk and wv as one matrix: all rows of q, then of k, then of v. Rows are whole runs of bytes in every type, so the
 * parts are views of it. Returns AQ_OK without *done for any other tensor. */
static aq_status place_fused(aq_checkpoint *c, const aq_stored *t, aq_tensor *slots, int *done) {
    static const char *const parts[] = {"wq", "wk", "wv"};
    int64_t layer, want[2], first = 0, L = c->config.L;
    *done = aq_import_matches("layers.#.attention.Wqkv", t->name, &layer);
    if (!*done)
        return AQ_OK;
    if (layer >= L || t->rank != 2 || t->dim[0] != (c->config.H + 2 * c->config.HKV) * c->config.DH)
        return REFUSE(AQ_WHY_TENSOR_FUSED, t, "layer %lld, %lld rows: expected a layer below %lld and the %lld rows of q, k and v",
                      (long long)layer, (long long)t->dim[0],
                      (long long)L, (long long)((c->config.H + 2 * c->config.HKV) * c->config.DH));
    for (uint32_t row = 0, k = 0; row < aq_tensor_rows_count && k < 3; row++) {
        if (strcmp(aq_tensor_rows[row].house, parts[k]) != 0)
            continue;
        aq_stored part = *t;
        aq_tensor_shape(&c->config, row, want);
        size_t row_bytes = t->bytes / (size_t)t->dim[0];
        part.dim[0] = want[0];
        part.data = t->data + (size_t)first * row_bytes;
        part.bytes = (size_t)want[0] * row_bytes;
        AQ_TRY(place(c, &part, row, layer, AQ_NAMING_FLAGAI, &slots[row * L + layer]));
        first += want[0];
        k++;
    }
    return AQ_OK;
}

static int by_name(const void *a, const void *b) { return strcmp(((const aq_tensor *)a)->name, ((const aq_tensor *)b)->name); }

void aq_import_sort(aq_checkpoint *c) { qsort((void *)(uintptr_t)c->tensors, c->n_tensors, sizeof *c->tensors, by_name); }

const aq_tensor *aq_checkpoint_find(const aq_checkpoint *c, const char *house_name) {
    aq_tensor wanted = {.name = house_name};
    return c->n_tensors ? bsearch(&wanted, c->tensors, c->n_tensors, sizeof wanted, by_name) : NULL;
}

/* slots[row * L + layer]; every one that the architecture has must be filled: they are moved together and sorted. */
static aq_status collect(aq_checkpoint *c, aq_tensor *slots, aq_naming naming, const char *where) {
    uint32_t n = 0;
    for (uint32_t row = 0; row < aq_tensor_rows_count; row++) {
        const aq_tensor_row *r = &aq_tensor_rows[row];
        if (r->output && c->config.tied)
            continue;
        for (int64_t layer = 0; layer < (r->layered ? c->config.L : 1); layer++) {
            aq_tensor *slot = &slots[row * c->config.L + layer];
            const char *house;
            if (slot->name) {
                slots[n++] = *slot; /* never past the slot itself */
                continue;
            }
            AQ_TRY(aq_tensor_house_name(&c->arena, row, layer, &house));
            return aq_import_refuse(AQ_WHY_TENSOR_MISSING, where, "tensor", house, strlen(house), "missing: expected it as %s.weight%s",
                                    r->name[naming],
                                    r->layered ? " (# is the layer)" : "");
        }
    }
    c->tensors = slots;
    c->n_tensors = n;
    aq_import_sort(c);
    return AQ_OK;
}

aq_status aq_import_bind(aq_checkpoint *c, const aq_stored_list *stored, const char *where) {
    aq_naming naming = naming_of(stored);
    if (naming == AQ_NAMINGS)
        return aq_import_refuse(AQ_WHY_TENSOR_EMBEDDING, where, "tensor", "tok_embeddings",
                                14, "missing: expected it as %s.weight, %s.weight or %s.weight",
                                aq_tensor_rows[0].name[0], aq_tensor_rows[0].name[1], aq_tensor_rows[0].name[2]);
    aq_tensor *slots;
    AQ_ALLOC(&c->arena, slots, (size_t)c->config.L * aq_tensor_rows_count);
    for (uint32_t i = 0; i < stored->n; i++) {
        const aq_stored *t = &stored->at[i];
        uint32_t row = 0;
        int64_t layer = 0;
        int found = aq_import_find(naming, t->name, &row, &layer);
        int fused = 0;
        if (is_redundant(&c->config, t, row, found))
            continue;
        if (!found && naming == AQ_NAMING_FLAGAI)
            AQ_TRY(place_fused(c, t, slots, &fused));
        if (fused)
            continue;
        if (!found)
            return REFUSE(AQ_WHY_TENSOR_FOREIGN, t, "has no place in this architecture: expected names like %s.weight",
                          aq_tensor_rows[4].name[naming]);
        if (layer >= c->config.L)
            return REFUSE(AQ_WHY_TENSOR_LAYER, t, "belongs to layer %lld: expected layers 0 to %lld", (long long)layer, (long long)c->config.L - 1);
        AQ_TRY(place(c, t, row, layer, naming, &slots[row * c->config.L + layer]));
    }
    return collect(c, slots, naming, where);
}
