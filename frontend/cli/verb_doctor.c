/* verb_doctor.c: `aquila doctor`: the processor, and each library of libraries.def: where it was found and its version, or what to
 * install. Opening is the test: a library that is there but does not load is as good as missing, and the loader's reason is shown. */
#define _GNU_SOURCE
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/switches.h"

#include <cpuid.h>
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

typedef enum version_kind { TRIPLE, PAIR, COUNT, NUMBER, TEXT } version_kind;

typedef struct library {
    const char *title;
    aq_switch_id path;
    const char *names, *symbol;
    version_kind kind;
    const char *needed, *hint;
} library;

static const library libraries[] = {
#define LIBRARY(title, path, names, symbol, kind, needed, hint) {title, AQ_SWITCH_##path, names, symbol, kind, needed, hint},
#include "frontend/cli/libraries.def"
#undef LIBRARY
};

typedef struct found {
    void *handle;

    char path[512], reason[256], text[256];
} found;

/* The processor's own name for itself. */
static void brand(char out[49]) {
    unsigned r[12] = {0}, top = __get_cpuid_max(0x80000000u, NULL);
    for (unsigned i = 0; i < 3 && top >= 0x80000004u; i++)
        __get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    memcpy(out, r, 48);
    out[48] = 0;
    size_t n = strlen(out);
    while (n && out[n - 1] == ' ')
        out[--n] = 0;
}

static void family(char *out, size_t room) {
    unsigned a = 0, b, c, d;
    __get_cpuid(1, &a, &b, &c, &d);
    unsigned f = a >> 8 & 15, m = a >> 4 & 15;
    if (f == 6 || f == 15)
        m |= a >> 12 & 0xf0;
    if (f == 15)
        f += a >> 20 & 255;
    snprintf(out, room, "family %u model %u", f, m);
}

/* Those of features.def that this processor has (and the system saves the registers of), apart by spaces. */
static void features(char *out, size_t room) {
    *out = 0;
    __builtin_cpu_init();
#define FEATURE(name)                                                                                                                                \
    if (__builtin_cpu_supports(name) && strlen(out) + sizeof name + 1 < room)                                                                       \
        strcat(strcat(out, *out ? " " : ""), name);
#include "frontend/cli/features.def"
#undef FEATURE
}

static void ask_version(const library *l, found *f) {
    union {
        void *symbol;
        void (*triple)(unsigned *, unsigned *, unsigned *);
        int (*pair)(int *, int *);
        size_t (*count)(void);
        int (*number)(int *);
        int (*text)(char *, int *);
    } call = {.symbol = dlsym(f->handle, l->symbol)};
    char longest[8192] = ""; /* MPI_MAX_LIBRARY_VERSION_STRING of every implementation */
    unsigned major = 0, minor = 0, patch = 0;
    int x = 0, y = 0;
    if (!call.symbol)
        return;
    switch (l->kind) {
    case TRIPLE:
        call.triple(&major, &minor, &patch);
        snprintf(f->text, sizeof f->text, "%u.%u.%u", major, minor, patch);
        break;
    case PAIR:
        if (call.pair(&x, &y) == 0)
            snprintf(f->text, sizeof f->text, "%d.%d", x, y);
        break;
    case COUNT:
        snprintf(f->text, sizeof f->text, "%zu", call.count());
        break;
    case NUMBER:
        if (call.number(&x) == 0)
            snprintf(f->text, sizeof f->text, "%d", x);
        break;
    case TEXT:
        if (call.text(longest, &x) == 0)
            snprintf(f->text, sizeof f->text, "%.*s", (int)strcspn(longest, ",\n"), longest);
        break;
    }
}

static void try_name(const library *l, const char *name, found *f) {
    f->handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (!f->handle) {
        const char *why = dlerror();
        snprintf(f->reason, sizeof f->reason, "%s", why ? why : name);
        return;
    }
    Dl_info info;
    void *symbol = dlsym(f->handle, l->symbol);
    snprintf(f->path, sizeof f->path, "%s", symbol && dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : name);
    ask_version(l, f);
}

static void look_for(const library *l, found *f) {
    *f = (found){0};
    const char *own = aq_switch(l->path), *s = l->names;
    if (own) {
        try_name(l, own, f);
        return; /* who names a path wants that one */
    }
    while (!f->handle && *s) {
        char name[128];
        size_t n = strcspn(s, " ");
        snprintf(name, sizeof name, "%.*s", (int)n, s);
        try_name(l, name, f);
        s += n + (s[n] == ' ');
    }
}

static cJSON *describe(const library *l, const found *f) {
    cJSON *one = cJSON_CreateObject();
    aq_json_set_text(one, "name", l->title, strlen(l->title));
    cJSON_AddBoolToObject(one, "found", f->handle != NULL);
    aq_json_set_text(one, "path", f->handle ? f->path : NULL, strlen(f->path));
    aq_json_set_text(one, "version", f->text[0] ? f->text : NULL, strlen(f->text));
    if (!f->handle) {
        aq_json_set_text(one, "reason", f->reason, strlen(f->reason));
        aq_json_set_text(one, "install", l->hint, strlen(l->hint));
    }
    return one;
}

static void print(const library *l, const found *f) {
    if (f->handle)
        printf("%-12s %s%s%s\n", l->title, f->text, *f->text ? "  " : "", f->path);
    else
        printf("%-12s not found: for %s: %s; %s names another path\n", l->title, l->needed, l->hint, aq_switch_of(l->path)->name);
}

aq_status aq_verb_doctor(const aq_args *a) {
    char name[49], model[64], has[256];
    brand(name);
    family(model, sizeof model);
    features(has, sizeof has);
    long cores = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    int json = aq_arg_given(a, AQ_OPT_JSON);
    cJSON *document = json ? cJSON_CreateObject() : NULL, *list = NULL;
    if (json) {
        cJSON *cpu = cJSON_AddObjectToObject(document, "cpu");
        aq_json_set_text(cpu, "name", name, strlen(name));
        aq_json_set_text(cpu, "model", model, strlen(model));
        aq_json_set_text(cpu, "features", has, strlen(has));
        aq_json_set_int(cpu, "cores", cores);
        aq_json_set_int(document, "memory_bytes", (int64_t)pages * page);
        list = cJSON_AddArrayToObject(document, "libraries");
    } else {
        printf("%-12s %s (%s), %ld cores, %.1f GiB\n%-12s %s\n", "processor", name, model, cores, (double)pages * (double)page / 0x1p30, "features", has);
    }
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        found f;
        look_for(&libraries[i], &f);
        if (json)
            cJSON_AddItemToArray(list, describe(&libraries[i], &f));
        else
            print(&libraries[i], &f);
        if (!f.handle)
            aq_say(a, 1, "  %s: %s", libraries[i].title, f.reason);
    }
    return json ? aq_json_print(document) : AQ_OK;
}
