/* graph_file.c: see graph_file.h. The text is read once; modules are made from it as often as a verb wants one (a pass pipeline changes its
 * module for good). */
#include "frontend/cli/graph_file.h"

#include "frontend/cli/models.h"
#include "frontend/compile.h"
#include "ir/file.h"
#include "ir/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 64 << 20 };

/* --- binds -------------------------------------------------------------------------------------------------------------------------------- */

static int is_word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static int text_has_word(const aq_graph_file *f, const char *word) {
    size_t n = strlen(word);
    for (const char *p = f->text; (p = strstr(p, word)); p++)
        if ((p == f->text || !is_word_char(p[-1])) && !is_word_char(p[n]))
            return 1;
    return 0;
}

static aq_status bind(aq_graph_file *f, const char *name, double value) {
    for (uint32_t i = 0; i < f->binds.n; i++)
        if (!strcmp(f->binds.at[i].name, name)) {
            f->binds.at[i].value = value;
            return AQ_OK;
        }
    AQ_PUSH(&f->arena, &f->binds, (aq_bind){name, value});
    return AQ_OK;
}

static aq_status bind_config(aq_graph_file *f, const char *path) {
    aq_config c;
    aq_bind binds[AQ_CONFIG_BINDS];
    AQ_TRY(aq_config_read(&f->arena, path, &c));
    aq_config_binds(&c, 0, binds);
    for (int i = 0; i < AQ_CONFIG_BINDS; i++)
        AQ_TRY(bind(f, binds[i].name, binds[i].value));
    f->n_config = f->binds.n;
    return AQ_OK;
}

static aq_status bind_word(aq_graph_file *f, const char *word) {
    const char *equals = strchr(word, '='), *name;
    char *end = NULL;
    double value = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || equals == word || end == equals + 1 || *end || !isfinite(value))
        return aq_fail(AQ_USAGE, NULL, "--bind: %.80s: expected NAME=NUMBER, as T=512", word);
    AQ_TRY(aq_arena_string(&f->arena, word, (size_t)(equals - word), &name));
    if (!text_has_word(f, name))
        return aq_fail(AQ_USAGE, NULL, "--bind: %.80s: no symbol of that name in %s", name, f->path);
    return bind(f, name, value);
}

/* --- opening ------------------------------------------------------------------------------------------------------------------------------ */

/* The model's text where a folder is named; models/aquila/ that way is models/aquila/aquila.aq. */
static aq_status find_text(aq_graph_file *f, const char *path) {
    size_t n = strlen(path);
    f->path = path;
    if (aq_file_kind(path) != 2)
        return AQ_OK;
    return aq_arena_format(&f->arena, &f->path, "%s%saquila.aq", path, n && path[n - 1] == '/' ? "" : "/");
}

aq_status aq_graph_file_open(const aq_args *args, const char *path, aq_graph_file *out) {
    *out = (aq_graph_file){.args = args};
    AQ_TRY(find_text(out, path));
    AQ_TRY(aq_file_read(out->path, LONGEST, &out->text, &out->n));
    if (!strcmp(out->path, "-"))
        out->path = "(standard input)";
    if (aq_arg_text(args, AQ_OPT_CONFIG))
        AQ_TRY(bind_config(out, aq_arg_text(args, AQ_OPT_CONFIG)));
    for (uint32_t i = 0; i < args->at[AQ_OPT_BIND].n_list; i++)
        AQ_TRY(bind_word(out, args->at[AQ_OPT_BIND].list[i]));
    return AQ_OK;
}

void aq_graph_file_close(aq_graph_file *f) {
    aq_mem_free(f->text);
    f->text = NULL;
    aq_arena_close(&f->arena);
}

/* --- toy sizes ---------------------------------------------------------------------------------------------------------------------------- */

static double *find(aq_bind *binds, uint32_t n, const char *name) {
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(binds[i].name, name))
            return &binds[i].value;
    return NULL;
}

/* Heads keep their number a kv head: it decides which kernels come out. */
static aq_status cut_down(const aq_graph_file *f, aq_arena *arena, aq_bind *binds, const char **out_toy) {
    static const struct {
        const char *name;
        double most;
    } most[] = {{"L", 2}, {"V", 256}, {"D", 128}, {"F", 128}};
    uint32_t n = f->n_config;
    double *h = find(binds, n, "H"), *kv = find(binds, n, "HKV");
    aq_text t = {.arena = arena};
    if (h && kv && *kv > 2 && *kv < *h + 1)
        *h = floor(*h / *kv) * 2, *kv = 2;
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        double *x = find(binds, n, most[i].name);
        if (x && *x > most[i].most)
            *x = most[i].most;
    }
    for (uint32_t i = 0; i < n; i++)
        if (text_has_word(f, binds[i].name) && binds[i].value == floor(binds[i].value))
            AQ_TRY(aq_text_add(&t, "%s%s=%g", t.chars.n ? " " : "", binds[i].name, binds[i].value));
    return aq_text_end(&t, out_toy);
}

/* --- the module --------------------------------------------------------------------------------------------------------------------------- */

