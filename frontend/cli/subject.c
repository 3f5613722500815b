/* subject.c: common options to aq_engine_options. */
#define _GNU_SOURCE
#include "frontend/cli/subject.h"

#include "frontend/cli/common.h"
#include "frontend/cli/switches.h"
#include "frontend/cli/values.h"
#include "ir/clock.h"
#include "ir/file.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

/* --cache, AQ_CACHE, the user's cache folder; NULL for none. */
aq_status aq_cache_folder(const aq_args *args, aq_arena *arena, const char **out) {
    const char *given = aq_arg_text(args, AQ_OPT_CACHE), *base = aq_switch(AQ_SWITCH_XDG_CACHE_HOME), *home = aq_switch(AQ_SWITCH_HOME);
    given = given ? given : aq_switch(AQ_SWITCH_AQ_CACHE);
    if (given && !strcmp(given, "none"))
        return AQ_OK;
    if (given)
        *out = given;
    else if (base)
        return aq_arena_format(arena, out, "%s/aquila", base);
    else if (home)
        return aq_arena_format(arena, out, "%s/.cache/aquila", home);
    return AQ_OK;
}

aq_status aq_cache_limit(uint64_t *out) {
    const char *given = aq_switch(AQ_SWITCH_AQ_CACHE_LIMIT);
    int64_t bytes = (int64_t)64 << 30;
    *out = (uint64_t)bytes;
    if (given && aq_value_bytes("cache-limit", given, &bytes) != AQ_OK)
        return aq_fail(AQ_USAGE, NULL, "AQ_CACHE_LIMIT: %.60s: expected a size such as 64GiB", given);
    *out = (uint64_t)bytes;
    return AQ_OK;
}

aq_status aq_subject_tokenizer(const aq_subject *s, const char *or_else) {
    const char *why = s->checkpoint.tokenizer_note;
    if (s->tokenizer)
        return AQ_OK;
    return why ? aq_fail(AQ_USAGE, NULL, "%s: %s%s", s->model, why, or_else)
               : aq_fail(AQ_USAGE, NULL, "%s has no tokenizer: expected --tokenizer FOLDER%s", s->model, or_else);
}

static int has_option(const aq_verb *verb, aq_option_id id) {
    for (const uint8_t *o = verb->options; *o != AQ_OPT_NONE; o++)
        if (*o == id)
            return 1;
    return 0;
}

/* Options that were not given have the values that belong to the model's name. */
static aq_status take_defaults(aq_subject *s) {
    const struct {
        aq_option_id id;
        const char *text;
    } of[] = {{AQ_OPT_SAMPLING, s->known->sampling},
              {AQ_OPT_TEMPERATURE, s->known->temperature},
              {AQ_OPT_TOP_K, s->known->top_k},
              {AQ_OPT_TOP_P, s->known->top_p},
              {AQ_OPT_MAX_NEW, s->known->max_new}};
    aq_args *own;
    AQ_ALLOC(&s->arena, own, 1);
    *own = *s->args;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        aq_option_value *v = &own->at[of[i].id];
        if (!of[i].text || v->n)
            continue;
        AQ_TRY(aq_value_set(&s->arena, aq_option_of(of[i].id), of[i].text, v));
        v->n = 0; /* nobody gave it */
    }
    s->args = own;
    if (own->verb && has_option(own->verb, AQ_OPT_TEMPLATE))
        aq_say(own, 1, "%s (aquila show models): template %s%s, temperature %g, top-k %" PRId64 ", top-p %g, sampling %s, at most %" PRId64 " new tokens", s->known->name,
               s->known->template, s->checkpoint.chat_template ? " where its own is not known" : "", own->at[AQ_OPT_TEMPERATURE].real,
               aq_arg_number(own, AQ_OPT_TOP_K), own->at[AQ_OPT_TOP_P].real, aq_arg_text(own, AQ_OPT_SAMPLING), aq_arg_number(own, AQ_OPT_MAX_NEW));
    return AQ_OK;
}

static aq_status open_texts(aq_subject *s, int is_plan) {
    const char *text = aq_arg_text(s->args, AQ_OPT_MODEL_TEXT), *edits = aq_arg_text(s->args, AQ_OPT_EDITS), *target = aq_arg_text(s->args, AQ_OPT_TARGET);
    enum { MOST = 16 << 20 };
    size_t size;
    if ((text || edits) && is_plan)
        return aq_fail(AQ_USAGE, NULL, "%s: a plan is compiled already: expected no --model-text, no --edits", s->model);
    if (edits && target && !strcmp(target, "ref"))
        return aq_fail(AQ_USAGE, NULL, "--edits: ref interprets graphs and has no kernels: expected a target that code is made for");
    if (text)
        AQ_TRY(aq_file_read(text, MOST, &s->text, &size));
    return edits ? aq_file_read(edits, MOST, &s->edits, &size) : AQ_OK;
}

