/* source_json.c: tokenizer.json, Hugging Face's one file for everything: the parts of it that mean byte-level BPE, and a refusal that
 * names the part for all others. `truncation` and `padding` are the caller's policy and are not looked at. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <cjson/cJSON.h>
#include <string.h>

static const cJSON *get(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return item && !cJSON_IsNull(item) ? item : NULL; /* null means absent all over this format */
}

static const char *type_of(const cJSON *object) {
    const char *type = cJSON_GetStringValue(get(object, "type"));
    return type ? type : "?";
}

static int is_type(const cJSON *object, const char *type) { return strcmp(type_of(object), type) == 0; }

static aq_status unsupported(const aq_source_reader *r, const char *part, const cJSON *object, const char *expected) {
    return aq_refuse(AQ_WHY_TOKENIZER_PART, r->place, "%s \"%.60s\" is not supported: %s expected", part, type_of(object), expected);
}

/* ---- model ---- */

static aq_status add_merge(aq_source_reader *r, const cJSON *item, uint32_t rank, aq_bytes *out) {
    if (cJSON_IsString(item))
        return aq_json_copy(r->arena, item->valuestring, out);
    const cJSON *left = cJSON_GetArrayItem(item, 0), *right = left ? left->next : NULL;
    if (!cJSON_IsArray(item) || !cJSON_IsString(left) || !cJSON_IsString(right) || right->next)
        return aq_refuse(AQ_WHY_TOKENIZER_MERGE_ITEM, r->place, "merge %u: \"left right\" or [\"left\", \"right\"] expected", rank);
    const char *s;
    AQ_TRY(aq_arena_format(r->arena, &s, "%s %s", left->valuestring, right->valuestring));
    *out = (aq_bytes){s, (uint32_t)strlen(s)};
    return AQ_OK;
}

static aq_status read_merges(aq_source_reader *r, const cJSON *list) {
    if (!cJSON_IsArray(list))
        return aq_refuse(AQ_WHY_TOKENIZER_MERGES, r->place, "model.merges is missing or no list: a list of merges expected");
    uint32_t n = (uint32_t)cJSON_GetArraySize(list), rank = 0;
    if (n > AQ_TOKENIZER_LIMIT)
        return aq_tokenizer_refuse_size(r->place, "merges", n);
    aq_bytes *merges;
    AQ_ALLOC(r->arena, merges, n);
    for (const cJSON *item = list->child; item; item = item->next, rank++)
        AQ_TRY(add_merge(r, item, rank, &merges[rank]));
    r->out->merges = merges;
    r->out->n_merges = n;
    return AQ_OK;
}

static aq_status must_be_off(const aq_source_reader *r, const cJSON *model, const char *key) {
    const cJSON *item = get(model, key);
    int off = !item || cJSON_IsFalse(item) || (cJSON_IsNumber(item) && item->valuedouble == 0) ||
              (cJSON_IsString(item) && item->valuestring[0] == 0);
    return off ? AQ_OK : aq_refuse(AQ_WHY_TOKENIZER_MODEL_FLAG, r->place, "model.%s is set: not supported, null or off expected", key);
}

