/* json.c: the two things cJSON cannot do: strings with NUL in them, and bytes that are not UTF-8. */
#include "frontend/cli/json.h"

#include "ir/memory.h"

#include <inttypes.h>
#include <string.h>
#include <utf8proc.h>

void aq_json_open(void) {
    cJSON *nothing = NULL; /* the reader brings cJSON's memory behind our door on its first call */
    if (aq_json_parse("", "0", 1, &nothing) == AQ_OK)
        cJSON_Delete(nothing);
}

/* Length of the UTF-8 sequence at s, or 0 if it is none. */
static size_t sequence(const char *s, size_t n) {
    utf8proc_int32_t c;
    utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &c);
    return k > 0 ? (size_t)k : 0;
}

/* Writes one character of a JSON string into out and says how much it read of s[0..n). */
static size_t escape(const char *s, size_t n, char out[8]) {
    static const char letters[] = "btn\0fr"; /* of 8 to 13 */
    unsigned char c = (unsigned char)*s;
    if (c >= 128) {
        size_t k = sequence(s, n);
        if (k == 2 && c == 0xc2 && (unsigned char)s[1] < 0xa0) /* a terminal would obey it */
            snprintf(out, 8, "\\u%04x", (unsigned char)s[1]);
        else
            snprintf(out, 8, "%.*s", k ? (int)k : 3, k ? s : "\xef\xbf\xbd");
        return k ? k : 1;
    }
    if (c == '"' || c == '\\')
        snprintf(out, 8, "\\%c", c);
    else if (c >= 8 && c <= 13 && letters[c - 8])
        snprintf(out, 8, "\\%c", letters[c - 8]);
    else if (c < 32 || c == 127)
        snprintf(out, 8, "\\u%04x", c);
    else
        snprintf(out, 8, "%c", c);
    return 1;
}

void aq_json_write(FILE *to, const char *s, size_t n) {
    fputc('"', to);
    for (size_t i = 0; i < n;) {
        char out[8];
        i += escape(s + i, n - i, out);
        fputs(out, to);
    }
    fputc('"', to);
}

void aq_json_set_text(cJSON *object, const char *name, const char *s, size_t n) {
    if (!s) {
        cJSON_AddNullToObject(object, name);
        return;
    }
    void *block;
    size_t room;
    if (aq_size_mul(n, 6, "a text", &room) != AQ_OK || aq_mem_alloc(room + 3, &block) != AQ_OK)
        return; /* the missing member makes no document: see aq_json_print */
    char *to = block;
    *to++ = '"';
    for (size_t i = 0; i < n;) {
        char out[8];
        i += escape(s + i, n - i, out);
        size_t k = strlen(out);
        memcpy(to, out, k);
        to += k;
    }
    memcpy(to, "\"", 2);
    cJSON_AddRawToObject(object, name, block);
    aq_mem_free(block);
}

void aq_json_set_string(cJSON *object, const char *name, const char *s) {
    aq_json_set_text(object, name, s, s ? strlen(s) : 0);
}

void aq_json_set_int(cJSON *object, const char *name, int64_t x) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, x);
    cJSON_AddRawToObject(object, name, text);
}

aq_status aq_json_print(cJSON *document) {
    char *text = document ? cJSON_Print(document) : NULL;
    cJSON_Delete(document);
    if (!text)
        return aq_fail(AQ_NO_MEMORY, NULL, "no memory for the JSON document");
    fputs(text, stdout);
    fputc('\n', stdout);
    cJSON_free(text);
    return AQ_OK;
}

aq_status aq_json_line_parse(const char *place, char *line, size_t n, cJSON **out) {
    size_t to = 0, escaped = 0;
    for (size_t i = 0; i < n;) {
        size_t k = sequence(line + i, n - i);
        if (!k)
            return aq_fail(AQ_REFUSED, place, "byte %zu is not UTF-8: expected JSON", i + 1);
        if (!escaped && n - i >= 6 && !memcmp(line + i, "\\u0000", 6)) {
            line[to++] = (char)0xff;
            i += 6;
            continue;
        }
        escaped = !escaped && line[i] == '\\';
        memmove(line + to, line + i, k);
        to += k;
        i += k;
    }
    return aq_json_parse(place, line, to, out);
}

size_t aq_json_restore(char *s) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] == 0xff)
            s[i] = 0;
    return n;
}

static int digit64(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

aq_status aq_base64_decode(const char *place, char *s, size_t *out_n) {
    size_t n = strlen(s), to = 0;
    uint32_t bits = 0, held = 0;
    while (n && s[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++) {
        int d = digit64(s[i]);
        if (d < 0)
            return aq_fail(AQ_REFUSED, place, "character %zu of \"bytes\" is not base64", i + 1);
        bits = bits << 6 | (uint32_t)d;
        held += 6;
        if (held >= 8)
            s[to++] = (char)(bits >> (held -= 8));
    }
    if (n % 4 == 1)
        return aq_fail(AQ_REFUSED, place, "%zu characters of \"bytes\" are not base64: one is left over", n);
    *out_n = to;
    return AQ_OK;
}
