/* llvm.c: opens libLLVM 19 by name. The one table of functions lives as long as the process: LLVM cannot be unloaded safely. */
#define _GNU_SOURCE
#include "codegen/cpu/llvm.h"

#include "codegen/cpu/cpu.h"
#include "ir/memory.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"libLLVM.so.19.1", "libLLVM-19.so.1", "libLLVM-19.so", "/usr/lib/llvm-19/lib/libLLVM.so.19.1"};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *wanted; /* aq_cpu_llvm_use */
static aq_llvm table;
static char version[32], path[512], why[600];
static int is_open;
static aq_status failure = AQ_MISSING; /* where it is not open: the kind of `why` */

static void *open_by_name(void) {
    if (wanted) {
        void *lib = dlopen(wanted, RTLD_NOW | RTLD_LOCAL);
        if (!lib)
            snprintf(why, sizeof why, "LLVM 19 is not there: %s: expected the library that AQ_LLVM names", dlerror());
        return lib;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (lib)
            return lib;
    }
    snprintf(why, sizeof why,
             "LLVM 19 is not installed: looked for libLLVM.so.19.1, libLLVM-19.so.1, libLLVM-19.so: expected Debian's libllvm19 "
             "(apt-get install libllvm19), or its path in AQ_LLVM");
    return NULL;
}

static int fill(void *lib) {
#define FN(name)                                                                                                                           \
    {                                                                                                                                      \
        void *f = dlsym(lib, "LLVM" #name);                                                                                                \
        if (!f) {                                                                                                                          \
            snprintf(why, sizeof why, "%s lacks LLVM" #name ": expected LLVM 19", path);                                                   \
            return 0;                                                                                                                      \
        }                                                                                                                                  \
        memcpy(&table.name, &f, sizeof f);                                                                                                 \
    }
#include "codegen/cpu/llvm.def"
#undef FN
    return 1;
}

/* LLVM ends the program by an exception of C++ where it gets no memory: the library maps 130 MiB, a model's code took up to 60 more. */
static int has_addresses(void) {
    uint64_t left = aq_mem_addresses(), wants = (uint64_t)256 << 20;
    if (left >= wants)
        return 1;
    snprintf(why, sizeof why, "LLVM needs 256 MiB of addresses, %llu MiB are allowed: expected a higher limit (ulimit -v), a plan compiled before, or "
             "--target ref", (unsigned long long)(left >> 20));
    failure = AQ_NO_MEMORY;
    return 0;
}

static void open_once(void) {
    if (!has_addresses())
        return;
    void *lib = open_by_name();
    if (!lib)
        return;
    void *f = dlsym(lib, "LLVMGetVersion");
    Dl_info info;
    if (f && dladdr(f, &info) && info.dli_fname)
        snprintf(path, sizeof path, "%s", info.dli_fname);
    if (!fill(lib))
        return;
    unsigned major = 0, minor = 0, patch = 0;
    table.GetVersion(&major, &minor, &patch);
    snprintf(version, sizeof version, "%u.%u.%u", major, minor, patch);
    if (major != 19) {
        snprintf(why, sizeof why, "%s is LLVM %s: expected LLVM 19", path, version);
        return;
    }
    table.InitializeX86TargetInfo();
    table.InitializeX86Target();
    table.InitializeX86TargetMC();
    table.InitializeX86AsmPrinter();
    is_open = 1;
}

/* `name` in the folders where the loader looks; 0 if it is in none of them. */
static int find_in_folders(const char *name, char room[AQ_FILE_PATH]) {
    Dl_serinfo size, *folders;
    void *self = dlopen(NULL, RTLD_LAZY), *at;
    int found = 0;
    if (!self || dlinfo(self, RTLD_DI_SERINFOSIZE, &size) || aq_mem_alloc(size.dls_size, &at) != AQ_OK)
        return 0;
    folders = at;
    if (!dlinfo(self, RTLD_DI_SERINFOSIZE, folders) && !dlinfo(self, RTLD_DI_SERINFO, folders))
        for (unsigned i = 0; i < folders->dls_cnt && !found; i++)
            found = snprintf(room, AQ_FILE_PATH, "%s/%s", folders->dls_serpath[i].dls_name, name) < AQ_FILE_PATH && aq_file_kind(room) == 1;
    aq_mem_free(folders);
    return found;
}

const char *aq_cpu_llvm_file(char room[AQ_FILE_PATH]) {
    const char *opened, *out;
    if (wanted && strchr(wanted, '/'))
        return aq_file_kind(wanted) == 1 ? wanted : NULL;
    for (size_t i = 0; i < (wanted ? 1 : sizeof names / sizeof *names); i++) {
        const char *name = wanted ? wanted : names[i];
        if (strchr(name, '/') && aq_file_kind(name) == 1)
            return name;
        if (!strchr(name, '/') && find_in_folders(name, room))
            return room;
    }
    return aq_cpu_llvm_version(&opened, &out) == AQ_OK ? out : NULL; /* the loader knows more folders (ld.so.conf): then it has to be asked */
}

void aq_cpu_llvm_use(const char *file) {
    wanted = file;
}

aq_status aq_llvm_open(const aq_llvm **out) {
    pthread_once(&once, open_once);
    if (!is_open)
        return aq_fail(failure, NULL, "%s", why);
    *out = &table;
    return AQ_OK;
}

aq_status aq_cpu_llvm_version(const char **out, const char **out_path) {
    const aq_llvm *l;
    AQ_TRY(aq_llvm_open(&l));
    *out = version;
    *out_path = path;
    return AQ_OK;
}
