/* verb_doctor.c: `aquila doctor`: the processor, and each library of libraries.def: where it was found and its version, or what to
 * install. Opening is the test: a library that is there but does not load is as good as missing, and the loader's reason is shown. LLVM is not
 * opened where a limit of addresses leaves it too little: it would end the program. */
#define _GNU_SOURCE
#include "codegen/codegen.h"
#include "codegen/cpu/cpu.h"
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/switches.h"
#include "runtime/cpu/features.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

typedef enum version_kind { PAIR, COUNT, NUMBER, TEXT } version_kind;

typedef struct library {
    const char *title;
    aq_switch_id path;
    const char *names, *symbol;
    version_kind kind;
    const char *needed, *hint;
} library;

static const library llvm = {"LLVM", AQ_SWITCH_AQ_LLVM, "", "", TEXT, "compiling for the CPU", "apt-get install libllvm19"};
static const library libraries[] = {
#define LIBRARY(title, path, names, symbol, kind, needed, hint) {title, AQ_SWITCH_##path, names, symbol, kind, needed, hint},
#include "frontend/cli/libraries.def"
#undef LIBRARY
};

typedef struct found {
    void *handle; /* NULL: not there, or not opened */
    int not_opened; /* nobody looked: there is no room for it */
    char path[512], reason[256], text[256];
} found;

/* Those of runtime/cpu/features.def that this processor has, apart by spaces. */
static void features(char *out, size_t room) {
    size_t n = 0;
    *out = 0;
    for (int i = 0; aq_rt_cpu_feature_name(i); i++)
        if (aq_rt_cpu_has(i) && n + strlen(aq_rt_cpu_feature_name(i)) + 2 < room)
            n += (size_t)snprintf(out + n, room - n, "%s%s", n ? " " : "", aq_rt_cpu_feature_name(i));
}

static void ask_version(const library *l, found *f) {
    union {
        void *symbol;
        int (*pair)(int *, int *);
        size_t (*count)(void);
        int (*number)(int *);
        int (*text)(char *, int *);
    } call = {.symbol = dlsym(f->handle, l->symbol)};
    char longest[8192] = ""; /* MPI_MAX_LIBRARY_VERSION_STRING of every implementation */
    int x = 0, y = 0;
    if (!call.symbol)
        return;
    switch (l->kind) {
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

static void look_for_llvm(found *f) {
    const char *version, *path;
    *f = (found){0};
    aq_status status = aq_cpu_llvm_version(&version, &path);
    if (status != AQ_OK) {
        f->not_opened = status == AQ_NO_MEMORY;
        snprintf(f->reason, sizeof f->reason, "%s", aq_error());
        return;
    }
    f->handle = f;
    snprintf(f->text, sizeof f->text, "%s", version);
    snprintf(f->path, sizeof f->path, "%s", path);
}

static cJSON *describe(const library *l, const found *f) {
    cJSON *one = cJSON_CreateObject();
    aq_json_set_string(one, "name", l->title);
    cJSON_AddBoolToObject(one, "found", f->handle != NULL);
    aq_json_set_string(one, "path", f->handle ? f->path : NULL);
    aq_json_set_string(one, "version", f->text[0] ? f->text : NULL);
    if (!f->handle) {
        aq_json_set_string(one, "reason", f->reason);
        if (!f->not_opened)
            aq_json_set_string(one, "install", l->hint);
    }
    return one;
}

static void print(const library *l, const found *f) {
    if (f->handle)
        printf("%-12s %s%s%s\n", l->title, f->text, *f->text ? "  " : "", f->path);
    else if (f->not_opened)
        printf("%-12s not opened: for %s: %s\n", l->title, l->needed, f->reason);
    else
        printf("%-12s not found: for %s: %s; %s names another path\n", l->title, l->needed, l->hint, aq_switch_of(l->path)->name);
}

static void tell(const aq_args *a, cJSON *list, const library *l, const found *f) {
    if (list)
        cJSON_AddItemToArray(list, describe(l, f));
    else
        print(l, f);
    if (!f->handle && !f->not_opened)
        aq_say(a, 1, "  %s: %s", l->title, f->reason);
}

aq_status aq_verb_doctor(const aq_args *a) {
    char name[64], has[512];
    aq_target here;
    found f;
    aq_rt_cpu_name(name);
    features(has, sizeof has);
    const char *target = aq_target_parse("cpu", &here) == AQ_OK ? here.name : "none: x86-64-v3 is the least";
    long cores = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    cJSON *document = NULL, *list = NULL;
    if (aq_arg_given(a, AQ_OPT_JSON)) {
        document = cJSON_CreateObject();
        cJSON *cpu = cJSON_AddObjectToObject(document, "cpu");
        aq_json_set_string(cpu, "name", name);
        aq_json_set_string(cpu, "features", has);
        aq_json_set_string(cpu, "target", target);
        aq_json_set_int(cpu, "cores", cores);
        aq_json_set_int(document, "memory_bytes", (int64_t)pages * page);
        list = cJSON_AddArrayToObject(document, "libraries");
    } else {
        printf("%-12s %s, %ld cores, %.1f GiB\n%-12s %s\n%-12s %s\n", "processor", name, cores, (double)pages * (double)page / 0x1p30, "features", has,
               "target", target);
    }
    look_for_llvm(&f);
    tell(a, list, &llvm, &f);
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        look_for(&libraries[i], &f);
        tell(a, list, &libraries[i], &f);
    }
    return document ? aq_json_print(document) : AQ_OK;
}
