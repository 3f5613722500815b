/* kv.c: page tables and the arrays of a batch. Cost of a step: 8 bytes a token and, for each sequence in it, a copy of its page numbers. */
#include "runtime/kv.h"

#include <string.h>

static int64_t pages_for(int64_t positions) { return (positions + AQ_PAGE - 1) / AQ_PAGE; }

void aq_kv_clear(aq_kv *kv) {
    int64_t pages = kv->sequences * kv->per_sequence;
    memset(kv->length, 0, (size_t)kv->sequences * sizeof *kv->length);
    memset(kv->held, 0, (size_t)kv->sequences * sizeof *kv->held);
    memset(kv->table, 0, (size_t)pages * sizeof *kv->table);
    for (int64_t i = 0; i < pages; i++) /* the lowest on top: a lone sequence gets its pages in order */
        kv->spare[i] = (int32_t)(pages - 1 - i);
    kv->n_spare = pages;
}

static void hold(aq_kv *kv, int64_t seq, int64_t pages) {
    int32_t *row = kv->table + seq * kv->per_sequence;
    while (kv->held[seq] < pages)
        row[kv->held[seq]++] = kv->spare[--kv->n_spare];
    while (kv->held[seq] > pages) {
        kv->spare[kv->n_spare++] = row[--kv->held[seq]];
        row[kv->held[seq]] = 0; /* any page: kernels may read what they then mask */
    }
}

void aq_kv_fill(aq_kv *kv, const aq_run *runs, int64_t n_runs) {
    for (int64_t b = 0; b < n_runs; b++) {
        aq_run r = runs[b];
        int64_t length = kv->length[r.seq];
        const int32_t *row = kv->table + r.seq * kv->per_sequence;
        hold(kv, r.seq, pages_for(length + r.n));
        kv->field[AQ_FIELD_start][b] = (int32_t)r.first;
        kv->field[AQ_FIELD_rows][b] = (int32_t)r.n;
        kv->field[AQ_FIELD_len][b] = (int32_t)(length + r.n);
        memcpy(kv->field[AQ_FIELD_pages] + b * kv->per_sequence, row, (size_t)kv->per_sequence * sizeof *row);
        for (int64_t i = 0; i < r.n; i++) {
            int64_t pos = length + i;
            kv->field[AQ_FIELD_pos][r.first + i] = (int32_t)pos;
            kv->field[AQ_FIELD_slot][r.first + i] = row[pos / AQ_PAGE] * AQ_PAGE + (int32_t)(pos % AQ_PAGE);
        }
    }
}

void aq_kv_commit(aq_kv *kv, const aq_run *runs, int64_t n_runs) {
    for (int64_t b = 0; b < n_runs; b++)
        kv->length[runs[b].seq] += runs[b].n;
}

void aq_kv_undo(aq_kv *kv, const aq_run *runs, int64_t n_runs) {
    for (int64_t b = 0; b < n_runs; b++)
        hold(kv, runs[b].seq, pages_for(kv->length[runs[b].seq]));
}

void aq_kv_truncate(aq_kv *kv, int64_t seq, int64_t length) {
    kv->length[seq] = length;
    hold(kv, seq, pages_for(length));
}
