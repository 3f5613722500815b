/* emit.c: checked nests to one relocatable object. Each nest becomes a module with a function for each phase, each a loop over its work
 * items; two cheap passes run (early-cse merges the address arithmetic that unrolling repeats, licm moves it out of loops), and the
 * code generator does the rest. No vectoriser and no unroller: vectors and unrolling are in the nest. Nests are independent, and each has
 * its own context of LLVM, so threads share them; join.c makes one object of theirs.
 *
 * Cost: about 30 ms a kernel of processor time, the widest 150. Tried and dropped: emission without passes (address
 * arithmetic stayed in inner loops); default<O1> (half as long again, no faster code). */
#include "codegen/cpu/emit.h"

#include "codegen/cpu/cpu.h"
#include "codegen/cpu/join.h"
#include "codegen/cpu/object.h"
#include "codegen/parallel.h"
#include "ir/memory.h"
#include "ir/plan.h"

#include <stdio.h>
#include <string.h>

void aq_emit_status(emitter *e, aq_status s) {
    if (e->status == AQ_OK)
        e->status = s;
}

val aq_emit_refuse(emitter *e, const char *what, const char *expected) {
    if (e->status == AQ_OK)
        e->status = aq_fail(AQ_REFUSED, e->n->name, "%s: expected %s", what, expected);
    return e->l->GetUndef(e->i32);
}

block aq_emit_block(emitter *e, const char *name) {
    return e->l->AppendBasicBlockInContext(e->ctx, e->fn, name);
}

val aq_emit_alloca(emitter *e, typ t, int64_t count) {
    block here = e->l->GetInsertBlock(e->b);
    e->l->PositionBuilderAtEnd(e->b, e->entry);
    val a = e->l->BuildAlloca(e->b, e->l->ArrayType2(t, (uint64_t)count), "");
    e->l->SetAlignment(a, 64);
    e->l->PositionBuilderAtEnd(e->b, here);
    return a;
}

val aq_emit_intrinsic(emitter *e, const char *name, typ *types, int n_types, val *args, int n_args) {
    unsigned id = e->l->LookupIntrinsicID(name, strlen(name));
    if (!id)
        return aq_emit_refuse(e, name, "an intrinsic of LLVM 19");
    val f = e->l->GetIntrinsicDeclaration(e->mod, id, types, (size_t)n_types);
    return e->l->BuildCall2(e->b, e->l->IntrinsicGetType(e->ctx, id, types, (size_t)n_types), f, args, (unsigned)n_args, "");
}

/* --- one function ---------------------------------------------------------------------------------------------------------------- */

static void text_attribute(emitter *e, const char *key, const char *value) {
    LLVMAttributeRef a = e->l->CreateStringAttribute(e->ctx, key, (unsigned)strlen(key), value, (unsigned)strlen(value));
    e->l->AddAttributeAtIndex(e->fn, LLVMAttributeFunctionIndex, a);
}

static aq_status open_function(emitter *e, int phase) {
    const char *name;
    AQ_TRY(aq_arena_format(e->arena, &name, "%s.p%d", e->n->name, phase));
    typ args[5] = {e->ptr, e->ptr, e->ptr, e->i64, e->i64};
    e->fn = e->l->AddFunction(e->mod, name, e->l->FunctionType(e->none, args, 5, 0));
    LLVMAttributeRef nounwind = e->l->CreateEnumAttribute(e->ctx, e->l->GetEnumAttributeKindForName("nounwind", 8), 0);
    e->l->AddAttributeAtIndex(e->fn, LLVMAttributeFunctionIndex, nounwind);
    if (e->target->has_avx512) {
        text_attribute(e, "prefer-vector-width", "512");
        text_attribute(e, "min-legal-vector-width", "512");
    }
    text_attribute(e, "no-builtins", "true");
    e->entry = aq_emit_block(e, "entry");
    return AQ_OK;
}

