/* patterns.c: how byte-level tokenizers cut texts, by the names that GGUF has for it: which name means which steps (patterns.def), and back.
 *
 * Names and defaults are llama.cpp's (llama-vocab.cpp), those that models of the LLaMA architecture or published vocabularies have; the patterns are what
 * the tokenizer.json of such models says, as far as it is known: where llama.cpp changes a pattern for its own engine (it spells out (?i:) and
 * \p{Lu}, or takes [A-Z] for it), texts can be cut differently there. Falcon's steps are Hugging Face's: marks, GPT-2's pattern, and behind
 * the byte alphabet digits, three by three.
 *
 * "default", or no name, is what converters wrote before there were names: GPT-2's pattern, as the tokenizers of GPT-2 and of Aquila have it.
 * llama.cpp cuts such files in a way that no published tokenizer does (marks by themselves, digits by three), and warns that quality suffers. */
#include "frontend/tokenizer/internal.h"

#include <string.h>

#define REGEX(text)                                                                                                                                \
    { AQ_SPLIT_REGEX, AQ_ISOLATED, 0, {text, sizeof text - 1} }
#define STEP(kind, behavior)                                                                                                                       \
    { kind, behavior, 0, {NULL, 0} }

#define SHORT "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define FIRST "[^\\r\\n\\p{L}\\p{N}]?"
#define REST "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* Letters of European scripts; Chinese, as the ranges of the two DeepSeek tokenizers say it. */
#define DEEPSEEK_LETTERS \
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ" \
    "-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK" \
    "-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-" \
    "𐳲𑢠-𑣟𞤀-𞥃"
#define DEEPSEEK_CHINESE "[一-龥ࠀ-一가-퟿]+"
#define DEEPSEEK_V3 "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" REST

static const aq_split gpt2[] = {REGEX(AQ_GPT2_PATTERN)};
static const aq_split smollm[] = {STEP(AQ_SPLIT_DIGITS, AQ_ISOLATED), REGEX(AQ_GPT2_PATTERN)};
static const aq_split llama3[] = {REGEX(AQ_LLAMA3_PATTERN)};
static const aq_split qwen2[] = {REGEX(SHORT "|" FIRST "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" REST)};
static const aq_split qwen35[] = {REGEX(SHORT "|" FIRST "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" REST)};
static const aq_split tekken[] = {REGEX(FIRST UPPER "*" LOWER "+|" FIRST UPPER "+" LOWER "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" REST)};
static const aq_split gpt4o[] = {
    REGEX(FIRST UPPER "*" LOWER "+" SHORT "?|" FIRST UPPER "+" LOWER "*" SHORT "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" REST)};
static const aq_split seed_coder[] = {REGEX(SHORT "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" REST)};
static const aq_split minicpm5[] = {REGEX("\\p{N}{1,3}"), REGEX(SHORT "|" FIRST "\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" REST)};
static const aq_split bailing[] = {
    REGEX("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+")};
static const aq_split deepseek_llm[] = {REGEX("[\\r\\n]"),
                                        REGEX("\\s?[" DEEPSEEK_LETTERS "]+"),
                                        REGEX("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
                                        REGEX("\\s+$"),
                                        REGEX(DEEPSEEK_CHINESE),
                                        STEP(AQ_SPLIT_DIGITS, AQ_ISOLATED)};
static const aq_split deepseek_coder[] = {REGEX("[\\r\\n]"), REGEX("\\s?\\p{L}+"), REGEX("\\s?\\p{P}+"), REGEX(DEEPSEEK_CHINESE),
                                          STEP(AQ_SPLIT_DIGITS, AQ_ISOLATED)};
static const aq_split deepseek_v3[] = {REGEX("\\p{N}{1,3}"), REGEX("[一-龥぀-ゟ゠-ヿ]+"), REGEX(DEEPSEEK_V3)};
static const aq_split falcon[] = {STEP(AQ_SPLIT_PUNCTUATION, AQ_CONTIGUOUS), REGEX(AQ_GPT2_PATTERN), STEP(AQ_SPLIT_ALPHABET, AQ_ISOLATED),
                                  STEP(AQ_SPLIT_DIGITS, AQ_CONTIGUOUS), REGEX("[0-9][0-9][0-9]")};
static const aq_split bloom[] = {REGEX(" ?[^(\\s|[.,!?…。，、।۔،])]+")};
static const aq_split viking[] = {REGEX(" ?[^(\\s|[.,!?…。，、।۔،])]+"), STEP(AQ_SPLIT_DIGITS, AQ_ISOLATED)};

static const aq_named_pattern rows[] = {
#define PATTERN(name, pre, steps, ignore_merges, add_bos) {name, AQ_PRE_##pre, ignore_merges, add_bos, sizeof steps / sizeof *steps, steps},
#include "frontend/tokenizer/patterns.def"
#undef PATTERN
};
enum { N_ROWS = sizeof rows / sizeof *rows };

const aq_named_pattern *aq_pattern_find(aq_bytes name) {
    for (size_t k = 0; k < N_ROWS; k++)
        if (name.n == strlen(rows[k].name) && memcmp(name.s, rows[k].name, name.n) == 0)
            return &rows[k];
    return NULL;
}

/* The next character of an expression, in which \r and \n are what they stand for: files have either. */
static unsigned take_char(aq_bytes *b) {
    unsigned c = (uint8_t)b->s[0], next = b->n > 1 ? (uint8_t)b->s[1] : 0;
    uint32_t length = c == '\\' && next ? 2 : 1;
    b->s += length;
    b->n -= length;
    return length == 1 ? c : next == 'r' ? '\r' : next == 'n' ? '\n' : c << 8 | next;
}

static int same_pattern(aq_bytes a, aq_bytes b) {
    while (a.n && b.n)
        if (take_char(&a) != take_char(&b))
            return 0;
    return a.n == b.n;
}

static int same_steps(const aq_split *a, uint32_t n_a, const aq_split *b, uint32_t n_b) {
    uint32_t i = 0;
    while (n_a == n_b && i < n_a && a[i].kind == b[i].kind && a[i].behavior == b[i].behavior && a[i].invert == b[i].invert && same_pattern(a[i].pattern, b[i].pattern))
        i++;
    return n_a == n_b && i == n_a;
}

const char *aq_pattern_name(const aq_tokenizer_source *s) {
    for (size_t k = 0; k < N_ROWS; k++)
        if (rows[k].pre == s->pre && rows[k].ignore_merges == s->ignore_merges &&
            (s->pre != AQ_PRE_SPLITS || same_steps(s->splits, s->n_splits, rows[k].splits, rows[k].n_splits)))
            return rows[k].name;
    return NULL;
}

void aq_pattern_settle(aq_tokenizer_source *s) {
    for (size_t k = 0; k < N_ROWS; k++)
        if (rows[k].pre != AQ_PRE_SPLITS && same_steps(s->splits, s->n_splits, rows[k].splits, rows[k].n_splits))
            s->pre = rows[k].pre;
}

const char *aq_behavior_name(aq_behavior behavior) {
    static const char *const names[AQ_BEHAVIORS] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"};
    return names[behavior];
}
