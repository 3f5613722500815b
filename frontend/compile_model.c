/* compile_model.c: the module of a checkpoint: figures become numbers, weights get the types they are stored in; and the key of a plan. */
#include "frontend/compile.h"
#include "frontend/lora.h"
#include "passes/rebuild.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* `dynamic` (NTK-aware) scaling raises the base with the length; plans are compiled for one length, so the base is fixed to what transformers
 * uses at `context` positions: theta * ((factor * n / max) - (factor - 1))^(DH / (DH - 2)) for n > max. */
static double theta_for(const aq_config *c, int64_t context) {
    if (c->scaling != AQ_ROPE_DYNAMIC || context <= c->max_length || c->DH <= 2)
        return c->theta;
    double grow = c->scaling_factor * (double)context / (double)c->max_length - (c->scaling_factor - 1);
    return c->theta * pow(grow, (double)c->DH / (double)(c->DH - 2));
}

void aq_config_binds(const aq_config *c, int64_t context, aq_bind *out) {
    aq_rope r = aq_config_rope(c);
    int band = aq_rope_has_band(&r);
    const aq_bind binds[AQ_CONFIG_BINDS] = {
        {"V", (double)c->V},     {"D", (double)c->D},   {"L", (double)c->L},
        {"H", (double)c->H},     {"HKV", (double)c->HKV}, {"DH", (double)c->DH},
        {"F", (double)c->F},     {"EPS", c->eps},       {"THETA", theta_for(c, context)},
        {"ROPE_FACTOR", r.factor},
        {"ROPE_LOW", band ? r.low : NAN},  {"ROPE_HIGH", band ? r.high : NAN},
        {"ROPE_RAMP", band ? r.ramp : NAN}, {"ROPE_GAIN", r.gain != 1 ? r.gain : NAN},
    };
    memcpy(out, binds, sizeof binds);
}

static aq_status type_weight(const aq_checkpoint *c, aq_module *m, aq_weight *w) {
    const char *stored = w->name;
    if (!aq_checkpoint_find(c, stored) && c->config.tied && !strcmp(w->name, "output"))
        w->alias = stored = "tok_embeddings";
    const aq_tensor *t = aq_checkpoint_find(c, stored);
    if (!t)
        return aq_fail(AQ_REFUSED, c->path, "no tensor for weight @%s of %s: expected it in the checkpoint", w->name, m->file);
    aq_type *type = &m->values.at[w->value].type;
    int same = type->rank == t->rank;
    for (int i = 0; same && i < t->rank; i++)
        same = !type->dim[i].sym && type->dim[i].k == t->dim[i];
    if (!same)
        return aq_fail(AQ_REFUSED, c->path, "tensor %s: its shape is not that of @%s in %s", t->file_name, w->name, m->file);
    if (type->dtype != AQ_DTYPE_NONE && type->dtype != t->dtype)
        return aq_fail(AQ_REFUSED, c->path, "tensor %s is %s: expected %s as @%s in %s", t->file_name, aq_dtype_of(t->dtype)->name,
                       aq_dtype_of(type->dtype)->name, w->name, m->file);
    type->dtype = t->dtype;
    w->rotate_half = (uint8_t)t->rotate_half;
    w->head_dim = !strcmp(w->base, "wq") || !strcmp(w->base, "wk") ? c->config.DH : 0;
    return AQ_OK;
}

/* ---- adapters (lora.h): y = matmul(x, W) becomes y + matmul(matmul(x, A), B) -------------------------------------------------------- */

