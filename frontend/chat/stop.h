/* stop.h: watches a streamed answer for the texts at which it ends.
 *
 * A text may come in pieces, so what could be the beginning of a stop text is held back until it is decided. The answer ends with the
 * first stop text that is complete, whatever the pieces were; of several that end at the same byte the longest counts. */
#ifndef AQ_FRONTEND_CHAT_STOP_H
#define AQ_FRONTEND_CHAT_STOP_H

#include "frontend/tokenizer/tokenizer.h"

typedef struct aq_stop_matcher {
    const aq_bytes *stops; /* the caller's, alive until close; empty ones are ignored */
    uint32_t n_stops;
    char *text;            /* given out by the last call, then what is held back */
    size_t n, given, room;
    int is_stopped;
    uint32_t which;        /* the stop text that ended it */
} aq_stop_matcher;

aq_stop_matcher aq_stop_open(const aq_bytes *stops, uint32_t n_stops);
/* *out: what is certain now, valid until the next call. Once is_stopped, everything after the stop text is dropped. */
AQ_MUST_USE aq_status aq_stop_push(aq_stop_matcher *m, aq_bytes text, aq_bytes *out);
/* The answer is over: gives what was held back. */
aq_bytes aq_stop_finish(aq_stop_matcher *m);
void aq_stop_close(aq_stop_matcher *m);

#endif
