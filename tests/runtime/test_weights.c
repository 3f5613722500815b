/* test_weights.c: binding: what is as stored stays where it is, what is packed is packed right (also against the definition of the layout,
 * for block types and rotated heads), and the cache file: found again, refused when damaged, harmless when it cannot be written. */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "ir/file.h"
#include "ir/memory.h"
#include "ir/random.h"
#include "runtime/pack.h"
#include "tests/runtime/tiny.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static aq_arena arena;
static aq_rt_plan *plan;
static tiny model;
static char folder[] = "/tmp/aq-weights-XXXXXX";

static int set_up(void **state) {
    (void)state;
    tiny_make(&model, 3);
    plan = tiny_plan(&arena);
    return mkdtemp(folder) ? 0 : -1;
}

static int count_files(char *last, size_t room) {
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            n++;
            if (last)
                snprintf(last, room, "%s/%s", folder, e->d_name);
        }
    if (d)
        closedir(d);
    return n;
}

static void empty_folder(void) {
    char path[4096];
    while (count_files(path, sizeof path))
        assert_int_equal(unlink(path), 0);
}

static int tear_down(void **state) {
    (void)state;
    empty_folder();
    rmdir(folder);
    aq_rt_plan_close(plan);
    aq_arena_close(&arena);
    assert_int_equal(aq_mem_open_blocks(), 0);
    return 0;
}

static int64_t in_place; /* of weight `out`, element by element */

static void expect_bound(const aq_rt_weights *w) {
    int64_t dim[2] = {TINY_V, TINY_D};
    assert_ptr_equal(aq_rt_weight_at(w, 0), model.emb);
    assert_ptr_equal(aq_rt_weight_at(w, 3), model.norm);
    assert_ptr_equal(aq_rt_weight_at(w, 4), aq_rt_weight_at(w, 1)); /* the alias */
    assert_int_equal((uintptr_t)aq_rt_weight_at(w, 1) % 64, 0);
    for (int64_t n = 0; n < TINY_V; n++)
        for (int64_t k = 0; k < TINY_D; k++, in_place++)
            assert_true(aq_layout_get(AQ_LAYOUT_PANEL, AQ_F32, dim, 2, (int64_t[]){n, k}, aq_rt_weight_at(w, 1)) == (double)model.out[n * TINY_D + k]);
    const float *mix = aq_rt_weight_at(w, 2);
    for (int i = 0; i < TINY_D; i++) {
        int head = i / TINY_HEAD * TINY_HEAD, in = i % TINY_HEAD, row = model.rotate_half ? head + in / 2 + in % 2 * (TINY_HEAD / 2) : i;
        assert_memory_equal(mix + i * TINY_D, model.mix + row * TINY_D, TINY_D * sizeof *mix);
    }
    assert_int_equal(model.rotate_half ? mix != model.mix : mix == model.mix, 1);
}

static aq_rt_weights *bind_with(const char *cache, int threads) {
    aq_rt_weights *w;
    assert_ok(aq_rt_weights_bind(plan, tiny_source, &model, cache, threads, NULL, NULL, &w));
    expect_bound(w);
    return w;
}

static void in_memory(void **state) {
    (void)state;
    for (model.rotate_half = 0; model.rotate_half < 2; model.rotate_half++)
        for (int threads = 1; threads <= 3; threads++)
            aq_rt_weights_close(bind_with(NULL, threads));
    model.rotate_half = 0;
}

/* Pages of files in this process's memory. */
static long file_pages(void) {
    long all, resident, shared = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_true(f && fscanf(f, "%ld %ld %ld", &all, &resident, &shared) == 3);
    fclose(f);
    return shared;
}