/* The number that the plan has for a symbol of the module: by its name (ir/plan.h). */
static int plan_symbol(const char *name) {
    static const char letters[] = "?TOBSP";
    const char *at = name && name[0] && !name[1] ? strchr(letters + 1, name[0]) : NULL;
    return at ? (int)(at - letters) : 0;
}

static void load_arguments(emitter *e) {
    val buf = e->l->GetParam(e->fn, 0);
    e->sym_base = e->l->GetParam(e->fn, 1);
    e->local = e->l->GetParam(e->fn, 2);
    int at = 0;
    for (aq_id i = 1; i < e->n->bufs.n; i++) {
        if (e->n->bufs.at[i].role == AQ_BUF_LOCAL)
            e->buf[i] = aq_emit_step_address(e, e->local, e->local_at[i]);
        else
            e->buf[i] = aq_emit_load_at(e, e->ptr, aq_emit_step_address(e, buf, 8 * at++), 8);
    }
    for (aq_id i = 1; i < e->n->module->syms.n; i++) {
        int k = plan_symbol(e->n->module->syms.at[i].name);
        e->sym[i] = k ? aq_emit_load_at(e, e->i64, aq_emit_step_address(e, e->sym_base, 8 * k), 8) : NULL;
    }
}

/* Number of work items of a tree. */
static val count_items(emitter *e, const aq_grid *g) {
    val n = k64(e, 1);
    for (int i = 0; i < g->n; i++) {
        val up = e->l->BuildAdd(e->b, aq_emit_dim(e, g->extent[i]), k64(e, g->step[i] - 1), "");
        n = e->l->BuildMul(e->b, n, e->l->BuildUDiv(e->b, up, k64(e, g->step[i]), ""), "");
    }
    return n;
}

static void emit_trees(emitter *e, aq_id first, const val *start, val item, block latch) {
    int k = 0;
    for (aq_id tree = first; tree && k < AQ_MAX_TREES; tree = e->n->stmts.at[tree].next, k++) {
        block next = NULL;
        if (e->n->stmts.at[tree].next) {
            block here = aq_emit_block(e, "tree");
            next = aq_emit_block(e, "next");
            e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, item, start[k + 1], ""), here, next);
            e->l->PositionBuilderAtEnd(e->b, here);
        }
        aq_emit_tree(e, tree, e->l->BuildSub(e->b, item, start[k], ""));
        e->l->BuildBr(e->b, latch);
        if (next)
            e->l->PositionBuilderAtEnd(e->b, next);
    }
}

static aq_status emit_phase(emitter *e, int phase, aq_id first_tree) {
    AQ_TRY(open_function(e, phase));
    block start = aq_emit_block(e, "start"), loop = aq_emit_block(e, "item"), latch = aq_emit_block(e, "latch"),
          done = aq_emit_block(e, "done");
    e->l->PositionBuilderAtEnd(e->b, start);
    load_arguments(e);
    aq_grid grids[AQ_MAX_TREES];
    int n_grids = aq_nest_grids(e->n, phase, grids);
    val first[AQ_MAX_TREES + 1] = {k64(e, 0)};
    for (int i = 0; i < n_grids; i++)
        first[i + 1] = e->l->BuildAdd(e->b, first[i], count_items(e, &grids[i]), "");
    val begin = e->l->GetParam(e->fn, 3), end = e->l->GetParam(e->fn, 4);
    e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, begin, end, ""), loop, done);
    e->l->PositionBuilderAtEnd(e->b, loop);
    val item = e->l->BuildPhi(e->b, e->i64, "");
    emit_trees(e, first_tree, first, item, latch);
    e->l->PositionBuilderAtEnd(e->b, latch);
    val next = e->l->BuildAdd(e->b, item, k64(e, 1), "");
    val values[2] = {begin, next};
    block from[2] = {start, latch};
    e->l->AddIncoming(item, values, from, 2);
    e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, next, end, ""), loop, done);
    e->l->PositionBuilderAtEnd(e->b, done);
    e->l->BuildRetVoid(e->b);
    e->l->PositionBuilderAtEnd(e->b, e->entry);
    e->l->BuildBr(e->b, start);
    return e->status;
}

