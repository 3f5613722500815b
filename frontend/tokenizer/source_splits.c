/* source_splits.c: the pre-tokenizer of byte-level BPE in tokenizer.json: ByteLevel, or a Sequence with it: Split, Digits, Punctuation before it, which see
 * the text, or behind it, which see GPT-2's printable alphabet. ByteLevel's own regular expression is a step like others. Steps that mean
 * GPT-2's, SmolLM's or Llama 3's pattern become that kind (aq_pattern_settle). Other parts are refused by their name. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <cjson/cJSON.h>
#include <string.h>

typedef struct steps {
    aq_source_reader *r;
    aq_split at[AQ_SPLIT_LIMIT + 1];
    uint32_t n;
    int has_byte_level;
} steps;

static aq_status add(steps *s, aq_split_kind kind, aq_behavior behavior, uint8_t invert, const char *pattern) {
    aq_split *split = &s->at[s->n < AQ_SPLIT_LIMIT ? s->n : AQ_SPLIT_LIMIT]; /* one too many: refused by aq_splits_build */
    s->n += s->n <= AQ_SPLIT_LIMIT;
    *split = (aq_split){.kind = (uint8_t)kind, .behavior = (uint8_t)behavior, .invert = invert};
    return pattern ? aq_json_copy(s->r->arena, pattern, &split->pattern) : AQ_OK;
}

static aq_behavior behavior_of(const cJSON *p) {
    const char *name = cJSON_GetStringValue(aq_source_get(p, "behavior"));
    int k = 0;
    while (k < AQ_BEHAVIORS && !(name && strcmp(name, aq_behavior_name((aq_behavior)k)) == 0))
        k++;
    return (aq_behavior)k;
}

static aq_status read_split(steps *s, const cJSON *p) {
    const cJSON *pattern = aq_source_get(p, "pattern");
    const char *regex = cJSON_GetStringValue(aq_source_get(pattern, "Regex")), *text = cJSON_GetStringValue(aq_source_get(pattern, "String"));
    aq_behavior behavior = behavior_of(p);
    uint8_t invert;
    AQ_TRY(aq_json_flag(s->r->place, p, "invert", 0, &invert));
    if (!regex == !text || behavior == AQ_BEHAVIORS)
        return aq_refuse(AQ_WHY_TOKENIZER_SPLIT, s->r->place, "pre_tokenizer \"Split\": a pattern {\"Regex\" or \"String\": text} and the behavior Isolated, Removed, "
                                                             "Contiguous, MergedWithPrevious or MergedWithNext expected");
    return add(s, regex ? AQ_SPLIT_REGEX : AQ_SPLIT_TEXT, behavior, invert, regex ? regex : text);
}

static aq_status read_digits(steps *s, const cJSON *p) {
    uint8_t individual;
    AQ_TRY(aq_json_flag(s->r->place, p, "individual_digits", 0, &individual));
    return add(s, AQ_SPLIT_DIGITS, individual ? AQ_ISOLATED : AQ_CONTIGUOUS, 0, NULL);
}

static aq_status read_punctuation(steps *s, const cJSON *p) {
    aq_behavior behavior = aq_source_get(p, "behavior") ? behavior_of(p) : AQ_ISOLATED;
    if (behavior == AQ_BEHAVIORS)
        return aq_source_unsupported(s->r, "a behavior of pre_tokenizer", p, "Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext");
    return add(s, AQ_SPLIT_PUNCTUATION, behavior, 0, NULL);
}

static aq_status read_byte_level(steps *s, const cJSON *p, int more) {
    uint8_t use_regex, prefix;
    AQ_TRY(aq_json_flag(s->r->place, p, "use_regex", 1, &use_regex));
    AQ_TRY(aq_json_flag(s->r->place, p, "add_prefix_space", 1, &prefix));
    if (prefix && s->n)
        return aq_tokenizer_refuse_prefix(s->r->place);
    s->r->out->add_prefix_space = prefix;
    s->has_byte_level = 1;
    if (use_regex)
        AQ_TRY(add(s, AQ_SPLIT_REGEX, AQ_ISOLATED, 0, AQ_GPT2_PATTERN));
    return more ? add(s, AQ_SPLIT_ALPHABET, AQ_ISOLATED, 0, NULL) : AQ_OK;
}

aq_status aq_source_splits(aq_source_reader *r, const cJSON *p) {
    static const char expected[] = "ByteLevel, a Sequence of Split, Digits, Punctuation and ByteLevel, or Metaspace";
    int list;
    steps s = {.r = r};
    for (const cJSON *part = aq_source_first(p, "pretokenizers", &list); part; part = list ? part->next : NULL) {
        if (aq_source_is(part, "ByteLevel") && !s.has_byte_level)
            AQ_TRY(read_byte_level(&s, part, list && part->next));
        else if (aq_source_is(part, "Split"))
            AQ_TRY(read_split(&s, part));
        else if (aq_source_is(part, "Digits"))
            AQ_TRY(read_digits(&s, part));
        else if (aq_source_is(part, "Punctuation"))
            AQ_TRY(read_punctuation(&s, part));
        else
            return aq_source_unsupported(r, "pre_tokenizer", part, expected);
    }
    if (!s.has_byte_level)
        return aq_source_unsupported(r, "pre_tokenizer", p, expected);
    aq_split *splits;
    AQ_ALLOC(r->arena, splits, s.n);
    memcpy(splits, s.at, s.n * sizeof *splits);
    r->out->splits = splits;
    r->out->n_splits = s.n;
    r->out->pre = AQ_PRE_SPLITS;
    aq_pattern_settle(r->out);
    return AQ_OK;
}
