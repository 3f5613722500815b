/* tool.c: compiles the texts of this folder with NVRTC (dlopen, no GPU, no driver), reads registers, spills and shared memory from ptxas' log and counts
   instructions in the SASS by nvdisasm; `reach` = instructions between a streaming weight load and the first use of its register, least and mean (loops wrap). Exit 1 if a demand is broken: no spills, no LDL/STL, LDG.E.128 everywhere, HMMA and LDGSTS and LDSM in gate.
     gcc -O1 -Wall -Wextra tool.c -o tool -ldl && NVDISASM=path/to/nvdisasm ./tool 80 86 89 90a 100a 120
   `-o FOLDER` keeps the cubins and the SASS there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int (*create)(void **, const char *, const char *, int, const char *const *, const char *const *);
static int (*compile)(void *, int, const char *const *);
static int (*destroy)(void **);
static int (*log_size)(void *, size_t *), (*get_log)(void *, char *), (*cubin_size)(void *, size_t *), (*get_cubin)(void *, char *);
static char *tile_text;
static int failed;

static void *must(void *p, const char *what) { if (!p) { fprintf(stderr, "tool: %s\n", what); exit(1); } return p; }

static char *slurp(const char *name) {
    FILE *f = must(fopen(name, "rb"), name);
    char *s = must(calloc(1, 1 << 20), "memory");
    if (fread(s, 1, (1 << 20) - 1, f) == 0) must(NULL, name);
    fclose(f);
    return s;
}

static void open_nvrtc(void) {
    void *h = dlopen("libnvrtc.so.13", RTLD_NOW);
    if (!h) h = dlopen("libnvrtc.so.12", RTLD_NOW);
    if (!h) h = dlopen("/usr/local/cuda/lib64/libnvrtc.so", RTLD_NOW);
    must(h, "libnvrtc.so.13 and .12 not found: install the CUDA toolkit's NVRTC");
    *(void **)&create = must(dlsym(h, "nvrtcCreateProgram"), "nvrtcCreateProgram");
    *(void **)&compile = must(dlsym(h, "nvrtcCompileProgram"), "nvrtcCompileProgram");
    *(void **)&destroy = must(dlsym(h, "nvrtcDestroyProgram"), "nvrtcDestroyProgram");
    *(void **)&log_size = must(dlsym(h, "nvrtcGetProgramLogSize"), "nvrtcGetProgramLogSize");
    *(void **)&get_log = must(dlsym(h, "nvrtcGetProgramLog"), "nvrtcGetProgramLog");
    *(void **)&cubin_size = must(dlsym(h, "nvrtcGetCUBINSize"), "nvrtcGetCUBINSize");
    *(void **)&get_cubin = must(dlsym(h, "nvrtcGetCUBIN"), "nvrtcGetCUBIN");
}

typedef struct { int regs, spill, insns, ldg, ldg128, lds128, ldsm, ldgsts, hmma, local, loop, reach, loads; long reach_sum; } counts;

/* How far behind the load at line i its register is first read; past the loop's end at `last` it goes on at `first`. */
static void reach_of(char *const *line, int n, int i, int first, int last, counts *c) {
    char reg[16], *p = strstr(line[i], "LDG.E.NA");
    if (!p || !strstr(p, ".128.") || sscanf(p, "%*s %15[R0-9]", reg) != 1) return;
    int in_loop = i >= first && i <= last, at = i, base = atoi(reg + 1);
    for (int d = 1; d < n; d++) {
        at = in_loop && at == last ? first : at + 1;
        if (at >= n) return;
        char *q = strchr(line[at], ',');
        while (q && (q = strchr(q, 'R'))) {
            int r = atoi(q + 1);
            if (q[1] >= '0' && q[1] <= '9' && q[-1] != 'U' && r >= base && r < base + 4) {
                c->reach = c->loads == 0 || d < c->reach ? d : c->reach, c->reach_sum += d, c->loads++;
                return;
            }
            q++;
        }
    }
}

