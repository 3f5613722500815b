/* lanes.h: eight numbers side by side, for the encoders: loops that the compiler turns into vectors of whatever width the processor has, in a
 * fixed order of sums. What works on a row is compiled twice (FAST_CLONES); no multiply-add is fused, so both give the same bits. */
#ifndef AQ_IR_LANES_H
#define AQ_IR_LANES_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FAST_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define FAST_CLONES
#endif

enum { L = 8 };

/* L numbers side by side. Passed by address: no calling convention for them is the same everywhere. */
typedef float lanes __attribute__((vector_size(L * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef int32_t bits __attribute__((vector_size(L * sizeof(int32_t)), aligned(sizeof(int32_t)), may_alias));

INLINE void at_least(lanes *v, float limit) {
    const lanes most = {limit, limit, limit, limit, limit, limit, limit, limit};
    const bits below = (bits)(*v < most);
    *v = (lanes)(((bits)most & below) | ((bits)*v & ~below));
}
INLINE void at_most(lanes *v, float limit) {
    const lanes most = {limit, limit, limit, limit, limit, limit, limit, limit};
    const bits above = (bits)(*v > most);
    *v = (lanes)(((bits)most & above) | ((bits)*v & ~above));
}

#endif
