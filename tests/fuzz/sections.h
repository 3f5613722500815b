/* sections.h: inputs that hold several texts, each up to a zero byte. */
#ifndef AQ_TESTS_FUZZ_SECTIONS_H
#define AQ_TESTS_FUZZ_SECTIONS_H

#include "frontend/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static inline void need(int condition) {
    if (!condition)
        abort();
}

/* Up to the next zero byte or the end; *at moves behind it. */
static inline aq_bytes next_section(const char **at, const char *end) {
    const char *zero = *at < end ? memchr(*at, 0, (size_t)(end - *at)) : NULL;
    aq_bytes section = {*at, (uint32_t)((zero ? zero : end) - *at)};
    *at = zero ? zero + 1 : end;
    return section;
}

#endif
