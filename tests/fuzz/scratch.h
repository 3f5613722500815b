/* scratch.h: files of this process, in memory where the system has a place for that, for targets whose code takes paths. Gone at exit. */
#ifndef AQ_TESTS_FUZZ_SCRATCH_H
#define AQ_TESTS_FUZZ_SCRATCH_H

#include "tests/fuzz/sections.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_folder[64];

/* Inside: files and folders of files. */
static inline void scratch_empty(const char *folder) {
    char path[512];
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && unlink(path) != 0) {
            scratch_empty(path);
            rmdir(path);
        }
    }
    if (d)
        closedir(d);
}

static inline void scratch_remove(void) {
    scratch_empty(scratch_folder);
    rmdir(scratch_folder);
}

static inline void scratch_open(void) {
    if (*scratch_folder)
        return;
    strcpy(scratch_folder, "/dev/shm/aq-fuzz-XXXXXX");
    if (!mkdtemp(scratch_folder)) {
        strcpy(scratch_folder, "/tmp/aq-fuzz-XXXXXX");
        need(mkdtemp(scratch_folder) != NULL);
    }
    atexit(scratch_remove);
}

/* The path of NAME in the folder, in room[512]. */
static inline const char *scratch_path(const char *name, char *room) {
    scratch_open();
    snprintf(room, 512, "%s/%s", scratch_folder, name);
    return room;
}

static inline void scratch_make(const char *name) {
    char path[512];
    need(mkdir(scratch_path(name, path), 0700) == 0 || access(path, W_OK) == 0);
}

static inline void scratch_put(const char *name, const void *bytes, size_t n) {
    char path[512];
    FILE *f = fopen(scratch_path(name, path), "w");
    need(f && (n == 0 || fwrite(bytes, 1, n, f) == n) && fclose(f) == 0);
}

static inline void scratch_drop(const char *name) {
    char path[512];
    unlink(scratch_path(name, path));
}

#endif
