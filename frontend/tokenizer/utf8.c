/* utf8.c: one character at a time, and how much of a bad sequence one U+FFFD replaces.
 *
 * utf8proc_iterate would do for the first, but not for the second, and both must agree on what is valid. */
#include "frontend/tokenizer/internal.h"

/* How long a sequence with this lead byte is, and the range of its second byte (Unicode 15, table 3-7). 0: no lead byte. */
static int lead(uint8_t b, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xBF;
    if (b < 0x80)
        return 1;
    if (b < 0xC2 || b > 0xF4)
        return 0;
    if (b < 0xE0)
        return 2;
    if (b < 0xF0) {
        if (b == 0xE0)
            *low = 0xA0;
        if (b == 0xED)
            *high = 0x9F;
        return 3;
    }
    if (b == 0xF0)
        *low = 0x90;
    if (b == 0xF4)
        *high = 0x8F;
    return 4;
}

/* How many bytes of s are a right beginning of one character, and its full length (0: not even the first). */
static int right_bytes(const char *s, size_t n, int *full) {
    const uint8_t *b = (const uint8_t *)s;
    uint8_t low, high;
    *full = lead(b[0], &low, &high);
    if (*full < 2)
        return *full;
    if (n < 2 || b[1] < low || b[1] > high)
        return 1;
    int i = 2;
    while (i < *full && (size_t)i < n && (b[i] & 0xC0) == 0x80)
        i++;
    return i;
}

int aq_utf8_decode(const char *s, size_t n, uint32_t *out) {
    const uint8_t *b = (const uint8_t *)s;
    int full;
    int right = right_bytes(s, n, &full);
    if (!full || right < full)
        return 0;
    static const uint8_t mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t c = b[0] & mask[full];
    for (int i = 1; i < full; i++)
        c = c << 6 | (b[i] & 0x3F);
    *out = c;
    return full;
}

size_t aq_utf8_put(uint32_t c, char out[4]) {
    if (c < 0x80)
        return out[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c);
    return n;
}

int aq_utf8_bad_length(const char *s, size_t n, int *out_incomplete) {
    int full;
    int right = right_bytes(s, n, &full);
    *out_incomplete = full > 0 && (size_t)right == n;
    return right ? right : 1;
}
