/* test_convert_faults.c: each call to the system that a conversion makes fails once, in each way that it can: interrupted, half done, disk broken,
 * disk full. Interrupted and half done nobody may notice. Otherwise: one line, exit 1, no temporary file, and what stood there before stands there
 * whole, or the new model does, or, where files of a folder were just getting their names, a folder that says it is unfinished and that no one
 * takes for a model; the next run makes it good. */
#define _GNU_SOURCE
#include "frontend/convert.h"
#include "frontend/import/write_gguf.h"
#include "ir/file_call.h"
#include "ir/memory.h"
#include "tests/support/micro.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char folder[64];

static const char *const call_name[AQ_FILE_CALLS] = {"open", "stat", "map", "read", "write", "sync", "close", "rename", "unlink", "mkdir", "list"};

static void path_of(char room[128], const char *name, int form) { snprintf(room, 128, "%s/%s%s", folder, name, form == AQ_FORM_GGUF ? ".gguf" : ""); }

static void must(aq_status status) {
    if (status != AQ_OK)
        fail_msg("%s", aq_error());
}

static aq_status convert(const char *from, const char *to, int form) {
    aq_arena arena = {0};
    aq_checkpoint c;
    aq_convert_report report;
    aq_convert_options o = {.to = (aq_form)form, .shard_size = 30000, .threads = 1};
    aq_status status = aq_checkpoint_open(from, &c);
    if (status == AQ_OK) {
        status = aq_convert(&arena, &c, to, &o, &report);
        aq_checkpoint_close(&c);
    }
    aq_arena_close(&arena);
    return status;
}

/* ---- what is there: one number for all names and bytes of a file or folder ---- */

typedef struct view {
    const char *path;
    uint64_t sum;
    int temporaries, unfinished;
} view;

