/* internal.h: what the files of the tokenizer share; nothing outside frontend/tokenizer includes it.
 *
 *   alphabet.c     bytes <-> GPT-2's printable characters
 *   source_*.c     files -> aq_tokenizer_source (which the GGUF importer fills too)
 *   flagai.c       the same data in FlagAI's own way
 *   build.c        aq_tokenizer_source -> aq_tokenizer; build_scores.c: the merges that scores mean
 *   added.c        texts of added tokens inside a text
 *   classes.c      letters, numbers, white space; pretokenize.c: text -> pieces, by hand
 *   patterns.c     the patterns that have names; source_splits.c: the pre-tokenizer of tokenizer.json
 *   splits.c       text -> pieces by any steps; regex_read.c, regex.c: their regular expressions
 *   rows.c         the merges as rows, for the look-up of pairs
 *   chars.c        piece -> the symbols that merging starts from
 *   merge.c        piece -> ids, short pieces; merge_long.c: pieces of any length
 *   encode.c       ties the above together; encode_spm.c: where the symbols are characters
 *   decode.c       ids -> text */
#ifndef AQ_FRONTEND_TOKENIZER_INTERNAL_H
#define AQ_FRONTEND_TOKENIZER_INTERNAL_H

#include "frontend/tokenizer/tokenizer.h"

#define AQ_NO_RANK UINT32_MAX
#define AQ_NO_ID UINT32_MAX
#define AQ_TOKENIZER_LIMIT (1u << 20) /* ids, merges: twice the largest known; each takes up to 100 bytes, of a file's 4 */
#define AQ_ADDED_LIMIT (1u << 18)     /* added tokens */
/* Ids may leave holes, but a file of a few bytes must not ask for tables of gigabytes. */
#define AQ_ID_LIMIT(entries) ((entries) < (AQ_TOKENIZER_LIMIT - 1024) / 2 ? (entries) * 2 + 1024 : AQ_TOKENIZER_LIMIT)
#define AQ_ADDED_LENGTH_LIMIT 4096u   /* bytes of an added token: matching costs text * longest token at worst */
#define AQ_PATTERN_LIMIT 4096u        /* bytes of a regular expression */
#define AQ_SPLIT_LIMIT 32u            /* steps of a pre-tokenizer */
#define AQ_REGEX_FREE (1ull << 24)    /* steps of its expressions on a text that are free, half a second or so; */
#define AQ_REGEX_STEPS 256u           /* and those for each byte */
#define AQ_SHORT_PIECE 64u            /* symbols; longer pieces go to merge_long.c */
#define AQ_SHORT_BYTES 192u           /* of a piece that is tried as a whole, and whose symbols lie on the stack */

/* ---- alphabet.c ---- */
/* Maps text in the printable alphabet to raw bytes: returns how many were written to out (room for n), or -1 if a character has no
 * byte (out is then undefined), or -2 if text is no UTF-8. */
int64_t aq_alphabet_to_bytes(const char *text, size_t n, char *out);
/* The printable character of a byte as UTF-8: 1 or 2 bytes into out; returns the count. */
int aq_alphabet_of_byte(uint8_t byte, char out[2]);

/* SentencePiece's way: U+2581 is a space. Writes to out (room for n) and returns how much; -2 if the text is no UTF-8. *has_space: it
 * holds a space as it stands. */
int64_t aq_marks_to_spaces(const char *text, size_t n, char *out, int *has_space);

/* ---- utf8.c ---- */
/* Decodes the character at s[0..n), n > 0: returns its length and *out; or 0 if it is invalid or cut off (surrogates and overlong
 * forms are invalid). */
int aq_utf8_decode(const char *s, size_t n, uint32_t *out);
size_t aq_utf8_put(uint32_t c, char out[4]); /* returns the length */
/* For s[0..n) that does not decode: the length of the maximal subpart that one U+FFFD stands for (Unicode 3.9, as the WHATWG decoder
 * and Rust's from_utf8_lossy); *out_incomplete says that more bytes could still make it a character. */
int aq_utf8_bad_length(const char *s, size_t n, int *out_incomplete);

/* ---- classes.c ---- */
typedef enum aq_class { AQ_CLASS_OTHER, AQ_CLASS_LETTER, AQ_CLASS_NUMBER, AQ_CLASS_SPACE } aq_class;
aq_class aq_class_of(aq_pretokenizer pre, uint32_t code_point);
int aq_class_is_space(uint32_t code_point); /* \s: the property White_Space */
int aq_class_is_word(uint32_t code_point); /* \w of single_word */
/* The rows of younger.def. */
typedef struct aq_younger {
    uint32_t first, last;
    char category[3];
} aq_younger;
extern const aq_younger aq_younger_characters[];
extern const size_t aq_n_younger;