/* Naming touches 16 pages of a tensor, packing all of them: neither leaves the file in memory beside what is packed. */
static void a_file_that_was_read_is_forgotten(void **state) {
    (void)state;
    enum { ROWS = 4096, BYTES = ROWS * 4096 };
    char path[4096];
    aq_file file;
    aq_team *team;
    void *zeros, *block;
    snprintf(path, sizeof path, "%s/model", folder);
    assert_ok(aq_mem_map(BYTES, &zeros));
    assert_ok(aq_mem_map(BYTES, &block));
    memset(zeros, 1, BYTES);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(write(fd, zeros, BYTES) == BYTES);
    close(fd);
    assert_ok(aq_file_map(path, &file));
    assert_ok(aq_team_open(2, &team));
    const aq_plan_weight to = {.dtype = AQ_F32, .layout = AQ_LAYOUT_PANEL, .rank = 2, .dim = {ROWS, 1024}, .bytes = BYTES};
    aq_pack_job jobs[2] = {{.from = {.data = file.bytes, .bytes = BYTES, .dtype = AQ_F32, .rank = 2, .dim = {ROWS, 1024}, .stamp = 1}, .to = &to}, {.offset = BYTES}};
    aq_pack_list list = {jobs, 1};
    aq_pack_cut(&list);
    long before = file_pages();
    assert_ok(aq_pack_name(team, &list));
    long named = file_pages() - before;
    assert_ok(aq_pack_run(team, &list, &(aq_pack_to){.block = block}));
    long packed = file_pages() - before;
    print_message("of 4096 pages %ld are left by naming, %ld by packing\n", named, packed);
    assert_true(named < 64 && packed < 64);
    aq_team_close(team);
    aq_file_unmap(&file);
    aq_mem_unmap(zeros, BYTES);
    aq_mem_unmap(block, BYTES);
    assert_int_equal(unlink(path), 0);
}

static uint64_t progress_done, progress_all;
static void watch(void *user, uint64_t done, uint64_t all) {
    assert_ptr_equal(user, &model);
    assert_true(done >= progress_done && done <= all);
    progress_done = done, progress_all = all;
}

static void kept_and_found(void **state) {
    (void)state;
    char path[4096], deeper[4096];
    aq_rt_weights *w;
    snprintf(deeper, sizeof deeper, "%s/a/b", folder);
    progress_done = progress_all = 0;
    assert_ok(aq_rt_weights_bind(plan, tiny_source, &model, folder, 2, watch, &model, &w));
    assert_true(progress_all == (TINY_V + 15) / 16 * 16 * TINY_D * sizeof(float) && progress_done == progress_all); /* whole panels */
    assert_null(aq_rt_weights_note(w));
    expect_bound(w);
    aq_rt_weights_close(w);
    assert_int_equal(count_files(path, sizeof path), 1);
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    progress_all = 0;
    assert_ok(aq_rt_weights_bind(plan, tiny_source, &model, folder, 2, watch, &model, &w));
    assert_true(progress_all == 0); /* nothing was packed */
    expect_bound(w);
    aq_rt_weights_close(w);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    model.out[TINY_V * TINY_D / 2] += 1; /* one element of another model: another file */
    aq_rt_weights_close(bind_with(folder, 2));
    assert_int_equal(count_files(NULL, 0), 2);
    model.rotate_half = 1; /* another recipe */
    aq_rt_weights_close(bind_with(folder, 2));
    aq_rt_weights_close(bind_with(folder, 1));
    assert_int_equal(count_files(NULL, 0), 3);
    model.rotate_half = 0;
    empty_folder();
    aq_rt_weights_close(bind_with(deeper, 1)); /* folders are made */
    assert_int_equal(count_files(path, sizeof path), 1);
    char command[5000];
    snprintf(command, sizeof command, "rm -r '%s/a'", folder);
    assert_int_equal(system(command), 0);
}

/* A file that begins one byte later, its tail as if it were whole: the sums lie where no number of 8 bytes does. */
static void a_file_shifted(void **state) {
    (void)state;
    enum { TAIL = 64, AT_SIZE = 40, AT_OWN = 56 };
    char path[4096];
    static unsigned char bytes[1 << 16];
    int current;
    aq_rt_weights_close(bind_with(folder, 1));
    count_files(path, sizeof path);
    FILE *f = fopen(path, "r+");
    size_t n = fread(bytes, 1, sizeof bytes, f);
    assert_true(n > TAIL && n < sizeof bytes);
    uint64_t size = --n;
    memcpy(bytes + 1 + n - TAIL + AT_SIZE, &size, 8);
    uint64_t own = XXH3_64bits(bytes + 1 + n - TAIL, AT_OWN);
    memcpy(bytes + 1 + n - TAIL + AT_OWN, &own, 8);
    rewind(f);
    assert_true(fwrite(bytes + 1, 1, n, f) == n && fclose(f) == 0 && truncate(path, (off_t)n) == 0);
    assert_refused(AQ_REFUSED, "tail: damaged", aq_rt_cache_file_check(path, 1, &current));
    assert_int_equal(current, 1);
    aq_rt_weights_close(bind_with(folder, 1)); /* and it is written again */
    assert_ok(aq_rt_cache_file_check(path, 1, &current));
    empty_folder();
}

