/* clock.h: the door to time. */
#ifndef AQ_IR_CLOCK_H
#define AQ_IR_CLOCK_H
#include <stdint.h>
/* Monotonic nanoseconds. */
int64_t aq_clock_ns(void);
/* Seconds since 1970; tests may fix it with aq_clock_fix (0 = real again). Never part of a plan's bytes. */
int64_t aq_clock_wall_s(void);
int64_t aq_clock_unix_ns(void); /* the same in nanoseconds, never fixed: to compare with the times of files */
void aq_clock_fix(int64_t wall_s);
#endif
