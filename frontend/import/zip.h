/* zip.h: the table of contents of a zip archive in a mapped file: what torch.save makes. Read only, nothing is unpacked: the bytes of an entry are
 * where they lie in the map. */
#ifndef AQ_FRONTEND_IMPORT_ZIP_H
#define AQ_FRONTEND_IMPORT_ZIP_H

#include "ir/arena.h"
#include "ir/file.h"

typedef struct aq_zip_entry {
    const char *name; /* in the map: not ended by NUL */
    const unsigned char *data;
    size_t bytes;
    uint16_t name_bytes;
} aq_zip_entry;

typedef struct aq_zip {
    const char *path;
    aq_zip_entry *entries; /* sorted by name, each name once */
    uint32_t n;
} aq_zip;

/* Every entry must be stored (not compressed, not encrypted), with its name and all its bytes inside the file; zip64 is read. Checksums are not
 * compared: writers may leave them out, and it would read all weights. AQ_REFUSED, AQ_NO_MEMORY. Memory: 32 bytes an entry, which itself takes
 * at least 76 of the file. */
AQ_MUST_USE aq_status aq_zip_open(aq_arena *arena, const char *path, const aq_file *file, aq_zip *out);

/* The entry named FOLDER/NAME, FOLDER and NAME of the given lengths (no slash where the first is 0); NULL if there is none. */
const aq_zip_entry *aq_zip_find(const aq_zip *z, const char *folder, size_t folder_bytes, const char *name, size_t name_bytes);

#endif
