/* exec_data.c: see exec_data.h. Everything goes through row-major f64: slow, exact, one way for every type and layout. */
#include "frontend/cli/exec_data.h"

#include "frontend/cli/npy.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

int64_t aq_exec_count(const int64_t *dim, int rank) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= dim[i];
    return n;
}

/* --- bytes -------------------------------------------------------------------------------------------------------------------------------- */

/* Row-major bytes of the tensor's type. */
static aq_status rows_of(const aq_ref_tensor *t, aq_arena *arena, const void **out) {
    int64_t n = aq_exec_count(t->dim, t->rank);
    unsigned char *bytes;
    size_t size;
    if (t->blocks) {
        *out = t->blocks;
        return AQ_OK;
    }
    AQ_TRY(aq_dtype_bytes(t->dtype, (uint64_t)n, "a tensor", &size));
    AQ_ALLOC(arena, bytes, size + 1);
    if (aq_dtype_of(t->dtype)->block == 1) {
        for (int64_t i = 0; i < n; i++)
            aq_layout_set(AQ_LAYOUT_ROWS, t->dtype, &n, 1, &i, bytes, t->values[i]);
    } else {
        float *x;
        AQ_ALLOC(arena, x, n + 1);
        for (int64_t i = 0; i < n; i++)
            x[i] = (float)t->values[i];
        aq_dtype_encode_f32(t->dtype, x, (size_t)n, bytes);
    }
    *out = bytes;
    return AQ_OK;
}

static void index_of(const int64_t *dim, int rank, int64_t i, int64_t *index) {
    for (int d = rank; d-- > 0; i /= dim[d])
        index[d] = i % dim[d];
}

aq_status aq_exec_store(const aq_ref_tensor *t, aq_layout l, aq_arena *arena, void *dst) {
    const void *rows;
    size_t size;
    int64_t n = aq_exec_count(t->dim, t->rank), index[AQ_MAX_RANK];
    AQ_TRY(rows_of(t, arena, &rows));
    if (l == AQ_LAYOUT_ROWS) {
        AQ_TRY(aq_layout_bytes(l, t->dtype, t->dim, t->rank, "a tensor", &size));
        memcpy(dst, rows, size);
    } else if (l == AQ_LAYOUT_PANEL) {
        aq_layout_pack_panel(t->dtype, rows, t->dim[0], t->dim[1], 0, 0, t->dim[0], dst);
    } else if (l == AQ_LAYOUT_PLANES) {
        aq_layout_pack_planes(t->dtype, rows, t->dim[0], t->dim[1], dst);
    } else {
        for (int64_t i = 0; i < n; i++) {
            index_of(t->dim, t->rank, i, index);
            aq_layout_set(l, t->dtype, t->dim, t->rank, index, dst, aq_layout_get(AQ_LAYOUT_ROWS, t->dtype, &n, 1, &i, rows));
        }
    }
    return AQ_OK;
}

aq_status aq_exec_load(aq_layout l, aq_dtype dtype, const int64_t *dim, int rank, const void *src, aq_arena *arena, const double **out) {
    int64_t n = aq_exec_count(dim, rank), index[AQ_MAX_RANK];
    double *x;
    AQ_ALLOC(arena, x, n + 1);
    if (l == AQ_LAYOUT_ROWS)
        aq_dtype_decode_f64(dtype, src, 0, (size_t)n, x);
    else
        for (int64_t i = 0; i < n; i++) {
            index_of(dim, rank, i, index);
            x[i] = aq_layout_get(l, dtype, dim, rank, index, src);
        }
    *out = x;
    return AQ_OK;
}

/* --- files -------------------------------------------------------------------------------------------------------------------------------- */

const char *aq_exec_file_of(const aq_option_value *option, const char *name) {
    size_t n = strlen(name);
    for (uint32_t i = 0; i < option->n_list; i++)
        if (!strncmp(option->list[i], name, n) && option->list[i][n] == '=')
            return option->list[i] + n + 1;
    return NULL;
}

aq_status aq_exec_files_check(const aq_option_value *option, const char *what, const char *const *known, uint32_t n_known) {
    for (uint32_t i = 0; i < option->n_list; i++) {
        const char *word = option->list[i], *equals = strchr(word, '=');
        uint32_t k = 0;
        if (!equals || equals == word || !equals[1])
            return aq_fail(AQ_USAGE, NULL, "%s: %.80s: expected NAME=FILE.npy, as %%x=x.npy", what, word);
        while (k < n_known && (strncmp(known[k], word, (size_t)(equals - word)) || known[k][equals - word]))
            k++;
        if (k == n_known)
            return aq_fail(AQ_USAGE, NULL, "%s: %.*s is none of the %s here: expected one of them, as %s", what, (int)(equals - word < 60 ? equals - word : 60), word,
                           !strcmp(what, "--in") ? "inputs, weights and states" : "results and states", n_known ? known[0] : "(there is none)");
    }
    return AQ_OK;
}

