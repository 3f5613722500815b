/* added.c: finds the texts of added tokens, before anything else looks at the text, as Hugging Face's AddedVocabulary does.
 *
 * Two rounds: tokens that are not `normalized` first, then the others in the stretches between, as the normalizer of SPM left them
 * (without one both see the same bytes, but the order shows). In a round the leftmost match wins, of those the longest; a match that single_word
 * rejects still uses up its text; lstrip and rstrip take white space around the match into it.
 * Cost: a trie walk from each byte that begins a token: text * longest token at worst, hence AQ_ADDED_LENGTH_LIMIT; a step finds its child by
 * halving (a list of siblings made it 255 times as long for tokens that part at every byte). An Aho-Corasick
 * automaton has the same worst case here (a match may be far shorter than what was read to find it), and is ten times the code. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- the trie: tokens sorted by their texts, so that those below a node are a range of them; nodes level by level ---- */

typedef struct range {
    uint32_t from, to; /* of the sorted tokens */
} range;

typedef struct builder {
    const aq_tokenizer *t;
    const aq_added_token **sorted;
    uint32_t n;
    range *below; /* of each node */
} builder;

static int by_text(const void *a, const void *b) {
    const aq_added_token *x = *(const aq_added_token *const *)a, *y = *(const aq_added_token *const *)b;
    int order = memcmp(x->text.s, y->text.s, x->text.n < y->text.n ? x->text.n : y->text.n);
    order = order ? order : (x->text.n > y->text.n) - (x->text.n < y->text.n);
    return order ? order : (x > y) - (x < y);
}

/* One for the root, and one for each byte that a text does not share with the one before it. */
static aq_status count_nodes(const builder *b, const char *place, size_t *out) {
    *out = 1;
    for (uint32_t i = 0; i < b->n; i++) {
        aq_bytes text = b->sorted[i]->text, before = i ? b->sorted[i - 1]->text : (aq_bytes){0};
        uint32_t same = 0;
        while (same < text.n && same < before.n && text.s[same] == before.s[same])
            same++;
        if (same == text.n && same == before.n)
            return aq_refuse(AQ_WHY_TOKENIZER_ADDED_TWICE, place, "added token \"%.*s\" is there twice, as id %d and %d: one expected", (int)text.n, text.s,
                             b->sorted[i - 1]->id, b->sorted[i]->id);
        *out += text.n - same;
    }
    return *out >= AQ_NO_ID ? aq_tokenizer_refuse_size(place, "bytes of added tokens", *out) : AQ_OK;
}

static void fill(const builder *b, aq_added_trie *trie) {
    uint32_t n = 1, depth = 0, level_end = 1;
    trie->nodes[0] = (aq_added_node){.token = AQ_NO_ID};
    b->below[0] = (range){0, b->n};
    for (uint32_t i = 0; i < n; i++) {
        if (i == level_end) {
            depth++;
            level_end = n;
        }
        uint32_t k = b->below[i].from, end = b->below[i].to;
        if (b->sorted[k]->text.n == depth)
            trie->nodes[i].token = (uint32_t)(b->sorted[k++] - b->t->added);
        trie->nodes[i].child = n;
        while (k < end) {
            uint32_t from = k;
            char byte = b->sorted[k]->text.s[depth];
            while (k < end && b->sorted[k]->text.s[depth] == byte)
                k++;
            trie->nodes[i].n++;
            trie->nodes[n] = (aq_added_node){.token = AQ_NO_ID, .byte = (uint8_t)byte};
            b->below[n++] = (range){from, k};
        }
    }
    for (uint32_t k = 0; k < trie->nodes[0].n; k++)
        trie->first[trie->nodes[1 + k].byte] = 1 + k;
}

static aq_status build_trie(aq_tokenizer *t, int which, const char *place, aq_arena *scratch) {
    aq_added_trie *trie = &t->trie[which];
    builder b = {.t = t};
    size_t nodes;
    AQ_ALLOC(scratch, b.sorted, t->n_added);
    for (uint32_t i = 0; i < t->n_added; i++)
        if (t->added[i].normalized == which && t->added[i].text.n)
            b.sorted[b.n++] = &t->added[i];
    trie->n_tokens = b.n;
    if (!b.n)
        return AQ_OK;
    qsort(b.sorted, b.n, sizeof *b.sorted, by_text);
    AQ_TRY(count_nodes(&b, place, &nodes));
    AQ_ALLOC(&t->arena, trie->nodes, nodes);
    AQ_ALLOC(scratch, b.below, nodes);
    fill(&b, trie);
    return AQ_OK;
}

/* `normalized` tokens are looked for in what the normalizer makes of a text, so it must make the same of them; of frozen ones the prefix is no
 * part, and one with a space never is found, for there every space is a mark. */
static aq_status normalize(aq_tokenizer *t, aq_added_token *token) {
    int prefix = t->add_prefix_space == AQ_PREFIX_ALWAYS && !token->frozen;
    char *text;
    if (token->frozen && memchr(token->text.s, ' ', token->text.n))
        token->text.n = 0;
    AQ_ALLOC(&t->arena, text, (size_t)token->text.n + 1);
    if (prefix)
        text[0] = ' ';
    token->text.n = (uint32_t)(aq_spm_copy(token->text.s, token->text.n, text + prefix) + (size_t)prefix);
    token->text.s = text;
    return AQ_OK;
}

aq_status aq_added_build(aq_tokenizer *t, const char *place) {
    for (uint32_t i = 0; i < t->n_added; i++)
        if (t->added[i].normalized && (t->normalizes || t->added[i].frozen))
            AQ_TRY(normalize(t, &t->added[i]));
    aq_status status = AQ_OK;
    for (int which = 0; which < 2 && status == AQ_OK; which++) {
        aq_arena scratch = {0};
        status = build_trie(t, which, place, &scratch);
        aq_arena_close(&scratch);
    }
    return status;
}

