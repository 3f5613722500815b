/* help.c: readings of the two tables: the list of verbs, the help of one verb (text or JSON), bash completion, the manual page. */
#include "frontend/cli/help.h"

#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/switches.h"
#include "frontend/cli/tables.h"
#include "ir/plan.h"

#include <stdio.h>
#include <string.h>

/* "-n, --max-new-tokens N" into out. */
static void spelling(const aq_option *o, char *out, size_t room) {
    snprintf(out, room, "%c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, *o->argument ? " " : "",
             o->argument);
}

enum { DOC_AT = 37, WIDTH = 112 }; /* columns: where what an option means begins, and where a line ends */

/* Words of s from column `at`, which is reached already; what does not fit goes on below. */
static void print_wrapped(const char *s, int at) {
    int column = at;
    while (*s) {
        int n = (int)strcspn(s, " ");
        if (column > at && column + 1 + n > WIDTH)
            column = at, printf("\n%*s", at, "");
        column += printf("%s%.*s", column > at ? " " : "", n, s);
        s += n + (s[n] == ' ');
    }
}

static void print_option(const aq_option *o) {
    char left[160], doc[400];
    spelling(o, left, sizeof left);
    printf("  %-34s", left);
    if (strlen(left) > 33)
        printf("\n  %-34s", "");
    putchar(' ');
    snprintf(doc, sizeof doc, o->fallback ? "%s (%s)" : "%s", o->doc, o->fallback);
    print_wrapped(doc, DOC_AT);
    putchar('\n');
}

/* --- sections and examples ------------------------------------------------------------------------------------------------------------ */

static const struct {
    uint8_t first;
    const char *title;
} sections[] = {
#define SECTION(ID, title) {AQ_OPT_##ID, title},
#include "frontend/cli/options.def"
};

enum { SECTIONS = sizeof sections / sizeof *sections };

static void print_options(const aq_verb *v) {
    for (int i = 0; i < SECTIONS; i++) {
        int any = 0, end = i + 1 < SECTIONS ? sections[i + 1].first : AQ_OPT_COUNT;
        for (const uint8_t *o = v->options; *o; o++) {
            if (*o < sections[i].first || *o >= end)
                continue;
            if (!any++)
                printf("\n%s:\n", sections[i].title);
            print_option(aq_option_of(*o));
        }
    }
}

typedef struct example {
    const char *verb, *command, *does;
} example;
static const example examples[] = {
#define EXAMPLE(command, verb, does) {#verb, command, does},
#include "frontend/cli/verbs.def"
};
enum { EXAMPLES = sizeof examples / sizeof *examples };

static void print_examples(const aq_verb *v) {
    for (int i = 0, any = 0; i < EXAMPLES; i++) {
        if (strcmp(examples[i].verb, v->name))
            continue;
        printf("%s  aquila %s %s\n        %s\n", any++ ? "" : "\nexamples:\n", v->name, examples[i].command, examples[i].does);
    }
}

static cJSON *verb_json(const aq_verb *v) {
    cJSON *o = cJSON_CreateObject(), *list;
    aq_json_set_string(o, "verb", v->name);
    aq_json_set_string(o, "operands", v->operands);
    aq_json_set_string(o, "summary", v->summary);
    aq_json_set_string(o, "details", v->details);
    list = cJSON_AddArrayToObject(o, "options");
    for (const uint8_t *id = v->options; *id; id++) {
        const aq_option *option = aq_option_of(*id);
        const char letter[2] = {option->letter};
        cJSON *one = cJSON_CreateObject();
        aq_json_set_string(one, "name", option->name);
        aq_json_set_string(one, "letter", *letter ? letter : NULL);
        aq_json_set_string(one, "argument", *option->argument ? option->argument : NULL);
        aq_json_set_string(one, "default", option->fallback);
        aq_json_set_string(one, "meaning", option->doc);
        cJSON_AddItemToArray(list, one);
    }
    return o;
}

aq_status aq_help_verb(const aq_args *a, const aq_verb *v) {
    if (aq_arg_given(a, AQ_OPT_JSON))
        return aq_json_print(verb_json(v));
    printf("aquila %s: %s\n\nusage: aquila %s [options]%s%s\n", v->name, v->summary, v->name, *v->operands ? " " : "", v->operands);
    if (*v->details)
        printf("\n%s\n", v->details);
    print_options(v);
    print_examples(v);
    return AQ_OK;
}

static const char what_model_is[] = "MODEL is a .gguf file (of several, any), a folder in Hugging Face's or FlagAI's form, a plan (.aqp, with --weights MODEL), or NAME:random[:SEED],\n"
                                    "a built-in architecture with random weights (aquila show models). - is standard input or output where a file is meant.";
static const char exit_statuses[] = "0 done, 1 failed, 2 wrong command line, 3 input refused, 4 library or device missing, 5 out of memory,\n"
                                    "6 a check failed, 130 interrupted.";

static aq_status help_all(const aq_args *a) {
    if (aq_arg_given(a, AQ_OPT_JSON)) {
        cJSON *list = cJSON_CreateArray();
        for (uint32_t i = 0; aq_verb_at(i); i++)
            cJSON_AddItemToArray(list, verb_json(aq_verb_at(i)));
        return aq_json_print(list);
    }
    printf("aquila: compiles and runs Aquila language models\n\nusage: aquila VERB [options] ...\n\n");
    for (uint32_t i = 0; aq_verb_at(i); i++)
        printf("  %-11s %-18s %s\n", aq_verb_at(i)->name, aq_verb_at(i)->operands, aq_verb_at(i)->summary);
    printf("\n`aquila VERB --help` tells its options, with examples.\n%s\nExit status: %s\n", what_model_is, exit_statuses);
    return AQ_OK;
}

