/* tokenizer.h: text to ids and back: byte-level BPE as GPT-2, SmolLM, Llama 3, Aquila and others use it, and SentencePiece's BPE over characters
 * as Llama 1 and 2 use it.
 *
 * A tokenizer is immutable after it is built and may be shared by threads. Encoding is linear in the length of the text on any
 * input (pieces of equal score: n log n). Same ids as Hugging Face `tokenizers` for the same files. */
#ifndef AQ_FRONTEND_TOKENIZER_H
#define AQ_FRONTEND_TOKENIZER_H

#include "ir/arena.h"

typedef struct aq_bytes {
    const char *s;
    uint32_t n;
} aq_bytes;

/* BPE: byte-level, texts in GPT-2's printable alphabet. SPM: over characters, a space is written U+2581 in the texts of the vocabulary. */
typedef enum aq_tokenizer_kind { AQ_TOKENIZER_NONE, AQ_TOKENIZER_BPE, AQ_TOKENIZER_SPM } aq_tokenizer_kind;

/* How a text is cut into pieces that merges do not cross.
 *   GPT2    GPT-2's pattern
 *   SMOLLM  digits split one by one, then GPT-2's pattern (tokenizer.json: Sequence[Digits, ByteLevel])
 *   LLAMA3  Llama 3's pattern, AQ_LLAMA3_PATTERN
 *   WHOLE   not at all (SPM)
 *   SPACES  before every space (SPM: Metaspace with split)
 *   SPLITS  by the steps of the source, one after the other */
typedef enum aq_pretokenizer { AQ_PRE_GPT2, AQ_PRE_SMOLLM, AQ_PRE_LLAMA3, AQ_PRE_WHOLE, AQ_PRE_SPACES, AQ_PRE_SPLITS } aq_pretokenizer;

#define AQ_GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define AQ_LLAMA3_PATTERN                                                                                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* A step: what it looks for in each piece of the step before, and what becomes of matches and of what lies between, as Hugging Face's tokenizers say it.
 *   REGEX        an expression of Oniguruma (regex_read.c says which part of its language is read); TEXT: the text as it stands
 *   DIGITS       one digit; PUNCTUATION: one mark
 *   ALPHABET     nothing; steps behind it see a piece's bytes in GPT-2's printable alphabet */
typedef enum aq_split_kind { AQ_SPLIT_REGEX, AQ_SPLIT_TEXT, AQ_SPLIT_DIGITS, AQ_SPLIT_PUNCTUATION, AQ_SPLIT_ALPHABET } aq_split_kind;
typedef enum aq_behavior { AQ_ISOLATED, AQ_REMOVED, AQ_CONTIGUOUS, AQ_MERGED_WITH_PREVIOUS, AQ_MERGED_WITH_NEXT, AQ_BEHAVIORS } aq_behavior;
typedef struct aq_split {
    uint8_t kind, behavior, invert; /* invert: what lies between is the match */
    aq_bytes pattern;               /* REGEX, TEXT */
} aq_split;

/* Which stretches of text between added tokens get a space in front: those that do not begin with one; all; the one at the text's start if
 * it does not begin with one. */
typedef enum aq_prefix { AQ_PREFIX_NONE, AQ_PREFIX_UNLESS_SPACE, AQ_PREFIX_ALWAYS, AQ_PREFIX_FIRST } aq_prefix;

/* What lstrip and rstrip take: nothing, Unicode's White_Space, or what Python's str.isspace calls so (U+001C to U+001F besides). */
typedef enum aq_strip { AQ_STRIP_NONE, AQ_STRIP_SPACE, AQ_STRIP_PYTHON } aq_strip;

typedef struct aq_added_token {
    aq_bytes text; /* raw bytes, not in GPT-2's printable alphabet */
    int32_t id;
    uint8_t special, normalized, single_word;
    uint8_t lstrip, rstrip; /* an aq_strip */
    uint8_t alias;          /* stands for an id that has another text: matched, never decoded */
    uint8_t frozen;         /* SPM: a piece that SentencePiece never splits nor joins: found in what the normalizer makes, as the vocabulary writes it */
} aq_added_token;

