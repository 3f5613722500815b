/* build.c: from what a file says to the tables that encoding reads, and the questions one can ask of a tokenizer.
 *
 * Cost: one pass over vocabulary and merges, two look-ups a merge: about 10 ms for 50000 of each. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include "ir/memory.h"

#include <string.h>

/* Tables are at most half full, so an entry is hardly ever more than 50 slots from its place; a file that was made to collide would make
 * every look-up slow. */
enum { MOST_COLLISIONS = 1000 };

aq_status aq_tokenizer_refuse_size(const char *place, const char *what, size_t n) {
    return aq_refuse(AQ_WHY_TOKENIZER_SIZE, place, "%zu %s: at least one entry, at most %u of anything, %u added tokens expected", n, what, AQ_TOKENIZER_LIMIT,
                     AQ_ADDED_LIMIT);
}

aq_status aq_tokenizer_refuse_collisions(const char *place, const char *what) {
    return aq_refuse(AQ_WHY_TOKENIZER_COLLIDES, place, "%s made to collide: no ordinary file does", what);
}

aq_status aq_tokenizer_refuse_prefix(const char *place) {
    return aq_refuse(AQ_WHY_TOKENIZER_PREFIX, place, "a prefix space (add_prefix_space) in front of each piece of a split: ByteLevel as the first step, or none, expected");
}

static uint32_t table_size(uint32_t entries) {
    uint32_t size = 64;
    while (size < entries * 2)
        size *= 2;
    return size;
}

static int is_utf8(const char *s, size_t n) {
    uint32_t c;
    for (size_t i = 0; i < n;) {
        int length = aq_utf8_decode(s + i, n - i, &c);
        if (!length)
            return 0;
        i += (size_t)length;
    }
    return 1;
}

static aq_status copy_added(aq_tokenizer *t, const aq_tokenizer_source *s) {
    AQ_ALLOC(&t->arena, t->added, s->n_added);
    t->n_added = s->n_added;
    for (uint32_t i = 0; i < s->n_added; i++) {
        aq_added_token *a = &t->added[i];
        *a = s->added[i];
        a->normalized = !!a->normalized;
        if (a->id < 0 || (uint32_t)a->id >= AQ_ID_LIMIT(s->n_vocab))
            return aq_refuse(AQ_WHY_TOKENIZER_ADDED_ID, s->place, "added token %u has the id %d: 0 to %u expected", i, a->id, AQ_ID_LIMIT(s->n_vocab) - 1);
        if (a->text.n == 0 || a->text.n > AQ_ADDED_LENGTH_LIMIT)
            return aq_refuse(AQ_WHY_TOKENIZER_ADDED_LENGTH, s->place, "added token with id %d has %u bytes: 1 to %u expected", a->id, a->text.n,
                           AQ_ADDED_LENGTH_LIMIT);
        AQ_TRY(aq_arena_string(&t->arena, a->text.s, a->text.n, &a->text.s));
        if ((uint32_t)a->id >= t->size)
            t->size = (uint32_t)a->id + 1;
    }
    return AQ_OK;
}

static aq_status insert(aq_tokenizer *t, const aq_tokenizer_source *s, uint32_t id) {
    aq_bytes text = t->text[id];
    uint32_t hash = aq_piece_hash(text.s, text.n), at = hash & t->piece_mask;
    for (; t->pieces[at].id != AQ_NO_ID; at = (at + 1) & t->piece_mask) {
        aq_bytes other = t->text[t->pieces[at].id];
        if (t->pieces[at].hash == hash && other.n == text.n && memcmp(other.s, text.s, text.n) == 0)
            return aq_refuse(AQ_WHY_TOKENIZER_TEXT_TWICE, s->place, "ids %u and %u have the same text \"%.*s\": one expected", t->pieces[at].id, id,
                           (int)s->vocab[id].n, s->vocab[id].s);
        if (((at - hash) & t->piece_mask) > MOST_COLLISIONS)
            return aq_tokenizer_refuse_collisions(s->place, "texts");
    }
    t->pieces[at] = (aq_piece_slot){hash, id};
    uint32_t bit = aq_piece_bit(t, hash);
    t->piece_filter[bit >> 6] |= 1ull << (bit & 63);
    return AQ_OK;
}

/* Raw bytes of a text as the kind writes it; -1: it is not written so, -2: no UTF-8. */
static int64_t to_bytes(const aq_tokenizer *t, const char *text, size_t n, char *out) {
    if (t->kind == AQ_TOKENIZER_BPE)
        return aq_alphabet_to_bytes(text, n, out);
    int has_space;
    int64_t count = aq_marks_to_spaces(text, n, out, &has_space);
    return count >= 0 && has_space ? -1 : count;
}

