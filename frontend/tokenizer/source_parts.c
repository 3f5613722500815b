/* source_parts.c: the steps of tokenizer.json (normalizer, pre-tokenizer, decoder) that mean one of our kinds:
 *
 *   byte-level BPE   no normalizer; ByteLevel and steps before or behind it (source_splits.c); decoder ByteLevel
 *   SentencePiece    Prepend "_" and Replace " " by "_" as normalizer and no pre-tokenizer, or no normalizer and Metaspace; decoder
 *                    Sequence[Replace, ByteFallback, Fuse, Strip]; _ stands for U+2581
 * Everything else is refused by the name of the part. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <cjson/cJSON.h>
#include <string.h>

static const char mark[] = "\xE2\x96\x81";

const cJSON *aq_source_get(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

static const char *text_of(const cJSON *object, const char *key) {
    const char *text = cJSON_GetStringValue(aq_source_get(object, key));
    return text ? text : "";
}

static int has_text(const cJSON *object, const char *key, const char *text) { return strcmp(text_of(object, key), text) == 0; }

int aq_source_is(const cJSON *object, const char *type) { return has_text(object, "type", type); }

aq_status aq_source_unsupported(const aq_source_reader *r, const char *part, const cJSON *object, const char *expected) {
    const char *type = text_of(object, "type");
    return aq_refuse(AQ_WHY_TOKENIZER_PART, r->place, "%s \"%.60s\" is not supported: %s expected", part, *type ? type : "?", expected);
}

/* A part, or the parts of a Sequence: the first; *list says whether there may be more behind it. */
const cJSON *aq_source_first(const cJSON *part, const char *key, int *list) {
    *list = part && aq_source_is(part, "Sequence");
    return *list ? (aq_source_get(part, key) ? aq_source_get(part, key)->child : NULL) : part;
}

static const cJSON *next_of(const cJSON *part, int list) { return list ? part->next : NULL; }

/* ---- normalizer ---- */

static int is_prepend(const cJSON *part) { return aq_source_is(part, "Prepend") && has_text(part, "prepend", mark); }

static int is_replace(const cJSON *part, const char *from, const char *to) {
    return aq_source_is(part, "Replace") && has_text(aq_source_get(part, "pattern"), "String", from) && has_text(part, "content", to);
}

static aq_status read_normalizer(aq_source_reader *r, const cJSON *normalizer) {
    int list;
    const cJSON *part = aq_source_first(normalizer, "normalizers", &list);
    if (!part)
        return AQ_OK;
    if (is_prepend(part)) {
        r->out->add_prefix_space = AQ_PREFIX_ALWAYS;
        part = next_of(part, list);
    }
    if (!part || !is_replace(part, " ", mark) || next_of(part, list))
        return aq_source_unsupported(r, "normalizer", part ? part : normalizer, "none, or Prepend and Replace of spaces by U+2581");
    r->out->kind = AQ_TOKENIZER_SPM;
    r->out->normalizes = 1;
    return AQ_OK;
}

/* ---- pre-tokenizer ---- */

static aq_status read_metaspace(aq_source_reader *r, const cJSON *p) {
    const cJSON *scheme = aq_source_get(p, "prepend_scheme");
    uint8_t add, split;
    AQ_TRY(aq_json_flag(r->place, p, "add_prefix_space", 1, &add));
    AQ_TRY(aq_json_flag(r->place, p, "split", 1, &split));
    static const struct {
        const char *name;
        aq_prefix prefix;
    } schemes[] = {{"first", AQ_PREFIX_FIRST}, {"always", AQ_PREFIX_UNLESS_SPACE}, {"never", AQ_PREFIX_NONE}};
    size_t k = scheme ? 0 : add ? 1 : 2, n = sizeof schemes / sizeof *schemes;
    while (scheme && k < n && !has_text(p, "prepend_scheme", schemes[k].name))
        k++;
    if (k == n || !has_text(p, "replacement", mark) || r->out->normalizes)
        return aq_refuse(AQ_WHY_TOKENIZER_METASPACE, r->place,
                         "pre_tokenizer \"Metaspace\": U+2581 as replacement, prepend_scheme first, always or never, and no normalizer expected");
    r->out->kind = AQ_TOKENIZER_SPM;
    r->out->add_prefix_space = (uint8_t)schemes[k].prefix;
    r->out->pre = split ? AQ_PRE_SPACES : AQ_PRE_WHOLE;
    return AQ_OK;
}