/* Counts over one kernel's SASS; loop = instructions of the longest backward branch's body. */
static void count_kernel(char *sass, const char *kernel, counts *c) {
    char head[128];
    snprintf(head, sizeof head, ".text.%s:", kernel);
    char *p = must(strstr(sass, head), kernel), *end = strstr(p, "\n.text.");
    char *saved = NULL;
    char *text = must(strndup(p + strlen(head), end ? (size_t)(end - p) - strlen(head) : strlen(p) - strlen(head)), "memory");
    static struct { char name[32]; int at; } label[512];
    static char *insn[1 << 16];
    int labels = 0, first = -1, last = -1;
    for (char *line = strtok_r(text, "\n", &saved); line; line = strtok_r(NULL, "\n", &saved)) {
        if (strncmp(line, ".L_", 3) == 0 && labels < 512) { sscanf(line, "%31[^:]", label[labels].name), label[labels++].at = c->insns; continue; }
        char *q = strstr(line, "*/");
        if (!q || !strstr(line, ";")) continue;
        if (c->insns < 1 << 16) insn[c->insns] = q + 2;
        c->insns++;
        if (strstr(q, "LDGSTS")) c->ldgsts++;
        else if (strstr(q, "LDG.")) c->ldg++, c->ldg128 += strstr(q, "LDG.E.128") != NULL || strstr(q, ".128.CONSTANT") != NULL || strstr(q, "LTC128B.128") != NULL;
        if (strstr(q, " LDS.128")) c->lds128++;
        if (strstr(q, "LDSM")) c->ldsm++;
        if (strstr(q, "HMMA")) c->hmma++;
        if (strstr(q, " LDL") || strstr(q, " STL")) c->local++;
        char *b = strstr(q, "BRA");
        if (b && (b = strstr(b, ".L_"))) {
            char name[32];
            sscanf(b, "%31[^)`; ]", name);
            for (int i = 0; i < labels; i++) if (strcmp(label[i].name, name) == 0 && c->insns - label[i].at > c->loop && c->insns - label[i].at > 1) first = label[i].at, last = c->insns - 1, c->loop = last - first + 1;
        }
    }
    for (int i = 0; i < c->insns && i < 1 << 16; i++) reach_of(insn, c->insns, i, first, last, c);
    free(text);
}

static void read_log(const char *log, const char *kernel, counts *c) {
    char head[128];
    snprintf(head, sizeof head, "'%s' for", kernel);
    const char *p = must(strstr(log, head), "ptxas log lacks the kernel");
    const char *s = strstr(p, "bytes spill stores"), *u = must(strstr(p, "Used "), "no register count");
    while (s && s > p && s[-1] != ',') s--;
    c->spill = s ? atoi(s) : 0;
    c->regs = atoi(u + 5);
}

static void row(const char *arch, const char *kernel, const counts *c, int threads, int shared, int gate) {
    int per_sm = strncmp(arch, "86", 2) == 0 || strncmp(arch, "89", 2) == 0 || strncmp(arch, "12", 2) == 0 ? 100 : strncmp(arch, "80", 2) == 0 ? 164 : 228;
    int warps_max = strncmp(arch, "80", 2) == 0 || strncmp(arch, "90", 2) == 0 || strncmp(arch, "100", 3) == 0 ? 64 : 48;
    int blocks_max = warps_max == 64 ? 32 : strncmp(arch, "86", 2) == 0 ? 16 : 24;
    int by_regs = 65536 / ((c->regs + 7) / 8 * 8 * threads), by_shared = per_sm * 1024 / (shared + 1024), by_warps = warps_max * 32 / threads;
    int blocks = by_regs < by_shared ? by_regs : by_shared;
    if (by_warps < blocks) blocks = by_warps;
    if (blocks_max < blocks) blocks = blocks_max;
    printf("| %s | %s | %d | %d | %d | %d/%d | %d | %d | %d | %d | %d | %d | %d, %ld | %d x %d warps |\n", kernel, arch, c->regs, c->spill + c->local, shared, c->ldg128, c->ldg, c->lds128, c->ldsm, c->ldgsts,
           c->hmma, c->insns, c->loop, c->reach, c->loads ? c->reach_sum / c->loads : 0, blocks, threads / 32);
    int bad = c->spill || c->local || blocks < 1 || (gate ? !c->hmma || !c->ldgsts || !c->ldsm : c->ldg128 < 8 && c->ldgsts < 16);
    if (bad) { fprintf(stderr, "tool: %s sm_%s breaks a demand\n", kernel, arch); failed = 1; }
}