/* The ids of bytes: of the texts themselves, or as the source says (SPM); those are no pieces. */
static aq_status read_bytes(aq_tokenizer *t, const aq_tokenizer_source *s) {
    static const char every[256] = {
#define ROW(h) h, h + 1, h + 2, h + 3, h + 4, h + 5, h + 6, h + 7, h + 8, h + 9, h + 10, h + 11, h + 12, h + 13, h + 14, h + 15
        ROW(0), ROW(16), ROW(32), ROW(48), ROW(64), ROW(80), ROW(96), ROW(112),
        ROW(-128), ROW(-112), ROW(-96), ROW(-80), ROW(-64), ROW(-48), ROW(-32), ROW(-16)
#undef ROW
    };
    for (uint32_t b = 0; b < 256; b++) {
        t->byte_id[b] = AQ_NO_ID;
        if (t->kind == AQ_TOKENIZER_BPE) {
            t->byte_id[b] = aq_piece_find(t, aq_piece_hash(&every[b], 1), &every[b], 1);
        } else if (s->byte_ids) {
            int32_t id = s->byte_ids[b];
            if (id < 0 || (uint32_t)id >= s->n_vocab || (t->flags[id] & AQ_TOKEN_BYTE))
                return aq_fail(AQ_REFUSED, s->place, "byte %u has the id %d: a token of its own expected", b, id);
            t->byte_id[b] = (uint32_t)id;
            t->text[id] = (aq_bytes){&every[b], 1};
            t->flags[id] |= AQ_TOKEN_BYTE;
            t->whole[id] = AQ_WHOLE_NO;
        }
    }
    return AQ_OK;
}

/* Texts of the vocabulary in raw bytes. What is not written as the kind writes stays as it is and is out of BPE's reach. */
static aq_status read_vocab(aq_tokenizer *t, const aq_tokenizer_source *s) {
    size_t total = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        AQ_TRY(aq_size_add(total, s->vocab[i].n, "vocabulary", &total));
    char *bytes;
    AQ_ALLOC(&t->arena, bytes, total);
    uint32_t size = table_size(s->n_vocab);
    AQ_ALLOC(&t->arena, t->pieces, size);
    memset(t->pieces, 0xFF, size * sizeof *t->pieces);
    t->piece_mask = size - 1;
    AQ_ALLOC(&t->arena, t->piece_filter, size / 16);
    if (t->kind == AQ_TOKENIZER_SPM)
        AQ_TRY(read_bytes(t, s));
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        aq_bytes v = s->vocab[i];
        if (v.n == 0 || t->flags[i])
            continue;
        int64_t n = to_bytes(t, v.s, v.n, bytes);
        if (n == -2)
            return aq_refuse(AQ_WHY_TOKENIZER_TEXT, s->place, "the text of id %u is no UTF-8: text%s expected", i,
                           t->kind == AQ_TOKENIZER_BPE ? " in GPT-2's printable alphabet" : "");
        if (n == -1)
            memcpy(bytes, v.s, v.n);
        t->text[i] = (aq_bytes){bytes, n < 0 ? v.n : (uint32_t)n};
        bytes += t->text[i].n;
        if (n > 0)
            AQ_TRY(insert(t, s, i));
        t->whole[i] = n <= 0 ? AQ_WHOLE_NO : t->ignore_merges ? AQ_WHOLE_YES : AQ_WHOLE_UNKNOWN;
        if (t->text[i].n > t->longest)
            t->longest = t->text[i].n;
    }
    if (t->kind == AQ_TOKENIZER_BPE)
        return read_bytes(t, s);
    return aq_chars_build(t); /* scores ask for characters */
}

static aq_status bad_merge(const aq_tokenizer_source *s, uint32_t rank, const char *what) {
    aq_bytes m = s->merges[rank];
    return aq_refuse(AQ_WHY_TOKENIZER_MERGE, s->place, "merge %u, \"%.*s\": %s", rank, (int)(m.n < 200 ? m.n : 200), m.s, what);
}

