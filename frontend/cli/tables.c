/* tables.c: every .def file that a user may care for, turned into rows of text by including it once more. A new table: its rows, and
 * one row in `tables`. */
#define _GNU_SOURCE
#include "frontend/cli/tables.h"

#include "codegen/codegen.h"
#include "frontend/chat/chat.h"
#include "frontend/cli/json.h"
#include "frontend/cli/switches.h"
#include "frontend/import/import.h"
#include "frontend/import/names.h"
#include "ir/dtype.h"
#include "ir/memory.h"
#include "runtime/cpu/features.h"
#include "runtime/team.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { COLUMNS = 7 };
typedef struct table {
    const char *name, *doc;
    const char *column[COLUMNS];          /* NULL ends them */
    const char *(*rows)[COLUMNS];
    uint32_t n;
    aq_status (*fill)(aq_arena *arena);   /* makes the cells that no .def file holds; NULL: there are none */
} table;
typedef const char *line[COLUMNS];

static line ops[] = {
#define OP(id, axes, infer, grad, traits, doc) {#id, axes, #traits, doc},
#include "ir/ops.def"
#undef OP
};
static line attributes[] = {
#define ATTR(key, kind, doc) {#key, #kind, doc},
#include "ir/attrs.def"
#undef ATTR
};
static line monoids[] = {
#define MONOID(id, text, parts, doc) {#id, text, #parts, doc},
#include "ir/reduce.def"
#undef MONOID
};
static line dtypes[] = {
#define DTYPE(ID, name, block, bytes, kind, gguf, safetensors, doc) {#name, #block, #bytes, #kind, #gguf, doc},
#include "ir/dtype.def"
#undef DTYPE
};
static line layouts[] = {
#define LAYOUT(ID, name, doc) {#name, doc},
#include "ir/layout.def"
#undef LAYOUT
};
static line batch[] = {
#define FIELD(name, n_dims, dim0, dim1, doc) {#name, #n_dims, #dim0, doc},
#include "ir/batch.def"
#undef FIELD
};
static line passes[] = {
#define PASS(name, needs, gives, grade, doc) {#name, needs, gives, #grade, doc},
#include "passes/passes.def"
#undef PASS
};
static line targets[] = {
#define TARGET(name, avx512, bf16, vnni, registers, l1, l2, read, f32, bf16_rate, i16, i8)                                                 \
    {name, #read, #f32, #bf16_rate, #i16, #i8, ""}, /* filled in: does it run here? */
#include "codegen/targets.def"
#undef TARGET
};
static line features[] = {
#define FEATURE(id, name, part, leaf, sub, reg, bit) {name, part, #leaf, #reg, #bit},
#include "runtime/cpu/features.def"
};
static line templates[] = {
#define TEMPLATE(name, ...) {name, "", "", "", "", "", ""}, /* filled in: texts as they are fed */
#include "frontend/chat/templates.def"
};
static line switches[] = {
#define SWITCH(ID, fallback, doc) {#ID, fallback, doc},
#include "frontend/cli/switches.def"
#undef SWITCH
};

static line devices[] = {{"cpu", "", "", "", "", "this processor"}, {"ref", "", "ref", "", "", "the reference: interprets graphs and nests in f64"}};
static line models[] = { /* context, stops and options are filled in: they are said elsewhere */
#define NAME(name, config, template, sampling, temperature, top_k, top_p, max_new, doc) {name, config, "", template, "", "", doc},
#include "frontend/import/names.def"
};

/* "--temperature 0.1 ...": what differs from the program's defaults. */
static aq_status options_of(aq_arena *arena, const aq_known_model *m, const char **out) {
    const char *const of[][2] = {{"--sampling", m->sampling}, {"--temperature", m->temperature}, {"--top-k", m->top_k}, {"--top-p", m->top_p}, {"-n", m->max_new}};
    *out = "";
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (of[i][1])
            AQ_TRY(aq_arena_format(arena, out, "%s%s%s %s", *out, **out ? " " : "", of[i][0], of[i][1]));
    return AQ_OK;
}

/* A text of a template for people: line ends as \n, the model's own tokens as {bos} and {eos}. */
static aq_status shown(aq_arena *arena, const char *s, const char **out) {
    char *to;
    AQ_ALLOC(arena, to, 5 * strlen(s) + 1);
    *out = to;
    for (; *s; s++) {
        char plain[2] = {*s, 0};
        to = stpcpy(to, *s == '\n' ? "\\n" : *s == 1 ? "{bos}" : *s == 2 ? "{eos}" : plain);
    }
    return AQ_OK;
}

static aq_status stops_of(aq_arena *arena, const aq_chat_template *t, const char **out) {
    *out = "";
    for (int k = 0; k < AQ_CHAT_STOPS && t->stops[k]; k++)
        AQ_TRY(aq_arena_format(arena, out, "%s%s%s", *out, k ? " " : "", t->stops[k]));
    return AQ_OK;
}

static aq_status fill_templates(aq_arena *arena) {
    for (uint32_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        const aq_chat_template *t = aq_chat_template_at(i);
        const char *const texts[] = {t->start, t->user, t->user_end, t->assistant, t->assistant_end};
        for (int k = 0; k < 5; k++)
            AQ_TRY(shown(arena, texts[k], &templates[i][1 + k]));
        AQ_TRY(stops_of(arena, t, &templates[i][6]));
    }
    return AQ_OK;
}

static aq_status fill_models(aq_arena *arena) {
    for (uint32_t i = 0; i < sizeof models / sizeof *models; i++) {
        const aq_known_model *m = aq_known_model_at(i);
        const aq_chat_template *t = aq_chat_template_find(m->template);
        aq_config c;
        AQ_TRY(aq_config_read(arena, m->config, &c));
        AQ_TRY(aq_arena_format(arena, &models[i][2], "%" PRId64, c.max_length));
        AQ_TRY(stops_of(arena, t, &models[i][4]));
        AQ_TRY(options_of(arena, m, &models[i][5]));
    }
    return AQ_OK;
}

/* "2 of 2", "29.3 GiB, 11.0 free". */
static aq_status fill_devices(aq_arena *arena) {
    static char name[64];
    aq_target here;
    long cores = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    aq_rt_cpu_name(name);
    devices[0][2] = aq_target_parse("cpu", &here) == AQ_OK ? here.name : "none: x86-64-v3 is the least";
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        devices[i][1] = name;
        AQ_TRY(aq_arena_format(arena, &devices[i][3], "%d of %ld", aq_team_processors(), cores));
        AQ_TRY(aq_arena_format(arena, &devices[i][4], "%.1f GiB, %.1f free", (double)pages * (double)page / 0x1p30, (double)aq_mem_available() / 0x1p30));
    }
    return AQ_OK;
}

