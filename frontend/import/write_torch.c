/* write_torch.c: a state dict as torch.save writes it since version 1.6: a zip archive of stored (not packed) entries, whose data begin at multiples
 * of 64: archive/data.pkl (a pickle that names the tensors), archive/byteorder, archive/data/0 ... (raw storages), archive/version. The sums of the
 * storages are known only after they were written, so they follow the data, as torch itself does it. Sizes are known beforehand:
 * 64-bit fields stand only where 32 bits are too few (APPNOTE.TXT of PKWARE, 4.5.3).
 *
 * The pickle uses what torch.load(weights_only=True) allows: collections.OrderedDict, torch._utils._rebuild_tensor_v2, the storage types of torch.
 * Tensors that share bytes share a storage. */
#include "frontend/import/write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 64, LOCAL = 0x04034b50, DESCRIPTOR = 0x08074b50, CENTRAL = 0x02014b50, END = 0x06054b50, END64 = 0x06064b50, LOCATOR64 = 0x07064b50 };
enum { FLAGS = 8 /* sums follow the data */, DATE = 0x21 /* 1 January 1980: the same bytes at any time */, FILLER = 0x4246 };
#define LIMIT UINT32_MAX

typedef struct entry {
    const char *name;
    uint64_t size, offset;
    uint32_t crc;
} entry;

typedef struct archive {
    aq_put to;
    entry *entries;
    uint32_t n, room;
} archive;

static void put(archive *a, uint64_t x, int bytes) { aq_put_number(&a->to, x, bytes); }

/* ---- entries ---- */

/* A field of its own kind fills the head up to the alignment. 64-bit sizes need their field first. */
static void begin(archive *a, const char *name, uint64_t size) {
    int wide = size >= LIMIT;
    size_t n = strlen(name), extra = wide ? 20 : 0;
    uint64_t data = a->to.written + 30 + n + extra + 4;
    uint64_t fill = (ALIGNMENT - data % ALIGNMENT) % ALIGNMENT;
    a->entries[a->n++] = (entry){.name = name, .size = size, .offset = a->to.written};
    put(a, LOCAL, 4);
    put(a, wide ? 45 : 20, 2);
    put(a, FLAGS, 2);
    put(a, 0, 2);
    put(a, 0, 2);
    put(a, DATE, 2);
    put(a, 0, 4); /* the sum */
    put(a, wide ? LIMIT : 0, 4);
    put(a, wide ? LIMIT : 0, 4);
    put(a, n, 2);
    put(a, extra + 4 + fill, 2);
    aq_put_bytes(&a->to, name, n);
    if (wide) {
        put(a, 1, 2);
        put(a, 16, 2);
        put(a, 0, 8);
        put(a, 0, 8);
    }
    put(a, FILLER, 2);
    put(a, fill, 2);
    aq_put_zeros(&a->to, fill);
    a->to.crc = 0;
    a->to.sums = 1;
}

static void finish(archive *a) {
    entry *e = &a->entries[a->n - 1];
    int width = e->size >= LIMIT ? 8 : 4;
    e->crc = a->to.crc;
    a->to.sums = 0;
    put(a, DESCRIPTOR, 4);
    put(a, e->crc, 4);
    put(a, e->size, width);
    put(a, e->size, width);
}

static void put_central(archive *a, const entry *e) {
    int wide_size = e->size >= LIMIT, wide_offset = e->offset >= LIMIT, extra = 16 * wide_size + 8 * wide_offset;
    put(a, CENTRAL, 4);
    put(a, extra ? 45 : 20, 2);
    put(a, extra ? 45 : 20, 2);
    put(a, FLAGS, 2);
    put(a, 0, 2);
    put(a, 0, 2);
    put(a, DATE, 2);
    put(a, e->crc, 4);
    put(a, wide_size ? LIMIT : e->size, 4);
    put(a, wide_size ? LIMIT : e->size, 4);
    put(a, strlen(e->name), 2);
    put(a, extra ? (uint64_t)extra + 4 : 0, 2);
    put(a, 0, 2 + 2 + 2); /* comment, disk, attributes */
    put(a, 0, 4);
    put(a, wide_offset ? LIMIT : e->offset, 4);
    aq_put_text(&a->to, e->name);
    if (!extra)
        return;
    put(a, 1, 2);
    put(a, (uint64_t)extra, 2);
    if (wide_size) {
        put(a, e->size, 8);
        put(a, e->size, 8);
    }
    if (wide_offset)
        put(a, e->offset, 8);
}