/* The file of one model under the name of another: of the same size, intact, and refused. */
static void a_file_under_the_wrong_name(void **state) {
    (void)state;
    char first[4096], second[4200];
    aq_rt_weights_close(bind_with(folder, 1));
    count_files(first, sizeof first);
    assert_ok(aq_file_make_folder(folder));
    model.out[5] += 1;
    snprintf(second, sizeof second, "%s.other", first);
    assert_int_equal(rename(first, second), 0);
    aq_rt_weights_close(bind_with(folder, 1));
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && !strstr(e->d_name, ".other"))
            snprintf(first, sizeof first, "%s/%s", folder, e->d_name);
    closedir(d);
    assert_int_equal(rename(second, first), 0);
    aq_rt_weights_close(bind_with(folder, 1)); /* expects its own bytes */
    empty_folder();
}

/* Each byte of the file changed, and each length of it: never trusted where it is looked at, never a crash; written again. */
static void damaged_files_are_made_again(void **state) {
    (void)state;
    char path[4096];
    aq_rt_weights_close(bind_with(folder, 1));
    count_files(path, sizeof path);
    aq_file f;
    assert_ok(aq_file_map(path, &f));
    size_t size = f.size;
    unsigned char *bytes = malloc(size);
    memcpy(bytes, f.bytes, size);
    aq_file_unmap(&f);
    for (size_t i = 0; i < 2 * size; i += i < 64 ? 3 : 397) {
        int fd = open(path, O_RDWR | O_TRUNC);
        size_t n = i < size ? size : i - size;
        assert_true(fd >= 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
        if (i < size) {
            unsigned char other = bytes[i] ^ 0x55;
            assert_int_equal(pwrite(fd, &other, 1, (off_t)i), 1);
        }
        close(fd);
        aq_rt_weights_close(bind_with(folder, 1)); /* expects the right bytes */
    }
    free(bytes);
    assert_int_equal(count_files(NULL, 0), 1);
    empty_folder();
}

static void a_folder_that_cannot_be_written(void **state) {
    (void)state;
    char path[4096];
    int fd;
    snprintf(path, sizeof path, "%s/file", folder);
    assert_true((fd = open(path, O_CREAT | O_WRONLY, 0600)) >= 0);
    close(fd);
    aq_rt_weights *w = bind_with(path, 1); /* a file where the folder should be: also for root */
    assert_non_null(aq_rt_weights_note(w));
    assert_non_null(strstr(aq_rt_weights_note(w), "packed weights are not kept: "));
    aq_rt_weights_close(w);
    w = bind_with("/proc/no/such", 1);
    assert_non_null(aq_rt_weights_note(w));
    aq_rt_weights_close(w);
    empty_folder();
}

static void *bind_once(void *user) {
    aq_rt_weights *w;
    (void)user;
    aq_status status = aq_rt_weights_bind(plan, tiny_source, &model, folder, 1, NULL, NULL, &w);
    if (status != AQ_OK)
        return "failed";
    void *bad = aq_rt_weights_note(w) ? "a note" : NULL;
    aq_rt_weights_close(w);
    return bad;
}

static void several_at_once(void **state) {
    (void)state;
    for (int turn = 0; turn < 10; turn++) {
        pthread_t t[4];
        void *bad;
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&t[i], NULL, bind_once, NULL), 0);
        for (int i = 0; i < 4; i++) {
            pthread_join(t[i], &bad);
            assert_null(bad);
        }
        assert_int_equal(count_files(NULL, 0), 1);
        aq_rt_weights_close(bind_with(folder, 1));
        empty_folder();
    }
}

typedef struct spoiled {
    const char *name;
    aq_rt_tensor change; /* what is not 0 replaces */
    int refuse;
} spoiled;

static aq_status spoil(void *user, const char *name, aq_rt_tensor *out) {
    spoiled *s = user;
    if (strcmp(name, s->name) == 0 && s->refuse)
        return aq_fail(AQ_REFUSED, "model.gguf", "no tensor %s", name);
    AQ_TRY(tiny_source(&model, name, out));
    if (strcmp(name, s->name) != 0)
        return AQ_OK;
    if (s->change.dtype)
        out->dtype = s->change.dtype;
    if (s->change.rank)
        out->rank = s->change.rank;
    if (s->change.bytes)
        out->bytes = s->change.bytes;
    if (s->change.dim[0])
        out->dim[0] = s->change.dim[0];
    out->rotate_half = s->change.rotate_half;
    if (s->change.data)
        out->data = s->change.data;
    return AQ_OK;
}

