/* lora.c: reads adapters. Settings first (lora_settings.c), then tensors: each name ends in lora_A or lora_B, the rest of it is the name of a matrix
 * of the model; what is neither is a weight of the model itself: the same (left out), or one that modules_to_save says was trained too. */
#include "frontend/lora.h"

#include "frontend/import/gguf.h"
#include "frontend/import/internal.h"
#include "frontend/reasons.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ADAPTERS = 16 };

typedef struct reader {
    aq_checkpoint *c;
    aq_lora_settings settings;
    double scale, alpha; /* the user's; of the module that is being read */
    aq_stored_list stored;
    aq_naming naming; /* AQ_NAMINGS until the first name tells */
    AQ_VEC(aq_lora) pairs;
    uint32_t *pair_at; /* of a matrix (row * layers + layer): 1 + index in pairs */
    uint8_t *base_seen; /* the same: bit 1 << base_kind: the file holds the model's own weight as such */
} reader;

/* ---- names ---- */

static int skip(aq_bytes *s, const char *text) {
    uint32_t n = (uint32_t)strlen(text);
    if (s->n < n || memcmp(s->s, text, n) != 0)
        return 0;
    s->s += n;
    s->n -= n;
    return 1;
}

static const char *find(aq_bytes s, const char *text) {
    size_t n = strlen(text);
    for (const char *p = s.s; p + n <= s.s + s.n; p++)
        if (memcmp(p, text, n) == 0)
            return p;
    return NULL;
}

/* GGUF: "MATRIX.weight.lora_a". */
static int split_gguf_name(aq_bytes name, char *module, size_t room, int *is_b) {
    static const char end[] = ".weight.lora_a";
    uint32_t n = sizeof end - 1;
    if (name.n <= n || name.n >= room || memcmp(name.s + name.n - n, end, n - 1) != 0 || (name.s[name.n - 1] != 'a' && name.s[name.n - 1] != 'b'))
        return 0;
    *is_b = name.s[name.n - 1] == 'b';
    memcpy(module, name.s, name.n - 7);
    module[name.n - 7] = 0;
    return 1;
}

/* "base_model.model.MODULE.lora_A[.ADAPTER].weight": the module with ".weight" behind it, as files call the matrix; is it B? */
static int split_name(aq_bytes name, char *module, size_t room, int *is_b) {
    while (skip(&name, "base_model.model.")) {
    }
    const char *at = find(name, ".lora_");
    size_t head = at ? (size_t)(at - name.s) : 0;
    if (!at || head + sizeof ".weight" > room || name.n - head < 8)
        return 0;
    aq_bytes rest = {at + 6, name.n - (uint32_t)head - 6};
    *is_b = *rest.s == 'B';
    if (!skip(&rest, *is_b ? "B" : "A") || rest.n < 7 || *rest.s != '.' || memcmp(rest.s + rest.n - 7, ".weight", 7) != 0)
        return 0;
    for (uint32_t i = 1; i + 7 < rest.n; i++)
        if (rest.s[i] == '.')
            return 0; /* more than an adapter's name between */
    memcpy(module, name.s, head);
    memcpy(module + head, ".weight", sizeof ".weight");
    return 1;
}

#define REFUSE(why, t, ...) aq_import_refuse(why, (t)->file, "tensor", (t)->name.s, (t)->name.n, __VA_ARGS__)

/* ---- pairs ---- */

static aq_status pair_of(reader *r, uint32_t row, int64_t layer, const char *house, aq_lora **out) {
    uint32_t *at = &r->pair_at[row * r->c->config.L + layer];
    if (!*at) {
        AQ_PUSH(&r->c->arena, &r->pairs, (aq_lora){.house = house, .scale = r->alpha});
        *at = r->pairs.n;
    }
    *out = &r->pairs.at[*at - 1];
    return AQ_OK;
}

