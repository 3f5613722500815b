/* engine.c: opens a MODEL in steps: checkpoint, plan (cache or compile), weights, session; each step's time is kept. */
#include "frontend/engine.h"

#include "frontend/cache.h"
#include "frontend/compile.h"
#include "frontend/engine_ref.h"
#include "frontend/import/made.h"
#include "frontend/lora.h"
#include "frontend/plan_cache.h"
#include "frontend/retype.h"
#include "ir/clock.h"
#include "ir/file.h"
#include "ir/memory.h"
#include "runtime/team.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct aq_engine {
    aq_arena arena;
    aq_checkpoint c;
    int checkpoint_open;
    aq_rt_plan *plan;
    unsigned char *made;  /* a plan compiled just now, in the arena */
    size_t made_size;
    aq_rt_weights *weights;
    aq_rt_session *session;
    aq_engine_ref *ref;
    aq_rt_limits limits;
    aq_engine_times times;
    aq_compile_report report;
    aq_engine_options o;
    int packed; /* something was packed just now */
    aq_engine_text text;
};

static void say(const aq_engine *e, const char *what, uint64_t done, uint64_t all) {
    if (e->o.progress)
        e->o.progress(e->o.user, what, done, all);
}

/* --- checkpoint ---------------------------------------------------------------------------------------------------------------------- */

static int is_type_of_weights(aq_dtype t) {
    return t != AQ_F64 && (aq_dtype_of(t)->kind == AQ_KIND_FLOAT || aq_dtype_of(t)->kind == AQ_KIND_WEIGHT);
}

static aq_status wanted_type(const aq_engine *e, aq_dtype *out) {
    const char *wanted = e->o.weights_type;
    char list[256] = "as-stored";
    *out = AQ_DTYPE_NONE;
    if (!wanted || !strcmp(wanted, "as-stored"))
        return AQ_OK;
    *out = aq_dtype_by_name(wanted, strlen(wanted));
    if (*out != AQ_DTYPE_NONE && is_type_of_weights(*out))
        return AQ_OK;
    size_t n = strlen(list);
    for (int t = 1; t < AQ_DTYPE_COUNT && n < sizeof list; t++)
        if (is_type_of_weights((aq_dtype)t))
            n += (size_t)snprintf(list + n, sizeof list - n, ", %s", aq_dtype_of((aq_dtype)t)->name);
    return aq_fail(AQ_USAGE, NULL, "weights type %s: expected %s", wanted, list);
}

/* Adapters before types: what is merged is rounded once. */
static aq_status add_lora(aq_engine *e, aq_dtype type) {
    const char *path, *mode = e->o.lora_mode;
    double scale;
    for (uint32_t i = 0; i < e->o.n_lora; i++) {
        AQ_TRY(aq_lora_parse(e->o.lora[i], &e->arena, &path, &scale));
        AQ_TRY(aq_lora_add(&e->c, path, scale));
    }
    int blocks = type == AQ_DTYPE_NONE ? aq_lora_on_blocks(&e->c) : aq_dtype_of(type)->kind != AQ_KIND_FLOAT;
    if (mode ? !strcmp(mode, "merge") : !blocks)
        AQ_TRY(aq_lora_merge(&e->c, type));
    return AQ_OK;
}

static aq_status open_checkpoint(aq_engine *e, const char *model) {
    aq_dtype type;
    AQ_TRY(wanted_type(e, &type));
    int random = aq_checkpoint_is_random(model);
    AQ_TRY(random ? aq_checkpoint_outline(model, type, &e->c) : aq_checkpoint_open(model, &e->c));
    e->checkpoint_open = 1;
    if (e->o.n_lora)
        AQ_TRY(add_lora(e, type));
    if (!random)
        AQ_TRY(aq_checkpoint_retype(&e->c, type));
    return e->c.adapters.n ? aq_lora_dots(&e->c) : AQ_OK;
}

