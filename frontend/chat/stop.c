/* stop.c: see stop.h. Byte by byte, every stop text compared with the end of what is there: stop texts are few and short. */
#include "frontend/chat/stop.h"

#include "ir/memory.h"

#include <string.h>

aq_stop_matcher aq_stop_open(const aq_bytes *stops, uint32_t n_stops) { return (aq_stop_matcher){.stops = stops, .n_stops = n_stops}; }

void aq_stop_close(aq_stop_matcher *m) {
    aq_mem_free(m->text);
    *m = (aq_stop_matcher){0};
}

/* The longest stop text that text[0..n) ends with; n_stops if there is none. */
static uint32_t ends_with(const aq_stop_matcher *m, size_t n) {
    uint32_t best = m->n_stops;
    for (uint32_t i = 0; i < m->n_stops; i++) {
        aq_bytes s = m->stops[i];
        if (s.n && s.n <= n && memcmp(m->text + n - s.n, s.s, s.n) == 0 && (best == m->n_stops || s.n > m->stops[best].n))
            best = i;
    }
    return best;
}

/* How much of the end of text[0..n) may be the beginning of a stop text. */
static size_t held(const aq_stop_matcher *m, size_t n) {
    size_t most = 0;
    for (uint32_t i = 0; i < m->n_stops; i++) {
        aq_bytes s = m->stops[i];
        size_t length = s.n ? s.n - 1 : 0;
        for (length = length < n ? length : n; length > most; length--)
            if (memcmp(m->text + n - length, s.s, length) == 0)
                most = length;
    }
    return most;
}

/* Forgets what was given out and makes room for more. */
static aq_status make_room(aq_stop_matcher *m, size_t more) {
    m->n -= m->given;
    if (m->n)
        memmove(m->text, m->text + m->given, m->n);
    m->given = 0;
    size_t need;
    AQ_TRY(aq_size_add(m->n, more, "text", &need));
    if (need <= m->room)
        return AQ_OK;
    void *p = m->text;
    AQ_TRY(aq_mem_resize(&p, m->n, need * 2));
    m->text = p;
    m->room = need * 2;
    return AQ_OK;
}

aq_status aq_stop_push(aq_stop_matcher *m, aq_bytes text, aq_bytes *out) {
    AQ_TRY(make_room(m, (size_t)text.n + 1));
    size_t end = m->n;
    if (text.n && !m->is_stopped)
        memcpy(m->text + m->n, text.s, text.n);
    for (uint32_t i = 0; i < text.n && !m->is_stopped; i++) {
        uint32_t stop = ends_with(m, ++end);
        if (stop == m->n_stops)
            continue;
        m->is_stopped = 1;
        m->which = stop;
        end -= m->stops[stop].n;
    }
    m->n = end;
    m->given = m->is_stopped ? end : end - held(m, end);
    if (m->given > UINT32_MAX)
        return aq_fail(AQ_REFUSED, NULL, "an answer of %zu bytes at once: less than 4 GiB expected", m->given);
    *out = (aq_bytes){m->text, (uint32_t)m->given};
    return AQ_OK;
}

aq_bytes aq_stop_finish(aq_stop_matcher *m) {
    if (!m->text)
        return (aq_bytes){"", 0};
    aq_bytes out = {m->text + m->given, (uint32_t)(m->n - m->given)};
    m->given = m->n;
    return out;
}
