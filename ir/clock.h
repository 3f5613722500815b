/* clock.h: the door to time. */
#ifndef AQ_IR_CLOCK_H
#define AQ_IR_CLOCK_H
#include <stdint.h>
/* Monotonic nanoseconds. */
int64_t aq_clock_ns(void);
/* Nanoseconds since 1970, to compare with the times of files. Never part of a plan's bytes. */
int64_t aq_clock_unix_ns(void);
#endif
