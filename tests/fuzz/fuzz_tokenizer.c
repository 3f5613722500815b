/* fuzz_tokenizer.c: the files of a tokenizer are hostile, and so is the text. The input is a letter and sections with a zero byte between:
 *   j: tokenizer.json, special_tokens_map.json, text    s: vocab.json, merges.txt, added_tokens.json, special_tokens_map.json, text
 *   m: two bytes of length, that much of tokenizer.model, text (which hold zero bytes themselves)
 * What builds must encode any text, the same by short and long merges, and decode it the same in one go and streamed; unless a regular expression of
 * the file takes too many steps. The pieces of a pre-tokenizer that removes nothing are the text. */
#include "frontend/tokenizer/internal.h"
#include "ir/memory.h"
#include "tests/fuzz/mutate_protobuf.h"
#include "tests/fuzz/sections.h"


static aq_status read_files(aq_source_reader *r, const char **at, const char *end, int is_slow) {
    aq_bytes first = next_section(at, end), second = next_section(at, end);
    if (!is_slow) {
        AQ_TRY(aq_source_parse_json(r, first.s, first.n));
        return second.n ? aq_source_parse_special(r, second.s, second.n, 0) : AQ_OK;
    }
    aq_bytes added = next_section(at, end), special = next_section(at, end);
    AQ_TRY(aq_source_parse_vocab(r, first.s, first.n));
    AQ_TRY(aq_source_parse_merges(r, second.s, second.n));
    if (added.n)
        AQ_TRY(aq_source_parse_added(r, added.s, added.n));
    return special.n ? aq_source_parse_special(r, special.s, special.n, 1) : AQ_OK;
}

static aq_status read_model(aq_source_reader *r, const char **at, const char *end) {
    if (end - *at < 2)
        return aq_fail(AQ_REFUSED, "fuzz", "too short");
    size_t n = (size_t)(uint8_t)(*at)[0] | (size_t)(uint8_t)(*at)[1] << 8;
    const char *model = *at + 2;
    n = n < (size_t)(end - model) ? n : (size_t)(end - model);
    *at = model + n;
    return aq_source_parse_model(r, model, n);
}

static void compare_merges(const aq_tokenizer *t, aq_bytes text) {
    uint32_t a[AQ_SHORT_PIECE], b[AQ_SHORT_PIECE];
    size_t n = 0, n_long;
    for (uint32_t i = 0; i < text.n && n < AQ_SHORT_PIECE; i++)
        if (t->byte_id[(uint8_t)text.s[i]] != AQ_NO_ID)
            a[n++] = t->byte_id[(uint8_t)text.s[i]];
    if (!n)
        return;
    memcpy(b, a, n * sizeof *a);
    aq_merge_work w = {0};
    need(aq_merge_long(t, &w, b, n, &n_long) == AQ_OK);
    n = aq_merge_short(t, a, n);
    need(n == n_long && memcmp(a, b, n * sizeof *a) == 0);
    aq_merge_work_close(&w);
}

/* Streamed, the text must be that of all bytes at once: one push of them through a token of the text itself is not at hand, so the
 * bytes are joined and decoded by hand. */
static void check_decode(const aq_tokenizer *t, const aq_ids *ids, int compare) {
    aq_decoder d = aq_decoder_open(t, 0);
    aq_bytes part;
    size_t n = 0, n_all = 0, at = 0;
    for (size_t i = 0; i < ids->n; i++)
        n_all += aq_tokenizer_text(t, ids->at[i]).n;
    char *all = malloc(n_all + 1), *out = malloc(n_all * 3 + 1);
    need(all && out);
    for (size_t i = 0, done = 0; i <= ids->n; i++) {
        aq_bytes raw = i < ids->n ? aq_tokenizer_text(t, ids->at[i]) : (aq_bytes){"", 0};
        memcpy(all + done, raw.n ? raw.s : "", raw.n);
        done += raw.n;
        need((i < ids->n ? aq_decoder_push(&d, ids->at[i], &part) : aq_decoder_finish(&d, &part)) == AQ_OK);
        need(n + part.n <= n_all * 3 && d.n_held <= 3);
        memcpy(out + n, part.s, part.n);
        n += part.n;
    }
    for (size_t k = 0; compare && k < n_all;) {
        uint32_t c;
        int incomplete, length = aq_utf8_decode(all + k, n_all - k, &c);
        need(length ? memcmp(out + at, all + k, (size_t)length) == 0 : memcmp(out + at, "\xEF\xBF\xBD", 3) == 0);
        at += length ? (size_t)length : 3;
        k += length ? (size_t)length : (size_t)aq_utf8_bad_length(all + k, n_all - k, &incomplete);
    }
    need(!compare || at == n);
    free(all);
    free(out);
    aq_decoder_close(&d);
}

static aq_status add_length(void *sum, const char *s, size_t n) {
    need(s && n);
    *(size_t *)sum += n;
    return AQ_OK;
}