static void wrong_tensors(void **state) {
    (void)state;
    aq_rt_weights *w;
#define SPOIL(text, ...) assert_refused(AQ_REFUSED, text, aq_rt_weights_bind(plan, spoil, &(spoiled){__VA_ARGS__}, NULL, 1, NULL, NULL, &w))
    SPOIL("out: type bf16: the plan tiny.aqp expects f32", .name = "out", .change.dtype = AQ_BF16);
    SPOIL("out: type unknown", .name = "out", .change.dtype = 99);
    SPOIL("out: 1 axes: the plan tiny.aqp expects 2", .name = "out", .change.rank = 1);
    SPOIL("out: axis 0 of 49: the plan tiny.aqp expects 50", .name = "out", .change.dim[0] = 49);
    SPOIL("norm: 63 bytes: expected 64", .name = "norm", .change.bytes = 63);
    SPOIL("out: its rows are in rotate-half order", .name = "out", .change.rotate_half = 1);
    SPOIL("model.gguf: no tensor mix", .name = "mix", .refuse = 1);
    assert_refused(AQ_USAGE, "0 threads", aq_rt_weights_bind(plan, tiny_source, &model, NULL, 0, NULL, NULL, &w));
    static float odd[TINY_V * TINY_D + 1]; /* not where an f32 may lie: copied */
    memcpy((char *)odd + 1, model.emb, sizeof model.emb);
    assert_ok(aq_rt_weights_bind(plan, spoil, &(spoiled){.name = "emb", .change.data = (char *)odd + 1}, NULL, 1, NULL, NULL, &w));
    assert_memory_equal(aq_rt_weight_at(w, 0), model.emb, sizeof model.emb);
    assert_int_equal((uintptr_t)aq_rt_weight_at(w, 0) % 64, 0);
    aq_rt_weights_close(w);
}

/* A matrix large enough for several pieces, of every type that panels offer, with and without heads, on 1 to 3 workers. */
static struct {
    aq_dtype type;
    int64_t n, k;
    unsigned char *data;
    size_t bytes;
    int rotate;
} big;

static aq_status big_source(void *user, const char *name, aq_rt_tensor *out) {
    if (strcmp(name, "out") != 0)
        return tiny_source(user, name, out);
    *out = (aq_rt_tensor){.data = big.data, .bytes = big.bytes, .dtype = big.type, .rank = 2, .dim = {big.n, big.k}, .rotate_half = big.rotate};
    return AQ_OK;
}

