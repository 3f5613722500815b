/* file.c: reading by mapping, kinds, folders. Writing is in file_write.c, the system calls in file_call.c. */
#define _GNU_SOURCE
#include "ir/file.h"

#include "ir/file_call.h"
#include "ir/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that is not there or may not be read is refused; a disk that fails or a table that is full is nothing that the file could help. */
static aq_status cannot(aq_status code, const char *path, const char *what) {
    if (errno == ENOENT)
        return aq_fail(code, path, "no such file");
    if (code == AQ_REFUSED && (errno == EIO || errno == EMFILE || errno == ENFILE || errno == ENOSPC))
        code = AQ_FAILED;
    return aq_fail(code, path, "%s: %s", what, strerror(errno));
}

/* ---- reading ---- */

/* Which files are mapped where: for whoever is told by a signal that a page of one is gone. An entry is written before its begin is. */
enum { MAPS = 64 };
static struct {
    atomic_uintptr_t begin; /* 0 free, 1 being filled in */
    size_t size;
    char path[512];
} maps[MAPS];

static void note_map(const aq_file *f, const char *path) {
    size_t n = strlen(path), most = sizeof maps->path - 4;
    for (int i = 0; i < MAPS; i++) {
        uintptr_t is_free = 0;
        if (!atomic_compare_exchange_strong(&maps[i].begin, &is_free, 1))
            continue;
        snprintf(maps[i].path, sizeof maps->path, "%s%s", n > most ? "..." : "", n > most ? path + n - most : path);
        aq_make_printable(maps[i].path);
        maps[i].size = f->size;
        atomic_store(&maps[i].begin, (uintptr_t)f->bytes);
        return;
    }
}

static void forget_map(const aq_file *f) {
    for (int i = 0; i < MAPS; i++)
        if (atomic_load(&maps[i].begin) == (uintptr_t)f->bytes)
            atomic_store(&maps[i].begin, 0);
}

static int map_at(const void *address, uintptr_t *begin) {
    for (int i = 0; i < MAPS; i++) {
        *begin = atomic_load(&maps[i].begin);
        if (*begin > 1 && (uintptr_t)address >= *begin && (uintptr_t)address - *begin < maps[i].size)
            return i;
    }
    return -1;
}

const char *aq_file_at(const void *address) {
    uintptr_t begin;
    int i = map_at(address, &begin);
    return i < 0 ? NULL : maps[i].path;
}

