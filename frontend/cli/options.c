/* options.c: the option parser. Order: find the verb, walk the arguments, set each option's value by its kind, fill in fallbacks.
 *
 * getopt_long was tried in thought and dropped: it prints by itself, takes abbreviations that a later option makes ambiguous, and
 * knows neither ranges nor the nearest name. */
#include "frontend/cli/options.h"

#include "frontend/cli/values.h"

#include <string.h>

static const aq_option options[AQ_OPT_COUNT] = {
    {0},
#define OPTION(ID, letter, name, kind, argument, low, high, fallback, doc) {letter, name, AQ_OPTION_##kind, argument, low, high, fallback, doc},
#include "frontend/cli/options.def"
};

#define O(ID) AQ_OPT_##ID,
#define VERB(name, operands, least, most, summary, details, opts)                                                                                    \
    aq_status aq_verb_##name(const aq_args *args);                                                                                                   \
    static const uint8_t options_of_##name[] = {opts AQ_OPT_HELP, AQ_OPT_JSON, AQ_OPT_VERBOSE, AQ_OPT_QUIET, AQ_OPT_NONE};
#include "frontend/cli/verbs.def"

static const aq_verb verbs[] = {
#define VERB(name, operands, least, most, summary, details, opts) {#name, operands, least, most, summary, details, aq_verb_##name, options_of_##name},
#include "frontend/cli/verbs.def"
};
#undef O

static const struct {
    const char *name, *does;
} later[] = {
#define LATER(name, does) {#name, does},
#include "frontend/cli/verbs.def"
};

const aq_option *aq_option_of(aq_option_id id) {
    return &options[id];
}

const aq_verb *aq_verb_at(uint32_t i) {
    return i < sizeof verbs / sizeof *verbs ? &verbs[i] : NULL;
}

/* Names for aq_nearest. */
static const char *next_verb(void *user, uint32_t i) {
    (void)user;
    return aq_verb_at(i) ? aq_verb_at(i)->name : NULL;
}

static const char *next_option(void *user, uint32_t i) {
    const aq_verb *v = user;
    return v->options[i] ? options[v->options[i]].name : NULL;
}

aq_status aq_verb_find(const char *name, const aq_verb **out) {
    for (uint32_t i = 0; aq_verb_at(i); i++)
        if (!strcmp(aq_verb_at(i)->name, name)) {
            *out = aq_verb_at(i);
            return AQ_OK;
        }
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (!strcmp(later[i].name, name))
            return aq_fail(AQ_USAGE, NULL, "%s: %s is not built yet: `aquila help` lists what is", name, later[i].does);
    const char *near = aq_nearest(name, next_verb, NULL);
    if (near)
        return aq_fail(AQ_USAGE, NULL, "%s: no such verb: did you mean %s?", name, near);
    return aq_fail(AQ_USAGE, NULL, "%s: no such verb: `aquila help` lists them", name);
}

static aq_option_id by_name(const aq_verb *v, const char *name, size_t n) {
    for (const uint8_t *o = v->options; *o; o++)
        if (strlen(options[*o].name) == n && !memcmp(options[*o].name, name, n))
            return *o;
    return AQ_OPT_NONE;
}

static aq_option_id by_letter(const aq_verb *v, char letter) {
    for (const uint8_t *o = v->options; *o; o++)
        if (letter && options[*o].letter == letter)
            return *o;
    return AQ_OPT_NONE;
}

/* --name, --name=value, --name value: sets *i to the last argument used. */
static aq_status parse_long(aq_args *a, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *equal = strchr(name, '=');
    size_t n = equal ? (size_t)(equal - name) : strlen(name);
    aq_option_id id = by_name(a->verb, name, n);
    if (!id) {
        char word[64] = "";
        memcpy(word, name, n < sizeof word ? n : sizeof word - 1);
        const char *near = aq_nearest(word, next_option, (void *)(uintptr_t)a->verb);
        if (near)
            return aq_fail(AQ_USAGE, NULL, "--%s: no such option of %s: did you mean --%s?", word, a->verb->name, near);
        return aq_fail(AQ_USAGE, NULL, "--%s: no such option: `aquila %s --help` lists them", word, a->verb->name);
    }
    if (options[id].kind == AQ_OPTION_FLAG) {
        if (equal)
            return aq_fail(AQ_USAGE, NULL, "--%s takes no value", options[id].name);
        a->at[id].n++;
        return AQ_OK;
    }
    if (!equal && *i + 1 >= argc)
        return aq_fail(AQ_USAGE, NULL, "--%s: no value: expected --%s %s", options[id].name, options[id].name, options[id].argument);
    return aq_value_set(&a->arena, &options[id], equal ? equal + 1 : argv[++*i], &a->at[id]);
}

/* -x, -xy (flags), -n5, -n 5. */
static aq_status parse_letters(aq_args *a, int argc, char **argv, int *i) {
    for (const char *s = argv[*i] + 1; *s; s++) {
        aq_option_id id = by_letter(a->verb, *s);
        if (!id)
            return aq_fail(AQ_USAGE, NULL, "-%c: no such option: `aquila %s --help` lists them", *s, a->verb->name);
        if (options[id].kind == AQ_OPTION_FLAG) {
            a->at[id].n++;
            continue;
        }
        if (!s[1] && *i + 1 >= argc)
            return aq_fail(AQ_USAGE, NULL, "-%c: no value: expected -%c %s", *s, *s, options[id].argument);
        return aq_value_set(&a->arena, &options[id], s[1] ? s + 1 : argv[++*i], &a->at[id]);
    }
    return AQ_OK;
}

static aq_status check_operands(const aq_args *a) {
    const aq_verb *v = a->verb;
    if (a->n_operands < v->least)
        return aq_fail(AQ_USAGE, NULL, "%s: %s missing: expected aquila %s %s", v->name, a->n_operands ? "an operand is" : "its operand is", v->name,
                       v->operands);
    if (a->n_operands > v->most)
        return aq_fail(AQ_USAGE, NULL, "%s: %s is one too many: expected aquila %s %s", v->name, a->operand[v->most], v->name, v->operands);
    return AQ_OK;
}

static aq_status fill_fallbacks(aq_args *a) {
    for (uint32_t id = 1; id < AQ_OPT_COUNT; id++)
        if (!a->at[id].n && options[id].fallback) {
            AQ_TRY(aq_value_set(&a->arena, &options[id], options[id].fallback, &a->at[id]));
            a->at[id].n = 0;
        }
    return AQ_OK;
}

aq_status aq_args_parse(int argc, char **argv, aq_args *a) {
    *a = (aq_args){0};
    if (argc < 2)
        return aq_fail(AQ_USAGE, NULL, "no verb: `aquila help` lists them");
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    if (!strcmp(name, "--version"))
        name = "version";
    AQ_TRY(aq_verb_find(name, &a->verb));
    AQ_ALLOC(&a->arena, a->operand, argc);
    int only_operands = 0;
    for (int i = 2; i < argc; i++) {
        const char *s = argv[i];
        if (only_operands || s[0] != '-' || !s[1])
            a->operand[a->n_operands++] = s;
        else if (!strcmp(s, "--"))
            only_operands = 1;
        else if (s[1] == '-')
            AQ_TRY(parse_long(a, argc, argv, &i));
        else
            AQ_TRY(parse_letters(a, argc, argv, &i));
    }
    AQ_TRY(fill_fallbacks(a));
    return a->at[AQ_OPT_HELP].n ? AQ_OK : check_operands(a);
}

void aq_args_close(aq_args *a) {
    aq_arena_close(&a->arena);
    *a = (aq_args){0};
}