static void build(const char *arch, const char *file, const char *folder, const char *define[2], const char *const *kernels, const int *shared, int threads, int gate) {
    char option[64], path[256], cmd[600];
    char *text = slurp(file), *sass = must(calloc(1, 8 << 20), "memory");
    const char *names[] = { "tile.cuh" }, *texts[] = { tile_text };
    void *prog;
    size_t n;
    snprintf(option, sizeof option, "--gpu-architecture=sm_%s", arch);
    const char *options[] = { option, "--std=c++17", "-Xptxas", "-v", "-default-device", define[0], define[1] };
    if (create(&prog, text, file, 1, texts, names)) must(NULL, "create");
    int rc = compile(prog, define[0] ? 7 : 5, options);
    log_size(prog, &n);
    char *log = must(calloc(1, n + 1), "memory");
    get_log(prog, log);
    if (rc) { fprintf(stderr, "tool: %s for sm_%s:\n%s\n", file, arch, log); failed = 1; return; }
    cubin_size(prog, &n);
    char *cubin = must(malloc(n), "memory");
    get_cubin(prog, cubin);
    snprintf(path, sizeof path, "%s/%.*s.sm_%s.cubin", folder, (int)strcspn(file, "."), file, arch);
    FILE *f = must(fopen(path, "wb"), path);
    fwrite(cubin, 1, n, f), fclose(f);
    snprintf(cmd, sizeof cmd, "%s %s | tee %s.sass", getenv("NVDISASM") ? getenv("NVDISASM") : "nvdisasm", path, path);
    f = must(popen(cmd, "r"), "nvdisasm");
    n = fread(sass, 1, (8 << 20) - 1, f);
    if (pclose(f) || n == 0) must(NULL, "nvdisasm (PyPI nvidia-cuda-nvdisasm) failed: set NVDISASM");
    for (int i = 0; kernels[i]; i++) {
        counts c = { 0 };
        read_log(log, kernels[i], &c), count_kernel(sass, kernels[i], &c), row(arch, kernels[i], &c, threads, shared[i], gate);
    }
    free(text), free(sass), free(log), free(cubin), destroy(&prog);
}

int main(int argc, char **argv) {
    static const char *const qkv[] = { "qkv_bf16_late", "qkv_bf16_local", "qkv_bf16_async", "qkv_q4_cast", "qkv_q4_a16", NULL }, *const gate[] = { "gate_up", NULL };
    static const int qkv_shared[] = { 0, 4096 * 4 + 16, 4096 * 4 + 16 + 32768, 4096 * 4 + 16, 4096 * 2 + 128 * 8 + 16 };
    const char *folder = "/tmp", *none[2] = { NULL, NULL }, *deep[2] = { "-DBK_=64", "-DSTAGES_=3" }, *small[2] = { "-DBK_=32", "-DSTAGES_=4" };
    open_nvrtc();
    tile_text = slurp("tile.cuh");
    printf("| kernel | sm_ | registers | spills | shared bytes | LDG.128 of LDG | LDS.128 | LDSM | LDGSTS | HMMA | instructions | in the loop | reach | blocks an SM |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-o") == 0 && i + 1 < argc) { folder = argv[++i]; continue; }
        int big = strncmp(argv[i], "80", 2) == 0 || strncmp(argv[i], "90", 2) == 0 || strncmp(argv[i], "100", 3) == 0;
        int shared = (big ? 3 * 64 : 4 * 32) * 384 * 2;
        build(argv[i], "qkv.cu", folder, none, qkv, qkv_shared, 128, 0);
        build(argv[i], "gate.cu", folder, big ? deep : small, gate, &shared, 256, 1);
    }
    return failed;
}
