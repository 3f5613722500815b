/* help.c: readings of the two tables: the list of verbs, the help of one verb (text or JSON), bash completion, the manual page. */
#include "frontend/cli/help.h"

#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "ir/plan.h"

#include <stdio.h>
#include <string.h>

/* "-n, --max-new-tokens N" into out. */
static void spelling(const aq_option *o, char *out, size_t room) {
    snprintf(out, room, "%c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, *o->argument ? " " : "",
             o->argument);
}

static void print_option(const aq_option *o) {
    char left[160];
    spelling(o, left, sizeof left);
    printf("  %-34s", left);
    if (strlen(left) > 33)
        printf("\n  %-34s", "");
    printf(" %s", o->doc);
    if (o->fallback)
        printf(" (%s)", o->fallback);
    putchar('\n');
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
    printf("\noptions:\n");
    for (const uint8_t *o = v->options; *o; o++)
        print_option(aq_option_of(*o));
    return AQ_OK;
}

static aq_status help_all(const aq_args *a) {
    if (aq_arg_given(a, AQ_OPT_JSON)) {
        cJSON *list = cJSON_CreateArray();
        for (uint32_t i = 0; aq_verb_at(i); i++)
            cJSON_AddItemToArray(list, verb_json(aq_verb_at(i)));
        return aq_json_print(list);
    }
    printf("aquila: compiles and runs Aquila language models\n\nusage: aquila VERB [options] ...\n\n");
    for (uint32_t i = 0; aq_verb_at(i); i++)
        printf("  %-11s %-16s %s\n", aq_verb_at(i)->name, aq_verb_at(i)->operands, aq_verb_at(i)->summary);
    printf("\n`aquila VERB --help` tells its options. MODEL is a folder (Hugging Face form), a .gguf file, or NAME:random[:SEED], a built-in\n"
           "architecture with random weights. Exit status: 0 done, 1 failed, 2 wrong command line, 3 input refused, 4 library or device\n"
           "missing, 5 out of memory, 6 a check failed, 130 interrupted.\n");
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

aq_status aq_verb_completion(const aq_args *a) {
    AQ_TRY(refuse_json(a));
    if (strcmp(a->operand[0], "bash"))
        return aq_fail(AQ_USAGE, NULL, "completion: %s: expected bash", a->operand[0]);
    printf("_aquila() {\n    local word=${COMP_WORDS[COMP_CWORD]} words\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words='");
    for (uint32_t i = 0; aq_verb_at(i); i++)
        printf("%s%s", i ? " " : "", aq_verb_at(i)->name);
    printf("'\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (uint32_t i = 0; aq_verb_at(i); i++) {
        printf("            %s) words='", aq_verb_at(i)->name);
        for (const uint8_t *o = aq_verb_at(i)->options; *o; o++)
            printf("--%s ", aq_option_of(*o)->name);
        printf("' ;;\n");
    }
    printf("        esac\n        [[ $word == -* ]] || words=\n    fi\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -F _aquila aquila\n");
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

aq_status aq_verb_man(const aq_args *a) {
    AQ_TRY(refuse_json(a));
    printf(".TH AQUILA 1\n.SH NAME\naquila \\- compiles and runs Aquila language models\n.SH SYNOPSIS\n.B aquila\nVERB [options] ...\n.SH VERBS\n");
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
        for (const uint8_t *o = v->options; *o; o++) {
            char left[160];
            spelling(aq_option_of(*o), left, sizeof left);
            printf(".TP\n");
            roff(left + strspn(left, " "));
            putchar('\n');
            roff(aq_option_of(*o)->doc);
            if (aq_option_of(*o)->fallback)
                printf(" (%s)", aq_option_of(*o)->fallback);
            putchar('\n');
        }
    }
    return AQ_OK;
}