/* The block type in which llama.cpp's converter may write an adapter becomes f32. */
static aq_status open_blocks(reader *r, aq_stored *t) {
    size_t elements = (size_t)(t->dim[0] * t->dim[1]), bytes;
    void *p;
    if (t->dtype != AQ_Q8_0 || t->rank != 2)
        return AQ_OK;
    AQ_TRY(aq_size_mul(elements, sizeof(float), t->file, &bytes));
    AQ_TRY(aq_arena_alloc(&r->c->arena, bytes, 1, &p));
    aq_dtype_decode_f32(t->dtype, t->data, 0, elements, p);
    t->dtype = AQ_F32;
    t->data = p;
    t->bytes = bytes;
    return AQ_OK;
}

static aq_status put_part(reader *r, const aq_stored *t, uint32_t row, int64_t layer, int is_b) {
    const char *house;
    aq_lora *pair;
    int64_t want[2];
    aq_tensor_shape(&r->c->config, row, want);
    if (!want[1] || row == 0 || layer >= r->c->config.L)
        return REFUSE(AQ_WHY_LORA_TARGET, t, "adapts no matrix of this model: expected one of its %lld layers or the output", (long long)r->c->config.L);
    if (aq_dtype_of(t->dtype)->kind != AQ_KIND_FLOAT)
        return REFUSE(AQ_WHY_LORA_KIND, t, "type %s: expected a floating-point type or q8_0", aq_dtype_of(t->dtype)->name);
    if (t->rank != 2 || t->dim[is_b ? 0 : 1] != want[is_b ? 0 : 1])
        return REFUSE(AQ_WHY_LORA_SHAPE, t, "%lld x %lld: expected %s%lld%s", (long long)t->dim[0], (long long)(t->rank > 1 ? t->dim[1] : 1), is_b ? "" : "rank x ",
                      (long long)want[is_b ? 0 : 1], is_b ? " x rank" : "");
    AQ_TRY(aq_tensor_house_name(&r->c->arena, row, layer, &house));
    AQ_TRY(pair_of(r, row, layer, house, &pair));
    aq_tensor *slot = is_b ? &pair->b : &pair->a;
    if (slot->name)
        return REFUSE(AQ_WHY_LORA_TWICE, t, "occurs twice: expected once");
    *slot = (aq_tensor){.name = house, .dtype = t->dtype, .rank = 2, .dim = {t->dim[0], t->dim[1]}, .data = t->data, .bytes = t->bytes,
                        .rotate_half = is_b && r->naming == AQ_NAMING_HF && aq_tensor_rows[row].rotates};
    return aq_arena_string(&r->c->arena, t->name.s, t->name.n, &slot->file_name);
}

/* FlagAI's fused Wqkv: A serves all three, B is cut into the rows of q, k and v. */
static aq_status put_fused(reader *r, const aq_stored *t, int64_t layer, int is_b) {
    static const char *const parts[] = {"wq", "wk", "wv"};
    const aq_config *c = &r->c->config;
    int64_t rows = (c->H + 2 * c->HKV) * c->DH, first = 0, want[2];
    if (is_b && (t->rank != 2 || t->dim[0] != rows))
        return REFUSE(AQ_WHY_LORA_FUSED, t, "%lld rows: expected the %lld of q, k and v", (long long)t->dim[0], (long long)rows);
    for (uint32_t row = 0, k = 0; row < aq_tensor_rows_count && k < 3; row++) {
        if (strcmp(aq_tensor_rows[row].house, parts[k]) != 0)
            continue;
        aq_stored part = *t;
        aq_tensor_shape(c, row, want);
        if (is_b) {
            size_t row_bytes = t->bytes / (size_t)t->dim[0];
            part.dim[0] = want[0];
            part.data = t->data + (size_t)first * row_bytes;
            part.bytes = (size_t)want[0] * row_bytes;
        }
        AQ_TRY(put_part(r, &part, row, layer, is_b));
        first += want[0];
        k++;
    }
    return AQ_OK;
}

static int find_row(const reader *r, aq_bytes name, aq_naming *naming, uint32_t *row, int64_t *layer) {
    for (int i = 0; i < AQ_NAMINGS; i++) {
        *naming = (aq_naming)i;
        if ((i == AQ_NAMING_GGUF) == (r->naming == AQ_NAMING_GGUF) && aq_import_find(*naming, name, row, layer))
            return *layer < r->c->config.L;
    }
    return 0;
}