aq_status aq_graph_file_narrow(const aq_graph_file *f, aq_module *m) {
    for (uint32_t i = 0; i < f->binds.n; i++) {
        aq_id id = aq_sym_find(m, f->binds.at[i].name, strlen(f->binds.at[i].name));
        double x = f->binds.at[i].value;
        if (!id)
            continue;
        aq_sym *s = &m->syms.at[id];
        if (x != floor(x) || x < (double)s->lo || x > (double)s->hi)
            return aq_fail(AQ_USAGE, NULL, "--bind: %s=%g: expected a whole number from %lld to %lld", s->name, x, (long long)s->lo, (long long)s->hi);
        s->lo = s->hi = (int64_t)x;
    }
    return AQ_OK;
}

static const aq_weight *weight_like(const aq_module *m, const aq_weight *w) {
    for (uint32_t i = 0; i < m->weights.n; i++)
        if (!strcmp(m->weights.at[i].base, w->base))
            return &m->weights.at[i];
    return NULL;
}

/* A weight's type is `type` if it is a matrix, f32 if it is a vector, as files have them; with `like` that of the same weight there. */
static aq_status type_weight(const aq_module *like, aq_dtype type, const aq_weight *w, aq_type *t) {
    const aq_weight *l = like ? weight_like(like, w) : NULL;
    t->dtype = l ? like->values.at[l->value].type.dtype : t->rank > 1 ? type : AQ_F32;
    if (t->rank && t->dim[t->rank - 1].k % aq_dtype_of(t->dtype)->block)
        return aq_fail(AQ_USAGE, NULL, "--weights-type: %s: the last axis of @%s is %lld: expected a multiple of %d", aq_dtype_of(t->dtype)->name, w->name,
                       (long long)t->dim[t->rank - 1].k, aq_dtype_of(t->dtype)->block);
    return AQ_OK;
}

static aq_status type_weights(const aq_graph_file *f, const aq_module *like, aq_module *m) {
    const char *name = !like && aq_arg_given(f->args, AQ_OPT_WEIGHTS_TYPE) ? aq_arg_text(f->args, AQ_OPT_WEIGHTS_TYPE) : "bf16";
    aq_dtype type = aq_dtype_by_name(name, strlen(name));
    aq_dtype_kind kind = aq_dtype_of(type)->kind;
    if (type == AQ_DTYPE_NONE || (kind != AQ_KIND_FLOAT && kind != AQ_KIND_WEIGHT))
        return aq_fail(AQ_USAGE, NULL, "--weights-type: %.40s: expected f32, bf16, f16, q8_0, q4_0, q4_1, or as-stored with --config MODEL", name);
    for (uint32_t i = 0; i < m->weights.n; i++) {
        aq_type *t = &m->values.at[m->weights.at[i].value].type;
        if (t->dtype == AQ_DTYPE_NONE)
            AQ_TRY(type_weight(like, type, &m->weights.at[i], t));
    }
    aq_compile_type_regions(m);
    return AQ_OK;
}

/* --weights-type as-stored: the types of the checkpoint that --config names. */
static aq_status module_of_checkpoint(const aq_graph_file *f, aq_module *out) {
    const aq_compile_options o = {.text = f->text, .text_name = f->path};
    const char *path = aq_arg_text(f->args, AQ_OPT_CONFIG);
    aq_checkpoint c;
    if (!path)
        return aq_fail(AQ_USAGE, NULL, "--weights-type as-stored: expected --config MODEL, a model whose tensors have types");
    AQ_TRY(aq_model_open(path, AQ_BF16, &c));
    aq_status status = aq_compile_module(&c, &o, out);
    aq_checkpoint_close(&c);
    return status;
}

static aq_status as_stored(const aq_graph_file *f, int toy, const aq_bind *binds, aq_module *out) {
    aq_module whole;
    AQ_TRY(module_of_checkpoint(f, &whole));
    if (!toy) {
        *out = whole;
        return AQ_OK;
    }
    aq_status status = aq_read_module(f->path, f->text, f->n, binds, (int)f->binds.n, out);
    if (status == AQ_OK && (status = type_weights(f, &whole, out)) != AQ_OK)
        aq_module_close(out);
    aq_module_close(&whole);
    return status;
}

aq_status aq_graph_file_module(const aq_graph_file *f, int toy, aq_arena *arena, const char **out_toy, aq_module *out) {
    const char *type = aq_arg_text(f->args, AQ_OPT_WEIGHTS_TYPE), *said = NULL;
    int stored = aq_arg_given(f->args, AQ_OPT_WEIGHTS_TYPE) && !strcmp(type, "as-stored");
    aq_bind *binds;
    AQ_ALLOC(arena, binds, f->binds.n + 1);
    if (f->binds.n)
        memcpy(binds, f->binds.at, f->binds.n * sizeof *binds);
    if (toy && f->n_config)
        AQ_TRY(cut_down(f, arena, binds, &said));
    AQ_TRY(stored ? as_stored(f, toy, binds, out) : aq_read_module(f->path, f->text, f->n, binds, (int)f->binds.n, out));
    aq_status status = aq_graph_file_narrow(f, out);
    if (status == AQ_OK && !stored)
        status = type_weights(f, NULL, out);
    if (status != AQ_OK)
        aq_module_close(out);
    else if (out_toy)
        *out_toy = said;
    return status;
}
