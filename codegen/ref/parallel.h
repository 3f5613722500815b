/* parallel.h: rows apart on threads; what each row gets does not depend on how many there are. */
#ifndef AQ_CODEGEN_REF_PARALLEL_H
#define AQ_CODEGEN_REF_PARALLEL_H

#include <stdint.h>

/* Calls f(user, begin, end) for ranges that cover [0, n), each a multiple of `grain` but the last, on up to `threads` threads (the caller's
 * is one, 64 at most). With grain = ceil(n / threads) or more each range is one grain, so begin / grain counts them. Where a thread cannot be started its share is done here. */
void aq_ref_parallel(int threads, int64_t n, int64_t grain, void (*f)(void *user, int64_t begin, int64_t end), void *user);

#endif