/* --- one nest -------------------------------------------------------------------------------------------------------------------- */

static aq_status place_locals(emitter *e, uint64_t *out_bytes) {
    size_t total = 0;
    for (aq_id i = 1; i < e->n->bufs.n; i++) {
        const aq_nest_buf *b = &e->n->bufs.at[i];
        if (b->role != AQ_BUF_LOCAL)
            continue;
        int64_t dim[AQ_MAX_RANK];
        for (int k = 0; k < b->type.rank; k++)
            dim[k] = b->type.dim[k].k;
        size_t bytes;
        AQ_TRY(aq_layout_bytes(b->layout, b->type.dtype, dim, b->type.rank, b->name, &bytes));
        e->local_at[i] = (int64_t)total;
        AQ_TRY(aq_size_add(total, bytes + 63, b->name, &total));
        total &= ~(size_t)63;
    }
    *out_bytes = total;
    return AQ_OK;
}

static aq_status emit_nest(emitter *e, const aq_nest *n, uint64_t *local_bytes) {
    e->n = n;
    AQ_ALLOC(e->arena, e->buf, n->bufs.n);
    AQ_ALLOC(e->arena, e->local_at, n->bufs.n);
    AQ_ALLOC(e->arena, e->sym, n->module->syms.n + 1);
    AQ_ALLOC(e->arena, e->tile, n->tiles.n);
    memset(e->cover, 0, sizeof e->cover);
    AQ_TRY(place_locals(e, local_bytes));
    int phase = 0;
    for (aq_id p = n->first_phase; p; p = n->stmts.at[p].next)
        AQ_TRY(emit_phase(e, phase++, n->stmts.at[p].first_child));
    return AQ_OK;
}

/* --- the module ------------------------------------------------------------------------------------------------------------------ */

static void name_types(emitter *e) {
    e->i1 = e->l->Int1TypeInContext(e->ctx);
    e->i8 = e->l->Int8TypeInContext(e->ctx);
    e->i16 = e->l->Int16TypeInContext(e->ctx);
    e->i32 = e->l->Int32TypeInContext(e->ctx);
    e->i64 = e->l->Int64TypeInContext(e->ctx);
    e->f16 = e->l->HalfTypeInContext(e->ctx);
    e->bf16 = e->l->BFloatTypeInContext(e->ctx);
    e->f32 = e->l->FloatTypeInContext(e->ctx);
    e->f64 = e->l->DoubleTypeInContext(e->ctx);
    e->ptr = e->l->PointerTypeInContext(e->ctx, 0);
    e->none = e->l->VoidTypeInContext(e->ctx);
}

static aq_status llvm_failed(const aq_llvm *l, const char *what, char *message) {
    aq_status s = aq_fail(AQ_FAILED, NULL, "%s: %s: expected LLVM to take what the emitter builds", what, message ? message : "no message");
    if (message)
        l->DisposeMessage(message);
    return s;
}

static aq_status open_machine(const aq_llvm *l, const aq_target *t, LLVMTargetMachineRef *out) {
    static const char triple[] = "x86_64-unknown-linux-gnu";
    LLVMTargetRef target;
    char *message = NULL;
    if (l->GetTargetFromTriple(triple, &target, &message))
        return llvm_failed(l, "target", message);
    const char *features = t->has_vnni && t->has_bf16 ? "+avx512vnni,+avx512bf16,+fast-dpwssd"
                           : t->has_vnni              ? "+avx512vnni,+fast-dpwssd"
                           : t->has_bf16              ? "+avx512bf16"
                                                      : "";
    *out = l->CreateTargetMachine(target, triple, t->has_avx512 ? "x86-64-v4" : "x86-64-v3", t->has_avx512 ? features : "",
                                  LLVMCodeGenLevelDefault, LLVMRelocPIC, LLVMCodeModelSmall);
    return *out ? AQ_OK : llvm_failed(l, "target machine", NULL);
}

