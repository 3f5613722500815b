/* convert_types.c: which type, name and order of rows each tensor gets: the rules of convert.h. */
#include "frontend/convert.h"

#include "frontend/import/made.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

aq_status aq_convert_note(aq_arena *arena, aq_convert_report *report, const char *format, ...) {
    char text[400];
    const char *kept;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    AQ_TRY(aq_arena_string(arena, text, strlen(text), &kept));
    AQ_PUSH(arena, &report->notes, kept);
    return AQ_OK;
}

int aq_form_by_name(const char *name, aq_form *out) {
    static const char *const names[] = {[AQ_FORM_GGUF] = "gguf", [AQ_FORM_HF] = "hf", [AQ_FORM_FLAGAI] = "flagai"};
    for (int i = 0; i < 3; i++)
        if (strcmp(names[i], name) == 0) {
            *out = (aq_form)i;
            return 1;
        }
    return 0;
}

typedef struct chooser {
    const aq_checkpoint *c;
    const aq_convert_options *o;
    aq_dtype main; /* of a folder's matrices: what vectors may take */
    /* by the type that stands in: how many tensors, and what they have in common */
    struct {
        uint32_t n;
        const char *first;
        int64_t cols;
    } instead[AQ_DTYPE_COUNT];
} chooser;

static aq_dtype named(const char *name) { return aq_dtype_by_name(name, strlen(name)); }
static int is_blocks(aq_dtype t) { return aq_dtype_of(t)->kind == AQ_KIND_WEIGHT; }

/* Types with 256 elements a block give way to those of 32, as llama.cpp has it; rows no block fits become f16. */
static aq_dtype fitting(aq_dtype want, int64_t cols) {
    static const char *const smaller[][2] = {{"q2_k", "q4_0"}, {"q3_k", "q4_0"}, {"q4_k", "q5_0"}, {"q5_k", "q5_1"}, {"q6_k", "q8_0"}, {"iq4_xs", "iq4_nl"}};
    if (cols % aq_dtype_of(want)->block == 0)
        return want;
    for (size_t i = 0; i < sizeof smaller / sizeof *smaller; i++) {
        aq_dtype next = named(smaller[i][1]);
        if (want != named(smaller[i][0]))
            continue;
        if (next != AQ_DTYPE_NONE && cols % aq_dtype_of(next)->block == 0)
            return next;
    }
    return AQ_F16;
}

static int is_head(const chooser *k, const aq_tensor *t) { return strcmp(t->name, k->c->config.tied ? "tok_embeddings" : "output") == 0; }

static aq_dtype matrix_type(chooser *k, const aq_tensor *t) {
    aq_dtype want = k->o->type, q6 = named("q6_k");
    if (want == AQ_DTYPE_NONE)
        return k->o->to != AQ_FORM_GGUF && is_blocks(t->dtype) ? AQ_F32 : t->dtype;
    if (!is_blocks(want))
        return want;
    if (is_head(k, t) && want != AQ_Q8_0)
        return q6 != AQ_DTYPE_NONE && t->dim[1] % aq_dtype_of(q6)->block == 0 ? q6 : fitting(AQ_Q8_0, t->dim[1]);
    aq_dtype fits = fitting(want, t->dim[1]);
    if (fits != want && !k->instead[fits].n++) {
        k->instead[fits].first = t->name;
        k->instead[fits].cols = t->dim[1];
    }
    return fits;
}

/* Does every value survive in `to`? */
static int is_exact(const aq_tensor *t, aq_dtype to) {
    for (int64_t i = 0; i < t->dim[0]; i++) {
        double wide, back;
        float x;
        unsigned char stored[8], bytes[8];
        if (aq_tensor_read(t, i, 1, stored) != AQ_OK)
            return 0;
        aq_dtype_decode_f64(t->dtype, stored, 0, 1, &wide);
        aq_dtype_decode_f32(t->dtype, stored, 0, 1, &x);
        aq_dtype_encode_f32(to, &x, 1, bytes);
        aq_dtype_decode_f64(to, bytes, 0, 1, &back);
        if (wide != back)
            return 0;
    }
    return 1;
}

static aq_dtype vector_type(const chooser *k, const aq_tensor *t) {
    if (k->o->to == AQ_FORM_GGUF)
        return k->o->type == AQ_DTYPE_NONE && t->dtype == AQ_F64 ? AQ_F64 : AQ_F32;
    if (k->o->type != AQ_DTYPE_NONE)
        return k->o->type;
    return aq_dtype_of(k->main)->bytes < aq_dtype_of(t->dtype)->bytes && is_exact(t, k->main) ? k->main : t->dtype;
}

static aq_row_order order_of(const chooser *k, const aq_tensor *t, int rotates) {
    if (!rotates || t->rotate_half == (k->o->to == AQ_FORM_HF))
        return AQ_ROWS_KEEP;
    return t->rotate_half ? AQ_ROWS_INTERLEAVE : AQ_ROWS_HALVE;
}

static aq_status add(aq_arena *arena, chooser *k, uint32_t row, int64_t layer, aq_out_tensor *to) {
    static const aq_naming naming[] = {[AQ_FORM_GGUF] = AQ_NAMING_GGUF, [AQ_FORM_HF] = AQ_NAMING_HF, [AQ_FORM_FLAGAI] = AQ_NAMING_FLAGAI};
    const char *house;
    AQ_TRY(aq_tensor_house_name(arena, row, layer, &house));
    const aq_tensor *t = aq_checkpoint_find(k->c, house);
    if (!t)
        return aq_fail(AQ_REFUSED, k->c->path, "no tensor %s", house);
    size_t elements = (size_t)t->dim[0];
    if (t->rank == 2)
        AQ_TRY(aq_size_mul(elements, (size_t)t->dim[1], house, &elements));
    *to = (aq_out_tensor){.from = t, .dtype = t->rank == 2 ? matrix_type(k, t) : vector_type(k, t), .order = order_of(k, t, aq_tensor_rows[row].rotates)};
    AQ_TRY(aq_dtype_bytes(to->dtype, elements, house, &to->bytes));
    return aq_out_name(arena, house, naming[k->o->to], &to->name);
}

