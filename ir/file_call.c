/* file_call.c: see file_call.h. The fault is global, like the one of memory.c: a test sets it up, the threads it starts see it. */
#define _GNU_SOURCE
#include "ir/file_call.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_long made[AQ_FILE_CALLS];
static struct {
    atomic_int call, error, done;
    atomic_long nth;
} fault;

void aq_file_fail(aq_file_call call, long nth, int error) {
    for (int i = 0; i < AQ_FILE_CALLS; i++)
        atomic_store(&made[i], 0);
    atomic_store(&fault.done, 0);
    atomic_store(&fault.call, (int)call);
    atomic_store(&fault.error, error);
    atomic_store(&fault.nth, nth);
}

long aq_file_calls(aq_file_call call) { return atomic_load(&made[call]); }
int aq_file_failed(void) { return atomic_load(&fault.done); }

/* The errno that this call shall fail with; 0: none. */
static int fails(aq_file_call call) {
    long n = atomic_fetch_add_explicit(&made[call], 1, memory_order_relaxed) + 1;
    if (n != atomic_load_explicit(&fault.nth, memory_order_relaxed) || atomic_load(&fault.call) != (int)call)
        return 0;
    atomic_store(&fault.done, 1);
    return atomic_load(&fault.error);
}

/* CALL(kind, type, expression): the call, again while it is interrupted; the first time it may fail on purpose. */
#define CALL(kind, type, ...)                                                                                                               \
    int error = fails(kind);                                                                                                                \
    type result;                                                                                                                            \
    do {                                                                                                                                    \
        if (error > 0) {                                                                                                                    \
            result = -1;                                                                                                                    \
            errno = error;                                                                                                                  \
            error = 0;                                                                                                                      \
        } else {                                                                                                                            \
            result = (__VA_ARGS__);                                                                                                         \
        }                                                                                                                                   \
    } while (result < 0 && errno == EINTR);                                                                                                 \
    return result

int aq_call_open(const char *path, int flags, mode_t mode) { CALL(AQ_CALL_OPEN, int, open(path, flags | O_CLOEXEC, mode)); }
int aq_call_stat(const char *path, struct stat *out) { CALL(AQ_CALL_STAT, int, stat(path, out)); }
int aq_call_lstat(const char *path, struct stat *out) { CALL(AQ_CALL_STAT, int, lstat(path, out)); }
int aq_call_fstat(int fd, struct stat *out) { CALL(AQ_CALL_STAT, int, fstat(fd, out)); }
ssize_t aq_call_read(int fd, void *to, size_t n) { CALL(AQ_CALL_READ, ssize_t, read(fd, to, error == AQ_CALL_SHORT ? (n + 1) / 2 : n)); }
ssize_t aq_call_write(int fd, const void *from, size_t n) { CALL(AQ_CALL_WRITE, ssize_t, write(fd, from, error == AQ_CALL_SHORT ? (n + 1) / 2 : n)); }
int aq_call_sync(int fd) { CALL(AQ_CALL_SYNC, int, fsync(fd)); }
int aq_call_rename(const char *from, const char *to) { CALL(AQ_CALL_RENAME, int, rename(from, to)); }
int aq_call_unlink(const char *path) { CALL(AQ_CALL_UNLINK, int, unlink(path)); }
int aq_call_mkdir(const char *path) { CALL(AQ_CALL_MKDIR, int, mkdir(path, 0777)); }

/* Even a close that says EINTR has closed. */
int aq_call_close(int fd) {
    int error = fails(AQ_CALL_CLOSE), result = close(fd);
    if (error > 0) {
        result = -1;
        errno = error;
    }
    return result < 0 && errno == EINTR ? 0 : result;
}

void *aq_call_map(int fd, size_t size) {
    int error = fails(AQ_CALL_MAP);
    void *at;
    if (error > 0 && error != EINTR) {
        errno = error;
        return NULL;
    }
    at = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

void aq_call_unmap(void *at, size_t size) { munmap(at, size); }
void aq_call_forget(void *at, size_t size) { (void)madvise(at, size, MADV_DONTNEED); } /* only advice */

static int list(const char *folder, int (*call)(void *user, const char *name), void *user) {
    DIR *d = opendir(folder);
    const struct dirent *e;
    if (!d)
        return -1;
    errno = 0;
    while ((e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !call(user, e->d_name))
            break;
    int bad = !e && errno;
    closedir(d);
    return bad ? -1 : 0;
}

int aq_call_list(const char *folder, int (*call)(void *user, const char *name), void *user) { CALL(AQ_CALL_LIST, int, list(folder, call, user)); }
