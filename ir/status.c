/* status.c: the thread's last message; checked size arithmetic. */
#include "ir/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[1024];
static _Thread_local char detail[1024];
static _Thread_local int last_reason;

void aq_make_printable(char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
        else if ((unsigned char)*s == 0xc2 && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0)
            s[0] = s[1] = '?';
}

static void set(const char *place, const char *format, va_list args) {
    char text[sizeof message];
    vsnprintf(text, sizeof text, format, args);
    if (place && *place) {
        char full[2 * sizeof message];
        snprintf(full, sizeof full, "%s: %s", place, text);
        memcpy(message, full, sizeof message - 1);
    } else {
        memcpy(message, text, sizeof message - 1);
    }
    message[sizeof message - 1] = 0;
    aq_make_printable(message);
    detail[0] = 0;
}

aq_status aq_fail(aq_status code, const char *place, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set(place, format, args);
    va_end(args);
    last_reason = 0;
    return code;
}

aq_status aq_refuse(int reason, const char *place, const char *format, ...) {
    va_list args;
    va_start(args, format);
    set(place, format, args);
    va_end(args);
    last_reason = reason;
    return AQ_REFUSED;
}

aq_status aq_refuse_as(int reason, aq_status code) {
    if (code == AQ_REFUSED && last_reason == 0)
        last_reason = reason;
    return code;
}

int aq_error_reason(void) { return last_reason; }

aq_status aq_fail_prefix(aq_status code, const char *prefix) {
    char old[sizeof message];
    memcpy(old, message, sizeof old);
    int reason = last_reason;
    aq_fail(code, prefix, "%s", old);
    last_reason = reason;
    return code;
}

const char *aq_error(void) { return message; }

void aq_error_set_detail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
}

const char *aq_error_detail(void) { return detail; }

aq_status aq_size_mul(size_t a, size_t b, const char *what, size_t *out) {
    size_t r;
    if (__builtin_mul_overflow(a, b, &r) || r > PTRDIFF_MAX)
        return aq_fail(AQ_REFUSED, what, "size overflows: %zu * %zu", a, b);
    *out = r;
    return AQ_OK;
}

aq_status aq_size_add(size_t a, size_t b, const char *what, size_t *out) {
    size_t r;
    if (__builtin_add_overflow(a, b, &r) || r > PTRDIFF_MAX)
        return aq_fail(AQ_REFUSED, what, "size overflows: %zu + %zu", a, b);
    *out = r;
    return AQ_OK;
}