aq_status aq_subject_open(const aq_args *args, const char *model, aq_subject *s) {
    *s = (aq_subject){.args = args, .model = model, .opened_ns = aq_clock_ns()};
    const char *weights = aq_arg_text(args, AQ_OPT_WEIGHTS), *name;
    int is_plan = aq_path_ends(model, ".aqp");
    if (weights && !is_plan)
        return aq_fail(AQ_USAGE, NULL, "--weights goes with a plan (.aqp): %s is none", model);
    if (is_plan && !weights)
        return aq_fail(AQ_USAGE, NULL, "%s: a plan holds no weights: expected --weights MODEL", model);
    if (is_plan && (aq_arg_given(args, AQ_OPT_TARGET) || aq_arg_given(args, AQ_OPT_ACTIVATIONS)))
        return aq_fail(AQ_USAGE, NULL, "%s: a plan has its target and its activations: expected no --target, no --activations", model);
    AQ_TRY(aq_cache_folder(args, &s->arena, &s->cache));
    AQ_TRY(aq_cache_limit(&s->cache_limit));
    const char *from = is_plan ? weights : model;
    if (aq_checkpoint_is_random(from)) {
        AQ_TRY(aq_arena_string(&s->arena, from, strcspn(from, ":"), &name));
        AQ_TRY(aq_config_read(&s->arena, name, &s->checkpoint.config));
    } else {
        AQ_TRY(aq_checkpoint_open(from, &s->checkpoint));
    }
    s->known = aq_known_model_of(s->checkpoint.config.name, from);
    if (s->known)
        AQ_TRY(take_defaults(s));
    AQ_TRY(open_texts(s, is_plan));
    return aq_tokenizer_given(aq_arg_text(args, AQ_OPT_TOKENIZER), from, s->checkpoint.config.V, &s->checkpoint.tokenizer, &s->tokenizer);
}

/* What takes long, on a terminal only. Steps that cannot tell how far they are say 0 of 1, and aq_subject_start wipes the line. */
static void progress(void *user, const char *what, uint64_t done, uint64_t all) {
    const aq_subject *s = user;
    if (!aq_obeys(stderr) || aq_arg_given(s->args, AQ_OPT_QUIET))
        return;
    if (done >= all)
        fputs("\r\033[K", stderr);
    else if (all == 1)
        fprintf(stderr, "\r%s ...\033[K", what);
    else
        fprintf(stderr, "\r%s %3d %%\033[K", what, (int)(100.0 * (double)done / (double)all));
}

aq_status aq_subject_start(aq_subject *s, const aq_subject_needs *needs) {
    const aq_args *args = s->args;
    const char *target = aq_arg_text(args, AQ_OPT_TARGET);
    const aq_engine_options options = {
        .target = target ? target : aq_switch(AQ_SWITCH_AQ_DEVICE),
        .activations = args->at[AQ_OPT_ACTIVATIONS].n ? aq_arg_text(args, AQ_OPT_ACTIVATIONS) : NULL,
        .text = s->text,
        .text_name = aq_arg_text(args, AQ_OPT_MODEL_TEXT),
        .edits = s->edits,
        .edits_name = aq_arg_text(args, AQ_OPT_EDITS),
        .weights = aq_arg_text(args, AQ_OPT_WEIGHTS),
        .weights_type = aq_arg_text(args, AQ_OPT_WEIGHTS_TYPE),
        .as_stored = aq_arg_number(args, AQ_OPT_LAYOUT) == 1,
        .lora = args->at[AQ_OPT_LORA].list,
        .n_lora = args->at[AQ_OPT_LORA].n_list,
        .lora_mode = aq_arg_text(args, AQ_OPT_LORA_MODE),
        .cache = needs->fresh ? NULL : s->cache,
        .cache_limit = s->cache_limit,
        .memory_limit = !aq_arg_given(args, AQ_OPT_MEMORY_LIMIT)   ? 0
                        : aq_arg_number(args, AQ_OPT_MEMORY_LIMIT) ? (uint64_t)aq_arg_number(args, AQ_OPT_MEMORY_LIMIT)
                                                                   : UINT64_MAX,
        .context = aq_arg_given(args, AQ_OPT_CONTEXT) ? aq_arg_number(args, AQ_OPT_CONTEXT) : needs->context,
        .batch = aq_arg_given(args, AQ_OPT_BATCH) || !needs->batch ? aq_arg_number(args, AQ_OPT_BATCH) : needs->batch,
        .outputs = needs->outputs,
        .sequences = needs->sequences,
        .threads = needs->threads ? needs->threads : (int)aq_arg_number(args, AQ_OPT_THREADS),
        .jobs = (int)aq_arg_number(args, AQ_OPT_JOBS),
        .compile_only = needs->compile_only,
        .progress = progress,
        .user = s,
    };
    int64_t most = s->checkpoint.config.max_length;
    int stretches = s->checkpoint.config.scaling == AQ_ROPE_DYNAMIC; /* its base is made for the context that is asked for */
    if (most > 0 && options.context > most && !stretches)
        aq_say(args, 0, "a context of %" PRId64 " is beyond the %" PRId64 " positions this model was made for: answers there may be poor", options.context, most);
    if (most > 0 && options.context > most && stretches)
        aq_say(args, 0, "dynamic rotary scaling: every sequence is turned as one of %" PRId64 " positions is, also a short one (transformers' angles change on the way, "
               "behind %" PRId64 "; up to there a shorter --context gives the same)", options.context, most);
    if (s->engine)
        aq_engine_close(s->engine);
    s->engine = NULL;
    aq_status status = aq_engine_open(s->model, &options, &s->engine);
    progress(s, "", 1, 1);
    if (status == AQ_OK && aq_engine_note(s->engine))
        aq_say(args, 0, "%s", aq_engine_note(s->engine));
    return status;
}

void aq_subject_close(aq_subject *s) {
    aq_tokenizer_close(s->tokenizer);
    aq_mem_free(s->text);
    aq_mem_free(s->edits);
    if (s->engine)
        aq_engine_close(s->engine);
    aq_checkpoint_close(&s->checkpoint);
    aq_arena_close(&s->arena);
    *s = (aq_subject){0};
}

int64_t aq_peak_bytes(void) {
    struct rusage use;
    return getrusage(RUSAGE_SELF, &use) == 0 ? (int64_t)use.ru_maxrss * 1024 : 0;
}