/* ---- the tokenizer ---- */
enum { AQ_TOKEN_ADDED = 1, AQ_TOKEN_SPECIAL = 2, AQ_TOKEN_BYTE = 4 /* one byte of a character, SPM */ };
/* Whether BPE of a token's own text gives the token: found out on first use, the same answer whoever asks, hence atomic. */
enum { AQ_WHOLE_UNKNOWN, AQ_WHOLE_YES, AQ_WHOLE_NO };

typedef struct aq_merge_slot {
    uint32_t left, right, rank, id; /* rank AQ_NO_RANK: empty */
} aq_merge_slot;

/* rows.c: the pair (left, right) is rows[parts[left].row + parts[right].column]. */
typedef struct aq_row_slot {
    uint32_t left, rank; /* left: whose entry it is, AQ_NO_ID: nobody's; rank: then AQ_NO_RANK */
} aq_row_slot;
typedef struct aq_part {
    uint32_t row, column; /* 0, 0: no part of a merge */
} aq_part;
typedef struct aq_merged {
    uint32_t id;
    aq_part part;
} aq_merged;
#define AQ_ROW_HASHED UINT32_MAX /* the row of an id whose merges stand only in the hash table */

typedef struct aq_piece_slot {
    uint32_t hash, id; /* id AQ_NO_ID: empty */
} aq_piece_slot;

/* A trie of added tokens: the children of a node stand side by side, by their bytes. */
typedef struct aq_added_node {
    uint32_t child, token; /* child: the first; token: index into added, AQ_NO_ID if no token ends here */
    uint16_t n;            /* children */
    uint8_t byte;
} aq_added_node;
typedef struct aq_added_trie {
    aq_added_node *nodes; /* node 0 is the root; its children are found by first */
    uint32_t n_tokens;
    uint32_t first[256];
} aq_added_trie;

typedef struct aq_step {
    uint8_t kind, behavior, invert, by_hand;
    aq_pretokenizer pre; /* by_hand: GPT2 or LLAMA3 */
    void *regex;         /* of PCRE2 */
} aq_step;

struct aq_tokenizer {
    aq_arena arena;
    const char *place; /* for messages about steps */
    aq_step *steps;    /* SPLITS */
    uint32_t n_steps;
    aq_tokenizer_kind kind;
    aq_pretokenizer pre;
    const uint8_t *classes; /* of the first 65536 characters, two bits each; NULL for SPM */
    int ignore_merges;
    uint32_t longest; /* bytes of a text of the vocabulary */
    int add_prefix_space, normalizes, strips, fuse_unk;
    uint32_t size;
    aq_bytes *text;  /* [size] raw bytes */
    uint8_t *flags;  /* [size] */
    uint8_t *whole;  /* [size] */
    aq_piece_slot *pieces;
    uint32_t piece_mask;
    uint64_t *piece_filter; /* 4 bits a slot of pieces: fits the second-level cache, and answers 9 of 10 questions whose answer is no */
    aq_merge_slot *merges;
    uint32_t merge_mask, n_ranks;
    uint32_t n_pairs;  /* what was put into merges, at most */
    aq_part *parts;    /* [size] */
    aq_row_slot *rows;
    aq_merged *made; /* [n_ranks] rank_id with its part, for one read after the other */
    int has_hashed;    /* some pairs stand in no row */
    uint32_t *rank_id; /* [n_ranks] what the merge of that rank makes; AQ_NO_ID: several things, the pair says which */
    int has_ties;      /* there are such ranks */
    int from_scores;
    int cuts_words;    /* SPM: no merge makes a text with a space behind another character, so pieces may end there */
    uint32_t byte_id[256]; /* AQ_NO_ID: the vocabulary has no such byte */
    uint32_t *chars; /* [65536] of characters */
    int starts_from_chars;
    aq_added_token *added;
    uint32_t n_added;
    aq_added_trie trie[2]; /* 0: matched first, in the text as it is; 1: after normalisation (which is none here) */
    int32_t bos, eos, pad, unk;
    int add_bos, add_eos, unk_bytes;
};

const uint8_t *aq_classes(void); /* of the first 65536 characters, two bits each: what aq_class_of gives for any pre-tokenizer */

