/* source_special.c: the small files beside a vocabulary (added_tokens.json, special_tokens_map.json, tokenizer_config.json), and how
 * the readers of all of them look into JSON. */
#define _GNU_SOURCE
#include "frontend/import/json.h"
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <string.h>

/* ---- JSON ---- */

/* Whether a string holds \u0000: a `\u0000` whose backslash is not itself escaped. */
static int has_nul(const char *text, size_t n) {
    const char *at = text, *end = text + n;
    while ((at = memmem(at, (size_t)(end - at), "\\u0000", 6))) {
        const char *first = at;
        while (first > text && first[-1] == '\\')
            first--;
        if ((at - first) % 2 == 0)
            return 1;
        at++;
    }
    return 0;
}

aq_status aq_tokenizer_json(const char *place, const char *text, size_t n, cJSON **out) {
    if (has_nul(text, n)) /* cJSON would end the string there */
        return aq_refuse(AQ_WHY_TOKENIZER_NUL, place, "a text holds \\u0000: none expected");
    return aq_json_parse(place, text, n, out);
}

aq_status aq_json_copy(aq_arena *arena, const char *s, aq_bytes *out) {
    size_t n = strlen(s);
    AQ_TRY(aq_arena_string(arena, s, n, &out->s));
    out->n = (uint32_t)n;
    return AQ_OK;
}

aq_status aq_json_flag(const char *place, const cJSON *object, const char *key, int missing, uint8_t *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item && !cJSON_IsBool(item) && !cJSON_IsNull(item))
        return aq_refuse(AQ_WHY_TOKENIZER_FLAG, place, "\"%s\": true or false expected", key);
    *out = item && cJSON_IsBool(item) ? cJSON_IsTrue(item) : missing;
    return AQ_OK;
}

aq_status aq_json_index(const char *place, const char *what, const cJSON *item, uint32_t limit, uint32_t *out) {
    double x = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(x >= 0 && x < limit) || x != (double)(uint32_t)x)
        return aq_refuse(AQ_WHY_TOKENIZER_NUMBER, place, "\"%.80s\": a whole number from 0 to %u expected", what, limit - 1);
    *out = (uint32_t)x;
    return AQ_OK;
}

/* ---- vocab.json ---- */

aq_status aq_source_vocab(aq_source_reader *r, const cJSON *object) {
    uint32_t entries = 0, id, most = 0;
    if (!cJSON_IsObject(object) || !object->child)
        return aq_refuse(AQ_WHY_TOKENIZER_VOCAB, r->place, "no vocabulary: an object {\"text\": id, ...} expected");
    for (const cJSON *item = object->child; item; item = item->next)
        entries++;
    if (entries > AQ_TOKENIZER_LIMIT / 2)
        return aq_tokenizer_refuse_size(r->place, "entries", entries);
    uint32_t limit = AQ_ID_LIMIT(entries);
    aq_bytes *vocab;
    for (const cJSON *item = object->child; item; item = item->next) {
        AQ_TRY(aq_json_index(r->place, item->string, item, limit, &id));
        most = id > most ? id : most;
    }
    AQ_ALLOC(r->arena, vocab, (size_t)most + 1);
    for (const cJSON *item = object->child; item; item = item->next) {
        id = (uint32_t)item->valuedouble;
        if (vocab[id].n || !item->string[0])
            return aq_refuse(AQ_WHY_TOKENIZER_VOCAB_TEXT, r->place, "id %u: \"%.80s\": one text that is not empty expected", id, item->string);
        AQ_TRY(aq_json_copy(r->arena, item->string, &vocab[id]));
    }
    r->out->n_vocab = most + 1;
    r->out->vocab = vocab;
    return AQ_OK;
}

aq_status aq_source_parse_vocab(aq_source_reader *r, const char *text, size_t n) {
    cJSON *root;
    AQ_TRY(aq_tokenizer_json(r->place, text, n, &root));
    aq_status status = aq_source_vocab(r, root);
    cJSON_Delete(root);
    return status;
}