aq_status aq_verb_help(const aq_args *a) {
    if (!a->n_operands)
        return help_all(a);
    const aq_verb *v;
    AQ_TRY(aq_verb_find(a->operand[0], &v));
    return aq_help_verb(a, v);
}

aq_status aq_verb_version(const aq_args *a) {
    if (!aq_arg_given(a, AQ_OPT_JSON)) {
        printf("aquila %s, plans of version %d\n", AQ_VERSION, AQ_PLAN_VERSION);
        return AQ_OK;
    }
    cJSON *o = cJSON_CreateObject();
    aq_json_set_string(o, "version", AQ_VERSION);
    aq_json_set_int(o, "plan_version", AQ_PLAN_VERSION);
    return aq_json_print(o);
}

/* A script and a page are what they are: programs ask `help --json`. */
static aq_status refuse_json(const aq_args *a) {
    return aq_arg_given(a, AQ_OPT_JSON) ? aq_fail(AQ_USAGE, NULL, "%s has no JSON form: expected aquila help --json", a->verb->name) : AQ_OK;
}

/* "a|b" as words. */
static void print_choices(const char *argument) {
    for (; *argument; argument++)
        putchar(*argument == '|' ? ' ' : *argument);
}

/* What may stand at the end of a command line of this verb: options where a `-` is begun, the words of a choice behind its option, and what show and
 * help take. */
static void complete_verb(const aq_verb *v) {
    printf("            %s)\n                if [[ $word == -* ]]; then words='", v->name);
    for (const uint8_t *o = v->options; *o; o++)
        printf("--%s ", aq_option_of(*o)->name);
    printf("'; else words='");
    for (uint32_t i = 0; !strcmp(v->name, "help") && aq_verb_at(i); i++)
        printf("%s ", aq_verb_at(i)->name);
    if (!strcmp(v->name, "show"))
        for (uint32_t i = 0; aq_show_word(NULL, i); i++)
            printf("%s ", aq_show_word(NULL, i));
    printf("'; fi\n                case ${COMP_WORDS[COMP_CWORD-1]} in\n");
    for (const uint8_t *o = v->options; *o; o++) {
        const aq_option *option = aq_option_of(*o);
        if (option->kind != AQ_OPTION_CHOICE)
            continue;
        printf("                    --%s) words='", option->name);
        print_choices(option->argument);
        printf("' ;;\n");
    }
    printf("                esac ;;\n");
}

aq_status aq_verb_completion(const aq_args *a) {
    AQ_TRY(refuse_json(a));
    if (strcmp(a->operand[0], "bash"))
        return aq_fail(AQ_USAGE, NULL, "completion: %s: expected bash", a->operand[0]);
    printf("_aquila() {\n    local word=${COMP_WORDS[COMP_CWORD]} words=\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words='");
    for (uint32_t i = 0; aq_verb_at(i); i++)
        printf("%s%s", i ? " " : "", aq_verb_at(i)->name);
    printf("'\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (uint32_t i = 0; aq_verb_at(i); i++)
        complete_verb(aq_verb_at(i));
    printf("        esac\n    fi\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -F _aquila aquila\n");
    return AQ_OK;
}

/* Text into roff: backslashes, and dots and quotes at the start of a line, mean something there. */
static void roff(const char *s) {
    for (int first = 1; *s; first = *s == '\n', s++) {
        if (first && (*s == '.' || *s == '\''))
            fputs("\\&", stdout);
        fputs(*s == '\\' ? "\\e" : *s == '-' ? "\\-" : "", stdout);
        if (*s != '\\' && *s != '-')
            putchar(*s);
    }
}

static void man_option(const aq_option *o) {
    char left[160];
    spelling(o, left, sizeof left);
    printf(".TP\n");
    roff(left + strspn(left, " "));
    putchar('\n');
    roff(o->doc);
    if (o->fallback)
        printf(" (%s)", o->fallback);
    putchar('\n');
}

aq_status aq_verb_man(const aq_args *a) {
    AQ_TRY(refuse_json(a));
    printf(".TH AQUILA 1\n.ad l\n.nh\n.SH NAME\naquila \\- compiles and runs Aquila language models\n.SH SYNOPSIS\n.B aquila\nVERB [options] ...\n.SH DESCRIPTION\n");
    roff(what_model_is);
    printf("\n.SH VERBS\n");
    for (uint32_t i = 0; aq_verb_at(i); i++) {
        const aq_verb *v = aq_verb_at(i);
        printf(".SS %s %s\n", v->name, v->operands);
        roff(v->summary);
        putchar('\n');
        if (*v->details) {
            printf(".PP\n");
            roff(v->details);
            putchar('\n');
        }
        for (const uint8_t *o = v->options; *o; o++)
            man_option(aq_option_of(*o));
        for (int k = 0; k < EXAMPLES; k++)
            if (!strcmp(examples[k].verb, v->name)) {
                printf(".PP\nExample: ");
                roff(examples[k].does);
                printf("\n.EX\naquila %s ", v->name);
                roff(examples[k].command);
                printf("\n.EE\n");
            }
    }
    printf(".SH ENVIRONMENT\n");
    for (int i = 0; i < AQ_SWITCH_COUNT; i++) {
        const aq_switch_info *w = aq_switch_of((aq_switch_id)i);
        printf(".TP\n.B %s\n", w->name);
        roff(w->doc);
        printf(*w->fallback ? " (" : "");
        roff(w->fallback);
        printf(*w->fallback ? ")\n" : "\n");
    }
    printf(".SH EXIT STATUS\n");
    roff(exit_statuses);
    putchar('\n');
    return AQ_OK;
}