/* ---- pretokenize.c ---- */
/* The end of the piece that begins at `at` < n. The text is a whole segment: nothing outside it is seen. pre: GPT2, SMOLLM (then t's too) or LLAMA3. */
size_t aq_pretokenize_next(aq_pretokenizer pre, const aq_tokenizer *t, const char *text, size_t n, size_t at);

/* ---- regex_read.c ---- */
/* An expression of Oniguruma as one of PCRE2, in the arena. Refused, with its place, where the two could differ. */
AQ_MUST_USE aq_status aq_regex_read(aq_arena *arena, const char *place, aq_bytes pattern, aq_bytes *out);

/* ---- regex.c ---- */
/* *out: compiled, of `text` that aq_regex_read made of `pattern`. */
AQ_MUST_USE aq_status aq_regex_open(const char *place, aq_bytes pattern, aq_bytes text, void **out);
void aq_regex_close(void *regex); /* NULL is fine */
/* What matching needs, for all texts of one encode call. Start with {0}. */
typedef struct aq_regex_work {
    void *data, *context; /* of PCRE2 */
    uint64_t steps, most;
    size_t start, last; /* where the match begins, and was at the last step */
} aq_regex_work;
AQ_MUST_USE aq_status aq_regex_begin(aq_regex_work *w, size_t n); /* a text of n bytes more */
void aq_regex_end(aq_regex_work *w);
/* The first match in s[0..n), UTF-8, that begins at *start or behind it, a character's first byte: sets *start, *end. AQ_REFUSED: too many steps. */
AQ_MUST_USE aq_status aq_regex_find(const void *regex, const char *place, aq_regex_work *w, const char *s, size_t n, size_t *start, size_t *end,
                                    int *found);

/* ---- splits.c ---- */
AQ_MUST_USE aq_status aq_splits_build(aq_tokenizer *t, const aq_tokenizer_source *s);
void aq_splits_close(aq_tokenizer *t);
/* Gives the pieces of text[0..n) in order, in raw bytes. */
typedef aq_status aq_piece_taker(void *taker, const char *s, size_t n);
AQ_MUST_USE aq_status aq_splits_run(const aq_tokenizer *t, aq_regex_work *work, const char *text, size_t n, aq_piece_taker *take, void *taker);

uint32_t aq_piece_hash(const char *s, size_t n);
/* The bit of piece_filter; its high bits: slots are found by the low ones. */
static inline uint32_t aq_piece_bit(const aq_tokenizer *t, uint32_t hash) {
    return (hash >> 16 | hash << 16) & (t->piece_mask << 2 | 3);
}
/* So many of `what` are too many, or none where some are needed. */
aq_status aq_tokenizer_refuse_size(const char *place, const char *what, size_t n);
/* A space in front of each piece that a step made. */
aq_status aq_tokenizer_refuse_prefix(const char *place);
/* A table would be slow, because its entries were made so. */
aq_status aq_tokenizer_refuse_collisions(const char *place, const char *what);
/* The id whose text in the vocabulary is s, or AQ_NO_ID. */
uint32_t aq_piece_find(const aq_tokenizer *t, uint32_t hash, const char *s, size_t n);
static inline uint64_t aq_merge_hash(uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}
/* The slot of the pair, or the empty slot where it would go. */
aq_merge_slot *aq_merge_find(const aq_tokenizer *t, uint64_t hash, uint32_t left, uint32_t right);
static inline aq_part aq_part_of(const aq_tokenizer *t, uint32_t symbol) {
    return symbol < t->size ? t->parts[symbol] : (aq_part){t->has_hashed ? AQ_ROW_HASHED : 0, 0};
}
/* The rank of the pair, AQ_NO_RANK if it does not merge; a and b are the parts of left and right. */
static inline uint32_t aq_pair_rank(const aq_tokenizer *t, uint32_t left, aq_part a, uint32_t right, aq_part b) {
    if (t->has_hashed && (a.row == AQ_ROW_HASHED || right >= t->size))
        return aq_merge_find(t, aq_merge_hash(left, right), left, right)->rank;
    aq_row_slot slot = t->rows[a.row + b.column];
    return slot.left == left ? slot.rank : AQ_NO_RANK;
}
static inline uint32_t aq_merge_rank(const aq_tokenizer *t, uint32_t left, uint32_t right) {
    return aq_pair_rank(t, left, aq_part_of(t, left), right, aq_part_of(t, right));
}

