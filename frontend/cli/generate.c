/* generate.c: the writer, and the loop around aq_engine_feed. Order of a turn: find what the cache already holds of the prompt, forget the
 * rest, feed what is new, then sample, decode, match stop texts, feed back. All memory for max_new tokens is taken before the first. */
#include "frontend/cli/generate.h"

#include "frontend/cli/common.h"
#include "ir/clock.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

const char *aq_stop_reason_name(aq_stop_reason r) {
    static const char *const names[] = {"eos", "stop", "length", "interrupted"};
    return names[r];
}

void aq_answer_close(aq_answer *a) {
    aq_ids_close(&a->tokens);
    aq_mem_free(a->logprobs);
    aq_mem_free(a->text);
    *a = (aq_answer){0};
}

/* Room for `more` ids behind what is there. */
static aq_status reserve(aq_ids *ids, size_t more) {
    if (ids->n + more <= ids->room)
        return AQ_OK;
    void *block = ids->at;
    AQ_TRY(aq_mem_resize(&block, ids->room * sizeof *ids->at, (ids->n + more) * sizeof *ids->at));
    ids->at = block;
    ids->room = ids->n + more;
    return AQ_OK;
}

static aq_status keep_text(aq_answer *a, aq_bytes text) {
    if (a->n_text + text.n + 1 > a->text_room) {
        size_t room = (a->n_text + text.n + 256) * 2;
        void *block = a->text;
        AQ_TRY(aq_mem_resize(&block, a->text_room, room));
        a->text = block;
        a->text_room = room;
    }
    if (text.n)
        memcpy(a->text + a->n_text, text.s, text.n);
    a->n_text += text.n;
    return AQ_OK;
}

static aq_status give(const aq_generation *g, aq_answer *a, aq_bytes text) {
    if (g->drop_space && !a->n_text && text.n && text.s[0] == ' ') {
        text.s++;
        text.n--;
    }
    AQ_TRY(keep_text(a, text));
    return g->emit && text.n && g->emit(g->user, text) ? AQ_INTERRUPTED : AQ_OK;
}

static int is_stop_id(const aq_generation *g, int32_t id) {
    for (uint32_t i = 0; i < g->n_stop_ids; i++)
        if (g->stop_ids[i] == id)
            return 1;
    return 0;
}

/* Feeds what the cache does not hold of the prompt: at least its last token, whose logits are wanted. */
static aq_status prefill(const aq_generation *g, const int32_t *prompt, size_t n, aq_held *held, aq_answer *a, const float **logits) {
    size_t same = 0;
    while (same < n - 1 && same < held->ids.n && held->ids.at[same] == prompt[same])
        same++;
    AQ_TRY(aq_engine_truncate(g->engine, 0, (int64_t)same));
    held->ids.n = same;
    AQ_TRY(reserve(&held->ids, n - same + (size_t)g->max_new));
    int64_t start = aq_clock_ns();
    aq_status status = aq_engine_feed(g->engine, 0, prompt + same, (int64_t)(n - same), 1, logits);
    int64_t length = aq_engine_length(g->engine, 0);
    a->prefill_ns = aq_clock_ns() - start;
    a->reused = (int64_t)same;
    a->prefilled = length - a->reused; /* not all if it was stopped */
    memcpy(held->ids.at + same, prompt + same, ((size_t)length - same) * sizeof *prompt);
    held->ids.n = (size_t)length;
    return status;
}

/* ---- the writer ---- */

aq_status aq_writer_open(const aq_generation *g, int64_t n, int64_t positions, aq_answer *a, aq_writer *w) {
    void *block;
    *a = (aq_answer){.reason = AQ_STOP_LENGTH};
    *w = (aq_writer){.g = g, .answer = a, .decoder = aq_decoder_open(g->tokenizer, 1), .matcher = aq_stop_open(g->stops, g->n_stops)};
    w->room = g->max_new < positions - n ? g->max_new : positions - n;
    w->room = w->room > 0 ? w->room : 0;
    w->done = w->room == 0;
    AQ_TRY(reserve(&a->tokens, (size_t)w->room));
    AQ_TRY(aq_mem_alloc((size_t)w->room * sizeof *a->logprobs + 1, &block));
    a->logprobs = block;
    return AQ_OK;
}

