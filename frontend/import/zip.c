/* zip.c: a zip archive's directory, read from the map, every offset checked. Format: PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.3.
 *
 * From the end: the end record (within the last 64 KiB, since a comment may follow), the zip64 end record where a locator stands before it, the
 * central directory that they point at; each entry of it points at a local header, behind which its bytes lie.
 * minizip was looked at: it says where a stored entry's bytes begin only after opening the entry through its own reader, allocates past
 * ir/memory.h (so no test could fail its Nth call) and does not compare the two headers of an entry. The part of the format that torch writes
 * is these few records, so the house reads them itself. */
#include "frontend/import/zip.h"

#include "frontend/import/internal.h"
#include "frontend/reasons.h"

#include <stdlib.h>
#include <string.h>

enum { END = 22, END64 = 56, LOCATOR = 20, CENTRAL = 46, LOCAL = 30, LONGEST_COMMENT = 65535 };

static uint16_t u16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t u32(const unsigned char *p) { return u16(p) | (uint32_t)u16(p + 2) << 16; }
static uint64_t u64(const unsigned char *p) { return u32(p) | (uint64_t)u32(p + 4) << 32; }

#define REFUSE(why, e, ...) aq_import_refuse(why, path, "entry", (e)->name, (e)->name_bytes, __VA_ARGS__)

/* ---- the end of the file: where the directory is ---- */

typedef struct directory {
    uint64_t entries, bytes, offset;
} directory;

static const unsigned char *find_end(const aq_file *f) {
    size_t most = f->size < END ? 0 : f->size - END > LONGEST_COMMENT ? LONGEST_COMMENT : f->size - END;
    for (size_t comment = 0; f->size >= END && comment <= most; comment++) {
        const unsigned char *p = f->bytes + f->size - END - comment;
        if (u32(p) == 0x06054b50 && u16(p + 20) == comment)
            return p;
    }
    return NULL;
}

/* The locator stands right before the end record; what it points at must be the zip64 end record. */
static aq_status read_end64(const char *path, const aq_file *f, const unsigned char *end, directory *d, uint32_t *disks) {
    if ((size_t)(end - f->bytes) < LOCATOR || u32(end - LOCATOR) != 0x07064b50)
        return AQ_OK;
    uint64_t at = u64(end - LOCATOR + 8);
    if (f->size < END64 || at > f->size - END64 || u32(f->bytes + at) != 0x06064b50)
        return aq_refuse(AQ_WHY_ZIP_END64, path, "no zip64 end record at byte %llu, where its locator says: expected a whole torch archive",
                         (unsigned long long)at);
    const unsigned char *p = f->bytes + at;
    *disks = u32(p + 16) | u32(p + 20);
    *d = (directory){u64(p + 32), u64(p + 40), u64(p + 48)};
    return AQ_OK;
}

static aq_status find_directory(const char *path, const aq_file *f, directory *d) {
    const unsigned char *end = find_end(f);
    if (!end)
        return aq_refuse(AQ_WHY_ZIP_END, path, "%zu bytes without the end of a zip archive: expected a torch archive, whole", f->size);
    uint32_t disks = u16(end + 4) | (uint32_t)u16(end + 6);
    *d = (directory){u16(end + 10), u32(end + 12), u32(end + 16)};
    AQ_TRY(read_end64(path, f, end, d, &disks));
    if (disks)
        return aq_refuse(AQ_WHY_ZIP_DISKS, path, "one of several volumes of an archive: expected all of it in one file");
    if (d->offset > f->size || d->bytes > f->size - d->offset || d->entries > d->bytes / CENTRAL || d->entries > INT32_MAX)
        return aq_refuse(AQ_WHY_ZIP_DIRECTORY, path, "%llu entries in %llu bytes at %llu: expected them inside the file's %zu bytes",
                         (unsigned long long)d->entries, (unsigned long long)d->bytes, (unsigned long long)d->offset, f->size);
    return AQ_OK;
}

/* ---- one entry ---- */

/* Sizes and offset that do not fit 32 bits stand in the extra field 1, in this order, each only where its old place is all ones. */
static aq_status read_extra(const char *path, const aq_zip_entry *e, const unsigned char *extra, size_t n, uint64_t *const value[3]) {
    while (n >= 4) {
        uint16_t id = u16(extra), size = u16(extra + 2);
        extra += 4;
        n -= 4;
        if (size > n)
            break;
        for (int i = 0; id == 1 && i < 3; i++)
            if (*value[i] == UINT32_MAX && size >= 8) {
                *value[i] = u64(extra);
                extra += 8;
                n -= 8;
                size = (uint16_t)(size - 8);
            }
        extra += size;
        n -= size;
    }
    for (int i = 0; i < 3; i++)
        if (*value[i] == UINT32_MAX)
            return REFUSE(AQ_WHY_ZIP_EXTRA, e, "its zip64 sizes are missing: expected them in an extra field");
    return AQ_OK;
}

