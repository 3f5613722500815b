/* exec_nest.c: `exec` of a nest text. The text is hostile and subscripts are part of it: machine code would follow them anywhere. So the reference,
 * which checks each, runs it first on the same buffers (unless --unchecked); that run is also what --check compares with. Cost of that: some
 * 50 ns an operation. */
#include "frontend/cli/exec.h"
#include "frontend/cli/exec_machine.h"

#include "codegen/cpu/cpu.h"
#include "codegen/ref/sample.h"
#include "ir/memory.h"
#include "ir/random.h"

#include <string.h>

typedef struct nest_run {
    const aq_graph_file *f;
    const aq_args *a;
    aq_arena *arena;
    aq_target target;
    aq_module m;
    aq_nest *n;
    aq_ref_inputs in;
    uint32_t n_bufs;      /* that are not LOCAL */
    const aq_nest_buf **buf;
    void **at, **want;    /* want: the reference's; IN buffers are shared */
    size_t *bytes;
} nest_run;

/* --- the text ----------------------------------------------------------------------------------------------------------------------------- */

static aq_status bind_shapes(nest_run *r) {
    const aq_option_value *files = &r->a->at[AQ_OPT_EXEC_IN];
    const char **known;
    uint32_t k = 0;
    AQ_ALLOC(r->arena, known, r->n->bufs.n + 1);
    for (aq_id i = 1; i < r->n->bufs.n; i++) {
        const aq_nest_buf *b = &r->n->bufs.at[i];
        const char *file = aq_exec_file_of(files, b->name);
        if (b->role != AQ_BUF_IN && b->role != AQ_BUF_STATE)
            continue;
        known[k++] = b->name;
        if (file)
            AQ_TRY(aq_exec_bind_shape(&r->m, file, &b->type));
    }
    return aq_exec_files_check(files, "--in", known, k);
}

static aq_status read_text(nest_run *r) {
    static const struct {
        const char *name;
        int64_t lo, hi;
    } syms[] = {{"T", 1, 1 << 20}, {"O", 1, 1 << 20}, {"B", 1, 1 << 16}, {"S", 1, 1 << 30}, {"P", 1, 1 << 24}};
    aq_id id;
    for (size_t i = 0; i < sizeof syms / sizeof *syms; i++)
        AQ_TRY(aq_sym_add(&r->m, syms[i].name, syms[i].lo, syms[i].hi, &id));
    AQ_TRY(aq_graph_file_narrow(r->f, &r->m));
    AQ_TRY(aq_read_nest(&r->m, r->arena, r->f->path, r->f->text, r->f->n, &r->n));
    AQ_TRY(bind_shapes(r));
    AQ_TRY(aq_exec_default_sizes(r->a, &r->m));
    int64_t seed = aq_arg_given(r->a, AQ_OPT_SEED) ? aq_arg_number(r->a, AQ_OPT_SEED) : 1;
    AQ_TRY(aq_body_add(&r->m, "nest", 0, &id));
    AQ_TRY(aq_ref_make_inputs(&r->m, id, (uint64_t)seed, r->arena, &r->in));
    return aq_exec_set_depth(r->a, r->arena, &r->in.batch);
}

/* --- buffers ------------------------------------------------------------------------------------------------------------------------------ */

/* Integers that are no arrays of a batch are mostly row numbers: below the least number of rows there is. */
static uint32_t least_rows(const nest_run *r) {
    int64_t least = 16;
    for (uint32_t i = 0; i < r->n_bufs; i++)
        if (r->buf[i]->type.rank > 1 && aq_dtype_of(r->buf[i]->type.dtype)->kind != AQ_KIND_INT) {
            int64_t rows = aq_dim_eval(r->buf[i]->type.dim[0], r->in.sym);
            least = rows < least ? rows : least;
        }
    return least > 0 ? (uint32_t)least : 1;
}