static aq_status run_passes(emitter *e, LLVMTargetMachineRef machine) {
    char *message = NULL;
    if (e->l->VerifyModule(e->mod, LLVMReturnStatusAction, &message))
        return llvm_failed(e->l, e->n ? e->n->name : "module", message);
    e->l->DisposeMessage(message);
    LLVMPassBuilderOptionsRef options = e->l->CreatePassBuilderOptions();
    LLVMErrorRef error = e->l->RunPasses(e->mod, "function(early-cse,loop-mssa(licm))", machine, options);
    e->l->DisposePassBuilderOptions(options);
    if (!error)
        return AQ_OK;
    char *text = e->l->GetErrorMessage(error);
    aq_status s = aq_fail(AQ_FAILED, NULL, "passes: %s: expected LLVM 19's names", text);
    e->l->DisposeErrorMessage(text);
    return s;
}

/* *out: its bytes, to be freed. */
static aq_status write_out(emitter *e, LLVMTargetMachineRef machine, LLVMModuleRef mod, LLVMCodeGenFileType kind, aq_object *out) {
    LLVMMemoryBufferRef buffer;
    char *message = NULL;
    if (e->l->TargetMachineEmitToMemoryBuffer(machine, mod, kind, &message, &buffer))
        return llvm_failed(e->l, "code generation", message);
    size_t size = e->l->GetBufferSize(buffer);
    void *copy;
    aq_status status = aq_mem_alloc(size + 1, &copy);
    if (status == AQ_OK) {
        memcpy(copy, e->l->GetBufferStart(buffer), size);
        *out = (aq_object){copy, size};
    }
    e->l->DisposeMemoryBuffer(buffer);
    return status;
}

/* Marks of a GPU change the order of sums, or promise what a CPU does not do. */
static aq_status check_marks(const aq_nest *n) {
    for (aq_id i = 1; i < n->bufs.n; i++)
        if (n->bufs.at[i].layout == AQ_LAYOUT_PLANES)
            return aq_fail(AQ_REFUSED, n->name, "%s: planes are for a GPU: expected rows or panel on a CPU", n->bufs.at[i].name);
    for (aq_id i = 1; i < n->stmts.n; i++) {
        const aq_stmt *s = &n->stmts.at[i];
        const char *mark = s->vec > 1 ? "vec" : s->warps ? "warps" : s->mma > 2 ? "mma" : s->stages ? "stages" : NULL;
        if (mark)
            return aq_fail(AQ_REFUSED, n->name, "%s on axis %s is a mark for a GPU: expected only lanes on a CPU", mark, n->axes.at[s->axis].name);
    }
    return AQ_OK;
}

/* --- all of them ------------------------------------------------------------------------------------------------------------------ */

/* One nest's share: what a thread is given and what it gave. */
typedef struct job {
    const aq_nest *nest;
    const aq_target *target;
    int wants_text;
    aq_object object, text;
    uint64_t local_bytes;
    aq_status status;
    char message[600]; /* aq_error() is the thread's own */
} job;

static aq_status fill_module(emitter *e, LLVMTargetMachineRef machine, job *j) {
    LLVMTargetDataRef layout = e->l->CreateTargetDataLayout(machine);
    e->l->SetModuleDataLayout(e->mod, layout);
    e->l->DisposeTargetData(layout);
    e->l->SetTarget(e->mod, "x86_64-unknown-linux-gnu");
    e->l->SetSourceFileName(e->mod, "aquila", 6);
    AQ_TRY(emit_nest(e, j->nest, &j->local_bytes));
    AQ_TRY(run_passes(e, machine));
    if (j->wants_text) {
        LLVMModuleRef copy = e->l->CloneModule(e->mod);
        aq_status status = write_out(e, machine, copy, LLVMAssemblyFile, &j->text);
        e->l->DisposeModule(copy);
        AQ_TRY(status);
    }
    return write_out(e, machine, e->mod, LLVMObjectFile, &j->object);
}