static void put_end(archive *a) {
    uint64_t start = a->to.written;
    for (uint32_t i = 0; i < a->n; i++)
        put_central(a, &a->entries[i]);
    uint64_t at = a->to.written, size = at - start;
    int wide = start >= LIMIT || size >= LIMIT || a->n >= 0xffff;
    if (wide) {
        put(a, END64, 4);
        put(a, 44, 8);
        put(a, 45, 2);
        put(a, 45, 2);
        put(a, 0, 8); /* disks */
        put(a, a->n, 8);
        put(a, a->n, 8);
        put(a, size, 8);
        put(a, start, 8);
        put(a, LOCATOR64, 4);
        put(a, 0, 4);
        put(a, at, 8);
        put(a, 1, 4);
    }
    put(a, END, 4);
    put(a, 0, 4);
    put(a, wide ? 0xffff : a->n, 2);
    put(a, wide ? 0xffff : a->n, 2);
    put(a, wide ? LIMIT : size, 4);
    put(a, wide ? LIMIT : start, 4);
    put(a, 0, 2);
}

/* ---- the pickle, protocol 2 ---- */

static const char *storage_type(aq_dtype t) {
    switch (t) {
    case AQ_F64: return "DoubleStorage";
    case AQ_F32: return "FloatStorage";
    case AQ_F16: return "HalfStorage";
    case AQ_BF16: return "BFloat16Storage";
    default: return NULL;
    }
}

static void put_word(aq_put *o, const char *s) {
    aq_put_text(o, "X");
    aq_put_number(o, strlen(s), 4);
    aq_put_text(o, s);
}

static void put_int(aq_put *o, int64_t x) {
    if (x <= INT32_MAX) {
        aq_put_text(o, "J");
        aq_put_number(o, (uint64_t)x, 4);
        return;
    }
    aq_put_text(o, "\x8a\x08"); /* a long of 8 bytes */
    aq_put_number(o, (uint64_t)x, 8);
}

static void put_tensor(aq_put *o, const aq_out_tensor *t, uint32_t storage) {
    char key[16];
    const aq_tensor *from = t->from;
    int matrix = from->rank == 2;
    snprintf(key, sizeof key, "%u", storage);
    put_word(o, t->name);
    aq_put_text(o, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_word(o, "storage");
    aq_put_format(o, "ctorch\n%s\n", storage_type(t->dtype));
    put_word(o, key);
    put_word(o, "cpu");
    put_int(o, from->dim[0] * (matrix ? from->dim[1] : 1));
    aq_put_text(o, "tQ"); /* the tuple names the storage */
    put_int(o, 0);
    aq_put_text(o, "(");
    put_int(o, from->dim[0]);
    if (matrix)
        put_int(o, from->dim[1]);
    aq_put_text(o, "t(");
    put_int(o, matrix ? from->dim[1] : 1);
    if (matrix)
        put_int(o, 1);
    aq_put_text(o, "t\x89" "ccollections\nOrderedDict\n)RtR"); /* no gradient, no hooks; call */
}

static uint32_t storage_of(const aq_out_model *m, uint32_t i) { return m->tensors[i].shares ? m->tensors[i].shares - 1 : i; }

static void put_pickle(aq_put *o, const aq_out_model *m) {
    aq_put_text(o, "\x80\x02" "ccollections\nOrderedDict\n)R(");
    for (uint32_t i = 0; i < m->n; i++)
        put_tensor(o, &m->tensors[i], storage_of(m, i));
    aq_put_text(o, "u.");
}

/* ---- the whole ---- */

static void put_text_entry(archive *a, const char *name, const char *text) {
    begin(a, name, strlen(text));
    aq_put_text(&a->to, text);
    finish(a);
}

static aq_status put_storages(archive *a, const aq_out_model *m, aq_arena *arena) {
    for (uint32_t i = 0; i < m->n && a->to.status == AQ_OK; i++) {
        const char *name;
        if (m->tensors[i].shares)
            continue;
        AQ_TRY(aq_arena_format(arena, &name, "archive/data/%u", i));
        begin(a, name, m->tensors[i].bytes);
        aq_pump_run(m->pump, &m->tensors[i], &a->to);
        finish(a);
    }
    return a->to.status;
}

static aq_status put_all(archive *a, const aq_out_model *m, aq_arena *arena) {
    aq_put dry = {0};
    for (uint32_t i = 0; i < m->n; i++)
        if (!storage_type(m->tensors[i].dtype))
            return aq_fail(AQ_REFUSED, m->tensors[i].name, "type %s has no storage in torch", aq_dtype_of(m->tensors[i].dtype)->name);
    AQ_ALLOC(arena, a->entries, m->n + 3);
    put_pickle(&dry, m);
    begin(a, "archive/data.pkl", dry.written);
    put_pickle(&a->to, m);
    finish(a);
    put_text_entry(a, "archive/byteorder", "little");
    AQ_TRY(put_storages(a, m, arena));
    put_text_entry(a, "archive/version", "3\n");
    put_end(a);
    return a->to.status;
}

aq_status aq_torch_put(const aq_out_model *m, aq_file_writer *w) {
    aq_arena arena = {0};
    archive a = {.to.writer = w};
    aq_status status = put_all(&a, m, &arena);
    aq_arena_close(&arena);
    return status;
}