static aq_status random_values(const nest_run *r, uint32_t i, aq_arena *scratch, aq_ref_tensor *t) {
    int64_t n = aq_exec_count(t->dim, t->rank), seed = aq_arg_given(r->a, AQ_OPT_SEED) ? aq_arg_number(r->a, AQ_OPT_SEED) : 1;
    aq_random random = aq_random_open((uint64_t)seed * 1000003 + i);
    uint32_t below = least_rows(r);
    double *x;
    AQ_ALLOC(scratch, x, n + 1);
    for (int64_t k = 0; k < n; k++)
        x[k] = aq_dtype_of(t->dtype)->kind == AQ_KIND_INT ? (double)aq_random_below(&random, below) : aq_random_normal(&random);
    t->values = x;
    return AQ_OK;
}

/* The array of the batch that a buffer named %b.pos stands for, -1 for any other buffer. */
static int field_of(const nest_run *r, const aq_nest_buf *b, int64_t n) {
    const char *dot = strrchr(b->name, '.');
    int field = dot && b->type.dtype == AQ_I32 && b->role == AQ_BUF_IN ? aq_batch_field_by_name(dot + 1, strlen(dot + 1)) : -1;
    return field >= 0 && r->in.batch.n[field] == n ? field : -1;
}

static aq_status fill(nest_run *r, uint32_t i, aq_ref_tensor *t, aq_arena *scratch) {
    const aq_nest_buf *b = r->buf[i];
    const char *file = aq_exec_file_of(&r->a->at[AQ_OPT_EXEC_IN], b->name);
    int field = field_of(r, b, aq_exec_count(t->dim, t->rank));
    if (file)
        AQ_TRY(aq_exec_read(file, scratch, t));
    else if (field >= 0)
        t->blocks = r->in.batch.field[field];
    else
        AQ_TRY(random_values(r, i, scratch, t));
    return aq_exec_store(t, b->layout, scratch, r->at[i]);
}

static aq_status make_buffer(nest_run *r, uint32_t i) {
    const aq_nest_buf *b = r->buf[i];
    aq_ref_tensor t = {.dtype = b->type.dtype, .rank = b->type.rank};
    aq_arena scratch = {0};
    aq_status status = AQ_OK;
    for (int k = 0; k < t.rank; k++)
        t.dim[k] = aq_dim_eval(b->type.dim[k], r->in.sym);
    AQ_TRY(aq_layout_bytes(b->layout, t.dtype, t.dim, t.rank, b->name, &r->bytes[i]));
    AQ_TRY(aq_mem_alloc(r->bytes[i] + 64, &r->at[i]));
    if (b->role == AQ_BUF_IN || b->role == AQ_BUF_STATE)
        status = fill(r, i, &t, &scratch);
    else if (aq_dtype_of(t.dtype)->kind == AQ_KIND_FLOAT)
        memset(r->at[i], 0xff, r->bytes[i]);
    aq_arena_close(&scratch);
    AQ_TRY(status);
    r->want[i] = r->at[i];
    if (b->role == AQ_BUF_IN)
        return AQ_OK;
    AQ_TRY(aq_mem_alloc(r->bytes[i] + 64, &r->want[i]));
    memcpy(r->want[i], r->at[i], r->bytes[i]);
    return AQ_OK;
}

static aq_status make_buffers(nest_run *r) {
    AQ_ALLOC(r->arena, r->buf, r->n->bufs.n);
    AQ_ALLOC(r->arena, r->at, r->n->bufs.n);
    AQ_ALLOC(r->arena, r->want, r->n->bufs.n);
    AQ_ALLOC(r->arena, r->bytes, r->n->bufs.n);
    for (aq_id i = 1; i < r->n->bufs.n; i++)
        if (r->n->bufs.at[i].role != AQ_BUF_LOCAL)
            r->buf[r->n_bufs++] = &r->n->bufs.at[i];
    for (uint32_t i = 0; i < r->n_bufs; i++)
        AQ_TRY(make_buffer(r, i));
    return AQ_OK;
}

