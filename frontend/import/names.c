/* names.c: see names.h. Twenty rows, looked through once a start. */
#include "frontend/import/names.h"

#include "ir/file.h"

#include <ctype.h>
#include <string.h>

static const aq_known_model models[] = {
#define NAME(name, config, template, sampling, temperature, top_k, top_p, max_new, doc)                                                           \
    {name, config, template, sampling, temperature, top_k, top_p, max_new, doc},
#include "frontend/import/names.def"
};

const aq_known_model *aq_known_model_at(uint32_t i) { return i < sizeof models / sizeof *models ? &models[i] : NULL; }

static int is_joint(char c) { return c == '-' || c == '_' || c == ' '; }

/* Characters of name[0..n) that spell the row's name, 0 if it does not begin with it. */
static size_t spelt(const char *row, const char *name, size_t n) {
    size_t i = 0;
    for (;; row++) {
        while (is_joint(*row))
            row++;
        if (!*row)
            break;
        while (i < n && i && is_joint(name[i]))
            i++;
        if (i >= n || tolower((unsigned char)name[i]) != tolower((unsigned char)*row))
            return 0;
        i++;
    }
    return i;
}

const aq_known_model *aq_known_model_exact(const char *name, size_t n) {
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (n && spelt(models[i].name, name, n) == n)
            return &models[i];
    return NULL;
}

/* The last part of path[0..*n): where it begins; *n becomes where it ends. */
static size_t last_part(const char *path, size_t *n) {
    while (*n && path[*n - 1] == '/')
        --*n;
    size_t start = *n;
    while (start && path[start - 1] != '/')
        start--;
    return start;
}

/* Length of an owner's name before the model's: "models--OWNER--" in the Hub's cache, "BAAI_" where files are named after repositories. */
static size_t owner(const char *name, size_t n) {
    static const char cached[] = "models--";
    static const char *const owners[] = {"BAAI", "HuggingFaceTB"};
    enum { SKIP = sizeof cached - 1 };
    for (size_t i = SKIP; n > SKIP && !strncmp(name, cached, SKIP) && i + 1 < n; i++)
        if (name[i] == '-' && name[i + 1] == '-')
            return i + 2;
    for (size_t i = 0; i < sizeof owners / sizeof *owners; i++) {
        size_t k = spelt(owners[i], name, n);
        if (k && k < n && is_joint(name[k]))
            return k + 1;
    }
    return 0;
}

static const aq_known_model *find(const char *name, size_t n) {
    const aq_known_model *best = NULL;
    size_t most = 0, start = last_part(name, &n);
    start += owner(name + start, n - start);
    name += start;
    n -= start;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        size_t k = spelt(models[i].name, name, n);
        if (k > most && (k == n || !isalnum((unsigned char)name[k]))) {
            best = &models[i];
            most = k;
        }
    }
    return best;
}

const aq_known_model *aq_known_model_find(const char *name) { return find(name, strlen(name)); }

/* By the folders that the file or folder is in. */
static const aq_known_model *find_around(const char *path) {
    char room[AQ_FILE_PATH];
    size_t end = strlen(path), n = last_part(path, &end), m = n, start;
    if (!n && aq_file_kind(path)) { /* a file in the working folder */
        path = aq_file_real(".", room);
        return aq_known_model_find(path);
    }
    const aq_known_model *found = find(path, n);
    start = last_part(path, &m);
    if (!found && m - start == 9 && !memcmp(path + start, "snapshots", 9)) /* models--OWNER--NAME/snapshots/REVISION */
        found = find(path, start);
    return found;
}

static int is_dots(const char *path) {
    size_t n = strlen(path), start = last_part(path, &n);
    return n > start && strspn(path + start, ".") >= n - start;
}

const aq_known_model *aq_known_model_of(const char *own_name, const char *path) {
    char room[AQ_FILE_PATH];
    path = !path ? "" : is_dots(path) ? aq_file_real(path, room) : path;
    const aq_known_model *found = aq_known_model_find(path);
    if (!found && own_name)
        found = aq_known_model_find(own_name);
    return found ? found : find_around(path);
}
