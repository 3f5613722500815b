/* forms.c: chooses the form of a path (forms.def) and opens it; the parts every form shares: maps, refusals, close.
 * A GGUF file and a torch archive are told by their first bytes, the others by their names. */
#include "frontend/import/internal.h"
#include "frontend/import/names.h"
#include "frontend/reasons.h"
#include "ir/memory.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct form {
    const char *name;
    aq_status (*open)(aq_checkpoint *c);
    const char *doc;
} form;
typedef enum form_id {
#define FORM(name, open, doc) FORM_##name,
#include "frontend/import/forms.def"
#undef FORM
} form_id;
static const form forms[] = {
#define FORM(name, open, doc) {#name, open, doc},
#include "frontend/import/forms.def"
#undef FORM
};

aq_status aq_import_refuse(int reason, const char *file, const char *kind, const char *name, size_t n, const char *format, ...) {
    char place[640], text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(place, sizeof place, "%.480s:%s %.*s", file, kind, (int)(n < 120 ? n : 120), name ? name : "");
    return aq_refuse(reason, place, "%s", text);
}

aq_status aq_import_map(aq_checkpoint *c, const char *path, const aq_file **out) {
    enum { MOST_FILES = 1024 };
    if (!c->files)
        AQ_ALLOC(&c->arena, c->files, MOST_FILES); /* in place for good: what is mapped must be found again by close */
    assert(c->n_files < MOST_FILES); /* folder.c counts its shards */
    AQ_TRY(aq_import_unreadable(aq_file_map(path, &c->files[c->n_files])));
    *out = &c->files[c->n_files++];
    return AQ_OK;
}

/* The form of a file: PK is how a zip archive begins. */
static aq_status look_inside(const char *path, form_id *out) {
    aq_file file;
    AQ_TRY(aq_import_unreadable(aq_file_map(path, &file)));
    int gguf = file.size >= 4 && memcmp(file.bytes, "GGUF", 4) == 0, zip = file.size >= 2 && memcmp(file.bytes, "PK", 2) == 0;
    aq_file_unmap(&file);
    if (!gguf && aq_path_ends(path, ".safetensors"))
        *out = FORM_hugging_face;
    else if (zip || (!gguf && (aq_path_ends(path, ".bin") || aq_path_ends(path, ".pt") || aq_path_ends(path, ".pth"))))
        *out = FORM_torch;
    else
        *out = FORM_gguf;
    return AQ_OK;
}

static aq_status form_of(const char *path, form_id *out) {
    const aq_known_model *known = aq_known_model_find(path);
    switch (aq_file_kind(path)) {
    case 0:
        return aq_refuse(AQ_WHY_MODEL_MISSING, path, "no such file or folder: expected a .gguf file or a folder with config.json and model.safetensors%s%s%s",
                         known ? " (" : "", known ? known->name : "", known ? ":random is its architecture with random weights)" : "");
    case 1: return look_inside(path, out);
    case 2: *out = FORM_hugging_face; return AQ_OK;
    default: return aq_refuse(AQ_WHY_MODEL_DEVICE, path, "a device or pipe: expected a file or a folder");
    }
}

static aq_status open_path(aq_checkpoint *c, const char *path) {
    form_id id = FORM_gguf;
    AQ_TRY(aq_arena_string(&c->arena, path, strlen(path), &c->path));
    AQ_TRY(form_of(c->path, &id));
    return forms[id].open(c);
}

aq_status aq_checkpoint_open(const char *path, aq_checkpoint *out) {
    aq_checkpoint c = {0};
    aq_status status = open_path(&c, path);
    if (status != AQ_OK)
        aq_checkpoint_close(&c);
    *out = c;
    return status;
}

void aq_checkpoint_close(aq_checkpoint *c) {
    for (uint32_t i = 0; i < c->n_files; i++)
        aq_file_unmap(&c->files[i]);
    aq_mem_unmap(c->made, c->made_bytes);
    aq_arena_close(&c->arena);
    *c = (aq_checkpoint){0};
}

/* ---- only the figures ---- */

static aq_status read_json(aq_arena *arena, const char *path, aq_config *out) {
    char *text;
    size_t n;
    aq_naming naming;
    AQ_TRY(aq_import_read(path, &text, &n));
    aq_status status = aq_config_parse(arena, path, text, n, out, &naming);
    aq_mem_free(text);
    return status;
}

aq_status aq_config_read(aq_arena *arena, const char *path, aq_config *out) {
    const char *json = path;
    int kind = aq_file_kind(path);
    if (kind == 0) {
        const char *colon = strchr(path, ':');
        return aq_builtin_config_read(arena, path, colon ? (size_t)(colon - path) : strlen(path), out);
    }
    if (kind == 1 && !aq_path_ends(path, ".json"))
        return aq_gguf_config(arena, path, out);
    if (kind == 2)
        AQ_TRY(aq_import_path(arena, path, "config.json", &json));
    return read_json(arena, json, out);
}