static void free_buffers(nest_run *r) {
    for (uint32_t i = 0; i < r->n_bufs; i++) {
        if (r->want[i] != r->at[i])
            aq_mem_free(r->want[i]);
        aq_mem_free(r->at[i]);
    }
}

/* --- outputs and figures ------------------------------------------------------------------------------------------------------------------ */

static aq_status gather(nest_run *r, int with_want, aq_exec_report *report) {
    report->compared = with_want;
    for (uint32_t i = 0; i < r->n_bufs; i++) {
        const aq_nest_buf *b = r->buf[i];
        aq_exec_output o = {.name = b->name, .dtype = b->type.dtype, .rank = b->type.rank};
        if (b->role != AQ_BUF_OUT && b->role != AQ_BUF_STATE)
            continue;
        for (int k = 0; k < o.rank; k++)
            o.dim[k] = aq_dim_eval(b->type.dim[k], r->in.sym);
        AQ_TRY(aq_exec_load(b->layout, o.dtype, o.dim, o.rank, r->at[i], r->arena, &o.got));
        if (with_want) {
            AQ_TRY(aq_exec_load(b->layout, o.dtype, o.dim, o.rank, r->want[i], r->arena, &o.want));
            o.distance = aq_exec_distance(o.got, o.want, aq_exec_count(o.dim, o.rank));
        }
        AQ_PUSH(r->arena, &report->outputs, o);
    }
    return AQ_OK;
}

/* A multiply and an add for every element that an update takes in. A step of an axis inside another loop over it covers that loop's step. */
static double count_flops(const nest_run *r, aq_id stmt, double *left, double turns) {
    double sum = 0;
    for (; stmt; stmt = r->n->stmts.at[stmt].next) {
        const aq_stmt *s = &r->n->stmts.at[stmt];
        double mine = turns, saved = 0;
        if (s->kind == AQ_STMT_TILES || s->kind == AQ_STMT_FOR) {
            saved = left[s->axis];
            double extent = saved > 0 ? saved : (double)aq_dim_eval(r->n->axes.at[s->axis].extent, r->in.sym);
            left[s->axis] = s->step > 0 && s->step < extent ? s->step : extent;
            mine *= extent / left[s->axis];
        }
        if (s->kind == AQ_STMT_UPDATE) {
            double elements = mine;
            for (aq_id a = 1; a < r->n->axes.n; a++)
                elements *= left[a] > 0 ? left[a] : 1;
            sum += 2 * elements;
        }
        if (s->first_child)
            sum += count_flops(r, s->first_child, left, mine);
        if (s->kind == AQ_STMT_TILES || s->kind == AQ_STMT_FOR)
            left[s->axis] = saved;
    }
    return sum;
}

static aq_status measure(nest_run *r, aq_machine *machine, const aq_launch *l, aq_exec_report *report) {
    uint32_t runs = (uint32_t)aq_arg_number(r->a, AQ_OPT_REPEAT);
    aq_exec_time t = {.name = r->n->name, .ops = "", .uses = 1};
    int64_t *ns;
    double *left;
    AQ_TRY(aq_rt_limits_measure(report->threads, 0.1, &report->peaks));
    AQ_ALLOC(r->arena, ns, runs + 1);
    AQ_ALLOC(r->arena, left, r->n->axes.n + 1);
    for (uint32_t i = 0; i < runs; i++)
        ns[i] = aq_machine_run(machine, l);
    t.ns = report->whole_ns = aq_exec_median(ns, runs);
    t.flops = count_flops(r, r->n->first_phase, left, 1);
    for (uint32_t i = 0; i < r->n_bufs; i++)
        t.bytes += r->buf[i]->role == AQ_BUF_IN || r->buf[i]->role == AQ_BUF_OUT ? (double)r->bytes[i] : 0;
    for (aq_id i = 1; i < r->n->bufs.n; i++)
        t.integer_dots |= aq_dtype_of(r->n->bufs.at[i].type.dtype)->kind == AQ_KIND_ACT;
    for (aq_id i = 1; i < r->n->exprs.n; i++)
        t.integer_dots |= r->n->exprs.at[i].kind == AQ_EXPR_OP && r->n->exprs.at[i].op == AQ_OP_quantize;
    AQ_PUSH(r->arena, &report->times, t);
    return AQ_OK;
}

