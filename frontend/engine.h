/* engine.h: a model ready to run: what the verbs run, chat, score, bench and memory have in common.
 *
 * aq_engine_open takes a MODEL (folder, .gguf, .safetensors, NAME:random[:SEED], or a plan .aqp with `weights`), gets its plan (compiled, or from
 * the cache by the key of everything its bytes depend on: then no LLVM is opened), binds the weights (packed ones from the cache) and opens a
 * session. Target ref interprets the graph instead: the same calls, slowly, exactly. */
#ifndef AQ_FRONTEND_ENGINE_H
#define AQ_FRONTEND_ENGINE_H

#include "frontend/aquila.h"
#include "frontend/import/import.h"
#include "runtime/aquila_rt.h"

typedef struct aq_engine_options {
    const char *target, *activations; /* as aq_compile_options; target "ref" interprets */
    const char *weights;              /* the model whose weights a .aqp runs on */
    const char *text, *text_name;   /* a model's text in place of the built-in one, and its file for messages; NULL = built in */
    const char *edits, *edits_name; /* edits.h; NULL = none */
    const char *weights_type;         /* NULL or "as-stored"; else a dtype's name: every matrix is turned into it on opening */
    const char *const *lora;          /* n_lora adapters, FOLDER or FOLDER:SCALE (lora.h) */
    uint32_t n_lora;
    const char *lora_mode;            /* "merge" into the weights, "dots" beside them; NULL: dots where an adapted matrix ends in a block type */
    int as_stored;                    /* no panels: weights are used where the files have them */
    const char *cache;                /* folder; NULL = none */
    uint64_t cache_limit;             /* bytes the cache may hold when something was put into it; 0 = any */
    uint64_t memory_limit;            /* bytes that weights and session may take; 0 = what the machine has free; UINT64_MAX = do not look */
    int64_t context;                  /* positions of a sequence; 0 = min(model's maximum, 4096) */
    int64_t batch, outputs, sequences; /* 0 = 512, 1, 1 */
    int threads;                      /* 0 = one for each processor this process may use */
    int jobs;                         /* threads that compile; 0 = as `threads` */
    int compile_only;                 /* stop when the plan is there: no weights are bound, no session is opened */
    void (*progress)(void *user, const char *what, uint64_t done, uint64_t all); /* may be NULL */
    void *user;
} aq_engine_options;

typedef struct aq_engine_times {
    int64_t open_ns, compile_ns, bind_ns, session_ns; /* compile_ns 0: the plan came from the cache or was given */
} aq_engine_times;

typedef struct aq_engine aq_engine;

/* On failure nothing stays open. */
AQ_MUST_USE aq_status aq_engine_open(const char *model, const aq_engine_options *o, aq_engine **out);
void aq_engine_close(aq_engine *e);

/* As aq_rt_feed and aq_rt_step, sequences 0 .. sequences - 1. */
AQ_MUST_USE aq_status aq_engine_feed(aq_engine *e, int64_t seq, const int32_t *tokens, int64_t n, int64_t n_want, const float **out_logits);
AQ_MUST_USE aq_status aq_engine_step(aq_engine *e, const int32_t *tokens, const int64_t *seq, const uint8_t *want, int64_t n, const float **out_logits);
AQ_MUST_USE aq_status aq_engine_truncate(aq_engine *e, int64_t seq, int64_t length);
int64_t aq_engine_length(const aq_engine *e, int64_t seq);
void aq_engine_interrupt(aq_engine *e); /* from a signal handler */

const aq_checkpoint *aq_engine_checkpoint(const aq_engine *e); /* figures, tokenizer source, chat template; NULL tensors for plans without weights */
aq_rt_session *aq_engine_session(const aq_engine *e);          /* NULL on ref */
const aq_rt_plan *aq_engine_plan(const aq_engine *e);          /* NULL on ref */
const unsigned char *aq_engine_plan_bytes(const aq_engine *e, size_t *out_size);
const aq_rt_limits *aq_engine_limits(const aq_engine *e);
aq_rt_limits aq_engine_limits_at(const aq_engine *e, int64_t context); /* those it would be opened with for another context */
const aq_engine_times *aq_engine_timing(const aq_engine *e);
const char *aq_engine_note(const aq_engine *e);                /* why packed weights were not kept; NULL if there is nothing to say */
const aq_compile_report *aq_engine_report(const aq_engine *e); /* zeros where nothing was compiled */
/* Bytes by kind as `memory` prints them; exact before and after opening a session. weights_packed: in a file of the cache (mapped; the kernel may
 * throw pages out and read them again), or in memory without one. */
AQ_MUST_USE aq_status aq_engine_memory(const aq_engine *e, const aq_rt_limits *limits, aq_rt_memory *out);

#endif