/* What a file says of a tokenizer; strings point into memory of whoever filled it and are copied by aq_tokenizer_build. */
typedef struct aq_tokenizer_source {
    aq_tokenizer_kind kind;
    const char *place;          /* file, for messages */
    aq_pretokenizer pre;
    uint32_t n_splits;          /* SPLITS; at most AQ_SPLIT_LIMIT */
    const aq_split *splits;
    uint8_t add_prefix_space;   /* an aq_prefix */
    uint8_t normalizes;         /* SPM: prefix and U+2581 are put in before `normalized` added tokens are looked for, not after */
    uint8_t strips;             /* SPM: decoding drops a space at the very start */
    uint8_t ignore_merges;      /* a piece that is an entry of the vocabulary is that entry, whatever its merges would give */
    uint8_t fuse_unk;           /* SPM: neighbouring unknown characters become one unk */
    uint32_t n_vocab;           /* entry i of vocab is the text of id i, written as the kind says; n = 0 for holes */
    const aq_bytes *vocab;
    const float *scores;        /* SPM without merges: what two neighbours make, the highest score goes first; NULL with merges */
    const int32_t *byte_ids;    /* SPM: the ids of the 256 bytes that stand for characters the vocabulary lacks; NULL: they become unk */
    uint32_t n_merges;          /* "left right", in rank order */
    const aq_bytes *merges;
    uint32_t n_added;
    const aq_added_token *added;
    int32_t bos, eos, pad, unk; /* -1 where none */
    uint8_t add_bos, add_eos;   /* what the file's own encoder adds by default */
    uint8_t unk_bytes;          /* a byte that the vocabulary lacks becomes unk; else it is left out (as in SmolLM2, GPT-2) */
} aq_tokenizer_source;

typedef struct aq_tokenizer aq_tokenizer;

/* Copies what it needs. AQ_REFUSED: duplicate or missing entries, a merge of unknown parts, more than 2^24 entries ... */
AQ_MUST_USE aq_status aq_tokenizer_build(const aq_tokenizer_source *source, aq_tokenizer **out);
/* The same, but matched and decoded as FlagAI's own v1 tokenizer does with the data of an Aquila model; flagai.c says how that differs. */
AQ_MUST_USE aq_status aq_tokenizer_build_flagai(const aq_tokenizer_source *source, aq_tokenizer **out);
/* A byte-level tokenizer as `tokenizer.ggml.pre` of GGUF names it (patterns.c). */
typedef struct aq_named_pattern {
    const char *name;
    aq_pretokenizer pre;
    uint8_t ignore_merges, add_bos; /* what files of that name leave out */
    uint8_t n_splits;
    const aq_split *splits;
} aq_named_pattern;
const aq_named_pattern *aq_pattern_find(aq_bytes name); /* NULL: not known */
/* The name of a source's pattern and ignore_merges; NULL: none says both. */
const char *aq_pattern_name(const aq_tokenizer_source *source);
/* Sets pre to GPT2, SMOLLM or LLAMA3 where the steps of a source mean just that. */
void aq_pattern_settle(aq_tokenizer_source *source);
/* "Isolated", ... as tokenizer.json has it. */
const char *aq_behavior_name(aq_behavior behavior);
/* The entries that vocab.json has of an Aquila tokenizer that FlagAI's own code is to read: it counts special tokens on from there. 0 where it would
 * count to other ids, as for any other tokenizer. */