static aq_status add_weight(const aq_checkpoint *c, aq_module *m, const char *base, int32_t layer, aq_id *out) {
    aq_weight probe;
    AQ_TRY(aq_weight_add(m, base, layer, (aq_type){.rank = 2}, out));
    probe = m->weights.at[m->values.at[*out].index];
    const aq_tensor *t = aq_checkpoint_find(c, probe.name);
    if (!t)
        return aq_fail(AQ_FAILED, c->path, "no tensor %s: this is a fault of the reader of adapters", probe.name);
    aq_type *type = &m->values.at[*out].type;
    type->dtype = t->dtype;
    type->dim[0].k = t->dim[0];
    type->dim[1].k = t->dim[1];
    aq_weight *w = &m->weights.at[m->values.at[*out].index];
    w->rotate_half = (uint8_t)t->rotate_half;
    w->head_dim = t->rotate_half ? c->config.DH : 0;
    return AQ_OK;
}

/* The adapters of one weight, the first of them number 1. */
static aq_status adapt(const aq_checkpoint *c, aq_rebuild *r, aq_id node, uint32_t weight, uint32_t number) {
    aq_module *m = r->m;
    const aq_weight w = m->weights.at[weight];
    const char *base_a, *base_b;
    aq_id a, b, low, high, sum, y = aq_rebuild_value(r, m->nodes.at[node].out), x = aq_node_in(m, &m->nodes.at[node])[0];
    if (number < 2) {
        AQ_TRY(aq_arena_format(&m->arena, &base_a, "%s_lora_a", w.base));
        AQ_TRY(aq_arena_format(&m->arena, &base_b, "%s_lora_b", w.base));
    } else {
        AQ_TRY(aq_arena_format(&m->arena, &base_a, "%s_lora_a%u", w.base, number));
        AQ_TRY(aq_arena_format(&m->arena, &base_b, "%s_lora_b%u", w.base, number));
    }
    AQ_TRY(add_weight(c, m, base_a, w.layer, &a));
    AQ_TRY(add_weight(c, m, base_b, w.layer, &b));
    AQ_TRY(aq_rebuild_add(r, AQ_OP_matmul, (aq_id[]){x, a}, 2, NULL, 0, node, &low));
    AQ_TRY(aq_rebuild_add(r, AQ_OP_matmul, (aq_id[]){low, b}, 2, NULL, 0, node, &high));
    AQ_TRY(aq_rebuild_add(r, AQ_OP_add, (aq_id[]){y, high}, 2, NULL, 0, node, &sum));
    return aq_rebuild_replace(r, y, sum);
}

static aq_status adapt_body(const aq_checkpoint *c, aq_rebuild *r) {
    aq_module *m = r->m;
    uint32_t n = m->bodies.at[r->body].nodes.n;
    const aq_id *nodes = m->bodies.at[r->body].nodes.at;
    for (uint32_t i = 0; i < n; i++) {
        AQ_TRY(aq_rebuild_keep(r, nodes[i]));
        const aq_node node = m->nodes.at[nodes[i]];
        aq_id w = node.op == AQ_OP_matmul ? m->inputs.at[node.in + 1] : 0;
        if (!w || m->values.at[w].kind != AQ_VALUE_WEIGHT)
            continue;
        uint32_t number = 1, weight = m->values.at[w].index;
        for (uint32_t k = 0; k < c->adapters.n; k++)
            if (!strcmp(c->adapters.at[k].house, m->weights.at[weight].name))
                AQ_TRY(adapt(c, r, nodes[i], weight, number++));
    }
    return aq_rebuild_finish(r);
}

static aq_status add_adapters(const aq_checkpoint *c, aq_module *m) {
    const aq_body *step = aq_graph_find(m, "step");
    if (!c->adapters.n || !step)
        return AQ_OK;
    aq_rebuild r = aq_rebuild_open(m, (aq_id)(step - m->bodies.at));
    aq_status status = adapt_body(c, &r);
    aq_rebuild_close(&r);
    return status;
}

void aq_compile_type_regions(aq_module *m) {
    for (aq_id i = 1; i < m->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[i];
        for (int k = 0; n->op == AQ_OP_fused && k < n->n_in; k++) {
            aq_type *param = &m->values.at[m->bodies.at[n->body].params.at[k]].type;
            if (param->dtype == AQ_DTYPE_NONE)
                param->dtype = m->values.at[aq_node_in(m, n)[k]].type.dtype;
        }
    }
}

