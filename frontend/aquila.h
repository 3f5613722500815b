/* aquila.h: a model, from its files to its answers. C99, no third-party type. (One of the two public headers; the other, runtime/aquila_rt.h, runs
 * plans by itself, on libc alone.)
 *
 *   aq_engine_open -> aq_engine_tokenize -> aq_engine_feed -> { aq_rt_sample -> aq_engine_decode -> aq_engine_feed } -> aq_engine_close
 *   aq_engine_open with compile_only -> aq_engine_plan_bytes: an .aqp file
 *
 * tests/engine/example.c is a whole program. What failed is told by aq_error() (ir/status.h). One engine is used by one thread at a time. */
#ifndef AQUILA_H
#define AQUILA_H

#include "ir/arena.h"
#include "runtime/aquila_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

struct aq_checkpoint;

typedef struct aq_compile_options {
    const char *target;      /* "cpu" (this machine), "cpu:v3", "cpu:v4+vnni" ...; NULL = "cpu" */
    const char *activations; /* "int16" (default, NULL), "int8", "f32": what block-quantised weights are multiplied with; "bf16": all weights */
    int as_stored;           /* weights are read as files have them (mapped, nothing packed but rows that have to move): slower */
    int64_t context;         /* positions a user will ask for: only `dynamic` rotary scaling depends on it; 0 = the model's maximum */
    const char *text;        /* the model's text; NULL = the built-in models/aquila/aquila.aq */
    const char *text_name;   /* for messages */
    const char *edits;       /* schedules and nests for single kernels (edits.h); NULL = none */
    const char *edits_name;  /* for messages */
    int jobs;                /* threads that make machine code; 0 = one a core. The bytes are the same with any number */
} aq_compile_options;

/* What a compile did, for people. Strings live in the arena given to aq_compile. */
typedef struct aq_compile_report {
    uint32_t kernels, steps; /* distinct kernels of all variants; steps of all variants */
    int64_t passes_ns, lower_ns, emit_ns;
    const char *target;
    const char *schedules, *nests; /* of every kernel, in the form that `edits` takes */
} aq_compile_report;

/* The plan's bytes, in `arena`: the same for the same model figures, options, target and LLVM, wherever and whenever it runs. AQ_REFUSED: the
 * model or the text does not fit; AQ_MISSING: no LLVM 19; AQ_USAGE: no such target. report may be NULL. */
AQ_MUST_USE aq_status aq_compile(const struct aq_checkpoint *c, const aq_compile_options *o, aq_arena *arena, unsigned char **out_bytes, size_t *out_size,
                                 aq_compile_report *report);

/* What the plan's bytes depend on, as one line: figures, tensor types, options, target, versions. Two models with the same key have the same
 * plan. Does not open LLVM. */
AQ_MUST_USE aq_status aq_compile_key(const struct aq_checkpoint *c, const aq_compile_options *o, aq_arena *arena, const char **out);

/* --- a model ready to run -------------------------------------------------------------------------------------------------------------
 * aq_engine_open takes a MODEL (folder, .gguf, .safetensors, NAME:random[:SEED], or a plan .aqp with `weights`), gets its plan (compiled, or from
 * the cache by the key of everything its bytes depend on: then no LLVM is opened), binds the weights (packed ones from the cache) and opens a
 * session. Target ref interprets the graph instead: the same calls, slowly, exactly. */

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

const unsigned char *aq_engine_plan_bytes(const aq_engine *e, size_t *out_size);
const aq_rt_limits *aq_engine_limits(const aq_engine *e);
const aq_engine_times *aq_engine_timing(const aq_engine *e);
const char *aq_engine_note(const aq_engine *e);                /* why packed weights were not kept; NULL if there is nothing to say */
const aq_compile_report *aq_engine_report(const aq_engine *e); /* zeros where nothing was compiled */
/* Bytes by kind as `memory` prints them; exact before and after opening a session. weights_packed: in a file of the cache (mapped; the kernel may
 * throw pages out and read them again), or in memory without one. */
AQ_MUST_USE aq_status aq_engine_memory(const aq_engine *e, const aq_rt_limits *limits, aq_rt_memory *out);

/* --- its texts: AQ_REFUSED where the model has no tokenizer ----------------------------------------------------------------------------- */

/* The ids of text[0..n), UTF-8; texts of special tokens in it are those tokens, and nothing is added at the ends. *out_ids is valid until the
 * next call. (The form of a conversation is the program's: aquila run -n 0 shows what it feeds.) */
AQ_MUST_USE aq_status aq_engine_tokenize(aq_engine *e, const char *text, size_t n, const int32_t **out_ids, size_t *out_n);
/* The text that is certain with one id more: an incomplete character is held back. Special tokens have none. Valid until the next call. */
AQ_MUST_USE aq_status aq_engine_decode(aq_engine *e, int32_t id, const char **out_text, size_t *out_n);
int64_t aq_engine_vocab(const aq_engine *e); /* numbers in a row of logits */
int32_t aq_engine_eos(const aq_engine *e);   /* the id that ends an answer; -1: none */

#ifdef __cplusplus
}
#endif
#endif