/* A weight of the model beside the adapter: what its name says that it is. */
typedef enum base_kind { BASE_OWN, BASE_TRAINED, BASE_LAYER, BASE_ORIGINAL } base_kind;

/* PEFT may store weights of the model beside an adapter: left out if they are the model's, element by element; in their place where
 * modules_to_save says that they were trained. Each once: an entry of ten bytes can name a storage again. */
static aq_status check_base(reader *r, const aq_stored *t, aq_bytes name, base_kind kind, int replaces) {
    aq_naming naming;
    uint32_t row = 0;
    int64_t layer;
    const char *house = NULL;
    const aq_tensor *base = NULL;
    float x[256], y[256];
    double rounded[256]; /* room for any type */
    if (find_row(r, name, &naming, &row, &layer)) {
        uint8_t *seen = &r->base_seen[row * r->c->config.L + layer];
        if (*seen & 1 << kind)
            return REFUSE(AQ_WHY_LORA_BASE_TWICE, t, "occurs twice: expected once");
        *seen |= (uint8_t)(1 << kind);
        AQ_TRY(aq_tensor_house_name(&r->c->arena, row, layer, &house));
        base = aq_checkpoint_find(r->c, house);
        if (!base && aq_tensor_rows[row].output)
            base = aq_checkpoint_find(r->c, "tok_embeddings");
    }
    int fits = base && base->rank == t->rank && base->dim[0] == t->dim[0] && (t->rank < 2 || base->dim[1] == t->dim[1]) && aq_dtype_of(t->dtype)->kind == AQ_KIND_FLOAT;
    int same = fits && base->data && aq_dtype_of(base->dtype)->block == 1;
    size_t all = same ? t->bytes / aq_dtype_of(t->dtype)->bytes : 0;
    for (size_t i = 0, n; same && i < all; i += n) {
        n = all - i < 256 ? all - i : 256;
        aq_dtype_decode_f32(t->dtype, t->data, i, n, x);
        aq_dtype_decode_f32(base->dtype, base->data, i, n, y);
        aq_dtype_encode_f32(t->dtype, y, n, rounded); /* an adapter may be saved in a narrower type than the model */
        aq_dtype_decode_f32(t->dtype, rounded, 0, n, y);
        for (size_t k = 0; k < n; k++)
            same &= x[k] == y[k];
    }
    if (!same && fits && replaces) {
        aq_tensor now = {.name = house, .dtype = t->dtype, .rank = t->rank, .dim = {t->dim[0], t->rank > 1 ? t->dim[1] : 0}, .data = t->data, .bytes = t->bytes,
                         .rotate_half = naming == AQ_NAMING_HF && aq_tensor_rows[row].rotates};
        AQ_TRY(aq_arena_string(&r->c->arena, t->name.s, t->name.n, &now.file_name));
        return aq_lora_replace(r->c, &now);
    }
    return same ? AQ_OK : REFUSE(AQ_WHY_LORA_BASE, t, "replaces a weight of the model: expected an adapter only (in PEFT: save_pretrained with "
                                   "save_embedding_layers=False), or a module of modules_to_save in the model's shape");
}

/* Is it a weight of the model and no adapter: MODULE.base_layer.weight, or what save_embedding_layers and modules_to_save add? *kind says which;
 * *base: its name as files of models have it, in `room`. */
