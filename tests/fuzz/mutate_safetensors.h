/* mutate_safetensors.h: changes of a safetensors file by the tokens of its header, whose length is mended, mostly; at times of the data. */
#ifndef AQ_TESTS_FUZZ_MUTATE_SAFETENSORS_H
#define AQ_TESTS_FUZZ_MUTATE_SAFETENSORS_H

#include "tests/fuzz/mutate.h"

static inline void mutate_safetensors(edit *e, const char *const *words) {
    uint64_t header = get_bytes(e, 0, 8);
    if (e->n < 8 || header > e->n - 8 || roll(e, 16) == 0) {
        mutate_part(e, 0, e->n);
        return;
    }
    size_t behind = e->n - 8 - (size_t)header;
    if (roll(e, 8) == 0)
        mutate_part(e, e->n - behind, e->n);
    else
        mutate_text(e, 8, e->n - behind, words);
    header = roll(e, 16) ? e->n >= 8 + behind ? e->n - 8 - behind : 0 : telling(e);
    set_bytes(e, 0, &header, 8);
}

#endif
