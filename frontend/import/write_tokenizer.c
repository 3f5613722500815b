/* write_tokenizer.c: a tokenizer as files of a folder: tokenizer.json, which says everything, tokenizer_config.json and special_tokens_map.json for
 * the roles, and for FlagAI's own code GPT-2's old form, vocab.json + merges.txt + added_tokens.json. Added tokens stand in the vocabulary
 * of tokenizer.json too, where they are no result of merges: readers that number added tokens themselves then find their ids. */
#include "frontend/import/pieces.h"
#include "frontend/import/write.h"

#include <inttypes.h>
#include <string.h>

static void put_json(aq_put *o, aq_bytes s) { aq_put_json(o, s.s, s.n, "a token"); }
static void put_flag(aq_put *o, const char *key, int x) { aq_put_format(o, "\"%s\": %s", key, x ? "true" : "false"); }

static const aq_added_token *find_added(const aq_tokenizer_source *t, int32_t id) {
    for (uint32_t i = 0; id >= 0 && i < t->n_added; i++)
        if (t->added[i].id == id)
            return &t->added[i];
    return NULL;
}

typedef enum added_form { ADDED_LIST, ADDED_BY_ID, ADDED_MAP } added_form;

/* The added tokens, in the forms of tokenizer.json: [{"id": 1, "content": ..}], of tokenizer_config.json: {"1": {"content": ..}}, and of
 * added_tokens.json: {"text": 1}. */
static void put_added(aq_put *o, const aq_tokenizer_source *t, added_form form) {
    for (uint32_t i = 0; i < t->n_added; i++) {
        const aq_added_token *a = &t->added[i];
        const struct {
            const char *key;
            int on;
        } flags[] = {{"single_word", a->single_word}, {"lstrip", a->lstrip}, {"rstrip", a->rstrip}, {"normalized", a->normalized}, {"special", a->special}};
        aq_put_text(o, i ? ",\n" : "\n");
        if (form == ADDED_LIST)
            aq_put_format(o, "{\"id\": %" PRId32 ", \"content\": ", a->id);
        else if (form == ADDED_BY_ID)
            aq_put_format(o, "    \"%" PRId32 "\": {\"content\": ", a->id);
        else
            aq_put_text(o, "  ");
        put_json(o, a->text);
        if (form == ADDED_MAP)
            aq_put_format(o, ": %" PRId32, a->id);
        for (size_t k = 0; form != ADDED_MAP && k < sizeof flags / sizeof *flags; k++) {
            aq_put_text(o, ", ");
            put_flag(o, flags[k].key, flags[k].on);
        }
        aq_put_text(o, form == ADDED_MAP ? "" : "}");
    }
}

/* ---- the vocabulary: texts that must not come twice ---- */

static int same(aq_bytes a, aq_bytes b) { return a.n == b.n && memcmp(a.s, b.s, a.n) == 0; }

/* {"text": id}, of the first n entries of the vocabulary and of added tokens that it lacks and whose ids are below `most`. */
static void put_vocab(aq_put *o, const aq_tokenizer_source *t, uint32_t n, uint32_t most) {
    int any = 0;
    aq_put_text(o, "{");
    for (uint32_t i = 0; i < n; i++) {
        if (!t->vocab[i].n)
            continue;
        aq_put_text(o, any++ ? ",\n" : "\n");
        put_json(o, t->vocab[i]);
        aq_put_format(o, ": %u", i);
    }
    for (uint32_t i = 0; i < t->n_added; i++) {
        int32_t id = t->added[i].id;
        if (id < 0 || (uint32_t)id >= most || ((uint32_t)id < t->n_vocab && same(t->vocab[id], t->added[i].text)))
            continue;
        aq_put_text(o, any++ ? ",\n" : "\n");
        put_json(o, t->added[i].text);
        aq_put_format(o, ": %" PRId32, id);
    }
    aq_put_text(o, "\n}");
}

/* ---- tokenizer.json ---- */

static void put_byte_level(aq_put *o, int add_prefix_space, int use_regex) {
    aq_put_text(o, "{\"type\": \"ByteLevel\", ");
    put_flag(o, "add_prefix_space", add_prefix_space);
    aq_put_text(o, ", \"trim_offsets\": true, ");
    put_flag(o, "use_regex", use_regex);
    aq_put_text(o, "}");
}