static aq_status make_rows(const void *maker, int64_t first, int64_t count, void *out) {
    const aq_tensor_maker *m = maker;
    return m->rows(m, first, count, out);
}

static aq_status tensor_source(void *user, const char *name, aq_rt_tensor *out) {
    const aq_checkpoint *c = user;
    const aq_tensor *t = aq_checkpoint_find(c, name);
    if (!t)
        return aq_fail(AQ_REFUSED, c->path, "no tensor %s: the plan was made for another model", name);
    *out = (aq_rt_tensor){.data = t->data, .bytes = t->bytes, .dtype = t->dtype, .rank = t->rank, .rotate_half = t->rotate_half, .maker = t->maker};
    if (t->maker) {
        out->rows = make_rows;
        memcpy(out->content, t->maker->content, sizeof out->content);
    } else {
        out->stamp = aq_tensor_stamp(c, t);
    }
    for (int i = 0; i < t->rank; i++)
        out->dim[i] = t->dim[i];
    return AQ_OK;
}

/* --- plan ---------------------------------------------------------------------------------------------------------------------------- */

static aq_status compile_plan(aq_engine *e, const aq_compile_options *co) {
    const char *key, *path = NULL;
    AQ_TRY(aq_compile_key(&e->c, co, &e->arena, &key));
    if (e->o.cache)
        AQ_TRY(aq_plan_cache_find(&e->arena, e->o.cache, key, &path, &e->plan));
    if (e->plan)
        return AQ_OK;
    int64_t start = aq_clock_ns();
    say(e, "compiling", 0, 1);
    AQ_TRY(aq_compile(&e->c, co, &e->arena, &e->made, &e->made_size, &e->report));
    e->times.compile_ns = aq_clock_ns() - start;
    if (path)
        aq_plan_cache_keep(&e->arena, e->o.cache, path, e->made, e->made_size);
    if (e->o.compile_only)
        return AQ_OK;
    return aq_rt_plan_from_memory("compiled", e->made, e->made_size, &e->plan);
}

/* --- session ------------------------------------------------------------------------------------------------------------------------- */

static int64_t or_else(int64_t value, int64_t otherwise) { return value > 0 ? value : otherwise; }

aq_rt_limits aq_engine_limits_at(const aq_engine *e, int64_t context) {
    aq_rt_limits l = {.threads = e->limits.threads};
    int64_t most = e->c.config.max_length;
    if (e->plan && !most)
        most = aq_rt_plan_tables(e->plan)->model->max_length;
    l.context = or_else(context, most > 0 && most < 4096 ? most : 4096);
    l.sequences = or_else(e->o.sequences, 1);
    l.outputs = or_else(e->o.outputs, 1);
    if (l.outputs < l.sequences)
        l.outputs = l.sequences;
    l.batch = or_else(e->o.batch, 512);
    if (l.batch / l.sequences >= l.context) /* no step is larger than all that fits */
        l.batch = l.context * l.sequences;
    if (l.batch < l.outputs)
        l.batch = l.outputs;
    return l;
}

static void bind_progress(void *user, uint64_t done, uint64_t all) {
    aq_engine *e = user;
    e->packed = 1;
    say(e, "packing weights", done, all);
}

/* Before minutes of packing: what does not fit would be read from the disk for every token, or end in the kernel killing us. Pages of files count as
 * free, so packed weights that lie in memory already do not count against themselves. */
static aq_status check_memory(const aq_engine *e) {
    aq_rt_memory m;
    uint64_t free = e->o.memory_limit ? e->o.memory_limit : aq_mem_available();
    AQ_TRY(aq_engine_memory(e, &e->limits, &m));
    uint64_t weights = m.weights_packed + m.weights_mapped;
    if (weights + m.total <= free)
        return AQ_OK;
    return aq_fail(AQ_NO_MEMORY, e->c.path, "needs %.2f GiB (weights %.2f, session %.2f with a context of %" PRId64 "): %.2f GiB are free "
                   "(a smaller --weights-type or --context takes less; --memory-limit 0 tries all the same)",
                   (double)(weights + m.total) / 0x1p30, (double)weights / 0x1p30, (double)m.total / 0x1p30, e->limits.context, (double)free / 0x1p30);
}