static uint64_t hash(uint64_t h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static uint64_t hash_file(const char *path, const char *name, int *unfinished) {
    aq_file f;
    must(aq_file_map(path, &f));
    uint64_t h = hash(hash(14695981039346656037u, name, strlen(name)), f.bytes, f.size);
    if (f.size && memmem(f.bytes, f.size, "unfinished", 10))
        *unfinished = 1;
    aq_file_unmap(&f);
    return h;
}

static int look_at(void *user, const char *name) {
    view *v = user;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", v->path, name);
    v->temporaries += strstr(name, ".tmp.") != NULL;
    if (aq_file_kind(path) == 1)
        v->sum += hash_file(path, name, &v->unfinished);
    return 1;
}

static view view_of(const char *path) {
    view v = {.path = path};
    if (aq_file_kind(path) == 2)
        must(aq_file_list(path, look_at, &v));
    else if (aq_file_kind(path) == 1)
        v.sum = hash_file(path, "", &v.unfinished);
    return v;
}

static int count_one(void *user, const char *name) {
    *(int *)user += strstr(name, ".tmp.") != NULL;
    return 1;
}

static int temporaries(const char *path) {
    int n = view_of(path).temporaries;
    must(aq_file_list(folder, count_one, &n));
    return n;
}

/* ---- one fault ---- */

typedef struct scene {
    char from[128], old_from[128], out[128];
    int form;
    uint64_t old, new;
    long faults, survived, unfinished;
} scene;

static void reset(scene *s) { /* the old model stands there */
    if (view_of(s->out).sum != s->old)
        must(convert(s->old_from, s->out, s->form));
    assert_true(view_of(s->out).sum == s->old);
}

/* 0 when the conversion makes fewer such calls. */
static int one_fault(scene *s, aq_file_call call, long nth, int error) {
    reset(s);
    aq_file_fail(call, nth, error);
    long blocks = aq_mem_open_blocks();
    aq_status status = convert(s->from, s->out, s->form);
    int failed = aq_file_failed();
    aq_file_fail(call, 0, 0);
    view v = view_of(s->out);
    if (aq_mem_open_blocks() != blocks)
        fail_msg("%s %ld fails (%d): a leak", call_name[call], nth, error);
    if (!failed) {
        assert_int_equal(status, AQ_OK);
        return 0;
    }
    s->faults++;
    const char *story = status == AQ_OK ? "" : aq_error();
    if (status != AQ_OK && (status != AQ_FAILED || !*story || strchr(story, '\n')))
        fail_msg("%s %ld fails (%d): status %d, \"%s\"", call_name[call], nth, error, status, story);
    if ((error == EINTR || error == AQ_CALL_SHORT) && status != AQ_OK)
        fail_msg("%s %ld is interrupted (%d): \"%s\"", call_name[call], nth, error, story);
    if (status != AQ_OK && call != AQ_CALL_UNLINK && (error == EIO || error == ENOSPC) && !strstr(story, strerror(error)))
        fail_msg("%s %ld fails (%d): \"%s\" does not say why", call_name[call], nth, error, story);
    if (call != AQ_CALL_UNLINK && temporaries(s->out)) /* whoever cannot remove it leaves it */
        fail_msg("%s %ld fails (%d): a temporary file is left", call_name[call], nth, error);
    if (status == AQ_OK && v.sum != s->new && !(call == AQ_CALL_UNLINK && v.temporaries))
        fail_msg("%s %ld fails (%d): it says nothing, and the result is another", call_name[call], nth, error);
    if (status != AQ_OK && v.sum != s->old && v.sum != s->new && !v.unfinished && !(call == AQ_CALL_UNLINK && v.temporaries))
        fail_msg("%s %ld fails (%d): neither the old nor the new model stands there", call_name[call], nth, error);
    s->survived += status == AQ_OK;
    if (v.unfinished) {
        aq_checkpoint c;
        s->unfinished++;
        assert_int_equal(s->form != AQ_FORM_GGUF, 1);
        assert_int_equal(aq_checkpoint_open(s->out, &c), AQ_REFUSED);
    }
    must(convert(s->from, s->out, s->form)); /* the next run */
    if (view_of(s->out).sum != s->new || temporaries(s->out))
        fail_msg("after %s %ld failed (%d) the next run does not make it good", call_name[call], nth, error);
    return 1;
}

static void all_faults(scene *s) {
    static const int errors[] = {EINTR, EIO, ENOSPC, AQ_CALL_SHORT};
    must(convert(s->from, s->out, s->form));
    s->new = view_of(s->out).sum;
    must(convert(s->old_from, s->out, s->form));
    s->old = view_of(s->out).sum;
    assert_true(s->old != s->new);
    for (int call = 0; call < AQ_FILE_CALLS; call++)
        for (int k = 0; k < 4; k++) {
            if ((errors[k] == AQ_CALL_SHORT || errors[k] == ENOSPC) && call != AQ_CALL_READ && call != AQ_CALL_WRITE && !(call == AQ_CALL_SYNC && errors[k] == ENOSPC))
                continue;
            if (call == AQ_CALL_STAT && errors[k] == EIO) /* where the source is looked for, such a look finds nothing */
                continue;
            for (long nth = 1; one_fault(s, (aq_file_call)call, nth, errors[k]); nth++) {
            }
        }
    print_message("    to %s: %ld faults, %ld not noticed, %ld left an unfinished folder\n", s->form == AQ_FORM_GGUF ? "GGUF" : s->form == AQ_FORM_HF ? "Hugging Face" : "FlagAI",
                  s->faults, s->survived, s->unfinished);
    assert_true(s->faults > 20);
}

static void source(const char *path, uint64_t seed) {
    aq_micro m;
    aq_micro_open(&m, AQ_F32, 0, seed);
    must(aq_gguf_write(path, &m.config, m.tensors, m.n_tensors, &m.tokenizer, "{{ x }}"));
    aq_micro_close(&m);
}

static void run(int from, int to) {
    scene s = {.form = to};
    char gguf[2][128];
    aq_micro_folder(folder);
    for (int i = 0; i < 2; i++) {
        char *path = i ? s.old_from : s.from;
        path_of(gguf[i], i ? "o" : "n", AQ_FORM_GGUF);
        source(gguf[i], 5 + (uint64_t)i);
        path_of(path, i ? "old" : "new", from);
        must(convert(gguf[i], path, from));
    }
    path_of(s.out, "out", to);
    all_faults(&s);
    aq_micro_remove(folder);
}

static void gguf_to_hugging_face(void **state) {
    (void)state;
    run(AQ_FORM_GGUF, AQ_FORM_HF);
}

static void hugging_face_to_flagai(void **state) {
    (void)state;
    run(AQ_FORM_HF, AQ_FORM_FLAGAI);
}

static void flagai_to_gguf(void **state) {
    (void)state;
    run(AQ_FORM_FLAGAI, AQ_FORM_GGUF);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(flagai_to_gguf), cmocka_unit_test(gguf_to_hugging_face), cmocka_unit_test(hugging_face_to_flagai)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