static void put_split(aq_put *o, const aq_split *s) {
    const char *behavior = aq_behavior_name((aq_behavior)s->behavior);
    switch ((aq_split_kind)s->kind) {
    case AQ_SPLIT_DIGITS:
        aq_put_text(o, "{\"type\": \"Digits\", ");
        put_flag(o, "individual_digits", s->behavior == AQ_ISOLATED);
        break;
    case AQ_SPLIT_PUNCTUATION: aq_put_format(o, "{\"type\": \"Punctuation\", \"behavior\": \"%s\"", behavior); break;
    default:
        aq_put_format(o, "{\"type\": \"Split\", \"pattern\": {\"%s\": ", s->kind == AQ_SPLIT_TEXT ? "String" : "Regex");
        aq_put_json(o, s->pattern.s, s->pattern.n, "a pattern");
        aq_put_format(o, "}, \"behavior\": \"%s\", ", behavior);
        put_flag(o, "invert", s->invert);
    }
    aq_put_text(o, "}");
}

/* A prefix space is ByteLevel's, which then comes first with its own regular expression; else that is a step like any other. */
static void put_splits(aq_put *o, const aq_tokenizer_source *t) {
    uint32_t first = t->add_prefix_space && t->n_splits && t->splits[0].kind == AQ_SPLIT_REGEX ? 1 : 0;
    int is_put = 0;
    aq_put_text(o, "{\"type\": \"Sequence\", \"pretokenizers\": [");
    for (uint32_t i = first; i < t->n_splits; i++) {
        aq_put_text(o, i > first ? ", " : "");
        if (t->splits[i].kind != AQ_SPLIT_ALPHABET) {
            put_split(o, &t->splits[i]);
            continue;
        }
        put_byte_level(o, t->add_prefix_space, (int)first);
        is_put = 1;
    }
    if (!is_put) {
        aq_put_text(o, t->n_splits > first ? ", " : "");
        put_byte_level(o, t->add_prefix_space, (int)first);
    }
    aq_put_text(o, "]}");
}

static void put_pre_tokenizer(aq_put *o, const aq_tokenizer_source *t) {
    static const aq_split digits[] = {{.kind = AQ_SPLIT_DIGITS}}, llama3[] = {{AQ_SPLIT_REGEX, AQ_ISOLATED, 0, {AQ_LLAMA3_PATTERN, sizeof AQ_LLAMA3_PATTERN - 1}}};
    if (t->pre == AQ_PRE_SPLITS) {
        put_splits(o, t);
    } else if (t->pre == AQ_PRE_GPT2) {
        put_byte_level(o, t->add_prefix_space, 1);
    } else {
        aq_put_text(o, "{\"type\": \"Sequence\", \"pretokenizers\": [");
        put_split(o, t->pre == AQ_PRE_SMOLLM ? digits : llama3);
        aq_put_text(o, ", ");
        put_byte_level(o, 0, t->pre == AQ_PRE_SMOLLM);
        aq_put_text(o, "]}");
    }
}

/* What the encoder adds by itself. Only an added token has a text that a template can name. */
static void put_post_processor(aq_put *o, const aq_tokenizer_source *t) {
    const aq_added_token *ends[2] = {t->add_bos ? find_added(t, t->bos) : NULL, t->add_eos ? find_added(t, t->eos) : NULL};
    int any = 0;
    if (!ends[0] && !ends[1] && t->kind == AQ_TOKENIZER_SPM) {
        aq_put_text(o, "null");
        return;
    }
    if (!ends[0] && !ends[1]) {
        put_byte_level(o, 1, 1);
        return;
    }
    for (int pair = 0; pair < 2; pair++) {
        aq_put_text(o, pair ? "], \"pair\": [" : "{\"type\": \"TemplateProcessing\", \"single\": [");
        for (int k = 0, n = 0; k <= pair; k++) {
            for (int end = 0; end < 2; end++) {
                if (end)
                    aq_put_format(o, "%s{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}", n++ ? ", " : "", 'A' + k, k);
                if (!ends[end])
                    continue;
                aq_put_format(o, "%s{\"SpecialToken\": {\"id\": ", n++ ? ", " : "");
                put_json(o, ends[end]->text);
                aq_put_format(o, ", \"type_id\": %d}}", k);
            }
        }
    }
    aq_put_text(o, "], \"special_tokens\": {");
    for (int end = 0; end < 2; end++) {
        if (!ends[end] || (end && ends[0] == ends[1]))
            continue;
        aq_put_text(o, any++ ? ", " : "");
        put_json(o, ends[end]->text);
        aq_put_text(o, ": {\"id\": ");
        put_json(o, ends[end]->text);
        aq_put_format(o, ", \"ids\": [%" PRId32 "], \"tokens\": [", ends[end]->id);
        put_json(o, ends[end]->text);
        aq_put_text(o, "]}");
    }
    aq_put_text(o, "}}");
}