static aq_status read_pre_tokenizer(aq_source_reader *r, const cJSON *p) {
    int list;
    const cJSON *part = aq_source_first(p, "pretokenizers", &list);
    if (!part && r->out->kind == AQ_TOKENIZER_SPM)
        return AQ_OK;
    if (!part)
        return aq_refuse(AQ_WHY_TOKENIZER_PRE, r->place, "no pre_tokenizer: ByteLevel, a Sequence with it, or Metaspace expected");
    if (aq_source_is(part, "Metaspace")) {
        AQ_TRY(read_metaspace(r, part));
        part = next_of(part, list);
        return part ? aq_source_unsupported(r, "pre_tokenizer after Metaspace", part, "none") : AQ_OK;
    }
    if (r->out->kind == AQ_TOKENIZER_SPM)
        return aq_source_unsupported(r, "pre_tokenizer after a normalizer", part, "none");
    return aq_source_splits(r, p);
}

/* ---- decoder ---- */

static int is_strip(const cJSON *part) {
    const cJSON *start = aq_source_get(part, "start"), *stop = aq_source_get(part, "stop");
    return aq_source_is(part, "Strip") && has_text(part, "content", " ") && cJSON_IsNumber(start) && start->valuedouble == 1 && cJSON_IsNumber(stop) &&
           stop->valuedouble == 0;
}

static aq_status read_spm_decoder(aq_source_reader *r, const cJSON *decoder) {
    static const char expected[] = "Sequence of Replace of U+2581 by spaces, ByteFallback, Fuse and perhaps Strip of one space";
    int list;
    const cJSON *part = aq_source_first(decoder, "decoders", &list);
    if (!part || !list || !is_replace(part, mark, " "))
        return aq_source_unsupported(r, "decoder", decoder, expected);
    part = part->next;
    if (!part || !aq_source_is(part, "ByteFallback") || !part->next || !aq_source_is(part->next, "Fuse"))
        return aq_source_unsupported(r, "decoder", part, expected);
    part = part->next->next;
    r->out->strips = part && is_strip(part);
    return part && (!r->out->strips || part->next) ? aq_source_unsupported(r, "decoder", part, expected) : AQ_OK;
}

aq_status aq_source_parts(aq_source_reader *r, const cJSON *root) {
    const cJSON *decoder = aq_source_get(root, "decoder");
    r->out->pre = AQ_PRE_WHOLE;
    AQ_TRY(read_normalizer(r, aq_source_get(root, "normalizer")));
    AQ_TRY(read_pre_tokenizer(r, aq_source_get(root, "pre_tokenizer")));
    if (r->out->kind == AQ_TOKENIZER_SPM)
        return read_spm_decoder(r, decoder);
    return decoder && !aq_source_is(decoder, "ByteLevel") ? aq_source_unsupported(r, "decoder", decoder, "ByteLevel") : AQ_OK;
}

/* ---- byte tokens ---- */

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

static int byte_of(aq_bytes text) {
    if (text.n != 6 || memcmp(text.s, "<0x", 3) || text.s[5] != '>' || hex(text.s[3]) < 0 || hex(text.s[4]) < 0)
        return -1;
    return hex(text.s[3]) << 4 | hex(text.s[4]);
}

aq_status aq_tokenizer_source_bytes(aq_arena *arena, aq_tokenizer_source *source, int needed) {
    int32_t *ids;
    uint32_t count = 0;
    AQ_ALLOC(arena, ids, 256);
    memset(ids, 0xFF, 256 * sizeof *ids);
    for (uint32_t i = 0; i < source->n_vocab; i++) {
        int byte = byte_of(source->vocab[i]);
        if (byte < 0)
            continue;
        count += ids[byte] < 0;
        ids[byte] = (int32_t)i;
    }
    if (count < 256 && (count || needed))
        return aq_refuse(AQ_WHY_TOKENIZER_BYTES, source->place, "%u of the byte tokens <0x00> to <0xFF>: all 256 expected", count);
    source->byte_ids = count ? ids : NULL;
    return AQ_OK;
}
