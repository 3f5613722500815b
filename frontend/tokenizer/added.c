/* added.c: finds the texts of added tokens, before anything else looks at the text, as Hugging Face's AddedVocabulary does.
 *
 * Two rounds: tokens that are not `normalized` first, then the others in the stretches between, as the normalizer of SPM left them
 * (without one both see the same bytes, but the order shows). In a round the leftmost match wins, of those the longest; a match that single_word
 * rejects still uses up its text; lstrip and rstrip take white space around the match into it.
 * Cost: a trie walk from each byte that begins a token: text * longest token at worst, hence AQ_ADDED_LENGTH_LIMIT. An Aho-Corasick
 * automaton has the same worst case here (a match may be far shorter than what was read to find it), and is ten times the code. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <string.h>

static aq_status add(aq_tokenizer *t, aq_added_trie *trie, uint32_t token, const char *place) {
    aq_bytes text = t->added[token].text;
    uint32_t *link = &trie->first[(uint8_t)text.s[0]], node = 0;
    for (uint32_t i = 0; i < text.n; i++) {
        uint8_t byte = (uint8_t)text.s[i];
        while (*link && trie->nodes[*link].byte != byte)
            link = &trie->nodes[*link].sibling;
        if (!*link) {
            trie->nodes[trie->n_nodes] = (aq_added_node){.token = AQ_NO_ID, .byte = byte};
            *link = trie->n_nodes++;
        }
        node = *link;
        link = &trie->nodes[node].child;
    }
    uint32_t other = trie->nodes[node].token;
    if (other != AQ_NO_ID)
        return aq_refuse(AQ_WHY_TOKENIZER_ADDED_TWICE, place, "added token \"%.*s\" is there twice, as id %d and %d: one expected", (int)text.n, text.s,
                       t->added[other].id, t->added[token].id);
    trie->nodes[node].token = token;
    trie->n_tokens++;
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
    for (int which = 0; which < 2; which++) {
        size_t bytes = 1;
        for (uint32_t i = 0; i < t->n_added; i++)
            if (t->added[i].normalized == which)
                bytes += t->added[i].text.n;
        if (bytes >= AQ_NO_ID)
            return aq_tokenizer_refuse_size(place, "bytes of added tokens", bytes);
        aq_added_trie *trie = &t->trie[which];
        AQ_ALLOC(&t->arena, trie->nodes, bytes);
        trie->n_nodes = 1;
        for (uint32_t i = 0; i < t->n_added; i++)
            if (t->added[i].normalized == which && t->added[i].text.n)
                AQ_TRY(add(t, trie, i, place));
    }
    return AQ_OK;
}

/* The longest token at text[0..n): its index, AQ_NO_ID if there is none. */
static uint32_t match(const aq_added_trie *trie, const char *text, size_t n) {
    uint32_t best = AQ_NO_ID, node = trie->first[(uint8_t)text[0]];
    for (size_t i = 1; node; i++) {
        if (trie->nodes[node].token != AQ_NO_ID)
            best = trie->nodes[node].token;
        if (i == n)
            break;
        uint8_t byte = (uint8_t)text[i];
        node = trie->nodes[node].child;
        while (node && trie->nodes[node].byte != byte)
            node = trie->nodes[node].sibling;
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
