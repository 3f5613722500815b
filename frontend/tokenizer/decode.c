/* decode.c: ids to text as they come. A token may end inside a character, so up to 3 bytes wait for the next one.
 *
 * What comes out, finish included, is what decoding the joined bytes at once would give: each maximal subpart of a bad sequence becomes
 * one U+FFFD (as Rust's from_utf8_lossy, which Hugging Face's decoder calls). */
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

aq_decoder aq_decoder_open(const aq_tokenizer *t, int skip_special) {
    return (aq_decoder){.tokenizer = t, .skip_special = skip_special};
}

void aq_decoder_close(aq_decoder *d) {
    aq_mem_free(d->out);
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

aq_status aq_decoder_push(aq_decoder *d, int32_t id, aq_bytes *out) {
    if (d->skip_special && aq_tokenizer_is_special(d->tokenizer, id)) {
        *out = (aq_bytes){"", 0};
        return AQ_OK;
    }
    return push(d, aq_tokenizer_text(d->tokenizer, id), 0, out);
}

aq_status aq_decoder_finish(aq_decoder *d, aq_bytes *out) { return push(d, (aq_bytes){"", 0}, 1, out); }