static aq_status give_types(const aq_checkpoint *c, aq_module *m) {
    for (uint32_t i = 0; i < m->weights.n; i++)
        AQ_TRY(type_weight(c, m, &m->weights.at[i]));
    aq_compile_type_regions(m);
    return add_adapters(c, m);
}

aq_status aq_compile_module(const aq_checkpoint *c, const aq_compile_options *o, aq_module *out) {
    aq_bind binds[AQ_CONFIG_BINDS];
    aq_config_binds(&c->config, o->context, binds);
    const char *text = o->text ? o->text : aq_model_texts[0].text, *name = o->text ? o->text_name : "aquila.aq";
    AQ_TRY(aq_read_module(name, text, strlen(text), binds, AQ_CONFIG_BINDS, out));
    aq_status status = give_types(c, out);
    if (status != AQ_OK)
        aq_module_close(out);
    return status;
}

aq_status aq_compile_pass_options(const aq_target *t, const aq_compile_options *o, int64_t t_lo, int64_t t_hi, aq_pass_options *out) {
    static const struct {
        const char *name;
        aq_dtype type;
    } activations[] = {{"int16", AQ_A16}, {"int8", AQ_A8}, {"bf16", AQ_BF16}, {"f32", AQ_F32}};
    aq_pass_options p = {.target = t->name, .is_ref = t->is_ref, .activations = AQ_A16, .kv = t->is_ref ? AQ_F32 : AQ_F16, .panels = !t->is_ref && !o->as_stored,
                         .t_lo = t_lo, .t_hi = t_hi, .read_gb_per_s = t->read_gb_per_s, .gflops = t->i16_gops > t->f32_gflops ? t->i16_gops : t->f32_gflops,
                         .launch_ns = 1000};
    size_t i = 0, n = sizeof activations / sizeof *activations;
    while (o->activations && i < n && strcmp(o->activations, activations[i].name))
        i++;
    if (i == n)
        return aq_fail(AQ_USAGE, NULL, "activations %s: expected int16, int8, bf16 or f32", o->activations);
    p.activations = activations[i].type;
    *out = p;
    return AQ_OK;
}

aq_status aq_compile_key(const aq_checkpoint *c, const aq_compile_options *o, aq_arena *arena, const char **out) {
    aq_text t = {.arena = arena};
    aq_target target;
    aq_bind binds[AQ_CONFIG_BINDS];
    AQ_TRY(aq_target_parse(o->target ? o->target : "cpu", &target));
    aq_config_binds(&c->config, o->context, binds);
    AQ_TRY(aq_text_add(&t, "plan=%d target=%s activations=%s layout=%s text=%s", AQ_PLAN_VERSION, target.name,
                       o->activations ? o->activations : "int16", o->as_stored ? "as-stored" : "panels", o->text ? o->text : "aquila"));
    for (int i = 0; i < AQ_CONFIG_BINDS; i++)
        AQ_TRY(aq_text_add(&t, " %s=%.17g", binds[i].name, binds[i].value));
    AQ_TRY(aq_text_add(&t, " ids=%" PRId32 ",%" PRId32 ",%" PRId32 " max=%" PRId64 " name=%s types=", c->config.bos, c->config.eos, c->config.pad,
                       c->config.max_length, c->config.name ? c->config.name : ""));
    for (uint32_t i = 0; i < c->n_tensors; i++)
        AQ_TRY(aq_text_add(&t, "%s:%s%s,", c->tensors[i].name, aq_dtype_of(c->tensors[i].dtype)->name, c->tensors[i].rotate_half ? "~" : ""));
    if (o->edits)
        AQ_TRY(aq_text_add(&t, " edits=%s", o->edits));
    for (uint32_t i = 0; i < c->adapters.n; i++)
        AQ_TRY(aq_text_add(&t, " lora %s rank %" PRId64, c->adapters.at[i].house, c->adapters.at[i].a.dim[0]));
    return aq_text_end(&t, out);
}
