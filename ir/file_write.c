/* file_write.c: writing beside and renaming. The temporary file is locked (flock) while its writer lives and carries its process's number: one that
 * nobody holds and whose process is gone was left by a kill, and the next writer of the same file removes it. Neither says all: a number means nothing
 * to another container that shares the folder, and some file systems know no locks. Between making a file and locking it there is a moment in which
 * it looks left behind: so the maker looks once more when it has the lock. */
#define _GNU_SOURCE
#include "ir/file.h"

#include "ir/file_call.h"
#include "ir/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static aq_status cannot(aq_status code, const char *path, const char *what) { return aq_fail(code, path, "%s: %s", what, strerror(errno)); }

/* The folder of a path: "." where it has none. */
static void folder_of(const char *path, char room[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(room, PATH_MAX, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    else
        memcpy(room, ".", 2);
}

/* ---- what killed writers left ---- */

typedef struct sweep {
    const char *folder, *prefix;
} sweep;

/* The process's number in "NAME.tmp.PID.N"; 0 if the name is no such. */
static long owner_of(const char *name) {
    const char *last = NULL;
    for (const char *at = name; (at = strstr(at, ".tmp.")); at++)
        last = at;
    if (!last || last == name)
        return 0;
    size_t digits = strspn(last + 5, "0123456789");
    const char *n = last + 5 + digits;
    if (digits == 0 || digits > 10 || *n != '.' || !n[1] || n[1 + strspn(n + 1, "0123456789")])
        return 0;
    return strtol(last + 5, NULL, 10);
}

static int sweep_one(void *user, const char *name) {
    const sweep *s = user;
    char path[PATH_MAX];
    long owner = owner_of(name);
    if (owner <= 0 || strncmp(name, s->prefix, strlen(s->prefix)) != 0)
        return 1;
    if (owner != (long)getpid() && (kill((pid_t)owner, 0) == 0 || errno == EPERM))
        return 1;
    if (snprintf(path, sizeof path, "%s/%s", s->folder, name) >= (int)sizeof path)
        return 1;
    int fd = aq_call_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return 1;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && owner != (long)getpid()))
        (void)aq_call_unlink(path);
    (void)aq_call_close(fd);
    return 1;
}

void aq_file_sweep(const char *folder, const char *prefix) { (void)aq_call_list(folder, sweep_one, &(sweep){folder, prefix}); }

/* ---- writing ---- */

struct aq_file_writer {
    int fd;
    mode_t mode;           /* of what is made */
    int direct;            /* standard output, a device, a pipe: nothing to rename */
    int sealed;            /* all of it is on the disk */
    uint64_t size;
    size_t held;           /* bytes waiting in buffer */
    char target[PATH_MAX]; /* where commit renames to; a symbolic link is followed unless it may be somebody else's */
    char temporary[PATH_MAX];
    char buffer[64 << 10];
};

/* Names of the temporary files that are open, for a signal handler: copies in one place, since a writer's own may be freed while it looks. Where there
 * are more than these, the next writer of the same file removes what is left. */
enum { OPEN_NAMES = 8 };
static struct {
    atomic_int used; /* 0 free, 1 being filled in or out, 2 a name */
    char path[PATH_MAX];
} open_names[OPEN_NAMES];

static void remember(const char *path) {
    for (int i = 0; i < OPEN_NAMES; i++) {
        int is_free = 0;
        if (!atomic_compare_exchange_strong(&open_names[i].used, &is_free, 1))
            continue;
        memcpy(open_names[i].path, path, strlen(path) + 1);
        atomic_store(&open_names[i].used, 2);
        return;
    }
}

static void forget(const char *path) {
    for (int i = 0; i < OPEN_NAMES; i++)
        if (atomic_load(&open_names[i].used) == 2 && !strcmp(open_names[i].path, path))
            atomic_store(&open_names[i].used, 0);
}

void aq_file_abandon_open(void) {
    for (int i = 0; i < OPEN_NAMES; i++)
        if (atomic_load(&open_names[i].used) == 2)
            (void)aq_call_unlink(open_names[i].path);
}

/* Locks the file just made. Whoever sweeps may have had it between: then it is gone, and another name is tried. 1: it is ours. */
static int hold(int fd) {
    struct stat st;
    while (flock(fd, LOCK_EX) && errno == EINTR) {
    }
    return fstat(fd, &st) == 0 && st.st_nlink > 0;
}

/* O_EXCL finds a free name: neither another thread nor what a killed process of the same number left behind is touched. */
static aq_status open_beside(aq_file_writer *w) {
    for (unsigned n = 0; n < 1000; n++) {
        int length = snprintf(w->temporary, sizeof w->temporary, "%s.tmp.%ld.%u", w->target, (long)getpid(), n);
        if (length < 0 || (size_t)length >= sizeof w->temporary)
            return aq_fail(AQ_FAILED, w->target, "the name is too long");
        w->fd = aq_call_open(w->temporary, O_WRONLY | O_CREAT | O_EXCL, w->mode);
        if (w->fd >= 0 && hold(w->fd)) {
            remember(w->temporary);
            return AQ_OK;
        }
        if (w->fd >= 0) {
            (void)aq_call_close(w->fd);
            continue;
        }
        if (errno == ENOENT)
            return aq_fail(AQ_FAILED, w->target, "cannot create: no such folder");
        if (errno != EEXIST)
            break;
    }
    w->temporary[0] = 0;
    return cannot(AQ_FAILED, w->target, "cannot create");
}

