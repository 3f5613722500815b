/* torch.c: a torch archive (torch.save since 1.6): a zip file whose FOLDER/data.pkl says which tensors there are and whose FOLDER/data/KEY are
 * their bytes, used where they lie in the map.
 *
 * Order: the archive's directory (zip.c), the byte order, the pickle as a table of values (pickle.c), in it the dictionary of tensors, then each
 * tensor's record: (storage, offset, sizes, strides). Only a tensor whose strides are a permutation is copied; what all copies take together is
 * at most twice the file's size (a tied model saves one matrix under two names). Values that are no tensors (numbers of epochs, states of
 * optimizers) are passed over.
 * Format: torch/serialization.py and torch/_utils.py say which records torch.save writes. */
#include "frontend/import/internal.h"
#include "frontend/import/pickle.h"
#include "frontend/import/zip.h"
#include "frontend/reasons.h"

#include <stdio.h>
#include <string.h>

enum { LONGEST_NAME = 160 };

typedef struct reader {
    aq_arena *arena;
    const char *path;
    const aq_file *file;
    aq_zip zip;
    const char *folder; /* of the archive's entries */
    size_t folder_bytes, copied;
    aq_pickle p;
} reader;

/* The elements that a tensor's record picks from a storage, in elements. */
typedef struct storage {
    const unsigned char *data;
    uint64_t elements;
    aq_dtype dtype;
    uint8_t width;
} storage;

#define REFUSE(t, why, ...) aq_import_refuse(why, (t)->file, "tensor", (t)->name.s, (t)->name.n, __VA_ARGS__)

/* ---- the archive ---- */

/* What torch.save wrote before version 1.6: a row of pickles, the first of them a magic number; still earlier a tar file. */
static int is_legacy(const aq_file *f) {
    return (f->size > 2 && f->bytes[0] == 0x80 && f->bytes[1] <= 5) || (f->size >= 262 && memcmp(f->bytes + 257, "ustar", 5) == 0);
}

static aq_status find_pickle(reader *r, const aq_zip_entry **out) {
    static const char name[] = "data.pkl";
    size_t n = sizeof name - 1;
    *out = NULL;
    for (uint32_t i = 0; i < r->zip.n; i++) {
        const aq_zip_entry *e = &r->zip.entries[i];
        if (e->name_bytes < n || memcmp(e->name + e->name_bytes - n, name, n) != 0)
            continue;
        size_t before = e->name_bytes - n;
        if (before && memchr(e->name, '/', before) != e->name + before - 1)
            continue; /* deeper inside, or another name with this end */
        if (*out)
            return aq_refuse(AQ_WHY_TORCH_PICKLES, r->path, "two folders with a data.pkl: expected one");
        *out = e;
        r->folder = e->name;
        r->folder_bytes = before ? before - 1 : 0;
    }
    return *out ? AQ_OK : aq_refuse(AQ_WHY_TORCH_NO_PICKLE, r->path, "a zip archive without data.pkl: expected what torch.save writes");
}

static aq_status check_byte_order(const reader *r) {
    const aq_zip_entry *e = aq_zip_find(&r->zip, r->folder, r->folder_bytes, "byteorder", 9);
    if (!e || (e->bytes == 6 && memcmp(e->data, "little", 6) == 0))
        return AQ_OK;
    return aq_refuse(AQ_WHY_TORCH_BYTE_ORDER, r->path, "byte order \"%.*s\": expected little", (int)(e->bytes < 20 ? e->bytes : 20), (const char *)e->data);
}

/* ---- one tensor ---- */

static const aq_pickle_value *value_at(const reader *r, uint32_t number) { return &r->p.values.at[number]; }

static int is_text(const aq_pickle_value *v, const char *text) {
    return v->kind == AQ_PICKLE_TEXT && v->n == strlen(text) && memcmp(v->text, text, v->n) == 0;
}

static int has_role(const aq_pickle_value *v, aq_pickle_kind kind, aq_pickle_role role) {
    return v->kind == kind && aq_pickle_names[v->n].role == role;
}