/* The type with the most bytes among the matrices. */
static aq_dtype main_type(chooser *k) {
    uint64_t bytes[AQ_DTYPE_COUNT] = {0};
    int best = AQ_F32;
    for (uint32_t i = 0; i < k->c->n_tensors; i++) {
        const aq_tensor *t = &k->c->tensors[i];
        if (t->rank == 2)
            bytes[is_blocks(t->dtype) ? AQ_F32 : t->dtype] += t->bytes;
    }
    for (int t = 1; t < AQ_DTYPE_COUNT; t++)
        best = bytes[t] > bytes[best] ? t : best;
    return (aq_dtype)best;
}

static aq_status add_notes(aq_arena *arena, const chooser *k, const aq_out_tensor *list, uint32_t n, aq_convert_report *report) {
    for (int t = 0; t < AQ_DTYPE_COUNT; t++)
        if (k->instead[t].n)
            AQ_TRY(aq_convert_note(arena, report, "%u tensors are %s, not %s: their rows (%" PRId64 " in %s) are no multiple of the block of %u", k->instead[t].n,
                                   aq_dtype_of((aq_dtype)t)->name, aq_dtype_of(k->o->type)->name, k->instead[t].cols, k->instead[t].first,
                                   aq_dtype_of(k->o->type)->block));
    for (uint32_t i = 0; i < n; i++)
        if (is_blocks(list[i].from->dtype) && is_blocks(list[i].dtype) && list[i].from->dtype != list[i].dtype)
            return aq_convert_note(arena, report, "the source is quantised already (%s is %s): quantised again, its errors add up", list[i].from->name,
                                   aq_dtype_of(list[i].from->dtype)->name);
    return AQ_OK;
}

static aq_status check_type(const aq_convert_options *o) {
    const aq_dtype_info *type = aq_dtype_of(o->type);
    if (o->type == AQ_DTYPE_NONE)
        return AQ_OK;
    if (type->kind != AQ_KIND_FLOAT && type->kind != AQ_KIND_WEIGHT)
        return aq_fail(AQ_USAGE, NULL, "--weights-type %s: expected a floating-point or block type", type->name);
    if (o->to != AQ_FORM_GGUF && is_blocks(o->type))
        return aq_fail(AQ_USAGE, NULL, "--weights-type %s: a folder holds plain types: expected f32, bf16, f16, or --to gguf", type->name);
    return AQ_OK;
}

aq_status aq_convert_list(aq_arena *arena, const aq_checkpoint *c, const aq_convert_options *o, aq_convert_report *report, aq_out_tensor **out_list,
                          uint32_t *out_n) {
    chooser k = {.c = c, .o = o};
    aq_out_tensor *list;
    uint32_t n = 0;
    AQ_TRY(check_type(o));
    AQ_ALLOC(arena, list, c->n_tensors + 1);
    k.main = main_type(&k);
    /* what stands before the layers, the layers one by one, what stands behind them */
    for (int part = 0; part < 3; part++)
        for (int64_t layer = 0; layer < (part == 1 ? c->config.L : 1); layer++)
            for (uint32_t row = 0; row < aq_tensor_rows_count; row++) {
                const aq_tensor_row *r = &aq_tensor_rows[row];
                if (r->layered != (part == 1) || (part != 1 && (row == 0) != (part == 0)) || (r->output && c->config.tied))
                    continue;
                AQ_TRY(add(arena, &k, row, layer, &list[n]));
                report->of[list[n].dtype].tensors++;
                report->of[list[n].dtype].bytes += list[n].bytes;
                n++;
            }
    /* FlagAI's own code looks for an output in any case: the same storage once more. */
    if (o->to == AQ_FORM_FLAGAI && c->config.tied) {
        list[n] = list[0];
        list[n].shares = 1;
        AQ_TRY(aq_out_name(arena, "output", AQ_NAMING_FLAGAI, &list[n].name));
        n++;
    }
    *out_list = list;
    *out_n = n;
    return add_notes(arena, &k, list, n, report);
}

aq_status aq_convert_losses(aq_arena *arena, const aq_out_model *m, aq_form to, aq_convert_report *report) {
    uint32_t frozen = 0;
    const aq_config *c = m->config;
    for (uint32_t i = 0; i < m->tokenizer->n_added; i++)
        frozen += m->tokenizer->added[i].frozen;
    if (frozen && to != AQ_FORM_FLAGAI)
        AQ_TRY(aq_convert_note(arena, report, "%u user-defined symbols: SentencePiece finds them among its pieces, who reads %s in the text before: with a space beside them ids may differ",
                               frozen, to == AQ_FORM_GGUF ? "GGUF" : "tokenizer.json"));
    if (to != AQ_FORM_GGUF)
        return AQ_OK;
    if (c->scaling == AQ_ROPE_DYNAMIC)
        AQ_TRY(aq_convert_note(arena, report, "dynamic rope scaling: llama.cpp does not know it"));
    if (c->scaling == AQ_ROPE_YARN && (c->low != 1 || c->high != 32 || c->exact_pairs))
        AQ_TRY(aq_convert_note(arena, report, "yarn with its own beta_slow, beta_fast or truncate: llama.cpp does not read them for llama models"));
    return AQ_OK;
}