static aq_status bind_and_open(aq_engine *e) {
    const char *packed = NULL;
    int64_t start = aq_clock_ns();
    if (e->o.cache)
        AQ_TRY(aq_arena_format(&e->arena, &packed, "%s/weights", e->o.cache));
    AQ_TRY(check_memory(e));
    AQ_TRY(aq_rt_weights_bind(e->plan, tensor_source, &e->c, packed, e->limits.threads, bind_progress, e, &e->weights));
    e->times.bind_ns = aq_clock_ns() - start;
    if (e->o.cache && e->o.cache_limit && (e->packed || e->times.compile_ns))
        (void)aq_cache_trim(e->o.cache, e->o.cache_limit);
    start = aq_clock_ns();
    AQ_TRY(aq_rt_session_open(e->plan, e->weights, &e->limits, &e->session));
    e->times.session_ns = aq_clock_ns() - start;
    return AQ_OK;
}

/* A plan knows nothing of adapters that it was not compiled with: they would be left out in silence. */
static aq_status check_adapters(const aq_engine *e, const char *model) {
    const aq_plan *p = aq_rt_plan_tables(e->plan);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_weights; i++)
        n += strstr(p->strings + p->weights[i].name, "_lora_") != NULL;
    if (n != 2 * e->c.adapters.n)
        return aq_fail(AQ_REFUSED, model, "was compiled for %u adapted matrices, given are %u: expected the same --lora, or --lora-mode merge", n / 2, e->c.adapters.n);
    return AQ_OK;
}

static aq_status open_model(aq_engine *e, const char *model) {
    const aq_compile_options co = {.target = e->o.target, .activations = e->o.activations, .as_stored = e->o.as_stored, .context = e->o.context,
                                   .text = e->o.text, .text_name = e->o.text_name, .edits = e->o.edits, .edits_name = e->o.edits_name,
                                   .jobs = e->o.jobs ? e->o.jobs : e->o.threads};
    int is_plan = aq_path_ends(model, ".aqp"), is_ref = e->o.target && !strcmp(e->o.target, "ref");
    int64_t start = aq_clock_ns();
    if (is_plan && !e->o.weights && !e->o.compile_only)
        return aq_fail(AQ_USAGE, model, "a plan holds no weights: expected --weights MODEL");
    if (!is_plan || e->o.weights)
        AQ_TRY(open_checkpoint(e, is_plan ? e->o.weights : model));
    e->times.open_ns = aq_clock_ns() - start;
    if (is_plan)
        AQ_TRY(aq_rt_plan_load(model, &e->plan));
    if (is_plan)
        AQ_TRY(check_adapters(e, model));
    e->limits = aq_engine_limits_at(e, e->o.context);
    if (is_ref && !is_plan && !e->o.compile_only) {
        say(e, "making weights", 0, 1);
        AQ_TRY(aq_checkpoint_make(&e->c, e->limits.threads));
    }
    if (is_ref && !is_plan)
        return aq_engine_ref_open(&e->c, &co, e->limits.context, e->limits.sequences, e->limits.threads, &e->ref);
    if (!is_plan)
        AQ_TRY(compile_plan(e, &co));
    return e->o.compile_only ? AQ_OK : bind_and_open(e);
}

aq_status aq_engine_open(const char *model, const aq_engine_options *o, aq_engine **out) {
    void *p;
    AQ_TRY(aq_mem_alloc(sizeof(aq_engine), &p));
    aq_engine *e = p;
    e->o = *o;
    e->limits.threads = o->threads > 0 ? o->threads : aq_team_processors();
    aq_status status = open_model(e, model);
    if (status != AQ_OK) {
        aq_engine_close(e);
        return status;
    }
    *out = e;
    return AQ_OK;
}