/* NONBLOCK: opening a pipe must not wait for its other end; it means nothing for a regular file. */
static aq_status map_open(int fd, const char *path, aq_file *out) {
    struct stat st;
    if (aq_call_fstat(fd, &st))
        return cannot(AQ_REFUSED, path, "cannot read");
    if (!S_ISREG(st.st_mode))
        return aq_fail(AQ_REFUSED, path, "%s: expected a regular file", S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    aq_file f = {.size = (size_t)st.st_size, .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                 .ours = (st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & (S_IWGRP | S_IWOTH))};
    if (f.size > PTRDIFF_MAX)
        return aq_fail(AQ_REFUSED, path, "too large to map: %zu bytes", f.size);
    if (f.size) {
        void *p = aq_call_map(fd, f.size);
        if (!p)
            return errno == ENOMEM ? aq_fail(AQ_NO_MEMORY, path, "no room for its %zu MiB: expected more memory, or a higher limit (ulimit -v)", f.size >> 20)
                                   : cannot(AQ_REFUSED, path, "cannot map");
        f.bytes = p;
        note_map(&f, path);
    }
    *out = f;
    return AQ_OK;
}

aq_status aq_file_map(const char *path, aq_file *out) {
    int fd = aq_call_open(path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return cannot(AQ_REFUSED, path, "cannot open");
    aq_status status = map_open(fd, path, out);
    aq_call_close(fd);
    return status;
}

void aq_file_unmap(aq_file *f) {
    if (f->bytes) {
        forget_map(f);
        aq_call_unmap((void *)(uintptr_t)f->bytes, f->size);
    }
    *f = (aq_file){0};
}

void aq_file_forget(const aq_file *f) {
    if (f->bytes)
        aq_call_forget((void *)(uintptr_t)f->bytes, f->size);
}

int aq_path_ends(const char *path, const char *end) {
    size_t n = strlen(path), m = strlen(end);
    return n >= m && !memcmp(path + n - m, end, m);
}

void aq_file_forget_at(const void *at, size_t size) {
    enum { PAGE = 4096 };
    uintptr_t begin;
    int i = map_at(at, &begin);
    size_t from = (uintptr_t)at - begin, to;
    if (i < 0)
        return;
    to = size < maps[i].size - from ? from + size : maps[i].size;
    from -= from % PAGE;
    aq_call_forget((void *)(begin + from), to - from);
}

/* Nothing is there if that is what the system says, not if it cannot say: whoever writes what is missing would throw away what is there. */
int aq_file_kind(const char *path) {
    struct stat st;
    if (aq_call_stat(path, &st))
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ENAMETOOLONG || errno == EACCES ? 0 : 3;
    return S_ISREG(st.st_mode) ? 1 : S_ISDIR(st.st_mode) ? 2 : 3;
}

const char *aq_file_real(const char *path, char room[AQ_FILE_PATH]) {
    _Static_assert((int)AQ_FILE_PATH >= PATH_MAX, "what realpath wants");
    return realpath(path, room) ? room : path;
}

static aq_status read_all(int fd, const char *path, size_t limit, char **out_bytes, size_t *out_size) {
    void *block = NULL;
    size_t room = 0, n = 0, least = (size_t)64 << 10;
    struct stat st;
    aq_status status;
    if (aq_call_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) { /* else it says nothing, as in /proc */
        if ((uint64_t)st.st_size > limit)
            return aq_fail(AQ_REFUSED, path, "too long: expected at most %zu bytes", limit);
        least = (size_t)st.st_size + 2; /* one byte more is asked for, to see the end */
    }
    for (;;) {
        if (n + 1 >= room) {
            size_t more = room ? room * 2 : least;
            AQ_TRY_GOTO(status, close, aq_mem_resize(&block, room, more));
            room = more;
        }
        ssize_t got = aq_call_read(fd, (char *)block + n, room - n - 1);
        if (got < 0) {
            status = cannot(AQ_REFUSED, path, "cannot read");
            goto close;
        }
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > limit) {
            status = aq_fail(AQ_REFUSED, path, "too long: expected at most %zu bytes", limit);
            goto close;
        }
    }
    ((char *)block)[n] = 0;
    *out_bytes = block;
    *out_size = n;
    return AQ_OK;
close:
    aq_mem_free(block);
    return status;
}

aq_status aq_file_read(const char *path, size_t limit, char **out_bytes, size_t *out_size) {
    if (strcmp(path, "-") == 0)
        return read_all(STDIN_FILENO, "standard input", limit, out_bytes, out_size);
    int fd = aq_call_open(path, O_RDONLY, 0);
    if (fd < 0)
        return cannot(AQ_REFUSED, path, "cannot open");
    aq_status status = read_all(fd, path, limit, out_bytes, out_size);
    aq_call_close(fd);
    return status;
}

aq_status aq_file_make_folder(const char *path) {
    struct stat st;
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part)
        return aq_fail(AQ_FAILED, path, "the name is %s", n ? "too long" : "empty");
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0)
            continue;
        char kept = part[i];
        part[i] = 0;
        if (aq_call_mkdir(part) && errno != EEXIST)
            return aq_fail(AQ_FAILED, part, "cannot make the folder: %s", strerror(errno));
        if (aq_call_stat(part, &st))
            return cannot(AQ_FAILED, part, "cannot look at it");
        if (!S_ISDIR(st.st_mode))
            return aq_fail(AQ_FAILED, part, "is not a folder");
        part[i] = kept;
    }
    return AQ_OK;
}

aq_status aq_file_list(const char *folder, int (*call)(void *user, const char *name), void *user) {
    return aq_call_list(folder, call, user) ? cannot(AQ_FAILED, folder, "cannot list the folder") : AQ_OK;
}
