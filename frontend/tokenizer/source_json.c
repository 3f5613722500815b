/* source_json.c: tokenizer.json, Hugging Face's one file for everything: its model, its added tokens and what it puts around a text. The
 * steps that texts and ids go through are in source_parts.c. A part that does not mean one of our kinds is refused by its name.
 * `truncation` and `padding` are the caller's policy and are not looked at. */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <cjson/cJSON.h>
#include <string.h>

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
    const cJSON *item = aq_source_get(model, key);
    int off = !item || cJSON_IsFalse(item) || (cJSON_IsNumber(item) && item->valuedouble == 0) ||
              (cJSON_IsString(item) && item->valuestring[0] == 0);
    return off ? AQ_OK : aq_refuse(AQ_WHY_TOKENIZER_MODEL_FLAG, r->place, "model.%s is set: not supported, null or off expected", key);
}

static aq_status read_unk(aq_source_reader *r, const cJSON *model) {
    const cJSON *unk = aq_source_get(model, "unk_token");
    if (!unk)
        return AQ_OK;
    if (r->out->kind == AQ_TOKENIZER_SPM)
        AQ_TRY(aq_json_flag(r->place, model, "fuse_unk", 0, &r->out->fuse_unk));
    else
        AQ_TRY(must_be_off(r, model, "fuse_unk"));
    if (!cJSON_IsString(unk))
        return aq_refuse(AQ_WHY_TOKENIZER_UNK_KIND, r->place, "model.unk_token: a text or null expected");
    AQ_TRY(aq_source_find(r, (aq_bytes){unk->valuestring, (uint32_t)strlen(unk->valuestring)}, &r->out->unk));
    r->out->unk_bytes = r->out->unk >= 0;
    return r->out->unk_bytes ? AQ_OK : aq_refuse(AQ_WHY_TOKENIZER_UNK_MISSING, r->place, "model.unk_token is not in the vocabulary");
}

static aq_status read_model(aq_source_reader *r, const cJSON *model) {
    static const char *const unsupported_keys[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    uint8_t byte_fallback = 0;
    if (!cJSON_IsObject(model))
        return aq_refuse(AQ_WHY_TOKENIZER_MODEL, r->place, "\"model\" is missing: an object of type BPE expected");
    if (aq_source_get(model, "type") && !aq_source_is(model, "BPE"))
        return aq_source_unsupported(r, "the model", model, "BPE");
    for (size_t i = 0; i < sizeof unsupported_keys / sizeof *unsupported_keys; i++)
        AQ_TRY(must_be_off(r, model, unsupported_keys[i]));
    if (r->out->kind == AQ_TOKENIZER_SPM)
        AQ_TRY(aq_json_flag(r->place, model, "byte_fallback", 0, &byte_fallback));
    else
        AQ_TRY(must_be_off(r, model, "byte_fallback"));
    AQ_TRY(aq_json_flag(r->place, model, "ignore_merges", 0, &r->out->ignore_merges));
    AQ_TRY(aq_source_vocab(r, aq_source_get(model, "vocab")));
    AQ_TRY(read_merges(r, aq_source_get(model, "merges")));
    if (byte_fallback)
        AQ_TRY(aq_tokenizer_source_bytes(r->arena, r->out, 0));
    return read_unk(r, model);
}

/* ---- post-processor: what is put before and after one text ---- */

static aq_status template_id(const aq_source_reader *r, const cJSON *template, const cJSON *piece, int32_t *out) {
    const char *name = cJSON_GetStringValue(aq_source_get(aq_source_get(piece, "SpecialToken"), "id"));
    const cJSON *ids = name ? aq_source_get(aq_source_get(aq_source_get(template, "special_tokens"), name), "ids") : NULL;
    uint32_t id;
    if (!cJSON_IsArray(ids) || cJSON_GetArraySize(ids) != 1)
        return aq_refuse(AQ_WHY_TOKENIZER_TEMPLATE_TOKEN, r->place,
                         "post_processor TemplateProcessing: at most one special token of one id before and after the text expected");
    AQ_TRY(aq_json_index(r->place, "id of a special token", ids->child, AQ_TOKENIZER_LIMIT, &id));
    *out = (int32_t)id;
    return AQ_OK;
}

static aq_status read_template(aq_source_reader *r, const cJSON *template) {
    const cJSON *piece = aq_source_get(template, "single");
    piece = piece ? piece->child : NULL;
    if (piece && !aq_source_get(piece, "Sequence")) {
        AQ_TRY(template_id(r, template, piece, &r->out->bos));
        r->out->add_bos = 1;
        piece = piece->next;
    }
    if (!piece || !aq_source_get(piece, "Sequence"))
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
    const cJSON *list = aq_source_is(p, "Sequence") ? aq_source_get(p, "processors") : NULL;
    for (const cJSON *one = list ? list->child : p; one; one = list ? one->next : NULL) {
        if (aq_source_is(one, "TemplateProcessing"))
            AQ_TRY(read_template(r, one));
        else if (!aq_source_is(one, "ByteLevel")) /* which only moves offsets */
            return aq_source_unsupported(r, "post_processor", one, "ByteLevel or TemplateProcessing");
    }
    return AQ_OK;
}

/* ---- the rest ---- */

static aq_status read_added(aq_source_reader *r, const cJSON *list) {
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next) {
        const char *content = cJSON_GetStringValue(aq_source_get(item, "content"));
        aq_added_token token = {0};
        uint32_t id;
        if (!content || !content[0])
            return aq_refuse(AQ_WHY_TOKENIZER_ADDED_TEXT, r->place, "an entry of added_tokens has no text: \"content\" expected");
        AQ_TRY(aq_json_index(r->place, content, aq_source_get(item, "id"), AQ_TOKENIZER_LIMIT, &id));
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
    if (!cJSON_IsObject(root))
        return aq_refuse(AQ_WHY_TOKENIZER_DOCUMENT, r->place, "not a tokenizer: a JSON object expected");
    AQ_TRY(aq_source_parts(r, root));
    AQ_TRY(read_model(r, aq_source_get(root, "model")));
    AQ_TRY(read_added(r, aq_source_get(root, "added_tokens")));
    const cJSON *post = aq_source_get(root, "post_processor");
    return post ? read_post_processor(r, post) : AQ_OK;
}

aq_status aq_source_parse_json(aq_source_reader *r, const char *text, size_t n) {
    cJSON *root;
    AQ_TRY(aq_tokenizer_json(r->place, text, n, &root));
    aq_status status = read_document(r, root);
    cJSON_Delete(root);
    return status;
}
