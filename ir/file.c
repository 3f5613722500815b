/* file.c: reading by mapping, writing beside and renaming. */
#define _GNU_SOURCE
#include "ir/file.h"

#include "ir/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static aq_status cannot(aq_status code, const char *path, const char *what) {
    if (errno == ENOENT)
        return aq_fail(code, path, "no such file");
    return aq_fail(code, path, "%s: %s", what, strerror(errno));
}

/* ---- reading ---- */

/* NONBLOCK: opening a pipe must not wait for its other end; it means nothing for a regular file. */
static aq_status map_open(int fd, const char *path, aq_file *out) {
    struct stat st;
    if (fstat(fd, &st))
        return cannot(AQ_REFUSED, path, "cannot read");
    if (!S_ISREG(st.st_mode))
        return aq_fail(AQ_REFUSED, path, "%s: expected a regular file", S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    aq_file f = {.size = (size_t)st.st_size, .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec};
    if (f.size > PTRDIFF_MAX)
        return aq_fail(AQ_REFUSED, path, "too large to map: %zu bytes", f.size);
    if (f.size) {
        void *p = mmap(NULL, f.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            return cannot(errno == ENOMEM ? AQ_NO_MEMORY : AQ_REFUSED, path, "cannot map");
        f.bytes = p;
    }
    *out = f;
    return AQ_OK;
}

aq_status aq_file_map(const char *path, aq_file *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return cannot(AQ_REFUSED, path, "cannot open");
    aq_status status = map_open(fd, path, out);
    close(fd);
    return status;
}

void aq_file_unmap(aq_file *f) {
    if (f->bytes)
        munmap((void *)(uintptr_t)f->bytes, f->size);
    *f = (aq_file){0};
}

int aq_file_kind(const char *path) {
    struct stat st;
    if (stat(path, &st))
        return 0;
    return S_ISREG(st.st_mode) ? 1 : S_ISDIR(st.st_mode) ? 2 : 3;
}

static aq_status read_all(int fd, const char *path, size_t limit, char **out_bytes, size_t *out_size) {
    void *block = NULL;
    size_t room = 0, n = 0;
    aq_status status;
    for (;;) {
        if (n + 1 >= room) {
            size_t more = room ? room * 2 : (size_t)64 << 10;
            AQ_TRY_GOTO(status, close, aq_mem_resize(&block, room, more));
            room = more;
        }
        ssize_t got = read(fd, (char *)block + n, room - n - 1);
        if (got < 0 && errno == EINTR)
            continue;
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
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cannot(AQ_REFUSED, path, "cannot open");
    aq_status status = read_all(fd, path, limit, out_bytes, out_size);
    close(fd);
    return status;
}

/* ---- writing ---- */

struct aq_file_writer {
    int fd;
    int direct;            /* standard output, a device, a pipe: nothing to rename */
    size_t held;           /* bytes waiting in buffer */
    char target[PATH_MAX]; /* where commit renames to; a symbolic link is followed, not replaced */
    char temporary[PATH_MAX];
    char buffer[64 << 10];
};

/* O_EXCL finds a free name: neither another thread nor what a killed process of the same number left behind is touched. */
static aq_status open_beside(aq_file_writer *w) {
    for (unsigned n = 0; n < 1000; n++) {
        int length = snprintf(w->temporary, sizeof w->temporary, "%s.tmp.%ld.%u", w->target, (long)getpid(), n);
        if (length < 0 || (size_t)length >= sizeof w->temporary)
            return aq_fail(AQ_FAILED, w->target, "the name is too long");
        w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0)
            return AQ_OK;
        if (errno == ENOENT)
            return aq_fail(AQ_FAILED, w->target, "cannot create: no such folder");
        if (errno != EEXIST)
            break;
    }
    return cannot(AQ_FAILED, w->target, "cannot create");
}

static aq_status open_writer(const char *path, aq_file_writer *w) {
    if (strcmp(path, "-") == 0) {
        w->direct = 1;
        w->fd = STDOUT_FILENO;
        memcpy(w->target, "standard output", sizeof "standard output");
        return AQ_OK;
    }
    if (!*path || strlen(path) >= sizeof w->target)
        return aq_fail(AQ_FAILED, path, "the name is %s", *path ? "too long" : "empty");
    if (!realpath(path, w->target)) /* not there yet */
        memcpy(w->target, path, strlen(path) + 1);
    switch (aq_file_kind(w->target)) {
    case 2: return aq_fail(AQ_FAILED, path, "is a folder: expected the name of a file to write");
    case 3:
        w->direct = 1;
        w->fd = open(w->target, O_WRONLY | O_CLOEXEC);
        return w->fd < 0 ? cannot(AQ_FAILED, path, "cannot open") : AQ_OK;
    default: return open_beside(w);
    }
}

aq_status aq_file_create(const char *path, aq_file_writer **out) {
    void *p;
    AQ_TRY(aq_mem_alloc(sizeof(aq_file_writer), &p));
    aq_status status = open_writer(path, p);
    if (status != AQ_OK)
        aq_mem_free(p);
    else
        *out = p;
    return status;
}

static aq_status write_through(aq_file_writer *w, const char *bytes, size_t size) {
    while (size) {
        ssize_t put = write(w->fd, bytes, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return cannot(AQ_FAILED, w->target, "cannot write");
        bytes += put;
        size -= (size_t)put;
    }
    return AQ_OK;
}

static aq_status flush(aq_file_writer *w) {
    size_t held = w->held;
    w->held = 0;
    return write_through(w, w->buffer, held);
}

aq_status aq_file_append(aq_file_writer *w, const void *bytes, size_t size) {
    if (size > sizeof w->buffer - w->held)
        AQ_TRY(flush(w));
    if (size > sizeof w->buffer)
        return write_through(w, bytes, size);
    if (size)
        memcpy(w->buffer + w->held, bytes, size);
    w->held += size;
    return AQ_OK;
}

/* A rename is only safe from a power cut once the folder itself is on the disk; file systems that cannot sync a folder say so
 * with EINVAL, and then there is nothing more to do. */
static aq_status sync_folder(const char *target) {
    char folder[PATH_MAX];
    const char *slash = strrchr(target, '/');
    if (slash)
        snprintf(folder, sizeof folder, "%.*s", slash == target ? 1 : (int)(slash - target), target);
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return cannot(AQ_FAILED, target, "cannot open its folder");
    int bad = fsync(fd) != 0 && errno != EINVAL;
    aq_status status = bad ? cannot(AQ_FAILED, target, "cannot sync its folder") : AQ_OK;
    close(fd);
    return status;
}

static aq_status finish(aq_file_writer *w) {
    AQ_TRY(flush(w));
    if (w->direct)
        return AQ_OK;
    if (fsync(w->fd))
        return cannot(AQ_FAILED, w->target, "cannot sync");
    int fd = w->fd;
    w->fd = -1;
    if (close(fd))
        return cannot(AQ_FAILED, w->target, "cannot close");
    if (rename(w->temporary, w->target))
        return cannot(AQ_FAILED, w->target, "cannot rename into place");
    w->temporary[0] = 0;
    return sync_folder(w->target);
}

aq_status aq_file_commit(aq_file_writer *w) {
    aq_status status = finish(w);
    aq_file_abandon(w);
    return status;
}

void aq_file_abandon(aq_file_writer *w) {
    if (!w)
        return;
    if (w->fd >= 0 && w->fd != STDOUT_FILENO)
        close(w->fd);
    if (!w->direct && w->temporary[0])
        unlink(w->temporary);
    aq_mem_free(w);
}

aq_status aq_file_make_folder(const char *path) {
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
        if (mkdir(part, 0777) && errno != EEXIST)
            return cannot(AQ_FAILED, part, "cannot make the folder");
        if (aq_file_kind(part) != 2)
            return aq_fail(AQ_FAILED, part, "is not a folder");
        part[i] = kept;
    }
    return AQ_OK;
}
