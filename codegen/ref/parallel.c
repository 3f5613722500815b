/* parallel.c: threads for one loop. Started anew each time: tens of microseconds against loops of milliseconds. */
#include "codegen/ref/parallel.h"

#include <pthread.h>

enum { MOST = 64 };

typedef struct share {
    void (*f)(void *user, int64_t begin, int64_t end);
    void *user;
    int64_t begin, end;
} share;

static void *work(void *p) {
    share *s = p;
    if (s->begin < s->end)
        s->f(s->user, s->begin, s->end);
    return NULL;
}

void aq_ref_parallel(int threads, int64_t n, int64_t grain, void (*f)(void *user, int64_t begin, int64_t end), void *user) {
    share shares[MOST];
    pthread_t thread[MOST];
    int started[MOST] = {0};
    int64_t grains = (n + grain - 1) / grain;
    if (threads > MOST)
        threads = MOST;
    if (threads > grains)
        threads = (int)grains;
    for (int i = 0; i < threads; i++) {
        int64_t begin = grains * i / threads * grain, end = grains * (i + 1) / threads * grain;
        shares[i] = (share){f, user, begin, end < n ? end : n};
        started[i] = i > 0 && pthread_create(&thread[i], NULL, work, &shares[i]) == 0;
    }
    for (int i = 0; i < threads; i++)
        if (!started[i])
            work(&shares[i]);
    for (int i = 0; i < threads; i++)
        if (started[i])
            pthread_join(thread[i], NULL);
}
