/* parallel.h: pieces of work on threads; what each piece gives does not depend on how many there are. */
#ifndef AQ_CODEGEN_PARALLEL_H
#define AQ_CODEGEN_PARALLEL_H

#include <stdint.h>

/* Calls f(user, begin, end) for ranges that cover [0, n), each of `grain` but the last, on up to `threads` threads (the caller's is one, 64 at
 * most), in their order as threads come free. begin / grain counts the ranges. Where a thread cannot be started the others do its share. */
void aq_parallel(int threads, int64_t n, int64_t grain, void (*f)(void *user, int64_t begin, int64_t end), void *user);

#endif