/* id: ("storage", type, key, device, number of elements). type: of the elements where the storage is untyped, else NULL. */
static aq_status find_storage(const reader *r, const aq_stored *t, const aq_pickle_value *id, const aq_pickle_name *type, storage *out) {
    uint64_t bytes;
    const aq_pickle_value *item[5];
    for (uint32_t i = 0; i < 5 && id->n >= 5; i++)
        item[i] = aq_pickle_item(&r->p, id, i);
    if (id->n < 5 || !is_text(item[0], "storage") || !has_role(item[1], AQ_PICKLE_NAME, AQ_ROLE_STORAGE) || item[2]->kind != AQ_PICKLE_TEXT ||
        item[4]->kind != AQ_PICKLE_INT)
        return REFUSE(t, AQ_WHY_TORCH_STORAGE_ID, "its storage's id is malformed: expected (\"storage\", a type of storage, a key, a device, a length)");
    const aq_pickle_name *row = &aq_pickle_names[item[1]->n];
    char key[140];
    int n = snprintf(key, sizeof key, "data/%.*s", (int)(item[2]->n < 100 ? item[2]->n : 100), item[2]->text);
    const aq_zip_entry *e = aq_zip_find(&r->zip, r->folder, r->folder_bytes, key, (size_t)n);
    if (!e)
        return REFUSE(t, AQ_WHY_TORCH_STORAGE_MISSING, "no entry %s in the archive: expected its bytes there", key);
    if (item[4]->number < 0 || __builtin_mul_overflow((uint64_t)item[4]->number, (uint64_t)row->bytes, &bytes) || bytes > e->bytes)
        return REFUSE(t, AQ_WHY_TORCH_STORAGE_SHORT, "%lld elements of %d bytes in %s, which has %zu bytes: expected all of them", (long long)item[4]->number,
                      row->bytes, key, e->bytes);
    row = type ? type : row;
    *out = (storage){.data = e->data, .elements = bytes / row->bytes, .dtype = row->dtype, .width = row->bytes};
    return AQ_OK;
}

/* The sizes and strides of a tensor. *elements: their product; *last: the place of the last element, from the first. */
static aq_status read_axes(const reader *r, aq_stored *t, const aq_pickle_value *sizes, const aq_pickle_value *strides, int64_t stride[4],
                           uint64_t *elements, uint64_t *last) {
    *elements = 1;
    *last = 0;
    if (sizes->kind != AQ_PICKLE_TUPLE || strides->kind != AQ_PICKLE_TUPLE || sizes->n != strides->n || sizes->n > 4)
        return REFUSE(t, AQ_WHY_TORCH_AXES, "its sizes and strides: expected two tuples of the same length, at most 4");
    t->rank = (uint8_t)sizes->n;
    for (uint32_t i = 0; i < sizes->n; i++) {
        const aq_pickle_value *size = aq_pickle_item(&r->p, sizes, i), *step = aq_pickle_item(&r->p, strides, i);
        uint64_t way;
        if (size->kind != AQ_PICKLE_INT || step->kind != AQ_PICKLE_INT || size->number < 1 || step->number < 0 ||
            __builtin_mul_overflow(*elements, (uint64_t)size->number, elements) || *elements > INT64_MAX / 16 ||
            __builtin_mul_overflow((uint64_t)(size->number - 1), (uint64_t)step->number, &way) || __builtin_add_overflow(*last, way, last))
            return REFUSE(t, AQ_WHY_TORCH_AXIS, "axis %u of its shape: expected a size above 0 and a stride that fit memory", i);
        t->dim[i] = size->number;
        stride[i] = step->number;
    }
    return AQ_OK;
}

static int is_contiguous(const aq_stored *t, const int64_t *stride) {
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->dim[i] > 1 && stride[i] != step)
            return 0;
        step *= t->dim[i];
    }
    return 1;
}

/* By growing stride each axis steps over all that the ones before reach: then no two places of the tensor are the same. */
static int is_apart(const aq_stored *t, const int64_t *stride) {
    int done[4] = {0};
    int64_t reach = 0;
    for (int k = 0; k < t->rank; k++) {
        int next = -1;
        for (int i = 0; i < t->rank; i++)
            if (!done[i] && (next < 0 || stride[i] < stride[next]))
                next = i;
        done[next] = 1;
        if (t->dim[next] > 1 && stride[next] <= reach)
            return 0;
        reach += (t->dim[next] - 1) * stride[next];
    }
    return 1;
}