/* One token into the answer: its text, or the reason to stop. */
static aq_status take(aq_writer *w, int32_t id, double logprob) {
    aq_answer *a = w->answer;
    if (is_stop_id(w->g, id)) {
        a->reason = AQ_STOP_EOS;
        w->done = 1;
        return AQ_OK;
    }
    a->logprobs[a->tokens.n] = logprob;
    a->tokens.at[a->tokens.n++] = id;
    w->done = (int64_t)a->tokens.n >= w->room;
    if (!w->g->tokenizer)
        return AQ_OK;
    aq_bytes text, certain;
    AQ_TRY(aq_decoder_push(&w->decoder, id, &text));
    AQ_TRY(aq_stop_push(&w->matcher, text, &certain));
    AQ_TRY(give(w->g, a, certain));
    if (w->matcher.is_stopped) {
        a->reason = AQ_STOP_STOP;
        w->done = 1;
    }
    return AQ_OK;
}

aq_status aq_writer_take(aq_writer *w, const float *logits, int32_t *out_id) {
    double logprob;
    *out_id = aq_rt_sample(w->g->sampler, logits, &logprob);
    w->answer->no_numbers += !isfinite(logprob);
    if (!w->answer->first_token_ns)
        w->answer->first_token_ns = aq_clock_ns();
    return take(w, *out_id, logprob);
}

/* What decoder and matcher still hold. */
static aq_status finish_text(aq_writer *w) {
    aq_bytes text, certain;
    if (!w->g->tokenizer || w->matcher.is_stopped)
        return AQ_OK;
    AQ_TRY(aq_decoder_finish(&w->decoder, &text));
    AQ_TRY(aq_stop_push(&w->matcher, text, &certain));
    AQ_TRY(give(w->g, w->answer, certain));
    if (w->matcher.is_stopped) {
        w->answer->reason = AQ_STOP_STOP; /* at the mark of a character that never came */
        return AQ_OK;
    }
    return give(w->g, w->answer, aq_stop_finish(&w->matcher));
}

aq_status aq_writer_finish(aq_writer *w, aq_status status) {
    aq_answer *a = w->answer;
    if (a->first_token_ns)
        a->decode_ns = aq_clock_ns() - a->first_token_ns;
    if (status == AQ_INTERRUPTED) {
        a->reason = AQ_STOP_INTERRUPTED;
        status = AQ_OK;
    }
    if (status == AQ_OK && finish_text(w) == AQ_NO_MEMORY)
        status = AQ_NO_MEMORY; /* what else it can say is that nobody reads on */
    return status;
}

void aq_writer_close(aq_writer *w) {
    if (!w->g)
        return;
    aq_stop_close(&w->matcher);
    aq_decoder_close(&w->decoder);
    *w = (aq_writer){0};
}

/* ---- one answer ---- */

static aq_status decode(const aq_generation *g, const float *logits, aq_held *held, aq_writer *w) {
    while (!w->done) {
        int32_t id;
        AQ_TRY(aq_writer_take(w, logits, &id));
        if (w->done)
            break;
        AQ_TRY(aq_interrupted() ? AQ_INTERRUPTED : aq_engine_feed(g->engine, 0, &id, 1, 1, &logits));
        held->ids.at[held->ids.n++] = id;
    }
    return AQ_OK;
}

/* One that came between two steps still waits in the session: it would stop the next turn. */
static void take_back_interrupt(const aq_generation *g) {
    const float *logits;
    aq_status waiting = aq_engine_session(g->engine) ? aq_engine_feed(g->engine, 0, NULL, 0, 0, &logits) : AQ_OK;
    (void)waiting;
}

static void interrupt(void *engine) {
    aq_engine_interrupt(engine);
}

aq_status aq_generate(const aq_generation *g, const int32_t *prompt, size_t n, aq_held *held, aq_answer *a) {
    int64_t context = aq_engine_limits(g->engine)->context;
    const float *logits;
    aq_writer w = {0};
    *a = (aq_answer){.reason = AQ_STOP_LENGTH};
    if (!n)
        return aq_fail(AQ_REFUSED, NULL, "the prompt is empty: expected at least one token");
    if ((int64_t)n > context)
        return aq_fail(AQ_REFUSED, NULL, "the prompt has %zu tokens: expected at most %" PRId64 " (--context)", n, context);
    aq_status status = aq_writer_open(g, (int64_t)n, context, a, &w);
    if (status == AQ_OK) {
        aq_interrupt_call(interrupt, g->engine);
        status = aq_interrupted() ? AQ_INTERRUPTED : prefill(g, prompt, n, held, a, &logits); /* Ctrl-C while the prompt was encoded */
        if (status == AQ_OK)
            status = decode(g, logits, held, &w);
        aq_interrupt_call(NULL, NULL);
        status = aq_writer_finish(&w, status);
    }
    aq_writer_close(&w);
    if (aq_interrupted())
        take_back_interrupt(g);
    return status;
}
