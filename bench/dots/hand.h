/* hand.h: kernels written by hand, called as the emitted ones are (aq_kernel of ir/plan.h), and loops that measure the machine's limits. */
#ifndef AQ_BENCH_DOTS_HAND_H
#define AQ_BENCH_DOTS_HAND_H

#include <stdint.h>

void hand_matvec(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);
void hand_qkv(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);
void hand_gate(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);
void hand_attend(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);
void hand_q4_1(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);

void hand_bf16_panel(const uint16_t *xb, const float *w, float *y, uint16_t *panel, int64_t T, int64_t N, int64_t K, int64_t row);

/* Operations done in so many turns, by registers alone. */
double limit_fma(int64_t turns);
double limit_i16(int64_t turns);
double limit_i8(int64_t turns);
double limit_bf16(int64_t turns);
int64_t limit_read(const void *p, int64_t bytes);

#endif