static int names_base(const reader *r, aq_bytes name, char *room, size_t size, aq_bytes *base, base_kind *kind) {
    static const char *const inner[] = {[BASE_OWN] = "", [BASE_TRAINED] = ".modules_to_save", [BASE_LAYER] = ".base_layer", [BASE_ORIGINAL] = ".original_module"};
    static const char end[] = ".weight";
    uint32_t row, n = sizeof end - 1, m = 0;
    int64_t layer;
    aq_naming naming;
    while (skip(&name, "base_model.model.")) {
    }
    if (name.n < n || name.n >= size || memcmp(name.s + name.n - n, end, n) != 0)
        return 0;
    *kind = BASE_OWN;
    for (int i = BASE_TRAINED; i <= BASE_ORIGINAL && *kind == BASE_OWN; i++) {
        m = (uint32_t)strlen(inner[i]);
        if (name.n >= n + m && !memcmp(name.s + name.n - n - m, inner[i], m))
            *kind = (base_kind)i;
    }
    uint32_t head = name.n - n - (*kind == BASE_OWN ? 0 : m);
    memcpy(room, name.s, head);
    memcpy(room + head, end, sizeof end);
    *base = (aq_bytes){room, head + n};
    return *kind == BASE_LAYER || find_row(r, *base, &naming, &row, &layer);
}