static aq_status find_part(const aq_tokenizer *t, const aq_tokenizer_source *s, uint32_t rank, const char *text, size_t n, char *bytes,
                           int64_t *out_n, uint32_t *out_id) {
    *out_n = n ? to_bytes(t, text, n, bytes) : -1;
    if (*out_n <= 0)
        return bad_merge(s, rank, t->kind == AQ_TOKENIZER_SPM ? "two texts with a space between expected"
                                                              : "two texts in GPT-2's printable alphabet with a space between expected");
    *out_id = aq_piece_find(t, aq_piece_hash(bytes, (size_t)*out_n), bytes, (size_t)*out_n);
    if (*out_id == AQ_NO_ID)
        return bad_merge(s, rank, "part is not in the vocabulary");
    return AQ_OK;
}

/* Vocabularies come in the order of their merges, so `guess` is nearly always right, and its text is in the cache. */
static uint32_t find_made(const aq_tokenizer *t, const char *bytes, size_t n, uint32_t guess) {
    if (guess < t->size && t->whole[guess] != AQ_WHOLE_NO && t->text[guess].n == n && memcmp(t->text[guess].s, bytes, n) == 0)
        return guess;
    return aq_piece_find(t, aq_piece_hash(bytes, n), bytes, n);
}

static aq_status read_merge(aq_tokenizer *t, const aq_tokenizer_source *s, uint32_t rank, char *bytes) {
    aq_bytes m = s->merges[rank];
    const char *space = m.n ? memchr(m.s, ' ', m.n) : NULL;
    if (!space)
        return bad_merge(s, rank, "two texts with a space between expected");
    size_t n_left = (size_t)(space - m.s);
    int64_t left_bytes, right_bytes;
    uint32_t left, right;
    AQ_TRY(find_part(t, s, rank, m.s, n_left, bytes, &left_bytes, &left));
    AQ_TRY(find_part(t, s, rank, space + 1, m.n - n_left - 1, bytes + left_bytes, &right_bytes, &right));
    uint32_t id = find_made(t, bytes, (size_t)(left_bytes + right_bytes), rank ? t->rank_id[rank - 1] + 1 : 0);
    if (id == AQ_NO_ID)
        return bad_merge(s, rank, "what it makes is not in the vocabulary");
    if (t->flags[id] & AQ_TOKEN_BYTE)
        return bad_merge(s, rank, "it makes a byte's token, which no merge may");
    t->rank_id[rank] = id;
    return aq_merges_put(t, s->place, (aq_merge_slot){left, right, rank, id}); /* of a pair that is there twice the last counts, as in Hugging Face's map */
}

aq_status aq_merges_open(aq_tokenizer *t, uint32_t merges, uint32_t ranks) {
    uint32_t size = table_size(merges);
    AQ_ALLOC(&t->arena, t->merges, size);
    memset(t->merges, 0xFF, size * sizeof *t->merges);
    t->merge_mask = size - 1;
    t->n_pairs = merges;
    t->n_ranks = ranks;
    AQ_ALLOC(&t->arena, t->rank_id, ranks);
    return AQ_OK;
}

aq_status aq_merges_put(aq_tokenizer *t, const char *place, aq_merge_slot merge) {
    uint64_t hash = aq_merge_hash(merge.left, merge.right);
    aq_merge_slot *slot = aq_merge_find(t, hash, merge.left, merge.right);
    if ((((uint32_t)(slot - t->merges) - (uint32_t)hash) & t->merge_mask) > MOST_COLLISIONS)
        return aq_tokenizer_refuse_collisions(place, "merges");
    *slot = merge;
    return AQ_OK;
}

static aq_status read_merges(aq_tokenizer *t, const aq_tokenizer_source *s) {
    uint32_t longest = 0;
    AQ_TRY(aq_merges_open(t, s->n_merges, s->n_merges));
    for (uint32_t i = 0; i < s->n_merges; i++)
        if (s->merges[i].n > longest)
            longest = s->merges[i].n;
    void *bytes;
    AQ_TRY(aq_mem_alloc(longest, &bytes));
    aq_status status = AQ_OK;
    for (uint32_t i = 0; i < s->n_merges && status == AQ_OK; i++)
        status = read_merge(t, s, i, bytes);
    aq_mem_free(bytes);
    return status;
}