static aq_status read_model(aq_source_reader *r, const cJSON *model) {
    static const char *const unsupported_keys[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                                                   "ignore_merges"};
    if (!cJSON_IsObject(model))
        return aq_refuse(AQ_WHY_TOKENIZER_MODEL, r->place, "\"model\" is missing: an object of type BPE expected");
    if (get(model, "type") && !is_type(model, "BPE"))
        return unsupported(r, "the model", model, "BPE");
    for (size_t i = 0; i < sizeof unsupported_keys / sizeof *unsupported_keys; i++)
        AQ_TRY(must_be_off(r, model, unsupported_keys[i]));
    AQ_TRY(aq_source_vocab(r, get(model, "vocab")));
    AQ_TRY(read_merges(r, get(model, "merges")));
    const cJSON *unk = get(model, "unk_token");
    if (!unk)
        return AQ_OK;
    AQ_TRY(must_be_off(r, model, "fuse_unk"));
    if (!cJSON_IsString(unk))
        return aq_refuse(AQ_WHY_TOKENIZER_UNK_KIND, r->place, "model.unk_token: a text or null expected");
    AQ_TRY(aq_source_find(r, (aq_bytes){unk->valuestring, (uint32_t)strlen(unk->valuestring)}, &r->out->unk));
    r->out->unk_bytes = r->out->unk >= 0;
    return r->out->unk_bytes ? AQ_OK : aq_refuse(AQ_WHY_TOKENIZER_UNK_MISSING, r->place, "model.unk_token is not in the vocabulary");
}

/* ---- pre-tokenizer ---- */

static aq_status read_byte_level(aq_source_reader *r, const cJSON *p) {
    uint8_t use_regex;
    AQ_TRY(aq_json_flag(r->place, p, "use_regex", 1, &use_regex));
    AQ_TRY(aq_json_flag(r->place, p, "add_prefix_space", 1, &r->out->add_prefix_space));
    return use_regex ? AQ_OK : aq_refuse(AQ_WHY_TOKENIZER_REGEX, r->place, "pre_tokenizer ByteLevel without its regex: use_regex true expected");
}

static aq_status read_pre_tokenizer(aq_source_reader *r, const cJSON *p) {
    static const char expected[] = "ByteLevel, or Sequence of Digits (individual_digits) and ByteLevel";
    if (!p)
        return aq_refuse(AQ_WHY_TOKENIZER_PRE, r->place, "no pre_tokenizer: %s expected", expected);
    const cJSON *list = is_type(p, "Sequence") ? get(p, "pretokenizers") : NULL;
    const cJSON *first = list ? list->child : p;
    r->out->pre = AQ_PRE_GPT2;
    if (list && first && is_type(first, "Digits")) {
        uint8_t individual;
        AQ_TRY(aq_json_flag(r->place, first, "individual_digits", 0, &individual));
        if (!individual)
            return aq_refuse(AQ_WHY_TOKENIZER_DIGITS, r->place, "pre_tokenizer Digits: individual_digits true expected");
        r->out->pre = AQ_PRE_SMOLLM;
        first = first->next;
    }
    if (!first || !is_type(first, "ByteLevel"))
        return unsupported(r, "pre_tokenizer", first ? first : p, expected);
    if (list && first->next)
        return unsupported(r, "pre_tokenizer after ByteLevel", first->next, expected);
    return read_byte_level(r, first);
}

/* ---- post-processor: what is put before and after one text ---- */

static aq_status template_id(const aq_source_reader *r, const cJSON *template, const cJSON *piece, int32_t *out) {
    const char *name = cJSON_GetStringValue(get(get(piece, "SpecialToken"), "id"));
    const cJSON *ids = name ? get(get(get(template, "special_tokens"), name), "ids") : NULL;
    uint32_t id;
    if (!cJSON_IsArray(ids) || cJSON_GetArraySize(ids) != 1)
        return aq_refuse(AQ_WHY_TOKENIZER_TEMPLATE_TOKEN, r->place,
                         "post_processor TemplateProcessing: at most one special token of one id before and after the text expected");
    AQ_TRY(aq_json_index(r->place, "id of a special token", ids->child, AQ_TOKENIZER_LIMIT, &id));
    *out = (int32_t)id;
    return AQ_OK;
}