/* ---- added tokens ---- */

static aq_status read_added(aq_source_reader *r, const cJSON *object) {
    if (!cJSON_IsObject(object))
        return aq_refuse(AQ_WHY_TOKENIZER_ADDED_OBJECT, r->place, "an object {\"text\": id, ...} expected");
    for (const cJSON *item = object->child; item; item = item->next) {
        uint32_t id;
        aq_added_token token = {.normalized = 1};
        AQ_TRY(aq_json_index(r->place, item->string, item, AQ_ID_LIMIT(r->out->n_vocab), &id));
        token.id = (int32_t)id;
        AQ_TRY(aq_json_copy(r->arena, item->string, &token.text));
        AQ_TRY(aq_source_add(r, token));
    }
    return AQ_OK;
}

aq_status aq_source_parse_added(aq_source_reader *r, const char *text, size_t n) {
    cJSON *root;
    AQ_TRY(aq_tokenizer_json(r->place, text, n, &root));
    aq_status status = read_added(r, root);
    cJSON_Delete(root);
    return status;
}

/* ---- tokens with a role ---- */

/* A token is its text, or an object with its text and flags. */
static aq_status read_token(aq_source_reader *r, const char *key, const cJSON *item, int is_slow, int32_t known, int32_t *out) {
    const cJSON *content = cJSON_IsObject(item) ? cJSON_GetObjectItemCaseSensitive(item, "content") : item;
    aq_added_token token = {.special = 1};
    if (!cJSON_IsString(content) || !content->valuestring[0])
        return aq_refuse(AQ_WHY_TOKENIZER_ROLE, r->place, "\"%s\": a text, or an object with \"content\" expected", key);
    AQ_TRY(aq_json_copy(r->arena, content->valuestring, &token.text));
    token.id = known;
    if (known < 0)
        AQ_TRY(aq_source_find(r, token.text, &token.id));
    if (token.id < 0)
        return aq_refuse(AQ_WHY_TOKENIZER_ROLE_ID, r->place, "\"%s\": \"%.80s\" has no id: an entry of the vocabulary or an added token expected", key,
                       token.text.s);
    *out = token.id;
    if (cJSON_IsObject(item)) {
        AQ_TRY(aq_json_flag(r->place, item, "special", 1, &token.special));
        AQ_TRY(aq_json_flag(r->place, item, "lstrip", 0, &token.lstrip));
        AQ_TRY(aq_json_flag(r->place, item, "rstrip", 0, &token.rstrip));
        AQ_TRY(aq_json_flag(r->place, item, "single_word", 0, &token.single_word));
        AQ_TRY(aq_json_flag(r->place, item, "normalized", 0, &token.normalized));
    }
    return is_slow ? aq_source_add(r, token) : AQ_OK;
}

/* tokenizer_config.json's table {"id": {"content", flags}}. */
static aq_status read_decoder_table(aq_source_reader *r, const cJSON *table) {
    for (const cJSON *item = table ? table->child : NULL; item; item = item->next) {
        int64_t id = 0;
        int32_t same;
        for (const char *c = item->string; *c; c++) {
            id = *c >= '0' && *c <= '9' && id >= 0 ? id * 10 + *c - '0' : -1;
            if (id >= AQ_ID_LIMIT(r->out->n_vocab))
                id = -1;
        }
        if (id < 0 || !item->string[0])
            return aq_refuse(AQ_WHY_TOKENIZER_DECODER_ID, r->place, "added_tokens_decoder: \"%.80s\": an id expected", item->string);
        AQ_TRY(read_token(r, "added_tokens_decoder", item, 1, (int32_t)id, &same));
    }
    return AQ_OK;
}

