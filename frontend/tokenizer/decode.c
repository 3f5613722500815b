/* decode.c: ids to text as they come. A token may end inside a character, so up to 3 bytes wait for the next one.
 *
 * What comes out, finish included, is what decoding the joined bytes at once would give: each maximal subpart of a bad sequence becomes
 * one U+FFFD (as Rust's from_utf8_lossy, which Hugging Face's decoder calls). SPM writes single bytes as tokens; there Hugging Face's
 * ByteFallback makes each byte of a bad run U+FFFD, the good ones too, which a stream that shows characters as they come cannot: it
 * keeps what was complete, as SentencePiece itself does. */
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

aq_decoder aq_decoder_open(const aq_tokenizer *t, int skip_special) {
    return (aq_decoder){.tokenizer = t, .skip_special = skip_special};
}

void aq_decoder_close(aq_decoder *d) {
    aq_mem_free(d->out);
    aq_mem_free(d->run);
    *d = (aq_decoder){0};
}

static aq_status reserve(aq_decoder *d, size_t size) {
    if (d->out_room >= size)
        return AQ_OK;
    void *p;
    size = size * 2 + 64;
    AQ_TRY(aq_mem_alloc(size, &p));
    aq_mem_free(d->out);
    d->out = p;
    d->out_room = size;
    return AQ_OK;
}

/* Decodes in[0..n) to out (room for 3 n); what could still become a character goes to d->held unless the text is over. */
static size_t decode(aq_decoder *d, const char *in, size_t n, int over, char *out) {
    size_t count = 0;
    uint32_t c;
    d->n_held = 0;
    for (size_t i = 0; i < n;) {
        int length = aq_utf8_decode(in + i, n - i, &c), incomplete;
        if (length) {
            memcpy(out + count, in + i, (size_t)length);
            count += (size_t)length;
        } else {
            length = aq_utf8_bad_length(in + i, n - i, &incomplete);
            if (incomplete && !over) {
                d->n_held = (uint8_t)(n - i);
                memcpy(d->held, in + i, n - i);
                break;
            }
            memcpy(out + count, "\xEF\xBF\xBD", 3);
            count += 3;
        }
        i += (size_t)length;
    }
    return count;
}

/* held + text, decoded. The joined bytes lie behind the output in the same block. */
static aq_status push(aq_decoder *d, aq_bytes text, int over, aq_bytes *out) {
    size_t n = d->n_held + (size_t)text.n;
    AQ_TRY(reserve(d, n * 4 + 1));
    char *joined = d->out + n * 3;
    memcpy(joined, d->held, d->n_held);
    if (text.n)
        memcpy(joined + d->n_held, text.s, text.n);
    size_t count = decode(d, joined, n, over, d->out);
    if (count > UINT32_MAX)
        return aq_fail(AQ_REFUSED, NULL, "a token of %u bytes: less than 1 GiB expected", text.n);
    *out = (aq_bytes){d->out, (uint32_t)count};
    return AQ_OK;
}

/* ---- SentencePiece: tokens are text, but for runs of byte tokens ---- */

/* What is certain of held bytes, as text; the rest stays. Each byte that is no UTF-8 is one U+FFFD. */
static size_t settle(aq_decoder *d, int over, char *out) {
    size_t count = 0, at = 0;
    uint32_t c;
    while (at < d->n_held) {
        int length = aq_utf8_decode(d->held + at, d->n_held - at, &c), incomplete = 0;
        if (!length)
            aq_utf8_bad_length(d->held + at, d->n_held - at, &incomplete);
        if (incomplete && !over)
            break;
        memcpy(out + count, length ? d->held + at : "\xEF\xBF\xBD", length ? (size_t)length : 3);
        count += length ? (size_t)length : 3;
        at += length ? (size_t)length : 1;
    }
    d->n_held -= (uint8_t)at;
    memmove(d->held, d->held + at, d->n_held);
    return count;
}

static int is_whole(const char *s, size_t n) {
    uint32_t c;
    int length = 1;
    for (size_t i = 0; i < n && length; i += (size_t)length)
        length = aq_utf8_decode(s + i, n - i, &c);
    return length > 0;
}

/* Hugging Face's way with a run that is over: all of it is UTF-8, or each of its bytes is U+FFFD. */
static size_t close_run(aq_decoder *d, char *out) {
    size_t n = d->n_run;
    d->n_run = 0;
    if (!n)
        return 0;
    if (is_whole(d->run, n)) {
        memcpy(out, d->run, n);
        return n;
    }
    for (size_t i = 0; i < n; i++)
        memcpy(out + 3 * i, "\xEF\xBF\xBD", 3);
    return 3 * n;
}

static aq_status keep(aq_decoder *d, char byte) {
    if (d->n_run == d->run_room) {
        void *p = d->run;
        size_t room = d->run_room * 2 + 64;
        AQ_TRY(aq_mem_resize(&p, d->run_room, room));
        d->run = p;
        d->run_room = room;
    }
    d->run[d->n_run++] = byte;
    return AQ_OK;
}

static aq_status push_spm(aq_decoder *d, int32_t id, int over, aq_bytes *out) {
    const aq_tokenizer *t = d->tokenizer;
    aq_bytes text = over ? (aq_bytes){"", 0} : aq_tokenizer_text(t, id);
    int is_byte = !over && text.n && (t->flags[id] & AQ_TOKEN_BYTE);
    size_t n = 0;
    AQ_TRY(reserve(d, d->n_run * 3 + sizeof d->held * 3 + text.n));
    if (is_byte && d->whole_runs) {
        AQ_TRY(keep(d, *text.s));
    } else if (is_byte) {
        d->held[d->n_held++] = *text.s;
        n = settle(d, 0, d->out);
    } else if (text.n || over) {
        n = d->whole_runs ? close_run(d, d->out) : settle(d, 1, d->out);
        if (text.n)
            memcpy(d->out + n, text.s, text.n);
        n += text.n;
    }
    size_t drop = n && t->strips && !d->has_begun && !d->keeps_start && d->out[0] == ' ';
    d->has_begun |= n > 0;
    *out = (aq_bytes){d->out + drop, (uint32_t)(n - drop)};
    return AQ_OK;
}

aq_status aq_decoder_push(aq_decoder *d, int32_t id, aq_bytes *out) {
    if (d->skip_special && aq_tokenizer_is_special(d->tokenizer, id)) {
        *out = (aq_bytes){"", 0};
        return AQ_OK;
    }
    if (d->tokenizer->kind == AQ_TOKENIZER_SPM)
        return push_spm(d, id, 0, out);
    return push(d, aq_tokenizer_text(d->tokenizer, id), 0, out);
}

aq_status aq_decoder_finish(aq_decoder *d, aq_bytes *out) {
    return d->tokenizer->kind == AQ_TOKENIZER_SPM ? push_spm(d, -1, 1, out) : push(d, (aq_bytes){"", 0}, 1, out);
}
