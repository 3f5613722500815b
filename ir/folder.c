/* folder.c: what the folders of a cache need of the world: list, remove, mark as used, room left; and what memory the machine has left. */
#define _GNU_SOURCE
#include "ir/file.h"
#include "ir/file_call.h"
#include "ir/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

aq_status aq_folder_list(const char *path, aq_arena *arena, aq_folder_list_of *out) {
    DIR *d = opendir(path);
    aq_status status = AQ_OK;
    if (!d)
        return errno == ENOENT ? AQ_OK : aq_fail(AQ_FAILED, path, "cannot list: %s", strerror(errno));
    for (const struct dirent *e; status == AQ_OK && (e = readdir(d));) {
        struct stat st;
        aq_folder_entry entry;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
            continue; /* gone again, or none of ours */
        status = aq_arena_format(arena, &entry.path, "%s/%s", path, e->d_name);
        if (status != AQ_OK)
            break;
        entry.size = (uint64_t)st.st_size;
        entry.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        void *at = out->at;
        status = aq_vec_grow(arena, &at, out->n, &out->room, sizeof *out->at);
        out->at = at;
        if (status == AQ_OK)
            out->at[out->n++] = entry;
    }
    closedir(d);
    return status;
}

aq_status aq_file_remove(const char *path) {
    if (aq_call_unlink(path) && errno != ENOENT)
        return aq_fail(AQ_FAILED, path, "cannot remove: %s", strerror(errno));
    return AQ_OK;
}

void aq_file_touch(const char *path) { (void)utimensat(AT_FDCWD, path, NULL, 0); /* a cache on a read-only disk ages by other means */ }

uint64_t aq_folder_room(const char *path) {
    struct statvfs s;
    return statvfs(path, &s) ? UINT64_MAX : (uint64_t)s.f_bavail * s.f_frsize;
}

/* The number behind `name` in a text of lines, in bytes; UINT64_MAX if there is none. */
static uint64_t number_of(const char *path, const char *name, uint64_t unit) {
    char *text;
    size_t n;
    uint64_t x = UINT64_MAX;
    if (aq_file_read(path, 1 << 16, &text, &n) != AQ_OK)
        return x;
    const char *at = strstr(text, name);
    if (at && at[strlen(name) + strspn(at + strlen(name), " ")] != 'm') /* "max" */
        x = strtoull(at + strlen(name), NULL, 10) * unit;
    aq_mem_free(text);
    return x;
}

uint64_t aq_mem_addresses(void) {
    struct rlimit most;
    if (getrlimit(RLIMIT_AS, &most) || most.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    uint64_t used = number_of("/proc/self/status", "VmSize:\t", 1024);
    return used == UINT64_MAX ? UINT64_MAX : used < most.rlim_cur ? most.rlim_cur - used : 0;
}

uint64_t aq_mem_available(void) {
    uint64_t x = number_of("/proc/meminfo", "MemAvailable:", 1024);
    uint64_t most = number_of("/sys/fs/cgroup/memory.max", "", 1), used = number_of("/sys/fs/cgroup/memory.current", "", 1);
    uint64_t files = number_of("/sys/fs/cgroup/memory.stat", "file ", 1);
    if (most == UINT64_MAX || used == UINT64_MAX)
        return x;
    used -= files != UINT64_MAX && files < used ? files : 0; /* pages of files leave when others want the room */
    uint64_t left = used < most ? most - used : 0;
    return left < x ? left : x;
}
