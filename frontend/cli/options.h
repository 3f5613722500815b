/* options.h: the command line, read by two tables: options.def and verbs.def. No input or output here, so tests call it freely. */
#ifndef AQ_FRONTEND_CLI_OPTIONS_H
#define AQ_FRONTEND_CLI_OPTIONS_H

#include "ir/arena.h"

typedef enum aq_option_kind { AQ_OPTION_FLAG, AQ_OPTION_TEXT, AQ_OPTION_LIST, AQ_OPTION_INT, AQ_OPTION_REAL, AQ_OPTION_INTS, AQ_OPTION_SIZE, AQ_OPTION_CHOICE } aq_option_kind;

typedef enum aq_option_id {
    AQ_OPT_NONE, /* ends a verb's list */
#define OPTION(ID, letter, name, kind, argument, low, high, fallback, doc) AQ_OPT_##ID,
#include "frontend/cli/options.def"
    AQ_OPT_COUNT
} aq_option_id;

typedef struct aq_option {
    char letter;
    const char *name;
    aq_option_kind kind;
    const char *argument;
    double low, high;
    const char *fallback, *doc;
} aq_option;

/* What was given for one option. n: how often; 0 with a fallback still fills in the value. */
typedef struct aq_option_value {
    uint32_t n;
    const char *text;        /* as it stands */
    int64_t number;          /* INT, SIZE; CHOICE: which word */
    double real;             /* REAL, INT */
    uint32_t n_list;         /* LIST and INTS */
    const char **list;
    int64_t *numbers;
} aq_option_value;

struct aq_args;
typedef struct aq_verb {
    const char *name, *operands;
    uint32_t least, most;
    const char *summary, *details;
    aq_status (*run)(const struct aq_args *args);
    const uint8_t *options; /* ends with AQ_OPT_NONE; those of every verb come last */
} aq_verb;

typedef struct aq_args {
    aq_arena arena;
    const aq_verb *verb;
    const char **operand;
    uint32_t n_operands;
    aq_option_value at[AQ_OPT_COUNT];
} aq_args;

const aq_option *aq_option_of(aq_option_id id);
const aq_verb *aq_verb_at(uint32_t i);             /* NULL past the last */
/* AQ_USAGE if there is none of that name: with the nearest, or what a verb of a later milestone will do. */
AQ_MUST_USE aq_status aq_verb_find(const char *name, const aq_verb **out);

/* Reads argv[1..argc): the verb, then options and operands in any order; `--` ends the options. --help on any verb leaves
 * the operands unchecked. AQ_USAGE with a message that names the nearest spelling. Close with aq_args_close in any case. */
AQ_MUST_USE aq_status aq_args_parse(int argc, char **argv, aq_args *out);
void aq_args_close(aq_args *args);

/* The nearest of the names that next(user, i) gives (NULL ends them), or NULL if none is near: Damerau-Levenshtein distance at most a
 * third of the length, at least 1. */
const char *aq_nearest(const char *word, const char *(*next)(void *user, uint32_t i), void *user);

#endif