/* The elements in row-major order, in memory of their own. Sizes and strides are known to stay inside the storage. */
static aq_status copy_permuted(reader *r, aq_stored *t, const int64_t *stride, size_t width) {
    int64_t dim[4] = {1, 1, 1, 1}, step[4] = {0};
    void *room;
    if (!is_apart(t, stride))
        return REFUSE(t, AQ_WHY_TORCH_OVERLAP, "its strides reach one element twice: expected each once (save a contiguous() copy)");
    if (t->bytes > 2 * r->file->size - r->copied) /* twice: a tied output is a second name of the embedding's bytes */
        return REFUSE(t, AQ_WHY_TORCH_COPIES, "transposed tensors of more bytes than twice the file's %zu in all: expected each once", r->file->size);
    r->copied += t->bytes;
    AQ_TRY(aq_arena_alloc(r->arena, t->bytes, 1, &room));
    for (int i = 0; i < t->rank; i++) {
        dim[4 - t->rank + i] = t->dim[i];
        step[4 - t->rank + i] = stride[i];
    }
    unsigned char *to = room;
    for (int64_t a = 0; a < dim[0]; a++)
        for (int64_t b = 0; b < dim[1]; b++)
            for (int64_t c = 0; c < dim[2]; c++)
                for (int64_t d = 0; d < dim[3]; d++, to += width)
                    memcpy(to, t->data + (size_t)(a * step[0] + b * step[1] + c * step[2] + d * step[3]) * width, width);
    t->data = room;
    return AQ_OK;
}

/* args: (storage, offset, sizes, strides, ...); the seventh names the type where the storage has none. */
static aq_status read_tensor(reader *r, const aq_pickle_value *args, aq_stored *t) {
    const aq_pickle_value *item[7] = {NULL};
    for (uint32_t i = 0; i < 7 && i < args->n; i++)
        item[i] = aq_pickle_item(&r->p, args, i);
    if (args->n < 4 || item[0]->kind != AQ_PICKLE_STORED || item[1]->kind != AQ_PICKLE_INT)
        return REFUSE(t, AQ_WHY_TORCH_TENSOR, "its record is malformed: expected a storage, an offset, sizes and strides");
    storage s = {0};
    int64_t stride[4] = {0};
    uint64_t elements = 0, last = 0, begin = (uint64_t)item[1]->number, end = 0;
    const aq_pickle_name *type = item[6] && has_role(item[6], AQ_PICKLE_NAME, AQ_ROLE_DTYPE) ? &aq_pickle_names[item[6]->n] : NULL;
    AQ_TRY(find_storage(r, t, value_at(r, item[0]->first), type, &s));
    AQ_TRY(read_axes(r, t, item[2], item[3], stride, &elements, &last));
    if (item[1]->number < 0 || __builtin_add_overflow(begin, last, &end) || end >= s.elements)
        return REFUSE(t, AQ_WHY_TORCH_OUTSIDE, "it begins at element %lld and reaches %llu further: expected it inside the storage's %llu elements",
                      (long long)item[1]->number, (unsigned long long)last, (unsigned long long)s.elements);
    t->dtype = s.dtype;
    t->data = s.data + begin * s.width;
    AQ_TRY(aq_size_mul(elements, s.width, t->file, &t->bytes));
    if (!is_contiguous(t, stride))
        return copy_permuted(r, t, stride, s.width);
    if ((uintptr_t)t->data % s.width)
        return REFUSE(t, AQ_WHY_TORCH_ALIGN, "its bytes begin at an odd place of the file: expected a multiple of %d (save it again with torch.save)", s.width);
    return AQ_OK;
}

/* ---- the dictionary ---- */