/* Reserves the tables for so many merges, then takes them one by one; build_scores.c. */
AQ_MUST_USE aq_status aq_merges_open(aq_tokenizer *t, uint32_t merges, uint32_t ranks);
AQ_MUST_USE aq_status aq_merges_put(aq_tokenizer *t, const char *place, aq_merge_slot merge);
AQ_MUST_USE aq_status aq_merges_of_scores(aq_tokenizer *t, const aq_tokenizer_source *s);
/* rows.c; after the merges. looks: at slots, a merge, in all; 3 to 22 are needed of the vocabularies in use. */
#define AQ_ROW_LOOKS 64u
AQ_MUST_USE aq_status aq_rows_build(aq_tokenizer *t, uint32_t looks);

/* ---- chars.c ---- */
/* An entry of chars: the id of a character of which merging may start, AQ_CHAR_NONE if there is none; and whether it can stand at the seam
 * of a merge that takes a part of a character. */
#define AQ_CHAR_NONE 0x00FFFFFFu
#define AQ_CHAR_LEFT 0x01000000u
#define AQ_CHAR_RIGHT 0x02000000u
AQ_MUST_USE aq_status aq_chars_build(aq_tokenizer *t); /* after the merges */
size_t aq_byte_symbols(const aq_tokenizer *t, const char *piece, size_t n, uint32_t *ids); /* room for n; likewise: */
size_t aq_char_symbols(const aq_tokenizer *t, const char *piece, size_t n, uint32_t *ids);

/* ---- added.c ---- */
AQ_MUST_USE aq_status aq_added_build(aq_tokenizer *t, const char *place);
/* One stretch of a text: an added token (id >= 0) or text between (id -1). */
typedef struct aq_added_span {
    size_t start, end;
    int32_t id;
} aq_added_span;
/* Walks text[0..n) by the tokens of trie[which]; start with {0}; returns 0 when there are no more spans. */
typedef struct aq_added_walk {
    size_t from, done;     /* where to look next; up to where spans were given */
    aq_added_span pending; /* the token after the stretch of text just given */
    int has_pending;
    uint32_t open; /* the stretch that `from` is in or before */
} aq_added_walk;
/* Where tokens may be found: stretches of the text that begins at base. */
typedef struct aq_added_where {
    const char *base;
    const aq_open_text *open;
    uint32_t n_open;
} aq_added_where;
int aq_added_next(const aq_tokenizer *t, int which, const aq_added_where *where, const char *text, size_t n, aq_added_walk *walk,
                  aq_added_span *out);

/* The id of the added token whose text is all of text[0..n), n > 0; -1 if there is none. */
int32_t aq_added_find(const aq_tokenizer *t, int which, const char *text, size_t n);

/* ---- encode_spm.c: a symbol is an id; or, from scores, a character that the vocabulary lacks (merges may still take it in) or a byte
 * that is no UTF-8 ---- */
#define AQ_SYMBOL_CHARACTER 0x80000000u
#define AQ_SYMBOL_BYTE 0xC0000000u
/* The symbol of the character at s[0..n), n > 0; returns its length. */
size_t aq_spm_symbol(const aq_tokenizer *t, const char *s, size_t n, uint32_t *out);
size_t aq_spm_symbols(const aq_tokenizer *t, const char *piece, size_t n, uint32_t *ids); /* room for n */
AQ_MUST_USE aq_status aq_spm_append(const aq_tokenizer *t, const uint32_t *ids, size_t n, aq_ids *out);
/* A copy of text with spaces for U+2581, and one in front if prefix; free with aq_mem_free. *where becomes what `in` is for the copy, its
 * stretches at the end of the copy's block. */
AQ_MUST_USE aq_status aq_spm_normalize(const char *text, size_t n, int prefix, const aq_added_where *in, char **out, size_t *out_n,
                                       aq_added_where *where);
size_t aq_spm_copy(const char *text, size_t n, char *out); /* spaces for U+2581; returns the length */
int aq_spm_has_mark(const char *text, size_t n);
size_t aq_spm_next(const aq_tokenizer *t, const char *text, size_t n, size_t at);

/* ---- merge.c, merge_long.c ---- */
/* Scratch memory of one encode call. Start with {0}. */
typedef struct aq_merge_work {
    uint32_t *ids; /* symbols of the piece at hand, then its ids */
    size_t room;
    void *ranks, *symbols; /* of merge_long.c: queues by rank; the piece */
    size_t ranks_size, symbols_size;
    void *heap; /* of merge_long.c: pairs of ranks that make several things */
    size_t heap_room;
    aq_regex_work regex;
} aq_merge_work;
void aq_merge_work_close(aq_merge_work *w);
/* Merges ids[0..n) in place by rank, then by position; returns what is left. n <= AQ_SHORT_PIECE. */
size_t aq_merge_short(const aq_tokenizer *t, uint32_t *ids, size_t n);
AQ_MUST_USE aq_status aq_merge_long(const aq_tokenizer *t, aq_merge_work *w, uint32_t *ids, size_t n, size_t *out_n);

