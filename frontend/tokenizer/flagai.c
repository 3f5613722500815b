/* flagai.c: FlagAI's own tokenizer for Aquila, version 1: the same vocabulary and merges as the Hugging Face form, other texts around them.
 *
 * Two things live here. (1) A folder as FlagAI publishes it names no ids: its special_tokens_map.json has "cls_token" and "sep_token", and FlagAI's
 * code counts on from the vocabulary; aq_source_flagai_map does so, and the folder then reads as the Hugging Face form does. convert writes that
 * map where aq_tokenizer_flagai_size says that FlagAI's code would count to the same ids.
 * (2) aq_tokenizer_build_flagai (`--tokenizer flagai-v1`) matches and decodes as that code does:
 *
 *   matched    ten texts, white space on both sides goes with them; [UNK] is the id of <|endoftext|>, [SEP] that of [gMASK], <|LDWANG|> is text
 *   decoded    <|endoftext|> as [UNK]; ids that FlagAI has no name for as nothing
 *
 * Facts of flagai 1.8.4 (data/tokenizer/uni_tokenizer/tokenizer.py), which tests/oracle/flagai_tokenizer.py runs. No second matcher: the source
 * says all of it, and aq_tokenizer_build reads it. Cost: one look at every entry of the vocabulary. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <cjson/cJSON.h>
#include <string.h>

typedef enum token { SOP, EOP, LDWANG, MASK, GMASK, SMASK, CLS, SEP, N_COUNTED, END_OF_TEXT = N_COUNTED, N_TOKENS } token;

/* In the order in which FlagAI's code gives ids behind the vocabulary; <|endoftext|> is in it. */
static const aq_bytes texts[N_TOKENS] = {
#define TEXT(s) {s, sizeof s - 1}
    [SOP] = TEXT("<|startofpiece|>"), [EOP] = TEXT("<|endofpiece|>"), [LDWANG] = TEXT("<|LDWANG|>"), [MASK] = TEXT("[MASK]"), [GMASK] = TEXT("[gMASK]"),
    [SMASK] = TEXT("[sMASK]"),        [CLS] = TEXT("[CLS]"),          [SEP] = TEXT("</s>"),          [END_OF_TEXT] = TEXT("<|endoftext|>"),
};
static const aq_bytes unk_text = TEXT("[UNK]"), old_sep_text = TEXT("[SEP]");

static int same(aq_bytes a, aq_bytes b) { return a.n == b.n && memcmp(a.s, b.s, a.n) == 0; }

/* ---- the folder ---- */

static int names(const cJSON *map, const char *key, token t) {
    const char *content = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(map, key), "content"));
    return content && strcmp(content, texts[t].s) == 0;
}

aq_status aq_source_flagai_map(aq_source_reader *r, const cJSON *map, int is_slow) {
    aq_tokenizer_source *out = r->out;
    int32_t id[N_TOKENS];
    int n_known = 0;
    if (out->kind != AQ_TOKENIZER_BPE || !names(map, "cls_token", CLS) || !names(map, "sep_token", SEP))
        return AQ_OK;
    for (int i = 0; i < N_TOKENS; i++) {
        AQ_TRY(aq_source_find(r, texts[i], &id[i]));
        n_known += id[i] >= 0;
    }
    for (int i = 0; is_slow && n_known == 1 && id[END_OF_TEXT] >= 0 && i < N_COUNTED; i++) { /* no other file has numbered them */
        id[i] = (int32_t)out->n_vocab + i;
        AQ_TRY(aq_source_add(r, (aq_added_token){.text = texts[i], .id = id[i], .special = i == CLS || i == SEP, .normalized = i != CLS && i != SEP}));
    }
    out->bos = out->add_bos ? out->bos : id[CLS];
    out->eos = out->add_eos ? out->eos : id[SEP];
    out->pad = id[END_OF_TEXT];
    out->unk = out->unk_bytes ? out->unk : id[END_OF_TEXT];
    return AQ_OK;
}

/* ---- the other matching ---- */