static aq_status read_added(aq_tokenizer *t, const aq_tokenizer_source *s, const aq_added_token *a) {
    char *bytes;
    AQ_ALLOC(&t->arena, bytes, a->text.n);
    int has_space = 0;
    int64_t n = t->kind == AQ_TOKENIZER_SPM ? aq_marks_to_spaces(a->text.s, a->text.n, bytes, &has_space)
                                            : aq_alphabet_to_bytes(a->text.s, a->text.n, bytes);
    uint32_t other = n > 0 && (t->kind == AQ_TOKENIZER_BPE || !has_space) ? aq_piece_find(t, aq_piece_hash(bytes, (size_t)n), bytes, (size_t)n)
                                                                           : AQ_NO_ID;
    if (other != AQ_NO_ID)
        return aq_refuse(AQ_WHY_TOKENIZER_ADDED_KNOWN, s->place, "added token \"%.*s\" has the id %d: that of the vocabulary, %u, expected",
                         (int)a->text.n, a->text.s, a->id, other);
    t->text[a->id] = n > 0 && is_utf8(bytes, (size_t)n) ? (aq_bytes){bytes, (uint32_t)n} : a->text;
    return AQ_OK;
}

/* The file must not mean two tokens by one id. An id of the vocabulary keeps its text in the alphabet, so that BPE may still make it; the
 * text of others is read the same way if that gives UTF-8 (Hugging Face's decoder always does), and is else as it stands. */
static aq_status place_added(aq_tokenizer *t, const aq_tokenizer_source *s) {
    for (uint32_t i = 0; i < t->n_added; i++) {
        aq_added_token *a = &t->added[i];
        aq_bytes v = (uint32_t)a->id < s->n_vocab ? s->vocab[a->id] : (aq_bytes){0};
        if (a->alias)
            continue;
        if (t->flags[a->id] & AQ_TOKEN_ADDED)
            return aq_refuse(AQ_WHY_TOKENIZER_ADDED_SHARED, s->place, "id %d belongs to two added tokens: one expected", a->id);
        if (v.n && (v.n != a->text.n || memcmp(v.s, a->text.s, v.n)))
            return aq_refuse(AQ_WHY_TOKENIZER_ADDED_OTHER, s->place, "added token \"%.*s\" has the id %d of \"%.*s\": the same text expected", (int)a->text.n,
                           a->text.s, a->id, (int)v.n, v.s);
        t->flags[a->id] |= AQ_TOKEN_ADDED | (a->special ? AQ_TOKEN_SPECIAL : 0);
        if (v.n)
            continue;
        AQ_TRY(read_added(t, s, a));
    }
    return AQ_OK;
}

static aq_status check_limits(const aq_tokenizer_source *s) {
    if (s->kind == AQ_TOKENIZER_NONE)
        return aq_fail(AQ_REFUSED, s->place, "no tokenizer: a BPE vocabulary expected"); /* of no file: callers ask for the kind first */
    if (s->n_vocab == 0 || s->n_vocab > AQ_TOKENIZER_LIMIT)
        return aq_tokenizer_refuse_size(s->place, "entries", s->n_vocab);
    if (s->n_merges > AQ_TOKENIZER_LIMIT || s->n_added > AQ_ADDED_LIMIT)
        return aq_tokenizer_refuse_size(s->place, s->n_added > AQ_ADDED_LIMIT ? "added tokens" : "merges", s->n_added > AQ_ADDED_LIMIT ? s->n_added : s->n_merges);
    return s->pre == AQ_PRE_SMOLLM && s->add_prefix_space ? aq_tokenizer_refuse_prefix(s->place) : AQ_OK;
}

static aq_status check_id(const aq_tokenizer *t, const char *place, const char *name, int32_t id) {
    if (id < -1 || (id >= 0 && (uint32_t)id >= t->size))
        return aq_refuse(AQ_WHY_TOKENIZER_SPECIAL_ID, place, "the %s id is %d: less than %u expected", name, id, t->size);
    return AQ_OK;
}

/* Whether what merges make has spaces at its start only. */
static int ends_at_spaces(const aq_tokenizer *t) {
    for (uint32_t i = 0; i <= t->merge_mask; i++) {
        if (t->merges[i].rank == AQ_NO_RANK)
            continue;
        aq_bytes text = t->text[t->merges[i].id];
        uint32_t at = 0;
        while (at < text.n && text.s[at] == ' ')
            at++;
        if (at < text.n && memchr(text.s + at, ' ', text.n - at))
            return 0;
    }
    return 1;
}