void aq_engine_close(aq_engine *e) {
    if (!e)
        return;
    aq_engine_text_close(&e->text);
    aq_engine_ref_close(e->ref);
    aq_rt_session_close(e->session);
    aq_rt_weights_close(e->weights);
    aq_rt_plan_close(e->plan);
    if (e->checkpoint_open)
        aq_checkpoint_close(&e->c);
    aq_arena_close(&e->arena);
    aq_mem_free(e);
}

/* --- use ----------------------------------------------------------------------------------------------------------------------------- */

aq_status aq_engine_feed(aq_engine *e, int64_t seq, const int32_t *tokens, int64_t n, int64_t n_want, const float **out_logits) {
    return e->ref ? aq_engine_ref_feed(e->ref, seq, tokens, n, n_want, out_logits) : aq_rt_feed(e->session, seq, tokens, n, n_want, out_logits);
}

aq_status aq_engine_step(aq_engine *e, const int32_t *tokens, const int64_t *seq, const uint8_t *want, int64_t n, const float **out_logits) {
    return e->ref ? aq_engine_ref_step(e->ref, tokens, seq, want, n, out_logits) : aq_rt_step(e->session, tokens, seq, want, n, out_logits);
}

aq_status aq_engine_truncate(aq_engine *e, int64_t seq, int64_t length) {
    return e->ref ? aq_engine_ref_truncate(e->ref, seq, length) : aq_rt_truncate(e->session, seq, length);
}

int64_t aq_engine_length(const aq_engine *e, int64_t seq) { return e->ref ? aq_engine_ref_length(e->ref, seq) : aq_rt_length(e->session, seq); }

void aq_engine_interrupt(aq_engine *e) {
    if (e->session)
        aq_rt_interrupt(e->session);
}

const aq_checkpoint *aq_engine_checkpoint(const aq_engine *e) { return &e->c; }
aq_engine_text *aq_engine_text_of(aq_engine *e) { return &e->text; }
aq_rt_session *aq_engine_session(const aq_engine *e) { return e->session; }
const aq_rt_plan *aq_engine_plan(const aq_engine *e) { return e->plan; }
const aq_rt_limits *aq_engine_limits(const aq_engine *e) { return &e->limits; }
const aq_engine_times *aq_engine_timing(const aq_engine *e) { return &e->times; }
const char *aq_engine_note(const aq_engine *e) { return e->weights ? aq_rt_weights_note(e->weights) : NULL; }
const aq_compile_report *aq_engine_report(const aq_engine *e) { return &e->report; }

const unsigned char *aq_engine_plan_bytes(const aq_engine *e, size_t *out_size) {
    const struct aq_plan *p = e->plan ? aq_rt_plan_tables(e->plan) : NULL;
    *out_size = p ? p->size : e->made_size;
    return p ? p->bytes : e->made;
}

/* The plan alone cannot say which weights will be used where they are. */
static aq_status memory_of(const aq_engine *e, const aq_rt_plan *p, const aq_rt_limits *limits, aq_rt_memory *out) {
    AQ_TRY(aq_rt_memory_of(p, limits, out));
    if (!e->checkpoint_open)
        return AQ_OK;
    return aq_rt_weights_measure(p, tensor_source, (void *)(uintptr_t)&e->c, &out->weights_packed, &out->weights_mapped);
}

aq_status aq_engine_memory(const aq_engine *e, const aq_rt_limits *limits, aq_rt_memory *out) {
    aq_rt_plan *made;
    if (e->plan)
        return memory_of(e, e->plan, limits, out);
    if (!e->made)
        return aq_fail(AQ_USAGE, NULL, "target ref has no plan to tell its memory: expected a target that code is made for");
    AQ_TRY(aq_rt_plan_from_memory("compiled", e->made, e->made_size, &made)); /* compile_only: just made, and not opened */
    aq_status status = memory_of(e, made, limits, out);
    aq_rt_plan_close(made);
    return status;
}