uint32_t aq_tokenizer_flagai_size(const aq_tokenizer_source *source);
/* From a folder (tokenizer.json, else vocab.json + merges.txt + added_tokens.json + special_tokens_map.json), or one of these files. */
AQ_MUST_USE aq_status aq_tokenizer_open(const char *path, aq_tokenizer **out);
/* The same up to the source; everything allocated in `arena`. Refused where there is no tokenizer. */
AQ_MUST_USE aq_status aq_tokenizer_source_open(aq_arena *arena, const char *path, aq_tokenizer_source *out);
/* The same up to the source, for aq_checkpoint_open; everything allocated in `arena`. kind NONE and AQ_OK if the folder has no tokenizer files. */
AQ_MUST_USE aq_status aq_tokenizer_source_read(aq_arena *arena, const char *folder, aq_tokenizer_source *out);
/* Sets byte_ids of a source to the tokens "<0x00>" to "<0xFF>" of its vocabulary: all 256, else NULL unless they are needed. */
AQ_MUST_USE aq_status aq_tokenizer_source_bytes(aq_arena *arena, aq_tokenizer_source *source, int needed);
void aq_tokenizer_close(aq_tokenizer *t);

uint32_t aq_tokenizer_size(const aq_tokenizer *t);      /* one more than the largest id */
int32_t aq_tokenizer_bos(const aq_tokenizer *t);        /* -1: none; likewise eos, pad, unk */
int32_t aq_tokenizer_eos(const aq_tokenizer *t);
int32_t aq_tokenizer_pad(const aq_tokenizer *t);
int32_t aq_tokenizer_unk(const aq_tokenizer *t);
int aq_tokenizer_adds_bos(const aq_tokenizer *t);
int aq_tokenizer_adds_eos(const aq_tokenizer *t);
/* The id whose whole text (raw bytes; added tokens first) is s, or -1. */
int32_t aq_tokenizer_find(const aq_tokenizer *t, const char *s, size_t n);
int aq_tokenizer_is_special(const aq_tokenizer *t, int32_t id);
/* The raw bytes of an id; n = 0 for a hole or an id out of range. */
aq_bytes aq_tokenizer_text(const aq_tokenizer *t, int32_t id);

/* ids of text[0..n) (any bytes). Appended to *ids (grown through aq_mem_resize; start with {0}); nothing is added at the ends.
 * match_special 0: texts of added tokens are ordinary text (for text that a user typed inside a template). */
typedef struct aq_ids {
    int32_t *at;
    size_t n, room;
} aq_ids;
/* AQ_REFUSED: a pattern of the file takes too many steps on this text. */
AQ_MUST_USE aq_status aq_tokenizer_encode(const aq_tokenizer *t, const char *text, size_t n, int match_special, aq_ids *ids);
/* The same, but the text of an added token counts only where it lies inside one of the stretches open[0..n_open), which are sorted and
 * do not touch: for a conversation, where a template may name control tokens and a user may not. */
typedef struct aq_open_text {
    size_t start, end;
} aq_open_text;
AQ_MUST_USE aq_status aq_tokenizer_encode_open(const aq_tokenizer *t, const char *text, size_t n, const aq_open_text *open,
                                               uint32_t n_open, aq_ids *ids);
AQ_MUST_USE aq_status aq_ids_push(aq_ids *ids, int32_t id);
void aq_ids_close(aq_ids *ids);

/* Streaming decode: feeds one id and gives the bytes that are certain now: an incomplete UTF-8 sequence is held back (at most 3
 * bytes), invalid bytes come out as U+FFFD exactly where Hugging Face decoders put it. *out is valid until the next call. */
typedef struct aq_decoder {
    const aq_tokenizer *tokenizer;
    int skip_special;
    int keeps_start; /* set it for a text that goes on from another: the space that SPM puts before a text's start is text then */
    int whole_runs;  /* set it to hold byte tokens back until their run ends: Hugging Face spoils a whole run for one bad byte in it; else
                      * what was complete stands */
    int has_begun;
    char held[8];
    uint8_t n_held;
    char *out, *run;
    size_t out_room, run_room, n_run;
} aq_decoder;
aq_decoder aq_decoder_open(const aq_tokenizer *t, int skip_special);
AQ_MUST_USE aq_status aq_decoder_push(aq_decoder *d, int32_t id, aq_bytes *out);
AQ_MUST_USE aq_status aq_decoder_finish(aq_decoder *d, aq_bytes *out); /* what was held back, as U+FFFD */
void aq_decoder_close(aq_decoder *d);

#endif