static aq_status emit_one(job *j, aq_arena *arena) {
    emitter e = {.target = j->target, .arena = arena};
    LLVMTargetMachineRef machine;
    AQ_TRY(check_marks(j->nest));
    AQ_TRY(aq_llvm_open(&e.l));
    AQ_ALLOC(arena, e.memo, MAX_MEMO);
    AQ_TRY(open_machine(e.l, j->target, &machine));
    e.ctx = e.l->ContextCreate();
    e.mod = e.l->ModuleCreateWithNameInContext("aquila", e.ctx);
    e.b = e.l->CreateBuilderInContext(e.ctx);
    name_types(&e);
    aq_status status = fill_module(&e, machine, j);
    e.l->DisposeBuilder(e.b);
    e.l->DisposeModule(e.mod);
    e.l->ContextDispose(e.ctx);
    e.l->DisposeTargetMachine(machine);
    return status;
}

static void emit_jobs(void *user, int64_t begin, int64_t end) {
    for (job *j = (job *)user + begin; j < (job *)user + end; j++) {
        aq_arena arena = {0};
        j->status = emit_one(j, &arena);
        if (j->status != AQ_OK)
            snprintf(j->message, sizeof j->message, "%s", aq_error());
        aq_arena_close(&arena);
    }
}

/* LLVM ends the program where it gets no memory (llvm.c): a thread more wants its stack, a heap of its own and what a kernel takes. */
static int affordable(int threads) {
    uint64_t left = aq_mem_addresses() >> 20;
    uint64_t most = left < 512 ? 1 : 1 + (left - 256) / 256;
    return most < (uint64_t)threads ? (int)most : threads;
}

static aq_status gather(const job *jobs, uint32_t n, aq_arena *arena, unsigned char **out_object, size_t *out_size, uint64_t *local_bytes, const char **asm_text) {
    aq_object *objects;
    aq_text text = {.arena = arena};
    AQ_ALLOC(arena, objects, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        if (jobs[i].status != AQ_OK)
            return aq_fail(jobs[i].status, NULL, "%s", jobs[i].message);
        objects[i] = jobs[i].object;
        local_bytes[i] = jobs[i].local_bytes;
        if (asm_text)
            AQ_TRY(aq_text_add(&text, "%s", (const char *)jobs[i].text.bytes));
    }
    AQ_TRY(aq_objects_join(objects, n, arena, out_object, out_size));
    if (asm_text)
        AQ_TRY(aq_text_end(&text, asm_text));
    return aq_object_check(*out_object, *out_size);
}

aq_status aq_cpu_emit(const aq_nest *const *nests, uint32_t n, const aq_target *t, int threads, aq_arena *arena, unsigned char **out_object,
                      size_t *out_size, uint64_t *local_bytes, const char **asm_text) {
    const aq_llvm *l;
    void *block;
    unsigned char *object = NULL;
    size_t size = 0;
    AQ_TRY(aq_llvm_open(&l));
    AQ_TRY(aq_mem_alloc((n + 1) * sizeof(job), &block));
    job *jobs = block;
    for (uint32_t i = 0; i < n; i++)
        jobs[i] = (job){.nest = nests[i], .target = t, .wants_text = asm_text != NULL};
    aq_parallel(affordable(threads), n, 1, emit_jobs, jobs);
    aq_status status = gather(jobs, n, arena, &object, &size, local_bytes, asm_text);
    if (status == AQ_OK) {
        *out_object = object;
        *out_size = size;
    }
    for (uint32_t i = 0; i < n; i++) {
        aq_mem_free(jobs[i].object.bytes);
        aq_mem_free(jobs[i].text.bytes);
    }
    aq_mem_free(jobs);
    return status;
}
