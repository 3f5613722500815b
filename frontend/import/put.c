/* put.c: see put.h. The CRC works on 8 bytes at a time by 8 tables (Kounavis and Berry, "A systematic approach to building high performance
 * software-based CRC generators", 2005): about 1.5 GB/s, more than a disk takes. */
#include "frontend/import/put.h"

#include "frontend/reasons.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t crc_table[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void make_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        crc_table[0][i] = c;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++)
            crc_table[k][i] = crc_table[0][crc_table[k - 1][i] & 255] ^ crc_table[k - 1][i] >> 8;
}

static uint32_t add_crc(uint32_t crc, const unsigned char *p, size_t n) {
    pthread_once(&crc_once, make_table);
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        x ^= crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= crc_table[7 - k][x >> 8 * k & 255];
    }
    for (; n; n--, p++)
        crc = crc_table[0][(crc ^ *p) & 255] ^ crc >> 8;
    return ~crc;
}

void aq_put_bytes(aq_put *o, const void *bytes, size_t n) {
    if (o->status == AQ_OK && o->writer)
        o->status = aq_file_append(o->writer, bytes, n);
    if (o->sums)
        o->crc = add_crc(o->crc, bytes, n);
    o->written += n;
}

void aq_put_text(aq_put *o, const char *text) { aq_put_bytes(o, text, strlen(text)); }

void aq_put_format(aq_put *o, const char *format, ...) {
    char text[401];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    aq_put_text(o, text);
}

void aq_put_number(aq_put *o, uint64_t x, int bytes) { aq_put_bytes(o, &x, (size_t)bytes); }

void aq_put_zeros(aq_put *o, uint64_t n) {
    static const char zeros[256];
    for (; n; n -= n < sizeof zeros ? n : sizeof zeros)
        aq_put_bytes(o, zeros, n < sizeof zeros ? (size_t)n : sizeof zeros);
}

/* Length of the UTF-8 sequence at s[0..n), 0 if it is none: no overlong form, no surrogate. */
static size_t sequence(const unsigned char *s, size_t n) {
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (length == 0 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return length;
}

void aq_put_json(aq_put *o, const char *s, size_t n, const char *what) {
    size_t from = 0, at = 0; /* [from, at) goes out as it is */
    aq_put_text(o, "\"");
    while (at < n) {
        unsigned char c = (unsigned char)s[at];
        size_t length = sequence((const unsigned char *)s + at, n - at);
        if (length == 0 || c == 0) { /* \u0000 is JSON, but this house's readers and many others end a text there */
            if (o->status == AQ_OK)
                o->status = aq_refuse(AQ_WHY_CONVERT_TEXT, what, c ? "not UTF-8: expected text that JSON can hold" : "a zero byte: expected text that JSON can hold");
            return;
        }
        if (c >= 32 && c != '"' && c != '\\' && c != 127) {
            at += length;
            continue;
        }
        aq_put_bytes(o, s + from, at - from);
        if (c == '"' || c == '\\')
            aq_put_format(o, "\\%c", c);
        else if (c == '\n')
            aq_put_text(o, "\\n");
        else
            aq_put_format(o, "\\u%04x", c);
        from = ++at;
    }
    aq_put_bytes(o, s + from, n - from);
    aq_put_text(o, "\"");
}

void aq_put_real(aq_put *o, double x) {
    char text[40];
    int is_single = (double)(float)x == x;
    if (x == floor(x) && fabs(x) < 1e15) {
        aq_put_format(o, "%.1f", x);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (is_single ? strtof(text, NULL) == (float)x : strtod(text, NULL) == x)
            break;
    }
    aq_put_text(o, text);
}