static void large_matrices_of_every_type(void **state) {
    (void)state;
    static const aq_dtype types[] = {AQ_F32, AQ_BF16, AQ_F16, AQ_Q4_0, AQ_Q4_1, AQ_Q8_0};
    tiny_tables *t = malloc(sizeof *t);
    aq_random r = aq_random_open(5);
    for (size_t i = 0; i < 2 * sizeof types / sizeof *types; i++) {
        unsigned char *bytes;
        size_t size, packed;
        aq_rt_plan *p;
        big.type = types[i / 2], big.n = i % 2 ? 48 * 64 : 3001, big.k = 1024, big.rotate = i % 2;
        assert_ok(aq_dtype_bytes(big.type, (uint64_t)(big.n * big.k), "big", &big.bytes));
        big.data = malloc(big.bytes);
        for (size_t b = 0; b + 4 <= big.bytes; b += 4) {
            uint32_t word = aq_random_u32(&r) & 0xbfffbfff; /* no NaN in any type: NaNs are not equal */
            memcpy(big.data + b, &word, 4);
        }
        tiny_fill(t);
        for (int k = 1; k < 5; k += 3) {
            aq_plan_weight *w = &t->weights[k];
            w->dtype = big.type, w->dim[0] = big.n, w->dim[1] = big.k, w->head_dim = big.rotate ? 64 : 0;
            assert_ok(aq_layout_bytes(AQ_LAYOUT_PANEL, big.type, w->dim, 2, "big", &packed));
            w->bytes = packed;
        }
        assert_ok(aq_plan_write(&t->p, &arena, &bytes, &size));
        assert_ok(aq_rt_plan_from_functions("big.aqp", bytes, size, tiny_lookup, NULL, &p));
        for (int threads = 1; threads <= 3; threads++) {
            aq_rt_weights *w;
            assert_ok(aq_rt_weights_bind(p, big_source, &model, threads == 1 ? NULL : folder, threads, NULL, NULL, &w));
            for (int64_t row = 0; row < big.n; row += 1 + row % 13) {
                int64_t in = row % 64, from = big.rotate ? row - in + in / 2 + in % 2 * 32 : row, dim[2] = {big.n, big.k};
                for (int64_t k = row % 7; k < big.k; k += 61)
                    if (aq_layout_get(AQ_LAYOUT_PANEL, big.type, dim, 2, (int64_t[]){row, k}, aq_rt_weight_at(w, 1)) !=
                        aq_layout_get(AQ_LAYOUT_ROWS, big.type, dim, 2, (int64_t[]){from, k}, big.data))
                        fail_msg("%s, %d workers: element %lld,%lld differs", aq_dtype_of(big.type)->name, threads, (long long)row, (long long)k);
            }
            aq_rt_weights_close(w);
        }
        if (big.rotate) { /* the same bytes under another recipe: not the file that is there */
            aq_rt_weights *w;
            int64_t dim[2] = {big.n, big.k};
            big.rotate = 0;
            assert_ok(aq_rt_weights_bind(p, big_source, &model, folder, 2, NULL, NULL, &w));
            for (int64_t row = 0; row < 64; row++)
                assert_true(aq_layout_get(AQ_LAYOUT_PANEL, big.type, dim, 2, (int64_t[]){row, 3}, aq_rt_weight_at(w, 1)) ==
                            aq_layout_get(AQ_LAYOUT_ROWS, big.type, dim, 2, (int64_t[]){row, 3}, big.data));
            aq_rt_weights_close(w);
        }
        aq_rt_plan_close(p);
        free(big.data);
        empty_folder();
    }
    free(t);
}

/* A matrix that is made when asked for is what it would be if it were there, in memory and through the cache, named by its content; a stamp
 * stands for the bytes between the samples. */
static atomic_int rows_made;
static aq_status made_rows(const void *maker, int64_t first, int64_t count, void *out) {
    atomic_fetch_add(&rows_made, (int)count);
    if (maker == &rows_made)
        return aq_fail(AQ_REFUSED, "maker", "no rows today");
    memcpy(out, big.data + (size_t)first * (big.bytes / (size_t)big.n), (size_t)count * (big.bytes / (size_t)big.n));
    return AQ_OK;
}
static uint64_t made_content, file_stamp;
static const void *made_by;
static aq_status made_source(void *user, const char *name, aq_rt_tensor *out) {
    AQ_TRY(big_source(user, name, out));
    if (strcmp(name, "out") != 0)
        return AQ_OK;
    out->stamp = file_stamp;
    if (!made_content)
        return AQ_OK;
    out->data = NULL;
    out->rows = made_rows;
    out->maker = made_by;
    out->content[0] = made_content;
    return AQ_OK;
}

static void expect_big(const aq_rt_weights *w, int rotated) {
    int64_t dim[2] = {big.n, big.k};
    for (int64_t row = 0; row < big.n; row++) {
        int64_t in = row % 96, from = rotated ? row - in + in / 2 + in % 2 * 48 : row;
        for (int64_t k = row % 7; k < big.k; k += 97)
            if (aq_layout_get(AQ_LAYOUT_PANEL, AQ_F16, dim, 2, (int64_t[]){row, k}, aq_rt_weight_at(w, 1)) !=
                aq_layout_get(AQ_LAYOUT_ROWS, AQ_F16, dim, 2, (int64_t[]){from, k}, big.data))
                fail_msg("element %lld,%lld differs", (long long)row, (long long)k);
    }
}