/* --- running ------------------------------------------------------------------------------------------------------------------------------ */

static aq_status run_machine(nest_run *r, aq_machine *machine, aq_exec_report *report) {
    const aq_nest **nests;
    aq_launch l;
    AQ_ALLOC(r->arena, nests, 1);
    nests[0] = r->n;
    AQ_TRY(aq_machine_open(nests, 1, &r->target, report->threads, r->arena, machine));
    AQ_TRY(aq_launch_make(machine, 0, r->at, r->in.sym, r->arena, &l));
    aq_machine_run(machine, &l);
    AQ_TRY(gather(r, aq_arg_given(r->a, AQ_OPT_CHECK), report));
    return aq_arg_given(r->a, AQ_OPT_TIME) ? measure(r, machine, &l, report) : AQ_OK;
}

static aq_status run(nest_run *r, aq_exec_report *report) {
    aq_machine machine = {0};
    AQ_TRY(aq_arena_format(r->arena, &report->what, "nest %s", r->n->name));
    AQ_TRY(aq_exec_sizes(&r->m, r->in.sym, r->arena, &report->sizes));
    AQ_TRY(make_buffers(r));
    if (r->target.is_ref) {
        AQ_TRY(aq_ref_run_nest(r->n, r->at, r->in.sym, 0));
        return gather(r, 0, report);
    }
    if (!aq_arg_given(r->a, AQ_OPT_UNCHECKED) || aq_arg_given(r->a, AQ_OPT_CHECK))
        AQ_TRY(aq_ref_run_nest(r->n, r->want, r->in.sym, 0));
    aq_status status = run_machine(r, &machine, report);
    aq_machine_close(&machine);
    return status;
}

static aq_status show(nest_run *r, const char *what, const char **out) {
    const aq_nest *n = r->n;
    unsigned char *object;
    uint64_t local;
    size_t size;
    aq_text t = {.arena = r->arena};
    if (!strcmp(what, "schedule"))
        return aq_fail(AQ_USAGE, NULL, "--show schedule: a nest has none, it is what a schedule led to: expected nest or asm");
    if (!strcmp(what, "asm"))
        return r->target.is_ref ? aq_fail(AQ_USAGE, NULL, "--show asm: ref interprets nests: expected a cpu target")
                                : aq_cpu_emit(&n, 1, &r->target, 1, r->arena, &object, &size, &local, out);
    AQ_TRY(aq_print_nest(n, &t));
    return aq_text_end(&t, out);
}

static aq_status read_and_run(nest_run *r, aq_exec_report *report, const char **out_text) {
    const char *what = aq_arg_text(r->a, AQ_OPT_EXEC_SHOW);
    AQ_TRY(read_text(r));
    if (what)
        return show(r, what, out_text);
    aq_status status = run(r, report);
    free_buffers(r);
    return status;
}

aq_status aq_exec_nest(const aq_graph_file *f, aq_arena *arena, aq_exec_report *out, const char **out_text) {
    nest_run r = {.f = f, .a = f->args, .arena = arena};
    int64_t threads = aq_arg_number(f->args, AQ_OPT_THREADS);
    AQ_TRY(aq_target_parse(aq_exec_target(f->args), &r.target));
    AQ_TRY(aq_arena_string(arena, r.target.name, strlen(r.target.name), &out->target));
    out->threads = (int)(threads ? threads : aq_team_processors());
    AQ_TRY(aq_module_open(&r.m, f->path));
    aq_status status = read_and_run(&r, out, out_text);
    aq_module_close(&r.m);
    return status;
}