static void sweep_beside(const char *target) {
    char folder[PATH_MAX], prefix[PATH_MAX];
    const char *slash = strrchr(target, '/');
    folder_of(target, folder);
    if (snprintf(prefix, sizeof prefix, "%s.tmp.", slash ? slash + 1 : target) < (int)sizeof prefix)
        aq_file_sweep(folder, prefix);
}

/* Not a link that another user made in a folder like /tmp: Linux lets nobody open such (fs.protected_symlinks), but realpath reads it. */
static int may_follow(const char *path) {
    struct stat link, in;
    char folder[PATH_MAX];
    folder_of(path, folder);
    return aq_call_lstat(path, &link) || !S_ISLNK(link.st_mode) || aq_call_stat(folder, &in) || (in.st_mode & (S_ISVTX | S_IWOTH)) != (S_ISVTX | S_IWOTH) ||
           link.st_uid == geteuid() || link.st_uid == in.st_uid;
}

static aq_status open_writer(const char *path, int links, aq_file_writer *w) {
    struct stat st;
    if (strcmp(path, "-") == 0) {
        w->direct = 1;
        w->fd = STDOUT_FILENO;
        memcpy(w->target, "standard output", sizeof "standard output");
        return AQ_OK;
    }
    if (!*path || strlen(path) >= sizeof w->target)
        return aq_fail(AQ_FAILED, path, "the name is %s", *path ? "too long" : "empty");
    links = links && may_follow(path);
    if (!links || !realpath(path, w->target)) /* not there yet */
        memcpy(w->target, path, strlen(path) + 1);
    if (!links) {
        /* whatever has the name: rename says so if it cannot be replaced */
    } else if (aq_call_stat(w->target, &st)) {
        if (errno != ENOENT && errno != ENOTDIR)
            return cannot(AQ_FAILED, path, "cannot look at it");
    } else if (S_ISDIR(st.st_mode)) {
        return aq_fail(AQ_FAILED, path, "is a folder: expected the name of a file to write");
    } else if (!S_ISREG(st.st_mode)) {
        w->direct = 1;
        w->fd = aq_call_open(w->target, O_WRONLY, 0);
        return w->fd < 0 ? cannot(AQ_FAILED, path, "cannot open") : AQ_OK;
    }
    sweep_beside(w->target);
    return open_beside(w);
}

aq_status aq_file_create(const char *path, aq_file_writer **out) { return aq_file_create_as(path, 0666, 1, out); }

aq_status aq_file_create_as(const char *path, unsigned mode, int links, aq_file_writer **out) {
    void *p;
    AQ_TRY(aq_mem_alloc(sizeof(aq_file_writer), &p));
    ((aq_file_writer *)p)->mode = mode;
    aq_status status = open_writer(path, links, p);
    if (status != AQ_OK)
        aq_mem_free(p);
    else
        *out = p;
    return status;
}

static aq_status write_through(aq_file_writer *w, const char *bytes, size_t size) {
    while (size) {
        ssize_t put = aq_call_write(w->fd, bytes, size);
        if (put == 0)
            errno = EIO;
        if (put < 0 && errno == EFAULT && aq_file_at(bytes)) /* the source's page, which the kernel would have read */
            return aq_fail(AQ_FAILED, aq_file_at(bytes), AQ_FILE_LOST);
        if (put <= 0)
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

uint64_t aq_file_size(const aq_file_writer *w) { return w->size; }

aq_status aq_file_append(aq_file_writer *w, const void *bytes, size_t size) {
    w->size += size;
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
    folder_of(target, folder);
    int fd = aq_call_open(folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return cannot(AQ_FAILED, target, "cannot open its folder");
    int bad = aq_call_sync(fd) != 0 && errno != EINVAL;
    aq_status status = bad ? cannot(AQ_FAILED, target, "cannot sync its folder") : AQ_OK;
    (void)aq_call_close(fd);
    return status;
}

aq_status aq_file_seal(aq_file_writer *w) {
    AQ_TRY(flush(w));
    if (!w->direct && !w->sealed && aq_call_sync(w->fd))
        return cannot(AQ_FAILED, w->target, "cannot sync");
    w->sealed = 1;
    return AQ_OK;
}

/* Renamed before it is closed: until then the lock says that it is somebody's. After a sync, close has no news. */
static aq_status finish(aq_file_writer *w) {
    AQ_TRY(aq_file_seal(w));
    if (w->direct)
        return AQ_OK;
    if (aq_call_rename(w->temporary, w->target))
        return cannot(AQ_FAILED, w->target, "cannot rename into place");
    forget(w->temporary);
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
    if (!w->direct && w->temporary[0]) {
        (void)aq_call_unlink(w->temporary);
        forget(w->temporary);
    }
    if (w->fd >= 0 && w->fd != STDOUT_FILENO)
        (void)aq_call_close(w->fd);
    aq_mem_free(w);
}
