/* batch.c: the loop around aq_engine_step. A turn: free sequences take the next jobs; the step's rows are put together (next tokens first, so
 * that no answer waits for a prompt; then prompts in the order in which they came); one step; what it gave is sampled and written down.
 *
 * Cost beside the step: a sampler's memory (20 bytes a word of the vocabulary) for each sequence, not for each job. */
#include "frontend/cli/batch.h"

#include "frontend/cli/common.h"
#include "ir/clock.h"
#include "ir/memory.h"

#include <string.h>

typedef struct slot { /* a sequence */
    int busy;
    uint32_t job;
    size_t fed;          /* of its prompt */
    int32_t next;        /* the token to feed once the prompt is fed */
    int64_t began_ns, count; /* tokens of it in this step */
    aq_writer writer;
    aq_rt_sampler *sampler;
} slot;

typedef struct turn { /* the rows of a step */
    int32_t *token;
    int64_t *seq;
    uint8_t *want;
    int64_t n, room;
} turn;

static void end_slot(slot *s) {
    aq_writer_close(&s->writer);
    aq_rt_sampler_close(s->sampler);
    *s = (slot){0};
}

static aq_status begin(aq_batch *b, uint32_t job, slot *s) {
    aq_job *j = &b->jobs[job];
    *s = (slot){.busy = 1, .job = job, .began_ns = aq_clock_ns()};
    AQ_TRY(aq_rt_sampler_open(&j->how, b->vocab, &s->sampler));
    j->g.engine = b->engine;
    j->g.sampler = s->sampler;
    return aq_writer_open(&j->g, (int64_t)j->n, aq_engine_limits(b->engine)->context, &j->answer, &s->writer);
}

/* The job's answer is complete, or `status` stopped it; its sequence is free. */
static aq_status finish(aq_batch *b, slot *slots, int64_t seq, aq_status status) {
    slot *s = &slots[seq];
    uint32_t job = s->job;
    status = aq_writer_finish(&s->writer, status);
    end_slot(s);
    AQ_TRY(status);
    AQ_TRY(aq_engine_truncate(b->engine, seq, 0));
    if (b->finished)
        b->finished(b->user, job);
    return AQ_OK;
}

/* Free sequences take the next jobs. How many are busy then. */
static aq_status admit(aq_batch *b, slot *slots, uint32_t *next, int64_t *out_busy) {
    int64_t busy = 0;
    for (int64_t q = 0; q < aq_engine_limits(b->engine)->sequences; q++) {
        while (*next < b->n_jobs && b->jobs[*next].is_left_out)
            ++*next;
        if (!slots[q].busy && *next < b->n_jobs)
            AQ_TRY(begin(b, (*next)++, &slots[q]));
        busy += slots[q].busy;
    }
    *out_busy = busy;
    return AQ_OK;
}

/* Rows of one sequence behind those that are there: its next token, or as much of its prompt as there is room for. */
static void put(const aq_batch *b, slot *s, int64_t seq, turn *t) {
    const aq_job *j = &b->jobs[s->job];
    int64_t left = (int64_t)(j->n - s->fed);
    const int32_t *from = left ? j->prompt + s->fed : &s->next;
    s->count = left ? left : 1;
    s->count = s->count < t->room - t->n ? s->count : t->room - t->n;
    for (int64_t i = 0; i < s->count; i++, t->n++) {
        t->token[t->n] = from[i];
        t->seq[t->n] = seq;
        t->want[t->n] = left <= i + 1;
    }
}

static void put_all(const aq_batch *b, slot *slots, turn *t) {
    t->n = 0;
    for (int prompts = 0; prompts < 2; prompts++)
        for (int64_t q = 0; q < aq_engine_limits(b->engine)->sequences; q++)
            if (slots[q].busy && (slots[q].fed < b->jobs[slots[q].job].n) == prompts)
                put(b, &slots[q], q, t);
}

/* The step is done: rows of logits, in the order of the step's rows, to those whose last row was wanted. */
static aq_status take_all(aq_batch *b, slot *slots, const turn *t, const float *logits) {
    for (int64_t i = 0; i < t->n; i++) {
        int64_t seq = t->seq[i];
        slot *s = &slots[seq];
        aq_job *j = &b->jobs[s->job];
        if (s->fed < j->n) {
            s->fed++;
            b->prompt_tokens++;
            if (s->fed == j->n)
                j->answer.prefill_ns = aq_clock_ns() - s->began_ns;
            j->answer.prefilled = (int64_t)s->fed;
        }
        if (!t->want[i])
            continue;
        aq_status status = s->writer.done ? AQ_OK : aq_writer_take(&s->writer, logits, &s->next);
        if (status != AQ_OK || s->writer.done)
            AQ_TRY(finish(b, slots, seq, status));
        logits += b->vocab;
    }
    return AQ_OK;
}

static aq_status turns(aq_batch *b, slot *slots, turn *t) {
    uint32_t next = 0;
    int64_t busy;
    for (;;) {
        const float *logits;
        AQ_TRY(admit(b, slots, &next, &busy));
        if (!busy)
            return AQ_OK;
        put_all(b, slots, t);
        aq_status status = aq_interrupted() ? AQ_INTERRUPTED : aq_engine_step(b->engine, t->token, t->seq, t->want, t->n, &logits);
        if (status == AQ_INTERRUPTED)
            break;
        AQ_TRY(status);
        b->steps++;
        AQ_TRY(take_all(b, slots, t, logits));
    }
    for (int64_t q = 0; q < aq_engine_limits(b->engine)->sequences; q++)
        if (slots[q].busy)
            AQ_TRY(finish(b, slots, q, AQ_INTERRUPTED));
    for (; next < b->n_jobs; next++)
        b->jobs[next].answer.reason = AQ_STOP_INTERRUPTED;
    return AQ_OK;
}

static void interrupt(void *engine) {
    aq_engine_interrupt(engine);
}

aq_status aq_batch_run(aq_batch *b) {
    const aq_rt_limits *l = aq_engine_limits(b->engine);
    aq_arena arena = {0};
    turn t = {.room = l->batch};
    slot *slots = NULL;
    void *block;
    aq_status status;
    int64_t start = aq_clock_ns();
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, (size_t)l->sequences, sizeof *slots, &block));
    slots = block;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, (size_t)t.room, sizeof *t.token, &block));
    t.token = block;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, (size_t)t.room, sizeof *t.seq, &block));
    t.seq = block;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, (size_t)t.room, sizeof *t.want, &block));
    t.want = block;
    aq_interrupt_call(interrupt, b->engine);
    status = turns(b, slots, &t);
    aq_interrupt_call(NULL, NULL);
close:
    for (int64_t q = 0; slots && q < l->sequences; q++)
        end_slot(&slots[q]);
    b->ns = aq_clock_ns() - start;
    aq_arena_close(&arena);
    return status;
}