static aq_status fill(aq_tokenizer *t, const aq_tokenizer_source *s) {
    AQ_TRY(check_limits(s));
    t->kind = s->kind;
    t->pre = s->pre;
    AQ_TRY(aq_arena_string(&t->arena, s->place ? s->place : "tokenizer", strlen(s->place ? s->place : "tokenizer"), &t->place));
    if (t->pre == AQ_PRE_SPLITS)
        AQ_TRY(aq_splits_build(t, s));
    t->add_prefix_space = s->add_prefix_space;
    t->normalizes = s->normalizes;
    t->strips = s->strips;
    t->fuse_unk = s->fuse_unk;
    t->ignore_merges = s->ignore_merges;
    t->from_scores = s->scores != NULL;
    t->size = s->n_vocab;
    AQ_TRY(copy_added(t, s));
    AQ_ALLOC(&t->arena, t->text, t->size);
    AQ_ALLOC(&t->arena, t->flags, t->size);
    AQ_ALLOC(&t->arena, t->whole, t->size);
    if (t->kind == AQ_TOKENIZER_BPE)
        t->classes = aq_classes();
    AQ_TRY(read_vocab(t, s));
    AQ_TRY(s->scores ? aq_merges_of_scores(t, s) : read_merges(t, s));
    AQ_TRY(aq_rows_build(t, AQ_ROW_LOOKS));
    if (t->kind == AQ_TOKENIZER_BPE)
        AQ_TRY(aq_chars_build(t));
    t->cuts_words = t->kind == AQ_TOKENIZER_SPM && t->chars[' '] != AQ_CHAR_NONE && ends_at_spaces(t);
    AQ_TRY(place_added(t, s));
    AQ_TRY(aq_added_build(t, s->place));
    t->bos = s->bos, t->eos = s->eos, t->pad = s->pad, t->unk = s->unk;
    AQ_TRY(check_id(t, s->place, "bos", t->bos));
    AQ_TRY(check_id(t, s->place, "eos", t->eos));
    AQ_TRY(check_id(t, s->place, "pad", t->pad));
    AQ_TRY(check_id(t, s->place, "unk", t->unk));
    t->add_bos = s->add_bos && t->bos >= 0;
    t->add_eos = s->add_eos && t->eos >= 0;
    t->unk_bytes = s->unk_bytes && t->unk >= 0;
    for (uint32_t i = 0; t->unk_bytes && i < t->n_ranks; i++)
        if (t->rank_id[i] == (uint32_t)t->unk)
            return aq_refuse(AQ_WHY_TOKENIZER_UNK_MERGED, s->place, "the unk token is what merge %u makes: a token that no merge makes expected", i);
    return AQ_OK;
}

aq_status aq_tokenizer_build(const aq_tokenizer_source *source, aq_tokenizer **out) {
    void *p;
    AQ_TRY(aq_mem_alloc(sizeof(aq_tokenizer), &p));
    aq_status status = fill(p, source);
    if (status == AQ_OK)
        *out = p;
    else
        aq_tokenizer_close(p);
    return status;
}

void aq_tokenizer_close(aq_tokenizer *t) {
    if (!t)
        return;
    aq_splits_close(t);
    aq_arena_close(&t->arena);
    aq_mem_free(t);
}

uint32_t aq_tokenizer_size(const aq_tokenizer *t) { return t->size; }
int32_t aq_tokenizer_bos(const aq_tokenizer *t) { return t->bos; }
int32_t aq_tokenizer_eos(const aq_tokenizer *t) { return t->eos; }
int32_t aq_tokenizer_pad(const aq_tokenizer *t) { return t->pad; }
int32_t aq_tokenizer_unk(const aq_tokenizer *t) { return t->unk; }
int aq_tokenizer_adds_bos(const aq_tokenizer *t) { return t->add_bos; }
int aq_tokenizer_adds_eos(const aq_tokenizer *t) { return t->add_eos; }

int32_t aq_tokenizer_find(const aq_tokenizer *t, const char *s, size_t n) {
    for (int which = 0; n && which < 2; which++) {
        int32_t id = aq_added_find(t, which, s, n);
        if (id >= 0)
            return id;
    }
    uint32_t id = aq_piece_find(t, aq_piece_hash(s, n), s, n);
    if (id == AQ_NO_ID && n == 1)
        id = t->byte_id[(uint8_t)*s];
    for (uint32_t i = 0; id == AQ_NO_ID && n && i < t->n_added; i++) /* a text that the normalizer changed */
        if (t->text[t->added[i].id].n == n && memcmp(t->text[t->added[i].id].s, s, n) == 0)
            id = (uint32_t)t->added[i].id;
    return id == AQ_NO_ID ? -1 : (int32_t)id;
}

int aq_tokenizer_is_special(const aq_tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->size && (t->flags[id] & AQ_TOKEN_SPECIAL);
}

aq_bytes aq_tokenizer_text(const aq_tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->size ? t->text[id] : (aq_bytes){"", 0};
}