/* Whether the text can be split within the bound on steps. */
static int check_pieces(const aq_tokenizer *t, aq_bytes text) {
    aq_regex_work work = {0};
    size_t sum = 0;
    int removes = 0;
    for (uint32_t i = 0; i < t->n_steps; i++)
        removes |= t->steps[i].behavior == AQ_REMOVED;
    aq_status status = t->pre == AQ_PRE_SPLITS ? aq_splits_run(t, &work, text.s, text.n, add_length, &sum) : AQ_REFUSED;
    aq_regex_end(&work);
    need(status == AQ_OK || status == AQ_REFUSED);
    need(status != AQ_OK || (removes ? sum <= text.n : sum == text.n));
    return status == AQ_OK || t->pre != AQ_PRE_SPLITS;
}

/* tokenizer.model by its fields, the two bytes of its length mended; or the text behind it. */
static size_t mutate_model(edit *e) {
    enum { AT = 3 };
    size_t n = (size_t)get_bytes(e, 1, 2);
    if (e->n < AT || n > e->n - AT || roll(e, 8) == 0) {
        mutate_part(e, e->n < AT ? 0 : AT, e->n);
        return e->n;
    }
    size_t behind = e->n - AT - n;
    if (behind && roll(e, 6) == 0)
        mutate_part(e, AT + n, e->n);
    else
        for (size_t times = 1 + roll(e, 3); times--;)
            mutate_fields(e, AT, e->n - behind, 0);
    n = e->n >= AT + behind ? e->n - AT - behind : 0;
    set_bytes(e, 1, &n, 2);
    return e->n;
}

/* One section by its tokens; the zero bytes between sections stay, mostly. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    static const char *const words[] = {
        "\"content\": \"a\"", "\"special\": true", "\"lstrip\": true", "\"rstrip\": true", "\"single_word\": true", "\"normalized\": true", "\"unk_token\": \"a\"",
        "\"fuse_unk\": true", "\"byte_fallback\": true", "\"add_prefix_space\": true", "\"type\": \"ByteLevel\"", "\"type\": \"Sequence\"", "\"type\": \"Metaspace\"",
        "\"type\": \"Digits\"", "\"type\": \"Split\"", "\"type\": \"TemplateProcessing\"", "\"individual_digits\": true", "\"type\": \"Punctuation\"", "\"use_regex\": false", "\"behavior\": \"Contiguous\"", "\"behavior\": \"MergedWithNext\"",
        "\"pattern\": {\"Regex\": \"a|b+\"}", "\\\\p{L}", "\\\\P{N}", "\\\\s", "\\\\S", "\\\\d", "(?:", "(?i:", "(?>", "(?=", "(?!", "(?<=", "(?<!", ")", "|", "?", "*", "+", "*?", "++", "{1,3}", "[^", "a-b", "$", "^", "\"bos_token\": \"a\"", "\"a\": 0, \"b\": 1, \"ab\": 2",
        "[\"a\", \"b\"]", "\"a b\"", "\n", "\304\240", "\342\226\201", "\"<0x41>\"", "null", "true", "false", "{", "}", "[", "]", ",", ":", NULL};
    edit e = edit_open(data, size, max_size, seed);
    size_t from[8] = {1}, n = 1;
    for (size_t i = 1; i < size && n < 8; i++)
        if (data[i] == 0)
            from[n++] = i + 1;
    if (size < 2 || roll(&e, 12) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    if (data[0] == 'm')
        return mutate_model(&e);
    size_t k = roll(&e, n), to = k + 1 < n ? from[k + 1] - 1 : size;
    if (to > from[k])
        mutate_text(&e, from[k], to, words);
    else
        splice(&e, to, 0, "{}", 2);
    return e.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1)
        return 0;
    const char *at = (const char *)data + 1, *end = (const char *)data + size;
    aq_arena arena = {0};
    aq_tokenizer_source source = {.kind = AQ_TOKENIZER_BPE, .place = "fuzz", .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    aq_source_reader r = {.arena = &arena, .place = "fuzz", .out = &source};
    aq_tokenizer *t = NULL;
    aq_status status = data[0] == 'm' ? read_model(&r, &at, end) : read_files(&r, &at, end, data[0] == 's');
    source.added = r.added.at;
    source.n_added = r.added.n;
    if (status == AQ_OK && aq_tokenizer_build(&source, &t) == AQ_OK) {
        aq_bytes text = {at, (uint32_t)(end - at)};
        int can_split = check_pieces(t, text);
        for (int match = 0; match < 2 && can_split; match++) {
            aq_ids ids = {0};
            aq_status encoded = aq_tokenizer_encode(t, text.s, text.n, match, &ids); /* a part of the text may take more steps than all of it */
            need(encoded == AQ_OK || (encoded == AQ_REFUSED && t->pre == AQ_PRE_SPLITS));
            for (size_t i = 0; i < ids.n; i++)
                need(ids.at[i] >= 0 && (uint32_t)ids.at[i] < aq_tokenizer_size(t));
            check_decode(t, &ids, t->kind == AQ_TOKENIZER_BPE); /* SentencePiece's decoder takes the first space away */
            aq_ids_close(&ids);
        }
        if (t->kind == AQ_TOKENIZER_BPE)
            compare_merges(t, text);
        aq_tokenizer_close(t);
    }
    aq_arena_close(&arena);
    need(aq_mem_open_blocks() == 0);
    return 0;
}
