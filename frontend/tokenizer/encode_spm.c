/* encode_spm.c: what is different where symbols are characters (SentencePiece's BPE, and Hugging Face's with byte fallback): the symbols
 * of a piece, where pieces end, characters that the vocabulary lacks, spaces.
 *
 * Inside the tokenizer a space stands for U+2581: texts of the vocabulary were turned so when it was built, so a text is copied only where
 * it needs a space in front or holds the mark itself.
 * SentencePiece merges over the whole text. Where no merge makes a text with a space behind another character, which is so in every
 * vocabulary that was trained with split_by_whitespace, a piece ends there without any change to the ids, and most pieces are a token. */
#define _GNU_SOURCE
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

static const char mark[] = "\xE2\x96\x81";
enum { MARK = 3 };

size_t aq_spm_symbol(const aq_tokenizer *t, const char *s, size_t n, uint32_t *out) {
    uint32_t c = (uint8_t)*s;
    int length = c < 0x80 ? 1 : aq_utf8_decode(s, n, &c);
    if (!length) {
        *out = AQ_SYMBOL_BYTE | (uint8_t)*s;
        return 1;
    }
    if (c < 0x10000)
        *out = t->chars[c] == AQ_CHAR_NONE ? AQ_NO_ID : t->chars[c];
    else
        *out = aq_piece_find(t, aq_piece_hash(s, (size_t)length), s, (size_t)length);
    if (*out == AQ_NO_ID)
        *out = AQ_SYMBOL_CHARACTER | c;
    return (size_t)length;
}

/* Without scores, bytes and unk are symbols from the start (Hugging Face's merge_word); all bytes have ids, or none has. */
size_t aq_spm_symbols(const aq_tokenizer *t, const char *piece, size_t n, uint32_t *ids) {
    size_t count = 0, length;
    int was_unk = 0;
    for (size_t i = 0; i < n; i += length) {
        length = aq_spm_symbol(t, piece + i, n - i, &ids[count]);
        if (t->from_scores || ids[count] < AQ_SYMBOL_CHARACTER) {
            count++;
            was_unk = 0;
        } else if (t->byte_id[0] != AQ_NO_ID) {
            for (size_t k = 0; k < length; k++)
                ids[count++] = t->byte_id[(uint8_t)piece[i + k]];
        } else if (t->unk_bytes && !(was_unk && t->fuse_unk)) {
            ids[count++] = (uint32_t)t->unk;
            was_unk = 1;
        }
    }
    return count;
}

aq_status aq_spm_append(const aq_tokenizer *t, const uint32_t *ids, size_t n, aq_ids *out) {
    int was_unk = 0;
    for (size_t i = 0; i < n; i++) {
        char bytes[4] = {(char)ids[i]};
        if (ids[i] < AQ_SYMBOL_CHARACTER) {
            AQ_TRY(aq_ids_push(out, (int32_t)ids[i]));
            was_unk = 0;
            continue;
        }
        size_t length = ids[i] < AQ_SYMBOL_BYTE ? aq_utf8_put(ids[i] & ~AQ_SYMBOL_CHARACTER, bytes) : 1;
        if (t->byte_id[0] != AQ_NO_ID) {
            for (size_t k = 0; k < length; k++)
                AQ_TRY(aq_ids_push(out, (int32_t)t->byte_id[(uint8_t)bytes[k]]));
        } else if (t->unk_bytes && !(was_unk && t->fuse_unk)) {
            AQ_TRY(aq_ids_push(out, t->unk));
            was_unk = 1;
        }
    }
    return AQ_OK;
}

size_t aq_spm_next(const aq_tokenizer *t, const char *text, size_t n, size_t at) {
    if (t->pre != AQ_PRE_SPACES && !t->cuts_words)
        return n;
    size_t from = at + 1;
    while (t->pre != AQ_PRE_SPACES && text[from - 1] == ' ' && from < n)
        from++;
    const char *space = from < n ? memchr(text + from, ' ', n - from) : NULL;
    return space ? (size_t)(space - text) : n;
}

int aq_spm_has_mark(const char *text, size_t n) { return memmem(text, n, mark, MARK) != NULL; }

/* Copies text[*from..to) to out[*n..), marks as spaces. */
static void copy_up_to(const char *text, size_t *from, size_t to, char *out, size_t *n) {
    while (*from < to) {
        const char *found = memmem(text + *from, to - *from, mark, MARK);
        size_t plain = found ? (size_t)(found - text) - *from : to - *from;
        memcpy(out + *n, text + *from, plain);
        *n += plain;
        *from += plain;
        if (found) {
            out[(*n)++] = ' ';
            *from += MARK;
        }
    }
}

size_t aq_spm_copy(const char *text, size_t n, char *out) {
    size_t from = 0, length = 0;
    copy_up_to(text, &from, n, out, &length);
    return length;
}

/* The stretches of `in` that meet text[0..n), which lies in it: *first, and how many. */
static uint32_t meeting(const aq_added_where *in, size_t start, size_t n, uint32_t *first) {
    uint32_t low = 0, high = in->n_open, count = 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (in->open[middle].end > start)
            high = middle;
        else
            low = middle + 1;
    }
    *first = low;
    while (low + count < in->n_open && in->open[low + count].start < start + n)
        count++;
    return count;
}

aq_status aq_spm_normalize(const char *text, size_t n, int prefix, const aq_added_where *in, char **out, size_t *out_n,
                           aq_added_where *where) {
    uint32_t first, count = meeting(in, (size_t)(text - in->base), n, &first);
    size_t start = (size_t)(text - in->base), size, open_size, from = 0, length = 0;
    void *block;
    AQ_TRY(aq_size_mul(count, sizeof(aq_open_text), "text", &open_size));
    AQ_TRY(aq_size_add(n + 16, open_size, "text", &size));
    AQ_TRY(aq_mem_alloc(size, &block));
    aq_open_text *open = block; /* first, for alignment */
    char *copy = (char *)block + open_size;
    if (prefix)
        copy[length++] = ' ';
    for (uint32_t i = 0; i < count; i++) {
        aq_open_text o = in->open[first + i];
        size_t a = o.start > start ? o.start - start : 0, b = o.end - start < n ? o.end - start : n;
        copy_up_to(text, &from, a, copy, &length);
        open[i].start = a ? length : 0;
        copy_up_to(text, &from, b, copy, &length);
        open[i].end = length;
    }
    copy_up_to(text, &from, n, copy, &length);
    *where = (aq_added_where){copy, open, count};
    *out = copy;
    *out_n = length;
    return AQ_OK;
}