static aq_status read_template(aq_source_reader *r, const cJSON *template) {
    const cJSON *piece = get(template, "single");
    piece = piece ? piece->child : NULL;
    if (piece && !get(piece, "Sequence")) {
        AQ_TRY(template_id(r, template, piece, &r->out->bos));
        r->out->add_bos = 1;
        piece = piece->next;
    }
    if (!piece || !get(piece, "Sequence"))
        return aq_refuse(AQ_WHY_TOKENIZER_TEMPLATE_TEXT, r->place, "post_processor TemplateProcessing: one text expected in \"single\"");
    piece = piece->next;
    if (piece) {
        AQ_TRY(template_id(r, template, piece, &r->out->eos));
        r->out->add_eos = 1;
    }
    if (piece && piece->next)
        return aq_refuse(AQ_WHY_TOKENIZER_TEMPLATE_PARTS, r->place,
                         "post_processor TemplateProcessing: too many parts: at most one before and one after the text expected");
    return AQ_OK;
}

static aq_status read_post_processor(aq_source_reader *r, const cJSON *p) {
    const cJSON *list = is_type(p, "Sequence") ? get(p, "processors") : NULL;
    for (const cJSON *one = list ? list->child : p; one; one = list ? one->next : NULL) {
        if (is_type(one, "TemplateProcessing"))
            AQ_TRY(read_template(r, one));
        else if (!is_type(one, "ByteLevel")) /* which only moves offsets */
            return unsupported(r, "post_processor", one, "ByteLevel or TemplateProcessing");
    }
    return AQ_OK;
}

/* ---- the rest ---- */

static aq_status read_added(aq_source_reader *r, const cJSON *list) {
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next) {
        const char *content = cJSON_GetStringValue(get(item, "content"));
        aq_added_token token = {0};
        uint32_t id;
        if (!content || !content[0])
            return aq_refuse(AQ_WHY_TOKENIZER_ADDED_TEXT, r->place, "an entry of added_tokens has no text: \"content\" expected");
        AQ_TRY(aq_json_index(r->place, content, get(item, "id"), AQ_TOKENIZER_LIMIT, &id));
        token.id = (int32_t)id;
        AQ_TRY(aq_json_copy(r->arena, content, &token.text));
        AQ_TRY(aq_json_flag(r->place, item, "special", 0, &token.special));
        AQ_TRY(aq_json_flag(r->place, item, "lstrip", 0, &token.lstrip));
        AQ_TRY(aq_json_flag(r->place, item, "rstrip", 0, &token.rstrip));
        AQ_TRY(aq_json_flag(r->place, item, "single_word", 0, &token.single_word));
        AQ_TRY(aq_json_flag(r->place, item, "normalized", !token.special, &token.normalized));
        AQ_PUSH(r->arena, &r->added, token); /* one that is there twice is refused by aq_tokenizer_build */
    }
    return AQ_OK;
}

static aq_status read_document(aq_source_reader *r, const cJSON *root) {
    const cJSON *normalizer = get(root, "normalizer"), *decoder = get(root, "decoder");
    if (!cJSON_IsObject(root))
        return aq_refuse(AQ_WHY_TOKENIZER_DOCUMENT, r->place, "not a tokenizer: a JSON object expected");
    const cJSON *steps = normalizer && is_type(normalizer, "Sequence") ? get(normalizer, "normalizers") : NULL;
    if (normalizer && !(steps && !steps->child))
        return unsupported(r, "normalizer", normalizer, "none");
    if (decoder && !is_type(decoder, "ByteLevel"))
        return unsupported(r, "decoder", decoder, "ByteLevel");
    AQ_TRY(read_pre_tokenizer(r, get(root, "pre_tokenizer")));
    AQ_TRY(read_model(r, get(root, "model")));
    AQ_TRY(read_added(r, get(root, "added_tokens")));
    const cJSON *post = get(root, "post_processor");
    return post ? read_post_processor(r, post) : AQ_OK;
}

aq_status aq_source_parse_json(aq_source_reader *r, const char *text, size_t n) {
    cJSON *root;
    AQ_TRY(aq_tokenizer_json(r->place, text, n, &root));
    aq_status status = read_document(r, root);
    cJSON_Delete(root);
    return status;
}