/* GPT-2's is the only slow form of byte-level BPE here; Qwen2Tokenizer and others have the same files and another pattern. */
static aq_status check_class(const aq_source_reader *r, const cJSON *root) {
    const char *expected = r->out->kind == AQ_TOKENIZER_SPM ? "LlamaTokenizer" : "GPT2Tokenizer";
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "tokenizer_class"));
    if (name && strncmp(name, expected, strlen(expected)) != 0)
        return aq_refuse(AQ_WHY_TOKENIZER_CLASS, r->place, "tokenizer_class \"%.80s\" is not supported without tokenizer.json: %s expected", name,
                         expected);
    return AQ_OK;
}

/* Beside tokenizer.model: "legacy": false puts a space before the text's start only, as transformers does; without the key it stands before
 * every stretch between added tokens, as SentencePiece puts it, and transformers did. */
static aq_status read_prefix(aq_source_reader *r, const cJSON *root) {
    aq_tokenizer_source *out = r->out;
    uint8_t add, legacy;
    AQ_TRY(aq_json_flag(r->place, root, "add_prefix_space", out->add_prefix_space != AQ_PREFIX_NONE, &add));
    AQ_TRY(aq_json_flag(r->place, root, "legacy", out->normalizes, &legacy));
    out->strips = add;
    out->normalizes = legacy;
    out->add_prefix_space = !add ? AQ_PREFIX_NONE : legacy ? AQ_PREFIX_ALWAYS : AQ_PREFIX_FIRST;
    return AQ_OK;
}

static aq_status read_special(aq_source_reader *r, const cJSON *root, int is_slow) {
    aq_tokenizer_source *out = r->out;
    const struct {
        const char *key;
        int32_t *id;
    } roles[] = {{"bos_token", &out->bos}, {"eos_token", &out->eos}, {"pad_token", &out->pad}, {"unk_token", &out->unk}};
    int32_t id;
    if (!cJSON_IsObject(root))
        return aq_refuse(AQ_WHY_TOKENIZER_CONFIG, r->place, "a JSON object expected");
    AQ_TRY(aq_source_flagai_map(r, root, is_slow));
    if (is_slow) {
        AQ_TRY(check_class(r, root));
        AQ_TRY(read_decoder_table(r, cJSON_GetObjectItemCaseSensitive(root, "added_tokens_decoder")));
        if (out->kind == AQ_TOKENIZER_SPM)
            AQ_TRY(read_prefix(r, root));
        else
            AQ_TRY(aq_json_flag(r->place, root, "add_prefix_space", out->add_prefix_space, &out->add_prefix_space));
        AQ_TRY(aq_json_flag(r->place, root, "add_bos_token", out->add_bos, &out->add_bos));
        AQ_TRY(aq_json_flag(r->place, root, "add_eos_token", out->add_eos, &out->add_eos));
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, roles[i].key);
        if (!item || cJSON_IsNull(item) || (roles[i].id == &out->unk && out->unk_bytes))
            continue;
        AQ_TRY(read_token(r, roles[i].key, item, is_slow, -1, &id));
        if (!(roles[i].id == &out->bos && !is_slow && out->add_bos) && !(roles[i].id == &out->eos && !is_slow && out->add_eos))
            *roles[i].id = id; /* else the post-processor has the last word */
    }
    const cJSON *more = cJSON_GetObjectItemCaseSensitive(root, "additional_special_tokens");
    for (const cJSON *item = is_slow && cJSON_IsArray(more) ? more->child : NULL; item; item = item->next)
        AQ_TRY(read_token(r, "additional_special_tokens", item, 1, -1, &id));
    return AQ_OK;
}

aq_status aq_source_parse_special(aq_source_reader *r, const char *text, size_t n, int is_slow) {
    cJSON *root;
    AQ_TRY(aq_tokenizer_json(r->place, text, n, &root));
    aq_status status = read_special(r, root, is_slow);
    cJSON_Delete(root);
    return status;
}
