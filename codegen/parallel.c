/* parallel.c: threads for one loop. Started anew each time: tens of microseconds against loops of milliseconds. A range goes to whoever is
 * free: shares that are fixed beforehand wait for the one with the dear kernels. */
#include "codegen/parallel.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MOST = 64 };

typedef struct loop {
    void (*f)(void *user, int64_t begin, int64_t end);
    void *user;
    int64_t n, grain;
    atomic_llong next;
} loop;

static void *work(void *p) {
    loop *l = p;
    for (int64_t begin; (begin = atomic_fetch_add(&l->next, l->grain)) < l->n;)
        l->f(l->user, begin, l->n - begin < l->grain ? l->n : begin + l->grain);
    return NULL;
}

void aq_parallel(int threads, int64_t n, int64_t grain, void (*f)(void *user, int64_t begin, int64_t end), void *user) {
    loop l = {.f = f, .user = user, .n = n, .grain = grain};
    pthread_t thread[MOST];
    int started = 0, most = threads > MOST ? MOST : threads;
    if (most > (n + grain - 1) / grain)
        most = (int)((n + grain - 1) / grain);
    while (started < most - 1 && !pthread_create(&thread[started], NULL, work, &l))
        started++;
    work(&l);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
}
