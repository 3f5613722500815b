/* subject.h: the MODEL of a command line: first looked at (figures and tokenizer, so that a prompt can be encoded), then started in the size
 * that is then known. */
#ifndef AQ_FRONTEND_CLI_SUBJECT_H
#define AQ_FRONTEND_CLI_SUBJECT_H

#include "frontend/cli/models.h"
#include "frontend/engine.h"
#include "frontend/import/names.h"

typedef struct aq_subject {
    const aq_args *args;
    const char *model;
    aq_arena arena;
    aq_checkpoint checkpoint; /* figures; of NAME:random and of a plan without weights nothing else */
    aq_tokenizer *tokenizer;  /* NULL: the model has none */
    aq_engine *engine;        /* NULL until started */
    const aq_known_model *known; /* what belongs to its name, or NULL: options that were not given come from there (args is then a copy) */
    char *text, *edits;       /* of --model-text, --edits; NULL where not given */
    const char *cache;        /* folder, or NULL */
    uint64_t cache_limit;
    int64_t opened_ns;        /* clock when opening began */
} aq_subject;

/* Sizes of the session; 0: as engine.h says; options of the command line win. compile_only: the plan and nothing more; fresh: not from
 * the cache. threads 0: as --threads says. */
typedef struct aq_subject_needs {
    int64_t context, batch, outputs, sequences;
    int compile_only, fresh, threads;
} aq_subject_needs;

/* Figures and tokenizer: nothing is compiled. Close in any case. */
AQ_MUST_USE aq_status aq_subject_open(const aq_args *args, const char *model, aq_subject *out);
/* The engine. Starting again closes the one before. */
AQ_MUST_USE aq_status aq_subject_start(aq_subject *s, const aq_subject_needs *needs);
void aq_subject_close(aq_subject *s);
/* AQ_USAGE if there is no tokenizer: why the model's own is none that is known, or to name one, `or_else`. */
AQ_MUST_USE aq_status aq_subject_tokenizer(const aq_subject *s, const char *or_else);

/* The folder of plans and packed weights: --cache, AQ_CACHE, the user's; *out stays NULL for none. AQ_CACHE_LIMIT in bytes. */
AQ_MUST_USE aq_status aq_cache_folder(const aq_args *args, aq_arena *arena, const char **out);
AQ_MUST_USE aq_status aq_cache_limit(uint64_t *out);

/* Most memory the process has had, in bytes. */
int64_t aq_peak_bytes(void);

#endif
