/* bench.c: how fast a tokenizer encodes files: bench FOLDER-OR-JSON FILE...; for each file bytes, ids, and the best of ROUNDS by the thread's own time
 * (the machine may be shared). Built and run by run.sh, beside compare.py. */
#include "frontend/tokenizer/tokenizer.h"
#include "ir/file.h"

#include <stdio.h>
#include <time.h>

enum { ROUNDS = 7 };

static double thread_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static aq_status measure(const aq_tokenizer *t, const char *path) {
    aq_file file;
    aq_status status = AQ_OK;
    double best = 1e9;
    size_t n = 0;
    AQ_TRY(aq_file_map(path, &file));
    for (int round = 0; round < ROUNDS && status == AQ_OK; round++) {
        aq_ids ids = {0};
        double start = thread_seconds();
        status = aq_tokenizer_encode(t, (const char *)file.bytes, file.size, 0, &ids);
        double s = thread_seconds() - start;
        best = s < best ? s : best;
        n = ids.n;
        aq_ids_close(&ids);
    }
    if (status == AQ_OK)
        printf("aquila %s %zu %zu %.1f\n", path, file.size, n, (double)file.size / best * 1e-6);
    aq_file_unmap(&file);
    return status;
}

int main(int argc, char **argv) {
    aq_tokenizer *t;
    if (argc < 3 || aq_tokenizer_open(argv[1], &t) != AQ_OK) {
        fprintf(stderr, "bench: %s\n", argc < 3 ? "expected a tokenizer and texts" : aq_error());
        return 2;
    }
    aq_status status = AQ_OK;
    for (int i = 2; i < argc && status == AQ_OK; i++)
        status = measure(t, argv[i]);
    if (status != AQ_OK)
        fprintf(stderr, "bench: %s\n", aq_error());
    aq_tokenizer_close(t);
    return (int)status;
}