/* 0: none. */
static uint32_t child_of(const aq_added_trie *trie, uint32_t node, uint8_t byte) {
    uint32_t low = trie->nodes[node].child, high = low + trie->nodes[node].n, end = high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (trie->nodes[middle].byte < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && trie->nodes[low].byte == byte ? low : 0;
}

/* The longest token at text[0..n): its index, AQ_NO_ID if there is none. */
static uint32_t match(const aq_added_trie *trie, const char *text, size_t n) {
    uint32_t best = AQ_NO_ID, node = trie->first[(uint8_t)text[0]];
    for (size_t i = 1; node; i++) {
        if (trie->nodes[node].token != AQ_NO_ID)
            best = trie->nodes[node].token;
        if (i == n)
            break;
        node = child_of(trie, node, (uint8_t)text[i]);
    }
    return best;
}

int32_t aq_added_find(const aq_tokenizer *t, int which, const char *text, size_t n) {
    uint32_t index = match(&t->trie[which], text, n);
    return index != AQ_NO_ID && t->added[index].text.n == n ? t->added[index].id : -1;
}

/* The character that ends at text[end), end > 0; a byte that is no UTF-8 counts as U+FFFD. Returns its length. */
static size_t before(const char *text, size_t end, uint32_t *c) {
    for (size_t n = 1; n <= 4 && n <= end; n++)
        if (((uint8_t)text[end - n] & 0xC0) != 0x80) {
            if (aq_utf8_decode(text + end - n, n, c) == (int)n)
                return n;
            break;
        }
    *c = 0xFFFD;
    return 1;
}

static size_t after(const char *text, size_t n, size_t at, uint32_t *c) {
    int length = aq_utf8_decode(text + at, n - at, c);
    if (length)
        return (size_t)length;
    *c = 0xFFFD;
    return 1;
}

static int is_single_word(const char *text, size_t n, size_t start, size_t end) {
    uint32_t c;
    if (start > 0 && (before(text, start, &c), aq_class_is_word(c)))
        return 0;
    return end == n || (after(text, n, end, &c), !aq_class_is_word(c));
}

/* Moves walk->from into an open stretch; returns where that ends, 0 if there is none left. */
static size_t open_end(const aq_added_where *where, const char *text, size_t n, aq_added_walk *walk) {
    size_t offset = (size_t)(text - where->base);
    uint32_t low = walk->open, high = where->n_open;
    if (low < high && where->open[low].end > offset + walk->from)
        high = low; /* still the same, as nearly always */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (where->open[middle].end > offset + walk->from)
            high = middle;
        else
            low = middle + 1;
    }
    walk->open = low;
    if (walk->open == where->n_open || where->open[walk->open].start >= offset + n)
        return 0;
    aq_open_text open = where->open[walk->open];
    if (open.start > offset + walk->from)
        walk->from = open.start - offset;
    return open.end - offset < n ? open.end - offset : n;
}

/* After the normalizer of SPM a space stands for U+2581, which is no white space. */
static int is_stripped(const aq_tokenizer *t, const aq_added_trie *trie, int strip, uint32_t c) {
    if (strip == AQ_STRIP_PYTHON && c >= 0x1C && c <= 0x1F)
        return 1;
    return aq_class_is_space(c) && !(c == ' ' && t->normalizes && trie == &t->trie[1]);
}

/* The next match at or after walk->from that counts, with the white space it takes along. */
static int find(const aq_tokenizer *t, const aq_added_trie *trie, const aq_added_where *where, const char *text, size_t n,
                aq_added_walk *walk, aq_added_span *out) {
    uint32_t c;
    for (size_t limit; (limit = open_end(where, text, n, walk)) > walk->from;) {
        while (walk->from < limit && !trie->first[(uint8_t)text[walk->from]])
            walk->from++;
        uint32_t index = walk->from < limit ? match(trie, text + walk->from, limit - walk->from) : AQ_NO_ID;
        if (index == AQ_NO_ID) {
            walk->from += walk->from < limit;
            continue;
        }
        const aq_added_token *token = &t->added[index];
        size_t start = walk->from, end = start + token->text.n, length;
        walk->from = end;
        if (token->single_word && !is_single_word(text, n, start, end))
            continue;
        while (token->lstrip && start > walk->done && (length = before(text, start, &c), is_stripped(t, trie, token->lstrip, c)))
            start -= length;
        while (token->rstrip && end < n && (length = after(text, n, end, &c), is_stripped(t, trie, token->rstrip, c)))
            end += length;
        *out = (aq_added_span){start, end, token->id};
        return 1;
    }
    return 0;
}

int aq_added_next(const aq_tokenizer *t, int which, const aq_added_where *where, const char *text, size_t n, aq_added_walk *walk,
                  aq_added_span *out) {
    if (!walk->has_pending) {
        aq_added_span token;
        if (!find(t, &t->trie[which], where, text, n, walk, &token)) {
            *out = (aq_added_span){walk->done, n, -1};
            walk->done = n;
            return out->start < n;
        }
        if (walk->done >= token.start) {
            walk->done = token.end;
            *out = token;
            return 1;
        }
        walk->pending = token;
        walk->has_pending = 1;
        *out = (aq_added_span){walk->done, token.start, -1};
        return 1;
    }
    walk->has_pending = 0;
    walk->done = walk->pending.end;
    *out = walk->pending;
    return 1;
}
