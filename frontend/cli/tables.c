/* tables.c: every .def file that a user may care for, turned into rows of text by including it once more. A new table: its rows, and
 * one row in `tables`. */
#include "frontend/cli/tables.h"

#include "frontend/cli/json.h"
#include "frontend/cli/switches.h"
#include "ir/dtype.h"

#include <string.h>

enum { COLUMNS = 6 };
typedef struct table {
    const char *name, *doc;
    const char *column[COLUMNS];          /* NULL ends them */
    const char *(*rows)[COLUMNS];
    uint32_t n;
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
#define TARGET(name, avx512, bf16, vnni, registers, l1, l2, read, f32, bf16_rate, i16, i8) {name, #read, #f32, #bf16_rate, #i16, #i8},
#include "codegen/targets.def"
#undef TARGET
};
static line features[] = {
#define FEATURE(id, name, part, leaf, sub, reg, bit) {name, part, #leaf, #reg, #bit},
#include "runtime/cpu/features.def"
};
static line templates[] = {
#define TEMPLATE(name, flags, start, system, system_start, system_end, user, user_end, assistant, assistant_end, open, instruction, ...)               \
    {name, #user, #user_end, #assistant, #assistant_end, #__VA_ARGS__},
#include "frontend/chat/templates.def"
};
static line switches[] = {
#define SWITCH(ID, fallback, doc) {#ID, fallback, doc},
#include "frontend/cli/switches.def"
#undef SWITCH
};

#define ROWS(array) array, sizeof array / sizeof *array

static const table tables[] = {
    {"ops", "what a graph is made of", {"op", "axes", "traits", "meaning"}, ROWS(ops)},
    {"attributes", "the attributes of ops", {"key", "kind", "meaning"}, ROWS(attributes)},
    {"reductions", "the monoids of reductions", {"monoid", "text", "parts", "meaning"}, ROWS(monoids)},
    {"dtypes", "element types", {"dtype", "block", "bytes", "kind", "gguf", "meaning"}, ROWS(dtypes)},
    {"layouts", "how values lie in memory", {"layout", "meaning"}, ROWS(layouts)},
    {"batch", "the arrays of a batch", {"array", "axes", "first axis", "meaning"}, ROWS(batch)},
    {"passes", "the passes of the default pipeline, in order", {"pass", "needs", "gives", "grade", "meaning"}, ROWS(passes)},
    {"targets", "levels of CPU that code is made for, a core's typical figures", {"target", "read GB/s", "f32 GF/s", "bf16 GF/s", "int16 Gop/s", "int8 Gop/s"},
     ROWS(targets)},
    {"features", "processor features that plans may need", {"feature", "part", "cpuid leaf", "register", "bit"}, ROWS(features)},
    {"templates", "forms of a conversation", {"template", "before user", "after user", "before assistant", "after assistant", "stops"}, ROWS(templates)},
    {"switches", "the environment variables that are read", {"switch", "default", "meaning"}, ROWS(switches)},
};

enum { TABLES = sizeof tables / sizeof *tables };

static line list_of_tables[TABLES];
static const table meta = {"tables", "this list", {"table", "holds"}, list_of_tables, TABLES};

static const table *find(const char *name) {
    for (size_t i = 0; i < TABLES; i++)
        if (!strcmp(tables[i].name, name))
            return &tables[i];
    return strcmp(meta.name, name) ? NULL : &meta;
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
            aq_json_set_text(one, t->column[c], t->rows[r][c], strlen(t->rows[r][c]));
        cJSON_AddItemToArray(document, one);
    }
    return aq_json_print(document);
}

aq_status aq_table_print(const char *name, int json) {
    for (size_t i = 0; i < TABLES; i++) {
        list_of_tables[i][0] = tables[i].name;
        list_of_tables[i][1] = tables[i].doc;
    }
    const table *t = find(name);
    if (json)
        return print_json(t);
    print_text(t);
    return AQ_OK;
}