aq_status aq_exec_bind_shape(aq_module *m, const char *file, const aq_type *type) {
    aq_npy a;
    AQ_TRY(aq_npy_read(file, &a));
    aq_status status = AQ_OK;
    if (a.rank != type->rank)
        status = aq_fail(AQ_REFUSED, file, "rank %d: expected %d", a.rank, type->rank);
    for (int i = 0; status == AQ_OK && i < type->rank; i++) {
        aq_dim d = type->dim[i];
        aq_sym *s = d.sym ? &m->syms.at[d.sym] : NULL;
        int64_t x = d.k > 0 ? a.dim[i] / d.k : 0;
        if (d.k <= 0 || a.dim[i] % d.k || (s ? x < s->lo || x > s->hi : x != 1))
            status = s ? aq_fail(AQ_REFUSED, file, "axis %d is %" PRId64 ": expected %" PRId64 " times a %s of %" PRId64 " to %" PRId64, i,
                                 a.dim[i], d.k, s->name, s->lo, s->hi)
                       : aq_fail(AQ_REFUSED, file, "axis %d is %" PRId64 ": expected %" PRId64, i, a.dim[i], d.k);
        else if (s)
            s->lo = s->hi = x;
    }
    aq_npy_close(&a);
    return status;
}

static aq_status take_numbers(const aq_npy *a, const char *file, aq_arena *arena, aq_ref_tensor *t) {
    int64_t n = aq_exec_count(t->dim, t->rank);
    const aq_dtype_info *info = aq_dtype_of(t->dtype);
    double *x;
    if ((int64_t)a->n != n)
        return aq_fail(AQ_REFUSED, file, "%zu elements: expected %" PRId64, a->n, n);
    AQ_ALLOC(arena, x, n + 1);
    aq_dtype_decode_f64(a->dtype, a->data, 0, a->n, x);
    for (int64_t i = 0; i < n; i++)
        if (info->kind == AQ_KIND_INT && !(x[i] == floor(x[i]) && fabs(x[i]) <= 2147483647))
            return aq_fail(AQ_REFUSED, file, "element %" PRId64 " is %g: expected whole numbers of 32 bits", i, x[i]);
    t->values = x;
    t->blocks = NULL;
    if (info->kind == AQ_KIND_WEIGHT || info->kind == AQ_KIND_ACT) {
        AQ_TRY(rows_of(t, arena, &t->blocks));
        t->values = NULL;
    }
    for (int64_t i = 0; t->values && info->kind == AQ_KIND_FLOAT && i < n; i++) { /* what the type can hold */
        unsigned char room[8];
        int64_t one = 1, zero = 0;
        aq_layout_set(AQ_LAYOUT_ROWS, t->dtype, &one, 1, &zero, room, x[i]);
        x[i] = aq_layout_get(AQ_LAYOUT_ROWS, t->dtype, &one, 1, &zero, room);
    }
    return AQ_OK;
}

aq_status aq_exec_read(const char *file, aq_arena *arena, aq_ref_tensor *t) {
    aq_npy a;
    AQ_TRY(aq_npy_read(file, &a));
    aq_status status = take_numbers(&a, file, arena, t);
    aq_npy_close(&a);
    return status;
}

aq_status aq_exec_write(const char *file, aq_dtype dtype, const int64_t *dim, int rank, const double *values, aq_arena *arena) {
    int64_t n = aq_exec_count(dim, rank);
    int is_int = aq_dtype_of(dtype)->kind == AQ_KIND_INT;
    float *f;
    AQ_ALLOC(arena, f, n + 1);
    for (int64_t i = 0; i < n; i++)
        if (is_int) {
            int32_t v = (int32_t)values[i];
            memcpy(&f[i], &v, sizeof v);
        } else {
            f[i] = (float)values[i];
        }
    return aq_npy_write(file, is_int ? AQ_I32 : AQ_F32, dim, rank, f);
}

double aq_exec_distance(const double *a, const double *b, int64_t n) {
    double up = 0, down = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(b[i]))
            down += b[i] * b[i];
        if (a[i] == b[i] || (isnan(a[i]) && isnan(b[i])))
            continue;
        up += isfinite(a[i] - b[i]) ? (a[i] - b[i]) * (a[i] - b[i]) : INFINITY;
    }
    return up == 0 ? 0 : down > 0 ? sqrt(up / down) : INFINITY;
}