/* The local header says once more what the directory says; its name must be the same, else two readers would see two archives. */
static aq_status find_data(const char *path, const aq_file *f, uint64_t offset, uint64_t bytes, aq_zip_entry *e) {
    if (f->size < LOCAL || offset > f->size - LOCAL || u32(f->bytes + offset) != 0x04034b50)
        return REFUSE(AQ_WHY_ZIP_LOCAL, e, "no header at byte %llu, where the directory says: expected a whole torch archive", (unsigned long long)offset);
    const unsigned char *p = f->bytes + offset;
    uint16_t name = u16(p + 26);
    size_t names = (size_t)name + u16(p + 28), left = f->size - LOCAL - (size_t)offset;
    if (name != e->name_bytes || names > left || memcmp(p + LOCAL, e->name, e->name_bytes) != 0)
        return REFUSE(AQ_WHY_ZIP_LOCAL_NAME, e, "the header before its bytes names another: expected the same name");
    if (bytes > left - names)
        return REFUSE(AQ_WHY_ZIP_DATA, e, "%llu bytes: expected at most the %zu that follow in the file", (unsigned long long)bytes, left - names);
    e->data = p + LOCAL + names;
    e->bytes = (size_t)bytes;
    return AQ_OK;
}

/* *p moves behind the entry; end: of the directory. */
static aq_status read_entry(const char *path, const aq_file *f, const unsigned char **p, const unsigned char *end, aq_zip_entry *e) {
    const unsigned char *c = *p;
    uint16_t name = 0, extra = 0, comment = 0; /* read once: the file may change */
    if (end - c >= CENTRAL)
        name = u16(c + 28), extra = u16(c + 30), comment = u16(c + 32);
    if (end - c < CENTRAL || u32(c) != 0x02014b50 || end - c - CENTRAL < (ptrdiff_t)name + extra + comment)
        return aq_refuse(AQ_WHY_ZIP_ENTRY, path, "no entry at byte %zu of the archive's directory: expected as many as its end says",
                         (size_t)(c - f->bytes));
    *e = (aq_zip_entry){.name = (const char *)c + CENTRAL, .name_bytes = name};
    uint64_t packed = u32(c + 20), bytes = u32(c + 24), offset = u32(c + 42);
    if (packed == UINT32_MAX || bytes == UINT32_MAX || offset == UINT32_MAX)
        AQ_TRY(read_extra(path, e, c + CENTRAL + name, extra, (uint64_t *[]){&bytes, &packed, &offset}));
    if (u16(c + 8) & 1)
        return REFUSE(AQ_WHY_ZIP_ENCRYPTED, e, "encrypted: expected the archive as torch.save writes it");
    if (u16(c + 10) != 0)
        return REFUSE(AQ_WHY_ZIP_COMPRESSED, e, "compressed (method %u): expected stored bytes, as torch.save writes them", u16(c + 10));
    if (packed != bytes)
        return REFUSE(AQ_WHY_ZIP_SIZES, e, "%llu bytes stored as %llu: expected the same", (unsigned long long)bytes, (unsigned long long)packed);
    *p = c + CENTRAL + name + extra + comment;
    return find_data(path, f, offset, bytes, e);
}

static int by_name(const void *a, const void *b) {
    const aq_zip_entry *x = a, *y = b;
    size_t n = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
    int order = memcmp(x->name, y->name, n);
    return order ? order : (x->name_bytes > y->name_bytes) - (x->name_bytes < y->name_bytes);
}

aq_status aq_zip_open(aq_arena *arena, const char *path, const aq_file *file, aq_zip *out) {
    directory d = {0};
    AQ_TRY(find_directory(path, file, &d));
    aq_zip z = {.path = path, .n = (uint32_t)d.entries};
    AQ_ALLOC(arena, z.entries, z.n + 1);
    const unsigned char *p = file->bytes + d.offset, *end = p + d.bytes;
    for (uint32_t i = 0; i < z.n; i++)
        AQ_TRY(read_entry(path, file, &p, end, &z.entries[i]));
    qsort(z.entries, z.n, sizeof *z.entries, by_name);
    for (uint32_t i = 1; i < z.n; i++)
        if (by_name(&z.entries[i - 1], &z.entries[i]) == 0)
            return REFUSE(AQ_WHY_ZIP_TWICE, &z.entries[i], "occurs twice: expected once");
    *out = z;
    return AQ_OK;
}

const aq_zip_entry *aq_zip_find(const aq_zip *z, const char *folder, size_t folder_bytes, const char *name, size_t name_bytes) {
    char whole[512];
    size_t slash = folder_bytes ? 1 : 0;
    if (folder_bytes > 255 || name_bytes > 120)
        return NULL;
    memcpy(whole, folder, folder_bytes);
    whole[folder_bytes] = '/';
    memcpy(whole + folder_bytes + slash, name, name_bytes);
    aq_zip_entry wanted = {.name = whole, .name_bytes = (uint16_t)(folder_bytes + slash + name_bytes)};
    return bsearch(&wanted, z->entries, z->n, sizeof wanted, by_name);
}