static void made_when_bound(void **state) {
    (void)state;
    tiny_tables *t = malloc(sizeof *t);
    unsigned char *bytes;
    size_t size, packed;
    aq_rt_plan *p;
    aq_rt_weights *w;
    char path[4096];
    big.type = AQ_F16, big.n = 96 * 41, big.k = 1024, big.rotate = 1; /* heads of 96: pieces are whole panels and whole heads */
    big.bytes = (size_t)(big.n * big.k) * 2;
    big.data = malloc(big.bytes);
    for (size_t i = 0; i < big.bytes / 2; i++) {
        uint16_t half = (uint16_t)(i * 2654435761u >> 13 & 0x7bff);
        memcpy(big.data + 2 * i, &half, 2);
    }
    tiny_fill(t);
    for (int k = 1; k < 5; k += 3) {
        aq_plan_weight *x = &t->weights[k];
        x->dtype = big.type, x->dim[0] = big.n, x->dim[1] = big.k, x->head_dim = 96;
        assert_ok(aq_layout_bytes(AQ_LAYOUT_PANEL, big.type, x->dim, 2, "big", &packed));
        x->bytes = packed;
    }
    assert_ok(aq_plan_write(&t->p, &arena, &bytes, &size));
    assert_ok(aq_rt_plan_from_functions("big.aqp", bytes, size, tiny_lookup, NULL, &p));
    made_content = 7;
    for (int threads = 1; threads <= 3; threads++) {
        uint64_t to_pack, mapped;
        assert_ok(aq_rt_weights_measure(p, made_source, &model, &to_pack, &mapped));
        assert_int_equal(to_pack, packed);
        assert_int_equal(mapped, sizeof model.emb + sizeof model.mix + sizeof model.norm);
        atomic_store(&rows_made, 0);
        assert_ok(aq_rt_weights_bind(p, made_source, &model, threads == 1 ? NULL : folder, threads, NULL, NULL, &w));
        assert_int_equal(atomic_load(&rows_made), threads == 3 ? 0 : big.n); /* each row once; the third time from the cache */
        expect_big(w, 1);
        aq_rt_weights_close(w);
    }
    int current;
    assert_int_equal(count_files(path, sizeof path), 1);
    assert_ok(aq_rt_cache_file_check(path, 1, &current));
    assert_true(current);
    made_content = 8, made_by = &rows_made;
    assert_refused(AQ_REFUSED, "a tensor could not be made", aq_rt_weights_bind(p, made_source, &model, folder, 2, NULL, NULL, &w));
    assert_int_equal(count_files(NULL, 0), 1); /* nothing half-made is left */
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pwrite(fd, "damage", 6, 300000) == 6); /* where only a full check looks */
    close(fd);
    assert_ok(aq_rt_cache_file_check(path, 0, &current));
    assert_refused(AQ_REFUSED, "its bytes differ from those written", aq_rt_cache_file_check(path, 1, &current));
    empty_folder();
    made_content = 0, made_by = NULL;
    for (file_stamp = 1; file_stamp < 3; file_stamp++) { /* the same bytes of a file that changed in between: packed again */
        assert_ok(aq_rt_weights_bind(p, made_source, &model, folder, 2, NULL, NULL, &w));
        expect_big(w, 1);
        aq_rt_weights_close(w);
        assert_int_equal(count_files(NULL, 0), (int)file_stamp);
    }
    file_stamp = 0;
    aq_rt_plan_close(p);
    free(big.data);
    free(t);
    empty_folder();
}

/* Nth allocation, with a cache folder: clean error, no leak; a file only if all went well. */
static void every_allocation_may_fail(void **state) {
    (void)state;
    long before = aq_mem_open_blocks(), n = 0;
    for (aq_status status = AQ_NO_MEMORY; status != AQ_OK; empty_folder()) {
        aq_rt_weights *w = NULL;
        aq_mem_fail_after(++n);
        status = aq_rt_weights_bind(plan, tiny_source, &model, folder, 2, NULL, NULL, &w);
        aq_mem_fail_after(0);
        if (status != AQ_OK)
            assert_int_equal(status, AQ_NO_MEMORY);
        aq_rt_weights_close(w);
        assert_int_equal(aq_mem_open_blocks(), before);
    }
    assert_true(n > 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_memory), cmocka_unit_test(a_file_that_was_read_is_forgotten),       cmocka_unit_test(kept_and_found),
        cmocka_unit_test(a_file_shifted), cmocka_unit_test(a_file_under_the_wrong_name), cmocka_unit_test(damaged_files_are_made_again), cmocka_unit_test(a_folder_that_cannot_be_written),
        cmocka_unit_test(several_at_once), cmocka_unit_test(wrong_tensors),
        cmocka_unit_test(large_matrices_of_every_type), cmocka_unit_test(made_when_bound), cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
