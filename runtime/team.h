/* team.h: the threads that work on a step together.
 *
 *   aq_team_open -> { aq_team_run ... } -> aq_team_close
 *
 * The caller is worker 0; threads - 1 others sleep until aq_team_run. Inside a run every worker walks the same list of phases and calls
 * aq_team_barrier at the same places. A run allocates nothing and takes no lock; with one thread it is a plain call. */
#ifndef AQ_RUNTIME_TEAM_H
#define AQ_RUNTIME_TEAM_H

#include "ir/status.h"

#include <stdatomic.h>

enum { AQ_TEAM_MAX = 1024 };

typedef struct aq_team aq_team;

/* 1 <= threads <= AQ_TEAM_MAX. One block of aq_team_bytes(threads) bytes; stacks belong to the threads of libc. */
AQ_MUST_USE aq_status aq_team_open(int threads, aq_team **out);
void aq_team_close(aq_team *t); /* NULL is fine */
size_t aq_team_bytes(int threads);
int aq_team_size(const aq_team *t);

/* work(user, worker) once on each worker; returns when all are done. */
void aq_team_run(aq_team *t, void (*work)(void *user, int worker), void *user);

/* Inside a run: returns when all workers are here. *vote (may be NULL) is read by the last to arrive; the result is what it saw, the same
 * for every worker: so all of them can stop at the same place. Resets the shared counter. */
int aq_team_barrier(aq_team *t, const atomic_int *vote);

/* Inside a run: the next `chunk` items of the shared counter: returns the first; past the end when all are gone. */
int64_t aq_team_take(aq_team *t, int64_t chunk);

/* Processors this process may use. */
int aq_team_processors(void);

#endif