static aq_status fill_targets(aq_arena *arena) {
    (void)arena;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        targets[i][6] = aq_rt_cpu_check("", targets[i][0]) == AQ_OK ? "yes" : "no";
    return AQ_OK;
}

#define FILLED(array, fill) array, sizeof array / sizeof *array, fill
#define ROWS(array) FILLED(array, NULL)

static const table tables[] = {
    {"ops", "what a graph is made of", {"op", "axes", "traits", "meaning"}, ROWS(ops)},
    {"attributes", "the attributes of ops", {"key", "kind", "meaning"}, ROWS(attributes)},
    {"reductions", "the monoids of reductions", {"monoid", "text", "parts", "meaning"}, ROWS(monoids)},
    {"dtypes", "element types", {"dtype", "block", "bytes", "kind", "gguf", "meaning"}, ROWS(dtypes)},
    {"layouts", "how values lie in memory", {"layout", "meaning"}, ROWS(layouts)},
    {"batch", "the arrays of a batch", {"array", "axes", "first axis", "meaning"}, ROWS(batch)},
    {"passes", "the passes of the default pipeline, in order", {"pass", "needs", "gives", "grade", "meaning"}, ROWS(passes)},
    {"targets", "levels of CPU that code is made for, a core's typical figures", {"target", "read GB/s", "f32 GF/s", "bf16 GF/s", "int16 Gop/s", "int8 Gop/s", "here"},
     FILLED(targets, fill_targets)},
    {"devices", "what plans can run on, on this machine", {"device", "name", "target", "threads", "memory", "meaning"}, FILLED(devices, fill_devices)},
    {"features", "processor features that plans may need", {"feature", "part", "cpuid leaf", "register", "bit"}, ROWS(features)},
    {"models", "models by name: NAME:random, or a checkpoint of that name", {"model", "architecture", "context", "template", "stops", "options", "meaning"},
     FILLED(models, fill_models)},
    {"templates", "forms of a conversation", {"template", "beginning", "before user", "after user", "before assistant", "after assistant", "stops"},
     FILLED(templates, fill_templates)},
    {"switches", "the environment variables that are read", {"switch", "default", "meaning"}, ROWS(switches)},
};

enum { TABLES = sizeof tables / sizeof *tables };

static line list_of_tables[TABLES];
static const table meta = {.name = "tables", .doc = "this list", .column = {"table", "holds"}, .rows = list_of_tables, .n = TABLES};

static const table *find(const char *name) {
    for (size_t i = 0; i < TABLES; i++)
        if (!strcmp(tables[i].name, name))
            return &tables[i];
    return strcmp(meta.name, name) ? NULL : &meta;
}

const char *aq_show_word(void *user, uint32_t i) {
    static const char *const others[] = {"tables", "kernels", "cache"};
    (void)user;
    return i < TABLES ? tables[i].name : i < TABLES + sizeof others / sizeof *others ? others[i - TABLES] : NULL;
}

int aq_table_exists(const char *name) {
    return find(name) != NULL;
}

static void print_text(const table *t) {
    size_t width[COLUMNS] = {0};
    for (int c = 0; c < COLUMNS && t->column[c]; c++) {
        width[c] = strlen(t->column[c]);
        for (uint32_t r = 0; r < t->n; r++)
            width[c] = strlen(t->rows[r][c]) > width[c] ? strlen(t->rows[r][c]) : width[c];
    }
    for (uint32_t r = 0; r <= t->n; r++) {
        const char *const *cells = r ? t->rows[r - 1] : t->column;
        for (int c = 0; c < COLUMNS && t->column[c]; c++)
            if (c + 1 < COLUMNS && t->column[c + 1])
                printf("%-*s  ", (int)width[c], cells[c]);
            else
                printf("%s", cells[c]);
        putchar('\n');
    }
}

static aq_status print_json(const table *t) {
    cJSON *document = cJSON_CreateArray();
    for (uint32_t r = 0; r < t->n; r++) {
        cJSON *one = cJSON_CreateObject();
        for (int c = 0; c < COLUMNS && t->column[c]; c++)
            aq_json_set_string(one, t->column[c], t->rows[r][c]);
        cJSON_AddItemToArray(document, one);
    }
    return aq_json_print(document);
}

aq_status aq_table_print(const char *name, int json) {
    const table *t = find(name);
    aq_arena arena = {0};
    aq_status status = t->fill ? t->fill(&arena) : AQ_OK;
    for (size_t i = 0; i < TABLES; i++) {
        list_of_tables[i][0] = tables[i].name;
        list_of_tables[i][1] = tables[i].doc;
    }
    if (status == AQ_OK && json)
        status = print_json(t);
    else if (status == AQ_OK)
        print_text(t);
    aq_arena_close(&arena);
    return status;
}