/* A state dict may be an entry of a dictionary that training saved; a few levels, and then it is the one. */
static const aq_pickle_value *find_state(const aq_pickle *p) {
    static const char *const names[] = {"module", "state_dict", "model_state_dict", "model"};
    const aq_pickle_value *state = &p->values.at[p->root];
    for (int level = 0; level < 4; level++) {
        const aq_pickle_value *inner = NULL;
        uint32_t cell = state->kind == AQ_PICKLE_DICT ? state->first : 0;
        while (cell) {
            const aq_pickle_cell *key = &p->cells.at[cell], *value = &p->cells.at[key->next];
            for (size_t i = 0; !inner && i < sizeof names / sizeof *names; i++)
                if (is_text(&p->values.at[key->value], names[i]) && p->values.at[value->value].kind == AQ_PICKLE_DICT)
                    inner = &p->values.at[value->value];
            cell = value->next;
        }
        if (!inner)
            break;
        state = inner;
    }
    return state;
}

/* Wrappers that training puts around a model (DistributedDataParallel, torch.compile) stay in front of its tensors' names. */
static aq_bytes without_wrappers(aq_bytes name) {
    static const char *const wrappers[] = {"module.", "_orig_mod.", "module."};
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++) {
        uint32_t n = (uint32_t)strlen(wrappers[i]);
        if (name.n > n && memcmp(name.s, wrappers[i], n) == 0)
            name = (aq_bytes){name.s + n, name.n - n};
    }
    return name;
}

static aq_status read_entry(reader *r, const aq_pickle_value *key, const aq_pickle_value *value, aq_stored_list *out) {
    if (has_role(value, AQ_PICKLE_CALL, AQ_ROLE_PARAMETER) && value_at(r, value->first)->n)
        value = aq_pickle_item(&r->p, value_at(r, value->first), 0);
    if (key->kind != AQ_PICKLE_TEXT || !has_role(value, AQ_PICKLE_CALL, AQ_ROLE_TENSOR))
        return AQ_OK;
    aq_stored t = {.file = r->path, .name = without_wrappers((aq_bytes){key->text, key->n})};
    if (t.name.n > LONGEST_NAME)
        return REFUSE(&t, AQ_WHY_TORCH_NAME, "a name of %u bytes: expected at most %d", t.name.n, LONGEST_NAME);
    AQ_TRY(aq_arena_string(r->arena, t.name.s, t.name.n, &t.name.s));
    AQ_TRY(read_tensor(r, value_at(r, value->first), &t));
    AQ_PUSH(r->arena, out, t);
    return AQ_OK;
}

static aq_status read_state(reader *r, aq_stored_list *out) {
    const aq_pickle_value *state = find_state(&r->p);
    uint32_t before = out->n, cell = state->first;
    if (state->kind != AQ_PICKLE_DICT)
        return aq_refuse(AQ_WHY_TORCH_STATE, r->path, "holds no dictionary: expected a state dict, tensors by their names");
    while (cell) {
        const aq_pickle_cell *key = &r->p.cells.at[cell], *value = &r->p.cells.at[key->next];
        AQ_TRY(read_entry(r, &r->p.values.at[key->value], &r->p.values.at[value->value], out));
        cell = value->next;
    }
    if (out->n == before)
        return aq_refuse(AQ_WHY_TORCH_NO_TENSORS, r->path, "a dictionary without tensors: expected a state dict, tensors by their names");
    return AQ_OK;
}

static aq_status read_archive(reader *r, aq_arena *table, aq_stored_list *out) {
    const aq_zip_entry *pickle = NULL;
    if (is_legacy(r->file))
        return aq_refuse(AQ_WHY_TORCH_LEGACY, r->path, "the form that torch.save wrote before version 1.6: expected a zip archive (in Python: load it and "
                         "torch.save it again)");
    AQ_TRY(aq_zip_open(table, r->path, r->file, &r->zip));
    AQ_TRY(find_pickle(r, &pickle));
    AQ_TRY(check_byte_order(r));
    AQ_TRY(aq_pickle_read(table, r->path, pickle->data, pickle->bytes, &r->p));
    return read_state(r, out);
}

aq_status aq_torch_read(aq_arena *arena, const char *path, const aq_file *file, aq_stored_list *out) {
    aq_arena table = {0}; /* of the directory and the pickle: not needed once the tensors are known */
    reader r = {.arena = arena, .path = path, .file = file};
    aq_status status = read_archive(&r, &table, out);
    aq_arena_close(&table);
    return status;
}
