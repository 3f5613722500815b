/* file.h: the door to files: read by mapping, write beside and rename. Nothing else calls open. */
#ifndef AQ_IR_FILE_H
#define AQ_IR_FILE_H

#include "ir/arena.h"

/* A whole file, mapped read-only. bytes is NULL and size 0 for an empty file. */
typedef struct aq_file {
    const unsigned char *bytes;
    size_t size;
    int64_t mtime_ns;
    int ours; /* only this user or root can have written it: the owner's file, which neither group nor others may write */
} aq_file;

/* Refuses what is not a regular file (AQ_REFUSED) and what is not there (AQ_REFUSED, "no such file"); AQ_FAILED where the disk fails. */
AQ_MUST_USE aq_status aq_file_map(const char *path, aq_file *out);
void aq_file_unmap(aq_file *f);
/* What was read of it no longer counts as this process's memory; touched again, it comes from the kernel's cache or the disk. */
void aq_file_forget(const aq_file *f);
void aq_file_forget_at(const void *at, size_t size); /* of a part; nothing happens to what aq_file_at does not know */

/* What lies at that address is (a page of) a mapped file: its path, printable; NULL if it is none, or not one of the first 64. A signal handler may ask. */
const char *aq_file_at(const void *address);
#define AQ_FILE_LOST "it became shorter while it was read, or its disk failed"

/* 0 nothing there, 1 a regular file, 2 a folder, 3 something else, or a disk that cannot tell. */
int aq_file_kind(const char *path);

/* Does the name end so? ".gguf" tells forms apart where nothing else does. */
int aq_path_ends(const char *path, const char *end);

/* The path without ".", ".." and links, in room; `path` itself where it is not there or too long. */
enum { AQ_FILE_PATH = 4096 };
const char *aq_file_real(const char *path, char room[AQ_FILE_PATH]);

/* A file being written: bytes go to "PATH.tmp.PID.N" beside it; commit does fsync, rename, fsync of the folder; abandon (or
 * a failed commit) removes the temporary file. PATH "-" is standard output. A failed commit leaves the old file, or, where only the folder
 * could not be synced, the new one: never half. Temporary files that killed processes left of the same PATH are removed first. */
typedef struct aq_file_writer aq_file_writer;
AQ_MUST_USE aq_status aq_file_create(const char *path, aq_file_writer **out);
/* With no more permissions than `mode`. In a folder that others may write to (a cache) PATH may be a link that they put there: `links` 0 replaces it. */
AQ_MUST_USE aq_status aq_file_create_as(const char *path, unsigned mode, int links, aq_file_writer **out);
AQ_MUST_USE aq_status aq_file_append(aq_file_writer *w, const void *bytes, size_t size);
AQ_MUST_USE aq_status aq_file_seal(aq_file_writer *w);   /* all bytes on the disk: commit has only the name to give. Before several files that go together */
uint64_t aq_file_size(const aq_file_writer *w);         /* bytes appended so far */
AQ_MUST_USE aq_status aq_file_commit(aq_file_writer *w); /* w is gone afterwards, whatever the outcome */
void aq_file_abandon(aq_file_writer *w);                 /* NULL is fine */

/* From a signal handler that ends the process at once: the temporary files of all writers are removed. */
void aq_file_abandon_open(void);

/* Removes temporary files whose names begin with prefix and whose writers were killed. What cannot be removed stays. */
void aq_file_sweep(const char *folder, const char *prefix);

/* The names of all that is in a folder, in no order, until call returns 0. */
AQ_MUST_USE aq_status aq_file_list(const char *folder, int (*call)(void *user, const char *name), void *user);

/* Makes the folder and its parents; fine if it is there. */
AQ_MUST_USE aq_status aq_file_make_folder(const char *path);

/* The regular files of a folder, in no order; none if there is no such folder. out->at lives in the arena. */
typedef struct aq_folder_entry {
    const char *path; /* with the folder's */
    uint64_t size;
    int64_t mtime_ns;
} aq_folder_entry;
typedef AQ_VEC(aq_folder_entry) aq_folder_list_of;
AQ_MUST_USE aq_status aq_folder_list(const char *path, aq_arena *arena, aq_folder_list_of *out);

AQ_MUST_USE aq_status aq_file_remove(const char *path); /* fine if it is not there */
void aq_file_touch(const char *path);                   /* its time of change becomes now, where that is possible */
uint64_t aq_folder_room(const char *path);              /* bytes that can still be written there; UINT64_MAX if nobody can tell */

/* Reads all of standard input ("-") or of a file into memory the caller frees with aq_mem_free; at most `limit` bytes.
 * A NUL byte follows the last. */
AQ_MUST_USE aq_status aq_file_read(const char *path, size_t limit, char **out_bytes, size_t *out_size);

#endif
