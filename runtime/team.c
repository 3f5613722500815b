/* team.c: a barrier that spins a little, then sleeps.
 *
 * Cost on 2 Zen 4 cores of a virtual machine: a barrier of 2 awake workers 0.1 us; waking a sleeper 45 us (an interrupt between virtual
 * processors). So a worker that waits spins SPIN_NS: longer than the phases of a decode step differ and than sampling takes between two
 * tokens (waking at every token would cost 1 % of a small model's rate), shorter than anybody minds. Then it sleeps on the futex of the
 * count it waits for. With more workers than processors nobody spins: the one waited for may need this very processor.
 *
 * Workers are not bound to processors: on a shared or oversubscribed machine a bound worker waits behind a stranger while another
 * processor idles, and the scheduler leaves as many runnable threads as processors where they are anyway. `taskset` binds the process.
 *
 * Starts of runs and barriers are two counters: a worker that leaves the last barrier of a run late must not take the next run's start for
 * the release of that barrier; it counts the runs it has seen itself.
 * Dropped: a tree barrier (slower below 16 workers), pthread_barrier_t (always sleeps: 10 us and more a phase). */
#define _GNU_SOURCE
#include "runtime/team.h"

#include "ir/clock.h"
#include "ir/memory.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_NS = 200000, LINE = 64, STACK = 1 << 20 };

typedef struct worker {
    aq_team *team;
    pthread_t thread;
    int number;
} worker;

struct aq_team {
    int n, spins, started;
    void (*work)(void *user, int worker); /* of the run; written before the generation moves */
    void *user;
    int closing;
    _Alignas(LINE) atomic_uint runs;       /* started so far: a futex */
    _Alignas(LINE) atomic_uint generation; /* barriers passed so far: a futex */
    _Alignas(LINE) atomic_uint sleepers;
    _Alignas(LINE) atomic_int arrived;
    int vote;
    _Alignas(LINE) atomic_llong next;
    _Alignas(LINE) worker workers[];
};

size_t aq_team_bytes(int threads) { return sizeof(aq_team) + (size_t)threads * sizeof(worker); }
int aq_team_size(const aq_team *t) { return t->n; }

int aq_team_processors(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n;
}

static void pause_briefly(void) { __builtin_ia32_pause(); }

/* How many pauses SPIN_NS are: 40 to 140 cycles each, depending on the processor. */
static int count_spins(int threads) {
    enum { TRY = 256 };
    if (threads > aq_team_processors())
        return 0;
    int64_t start = aq_clock_ns();
    for (int i = 0; i < TRY; i++)
        pause_briefly();
    int64_t ns = aq_clock_ns() - start;
    return (int)((int64_t)SPIN_NS * TRY / (ns < 256 ? 256 : ns)) + 1;
}

/* Until *word is no longer `seen`. A sleeper counts itself before the kernel compares the word, and who moves the word looks at the
 * sleepers afterwards; both in the one total order of seq_cst, so no sleeper is missed. */
static void wait_past(aq_team *t, atomic_uint *word, unsigned seen) {
    for (int i = 0; i < t->spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen)
            return;
        pause_briefly();
    }
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(word) == seen)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&t->sleepers, 1);
}

static void move_on(aq_team *t, atomic_uint *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&t->sleepers))
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

int aq_team_barrier(aq_team *t, const atomic_int *vote) {
    if (t->n > 1) {
        unsigned seen = atomic_load_explicit(&t->generation, memory_order_relaxed); /* cannot move before we arrive */
        if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) + 1 < t->n) {
            wait_past(t, &t->generation, seen);
            return t->vote; /* not written again before we arrive at the next barrier */
        }
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
    }
    int result = t->vote = vote ? atomic_load_explicit(vote, memory_order_relaxed) : 0;
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    if (t->n > 1)
        move_on(t, &t->generation);
    return result;
}

int64_t aq_team_take(aq_team *t, int64_t chunk) { return atomic_fetch_add_explicit(&t->next, chunk, memory_order_relaxed); }

static void *live(void *at) {
    worker *w = at;
    aq_team *t = w->team;
    for (unsigned seen = 0;; seen++) {
        wait_past(t, &t->runs, seen);
        if (t->closing)
            return NULL;
        t->work(t->user, w->number);
        aq_team_barrier(t, NULL);
    }
}

void aq_team_run(aq_team *t, void (*work)(void *user, int worker), void *user) {
    if (t->n > 1) {
        t->work = work;
        t->user = user;
        move_on(t, &t->runs);
    }
    work(user, 0);
    aq_team_barrier(t, NULL);
}

/* Workers get no signals: Ctrl-C belongs to the caller. */
static aq_status start_workers(aq_team *t) {
    sigset_t all, old;
    pthread_attr_t attr;
    if (pthread_attr_init(&attr))
        return aq_fail(AQ_NO_MEMORY, NULL, "out of memory: cannot start threads");
    pthread_attr_setstacksize(&attr, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = 0;
    for (int i = 1; i < t->n && !error; i++) {
        t->workers[i] = (worker){.team = t, .number = i};
        error = pthread_create(&t->workers[i].thread, &attr, live, &t->workers[i]);
        t->started += !error;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (error)
        return aq_fail(AQ_FAILED, NULL, "cannot start thread %d of %d: %s: expected fewer --threads", t->started + 2, t->n, strerror(error));
    return AQ_OK;
}

aq_status aq_team_open(int threads, aq_team **out) {
    if (threads < 1 || threads > AQ_TEAM_MAX)
        return aq_fail(AQ_USAGE, NULL, "%d threads: expected 1 to %d", threads, AQ_TEAM_MAX);
    void *p;
    AQ_TRY(aq_mem_alloc(aq_team_bytes(threads), &p));
    aq_team *t = p;
    t->n = threads;
    t->spins = threads > 1 ? count_spins(threads) : 0;
    aq_status status = start_workers(t);
    if (status != AQ_OK)
        aq_team_close(t);
    else
        *out = t;
    return status;
}

void aq_team_close(aq_team *t) {
    if (!t)
        return;
    t->closing = 1;
    if (t->started)
        move_on(t, &t->runs);
    for (int i = 1; i <= t->started; i++)
        pthread_join(t->workers[i].thread, NULL);
    aq_mem_free(t);
}