/* SentencePiece writes a space as U+2581, one of them before the text, and what it has no piece for as bytes. Where the space in front depends on
 * where a stretch of text stands, only Metaspace says it. */
#define MARK "\xe2\x96\x81"

static void put_spm_parts(aq_put *o, const aq_tokenizer_source *t) {
    static const char *const schemes[] = {[AQ_PREFIX_NONE] = "never", [AQ_PREFIX_UNLESS_SPACE] = "always", [AQ_PREFIX_ALWAYS] = "always", [AQ_PREFIX_FIRST] = "first"};
    int prefix = t->add_prefix_space != AQ_PREFIX_NONE;
    if (t->normalizes)
        aq_put_format(o, "{\"type\": \"Sequence\", \"normalizers\": [%s{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" MARK "\"}]},\n\"pre_tokenizer\": null",
                      prefix ? "{\"type\": \"Prepend\", \"prepend\": \"" MARK "\"}, " : "");
    else
        aq_put_format(o, "null,\n\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"" MARK "\", \"prepend_scheme\": \"%s\", \"split\": %s}",
                      schemes[t->add_prefix_space], t->pre == AQ_PRE_SPACES ? "true" : "false");
    aq_put_text(o, ",\n\"post_processor\": ");
    put_post_processor(o, t);
    aq_put_text(o, ",\n\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"" MARK "\"}, \"content\": \" \"}, "
                   "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
    if (prefix)
        aq_put_text(o, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}");
    aq_put_text(o, "]}");
}

static void put_bpe_parts(aq_put *o, const aq_tokenizer_source *t) {
    aq_put_text(o, "null,\n\"pre_tokenizer\": ");
    put_pre_tokenizer(o, t);
    aq_put_text(o, ",\n\"post_processor\": ");
    put_post_processor(o, t);
    aq_put_text(o, ",\n\"decoder\": ");
    put_byte_level(o, 1, 1);
}

static void put_unk(aq_put *o, const aq_tokenizer_source *t) {
    const aq_added_token *unk = find_added(t, t->unk);
    if (!t->unk_bytes && t->kind != AQ_TOKENIZER_SPM)
        aq_put_text(o, "null");
    else if (unk)
        put_json(o, unk->text);
    else if (t->unk >= 0 && (uint32_t)t->unk < t->n_vocab)
        put_json(o, t->vocab[t->unk]);
    else
        aq_put_text(o, "null");
}

/* Scores are written as the merges that they mean. */
static aq_status put_merge_list(aq_put *o, const aq_tokenizer_source *t, const char *between) {
    aq_arena arena = {0};
    aq_piece_merge *list;
    uint32_t n;
    if (!t->scores) {
        for (uint32_t i = 0; i < t->n_merges; i++) {
            aq_put_text(o, i ? between : "\n");
            put_json(o, t->merges[i]);
        }
        return AQ_OK;
    }
    aq_status status = aq_pieces_merges(&arena, t, &list, &n);
    for (uint32_t i = 0; status == AQ_OK && i < n; i++) {
        aq_put_text(o, i ? between : "\n");
        aq_put_text(o, "[");
        put_json(o, t->vocab[list[i].left]);
        aq_put_text(o, ", ");
        put_json(o, t->vocab[list[i].right]);
        aq_put_text(o, "]");
    }
    aq_arena_close(&arena);
    return status;
}

static aq_status put_document(aq_put *o, const aq_tokenizer_source *t) {
    int is_spm = t->kind == AQ_TOKENIZER_SPM;
    aq_put_text(o, "{\n\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": [");
    put_added(o, t, ADDED_LIST);
    aq_put_text(o, "\n],\n\"normalizer\": ");
    if (is_spm)
        put_spm_parts(o, t);
    else
        put_bpe_parts(o, t);
    aq_put_text(o, ",\n\"model\": {\n\"type\": \"BPE\",\n\"dropout\": null,\n\"unk_token\": ");
    put_unk(o, t);
    aq_put_format(o, ",\n\"continuing_subword_prefix\": null,\n\"end_of_word_suffix\": null,\n\"fuse_unk\": %s,\n\"byte_fallback\": %s,\n"
                     "\"ignore_merges\": %s,\n\"vocab\": ",
                  is_spm ? "true" : "false", is_spm && t->byte_ids ? "true" : "false", t->ignore_merges ? "true" : "false");
    put_vocab(o, t, t->n_vocab, UINT32_MAX);
    aq_put_text(o, ",\n\"merges\": [");
    AQ_TRY(put_merge_list(o, t, ",\n"));
    aq_put_text(o, "\n]\n}\n}\n");
    return o->status;
}

/* ---- the small files ---- */

/* "bos_token": "<s>", ...: roles of added tokens. Another token in a role would become a special one for who reads this; its number
 * stands in config.json. Returns how many came. */
static int put_roles(aq_put *o, const aq_tokenizer_source *t, const char *indent) {
    const struct {
        const char *key;
        int32_t id;
    } roles[] = {{"bos_token", t->bos}, {"eos_token", t->eos}, {"pad_token", t->pad}, {"unk_token", t->unk}};
    int n = 0;
    for (size_t k = 0; k < sizeof roles / sizeof *roles; k++) {
        const aq_added_token *a = find_added(t, roles[k].id);
        if (!a)
            continue;
        aq_put_format(o, "%s%s\"%s\": ", n++ ? ",\n" : "", indent, roles[k].key);
        put_json(o, a->text);
    }
    return n;
}

/* The two roles that FlagAI's code looks for, as it publishes them: without ids. */
#define FLAGAI_ROLE(key, text) "  \"" key "\": {\"content\": \"" text "\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": true}"
static const char flagai_map[] = "{\n" FLAGAI_ROLE("cls_token", "[CLS]") ",\n" FLAGAI_ROLE("sep_token", "</s>") "\n}\n";

static void put_config(aq_put *o, const aq_tokenizer_source *t, const char *chat_template, int64_t max_length) {
    aq_put_text(o, "{\n");
    if (put_roles(o, t, "  "))
        aq_put_text(o, ",\n");
    aq_put_text(o, "  \"added_tokens_decoder\": {");
    put_added(o, t, ADDED_BY_ID);
    aq_put_text(o, "\n  },\n  ");
    put_flag(o, "add_prefix_space", t->add_prefix_space);
    if (chat_template) {
        aq_put_text(o, ",\n  \"chat_template\": ");
        aq_put_json(o, chat_template, strlen(chat_template), "the chat template");
    }
    aq_put_format(o, ",\n  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %" PRId64 ",\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n",
                  max_length);
}

static void put_merges(aq_put *o, const aq_tokenizer_source *t) {
    aq_put_text(o, "#version: 0.2\n");
    for (uint32_t i = 0; i < t->n_merges; i++) {
        aq_put_bytes(o, t->merges[i].s, t->merges[i].n);
        aq_put_text(o, "\n");
    }
}

aq_status aq_tokenizer_put(const aq_tokenizer_source *t, const char *chat_template, int64_t max_length, aq_tokenizer_file f, aq_file_writer *w) {
    aq_put o = {.writer = w};
    uint32_t size = f == AQ_FILE_VOCAB ? aq_tokenizer_flagai_size(t) : 0;
    switch (f) {
    case AQ_FILE_TOKENIZER_JSON: return put_document(&o, t);
    case AQ_FILE_TOKENIZER_CONFIG: put_config(&o, t, chat_template, max_length); break;
    case AQ_FILE_SPECIAL_MAP:
        aq_put_text(&o, "{\n");
        put_roles(&o, t, "  ");
        aq_put_text(&o, "\n}\n");
        break;
    case AQ_FILE_FLAGAI_MAP: aq_put_text(&o, flagai_map); break;
    case AQ_FILE_VOCAB: /* of the FlagAI form, whose code counts special tokens on from its end */
        put_vocab(&o, t, size && size < t->n_vocab ? size : t->n_vocab, size);
        aq_put_text(&o, "\n");
        break;
    case AQ_FILE_MERGES: put_merges(&o, t); break;
    default:
        aq_put_text(&o, "{");
        put_added(&o, t, ADDED_MAP);
        aq_put_text(&o, "\n}\n");
    }
    return o.status;
}