/* The ids of the texts, as added tokens or as entries of the vocabulary; -1 where there is none. */
static void find_all(const aq_tokenizer_source *s, int32_t id[N_TOKENS]) {
    for (int k = 0; k < N_TOKENS; k++)
        id[k] = -1;
    for (uint32_t i = 0; i < s->n_vocab + s->n_added; i++) {
        const aq_added_token *a = i < s->n_vocab ? NULL : &s->added[i - s->n_vocab];
        aq_bytes text = a ? a->text : s->vocab[i];
        for (int k = 0; k < N_TOKENS && text.n && (*text.s == '<' || *text.s == '['); k++)
            if (same(text, texts[k]))
                id[k] = a ? a->id : (int32_t)i;
    }
}

uint32_t aq_tokenizer_flagai_size(const aq_tokenizer_source *s) {
    int32_t id[N_TOKENS];
    find_all(s, id);
    for (int k = 0; k < N_COUNTED; k++)
        if (s->kind != AQ_TOKENIZER_BPE || id[k] <= id[END_OF_TEXT] || id[k] != id[SOP] + k || id[END_OF_TEXT] < 0)
            return 0;
    return (uint32_t)id[SOP];
}

/* The vocabulary as FlagAI decodes it: entries from that of <|startofpiece|> on are special tokens of the Hugging Face form, or padding. */
static aq_status rename_entries(aq_arena *arena, const int32_t id[N_TOKENS], aq_tokenizer_source *s) {
    aq_bytes *vocab;
    AQ_ALLOC(arena, vocab, s->n_vocab);
    memcpy(vocab, s->vocab, s->n_vocab * sizeof *vocab);
    for (uint32_t i = (uint32_t)id[SOP]; i < s->n_vocab; i++)
        vocab[i] = (aq_bytes){0};
    if ((uint32_t)id[END_OF_TEXT] < s->n_vocab)
        vocab[id[END_OF_TEXT]] = unk_text;
    s->vocab = vocab;
    return AQ_OK;
}

static aq_status to_flagai(aq_arena *arena, aq_tokenizer_source *s) {
    int32_t id[N_TOKENS];
    aq_added_token *added;
    uint32_t n = 0;
    find_all(s, id);
    for (int k = 0; k < N_TOKENS; k++)
        if (k != LDWANG && (id[k] < 0 || s->kind != AQ_TOKENIZER_BPE))
            return aq_refuse(AQ_WHY_TOKENIZER_FLAGAI, s->place, "%s%s: flagai-v1 is a way to read the tokenizer of an Aquila model: byte-level BPE with %s expected",
                             id[k] < 0 ? "no token " : "", id[k] < 0 ? texts[k].s : "not byte-level", texts[k].s);
    AQ_TRY(rename_entries(arena, id, s));
    AQ_ALLOC(arena, added, N_TOKENS + 1);
    for (int k = 0; k < N_COUNTED; k++)
        if (k != LDWANG)
            added[n++] = (aq_added_token){.text = texts[k], .id = id[k], .special = k == SEP};
    added[n++] = (aq_added_token){.text = unk_text, .id = id[END_OF_TEXT], .special = 1};
    added[n++] = (aq_added_token){.text = texts[END_OF_TEXT], .id = id[END_OF_TEXT], .alias = 1};
    added[n++] = (aq_added_token){.text = old_sep_text, .id = id[GMASK], .alias = 1};
    for (uint32_t i = 0; i < n; i++)
        added[i].lstrip = added[i].rstrip = AQ_STRIP_PYTHON;
    s->added = added;
    s->n_added = n;
    s->pre = AQ_PRE_GPT2;
    s->add_prefix_space = AQ_PREFIX_NONE;
    s->ignore_merges = s->unk_bytes = s->add_bos = s->add_eos = 0;
    s->bos = id[CLS];
    s->eos = id[SEP];
    s->pad = s->unk = id[END_OF_TEXT];
    return AQ_OK;
}

aq_status aq_tokenizer_build_flagai(const aq_tokenizer_source *source, aq_tokenizer **out) {
    aq_arena arena = {0};
    aq_tokenizer_source s = *source;
    aq_status status = to_flagai(&arena, &s);
    if (status == AQ_OK)
        status = aq_tokenizer_build(&s, out);
    aq_arena_close(&arena);
    return status;
}