/* ---- source_json.c, source_parts.c, source_special.c, source_files.c ---- */
struct cJSON;
/* Entries by the hash of their texts: 1 + index, 0 where there is none. size: a power of two, or 0; used: how many are in it. */
typedef struct aq_text_index {
    uint32_t *slots, size, used;
} aq_text_index;

/* What reading the files of a tokenizer gathers; strings are in the arena. */
typedef struct aq_source_reader {
    aq_arena *arena;
    const char *place; /* the file at hand */
    aq_tokenizer_source *out;
    AQ_VEC(aq_added_token) added;
    aq_text_index by_added, by_vocab; /* of aq_source_find */
} aq_source_reader;

/* Parses text[0..n) whole; free with cJSON_Delete. Refuses what cJSON would misread (\u0000 ends its strings). */
AQ_MUST_USE aq_status aq_tokenizer_json(const char *place, const char *text, size_t n, struct cJSON **out);
AQ_MUST_USE aq_status aq_json_copy(aq_arena *arena, const char *s, aq_bytes *out);
/* *out is 0 or 1; `missing` if there is no such key. */
AQ_MUST_USE aq_status aq_json_flag(const char *place, const struct cJSON *object, const char *key, int missing, uint8_t *out);
/* An integer 0 <= x < limit. */
AQ_MUST_USE aq_status aq_json_index(const char *place, const char *what, const struct cJSON *item, uint32_t limit, uint32_t *out);
/* An object {text: id}: fills out->vocab. */
AQ_MUST_USE aq_status aq_source_vocab(aq_source_reader *r, const struct cJSON *object);
/* Adds a token, or brings the flags of one with the same text up to date. */
AQ_MUST_USE aq_status aq_source_add(aq_source_reader *r, aq_added_token token);
/* The id of a text among added tokens and vocabulary, -1 if it has none. */
AQ_MUST_USE aq_status aq_source_find(aq_source_reader *r, aq_bytes text, int32_t *out);

/* ---- flagai.c ---- */
/* special_tokens_map.json as FlagAI publishes it, without ids: sets the roles, and with is_slow adds the tokens that FlagAI's code counts out if no
 * file has numbered them; does nothing for another map. */
AQ_MUST_USE aq_status aq_source_flagai_map(aq_source_reader *r, const struct cJSON *map, int is_slow);

/* ---- source_parts.c: null means absent all over tokenizer.json ---- */
const struct cJSON *aq_source_get(const struct cJSON *object, const char *key);
int aq_source_is(const struct cJSON *object, const char *type); /* its "type" */
AQ_MUST_USE aq_status aq_source_unsupported(const aq_source_reader *r, const char *part, const struct cJSON *object, const char *expected);
/* The steps of the document: sets kind, pre, prefix, normalizes, strips. */
AQ_MUST_USE aq_status aq_source_parts(aq_source_reader *r, const struct cJSON *root);

/* ---- source_splits.c ---- */
/* The pre-tokenizer of byte-level BPE: a part, or a Sequence of them. */
AQ_MUST_USE aq_status aq_source_splits(aq_source_reader *r, const struct cJSON *p);
const struct cJSON *aq_source_first(const struct cJSON *part, const char *key, int *list); /* of a part that may be a Sequence; source_parts.c */

/* The document tokenizer.json, or merges.txt: the parts that the fuzzers feed. */
AQ_MUST_USE aq_status aq_source_parse_json(aq_source_reader *r, const char *text, size_t n);
AQ_MUST_USE aq_status aq_source_parse_vocab(aq_source_reader *r, const char *text, size_t n);
AQ_MUST_USE aq_status aq_source_parse_merges(aq_source_reader *r, const char *text, size_t n);
AQ_MUST_USE aq_status aq_source_parse_model(aq_source_reader *r, const char *text, size_t n); /* tokenizer.model */
AQ_MUST_USE aq_status aq_source_parse_added(aq_source_reader *r, const char *text, size_t n);
/* special_tokens_map.json and tokenizer_config.json; with is_slow, the tokens they name become added tokens. */
AQ_MUST_USE aq_status aq_source_parse_special(aq_source_reader *r, const char *text, size_t n, int is_slow);

#endif