static aq_status put(reader *r, const aq_stored *stored) {
    char module[160];
    aq_bytes base;
    aq_stored copy = *stored, *t = &copy;
    base_kind kind;
    int is_b, is_gguf = r->naming == AQ_NAMING_GGUF;
    uint32_t row;
    int64_t layer;
    if (names_base(r, t->name, module, sizeof module, &base, &kind)) {
        int saved = aq_lora_saves(&r->settings, (aq_bytes){base.s, base.n - 7});
        return saved && kind == BASE_ORIGINAL ? AQ_OK : check_base(r, t, base, kind, saved && kind != BASE_LAYER);
    }
    if (!(is_gguf ? split_gguf_name : split_name)(t->name, module, sizeof module, &is_b))
        return REFUSE(AQ_WHY_LORA_NAME, t, "is no lora_A or lora_B of a matrix: expected names like %s",
                      is_gguf ? "blk.0.attn_q.weight.lora_a" : "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    aq_bytes name = {module, (uint32_t)strlen(module)};
    r->alpha = aq_lora_alpha(&r->settings, (aq_bytes){module, name.n - 7});
    AQ_TRY(open_blocks(r, t));
    for (int naming = is_gguf ? AQ_NAMING_GGUF : AQ_NAMING_HF; naming < AQ_NAMINGS; naming++) {
        if (r->naming != AQ_NAMINGS && (aq_naming)naming != r->naming)
            continue;
        int fused = naming == AQ_NAMING_FLAGAI && aq_import_matches("layers.#.attention.Wqkv", name, &layer);
        if (!fused && !aq_import_find((aq_naming)naming, name, &row, &layer))
            continue;
        r->naming = (aq_naming)naming;
        return fused ? put_fused(r, t, layer, is_b) : put_part(r, t, row, layer, is_b);
    }
    return REFUSE(AQ_WHY_LORA_FOREIGN, t, "adapts nothing in this architecture: expected a projection of attention or feed-forward, or the output");
}

static aq_status finish(reader *r, const char *weights) {
    if (!r->pairs.n && !r->settings.saved.n)
        return aq_refuse(AQ_WHY_LORA_EMPTY, weights, "holds no tensors: expected lora_A and lora_B of at least one matrix");
    for (uint32_t i = 0; i < r->pairs.n; i++) {
        aq_lora *p = &r->pairs.at[i];
        const aq_tensor *there = p->a.name ? &p->a : &p->b;
        if (!p->a.name || !p->b.name)
            return aq_import_refuse(AQ_WHY_LORA_HALF, weights, "tensor", there->file_name, strlen(there->file_name), "comes without its lora_%s: expected both",
                                    p->a.name ? "B" : "A");
        if (p->a.dim[0] != p->b.dim[1])
            return aq_import_refuse(AQ_WHY_LORA_RANK, weights, "tensor", p->a.file_name, strlen(p->a.file_name), "rank %lld, of its lora_B %lld: expected the same",
                                    (long long)p->a.dim[0], (long long)p->b.dim[1]);
        double rank = (double)p->a.dim[0];
        double divisor = r->settings.by_root ? sqrt(rank) : rank; /* of the module itself: rank_pattern says nothing more */
        p->scale = r->scale * (r->settings.no_alpha ? 1 : p->scale / divisor);
        AQ_PUSH(&r->c->arena, &r->c->adapters, *p);
    }
    return AQ_OK;
}

/* ---- files ---- */

/* path is a folder, or a file with the settings beside it; a GGUF file holds its own. */
static aq_status find_files(reader *r, const char *path, const char **weights, const char **config) {
    static const char *const names[] = {"adapter_model.safetensors", "adapter_model.bin"};
    aq_arena *arena = &r->c->arena;
    if (aq_file_kind(path) == 1) {
        const char *slash = strrchr(path, '/');
        *weights = path;
        return slash ? aq_arena_format(arena, config, "%.*s/adapter_config.json", (int)(slash - path), path)
                     : aq_arena_string(arena, "adapter_config.json", strlen("adapter_config.json"), config);
    }
    AQ_TRY(aq_import_path(arena, path, "adapter_config.json", config));
    for (size_t i = 0; aq_file_kind(path) == 2 && i < sizeof names / sizeof *names; i++) {
        AQ_TRY(aq_import_path(arena, path, names[i], weights));
        if (aq_file_kind(*weights) == 1)
            return AQ_OK;
    }
    return aq_refuse(AQ_WHY_LORA_FILES, path, "no adapter: expected a folder with adapter_config.json and %s or %s, or a .gguf file", names[0], names[1]);
}

static aq_status read_gguf(reader *r, const char *path) {
    const aq_file *file;
    aq_gguf g;
    AQ_TRY(aq_import_map(r->c, path, &file));
    AQ_TRY(aq_gguf_read(&r->c->arena, path, file, &g));
    r->naming = AQ_NAMING_GGUF;
    r->stored = g.tensors;
    return aq_lora_settings_of_gguf(&g, &r->settings);
}

static aq_status read_files(reader *r, const char *path, const char **weights) {
    const aq_file *file;
    const char *config;
    AQ_TRY(find_files(r, path, weights, &config));
    if (aq_path_ends(*weights, ".gguf"))
        return read_gguf(r, *weights);
    AQ_TRY(aq_lora_settings_read(&r->c->arena, config, &r->settings));
    AQ_TRY(aq_import_map(r->c, *weights, &file));
    return (aq_path_ends(*weights, ".safetensors") ? aq_safetensors_read : aq_torch_read)(&r->c->arena, *weights, file, &r->stored);
}

aq_status aq_lora_add(aq_checkpoint *c, const char *path, double scale) {
    reader r = {.c = c, .scale = scale, .naming = AQ_NAMINGS};
    const char *weights;
    if (++c->n_adapters > MOST_ADAPTERS) /* aq_import_map has room for the shards of a model and some more */
        return aq_fail(AQ_USAGE, NULL, "--lora %.200s: the %dth: expected at most %d", path, MOST_ADAPTERS + 1, MOST_ADAPTERS);
    AQ_ALLOC(&c->arena, r.pair_at, (size_t)c->config.L * aq_tensor_rows_count);
    AQ_ALLOC(&c->arena, r.base_seen, (size_t)c->config.L * aq_tensor_rows_count);
    AQ_TRY(read_files(&r, path, &weights));
    for (uint32_t i = 0; i < r.stored.n; i++)
        AQ_TRY(put(&r, &r.stored.at[i]));
    return finish(&r, weights);
}

aq_status aq_lora_parse(const char *text, aq_arena *arena, const char **out_path, double *out_scale) {
    const char *colon = strrchr(text, ':');
    char *end;
    *out_scale = 1;
    *out_path = text;
    if (!colon || aq_file_kind(text))
        return AQ_OK;
    *out_scale = strtod(colon + 1, &end);
    if (end == colon + 1 || *end || !(fabs(*out_scale) <= 1e6))
        return aq_fail(AQ_USAGE, NULL, "--lora %.200s: no such file, and no number up to 1e6 behind the colon: expected FOLDER or FOLDER:SCALE", text);
    return aq_arena_string(arena, text, (size_t)(colon - text), out_path);
}
