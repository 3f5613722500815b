/* source_model.c: tokenizer.model, SentencePiece's own file: a protobuf message (sentencepiece_model.proto) with the pieces and how they were
 * trained. Read is the model type BPE, as transformers' LlamaTokenizer read it: control pieces are added tokens, matched in the text as it is;
 * user-defined ones are SentencePiece's own affair: found in the text with its prefix, which does not begin again behind them. Another model type, or a normalizer that changes more than spaces, is refused by its name.
 *
 *   ModelProto      1 pieces, 2 trainer_spec, 3 normalizer_spec
 *   SentencePiece   1 text, 2 score (float), 3 type (normal 1 unknown 2 control 3 user-defined 4 unused 5 byte 6)
 *   TrainerSpec     3 model_type (unigram 1 BPE 2 word 3 char 4), 24 treat_whitespace_as_suffix, 35 byte_fallback, 40 unk_id, 41 bos_id, 42 eos_id,
 *                   43 pad_id
 *   NormalizerSpec  1 name, 2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces */
#include "frontend/reasons.h"
#include "frontend/tokenizer/internal.h"

#include <string.h>

/* The numbers of fields, message by message. */
enum { PIECES = 1, TRAINER = 2, NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { MODEL_TYPE = 3, SPACE_AS_SUFFIX = 24, BYTE_FALLBACK = 35, UNK_ID = 40, BOS_ID = 41, EOS_ID = 42, PAD_ID = 43 };
enum { NAME = 1, CHARSMAP = 2, DUMMY_PREFIX = 3, REMOVE_SPACES = 4, ESCAPE_SPACES = 5 };
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4 };
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef struct message {
    const char *at, *end;
} message;

typedef struct field {
    uint32_t number, wire;
    uint64_t value; /* of VARINT and FIXED32 */
    message inside; /* of BYTES */
} field;

static aq_status malformed(const aq_source_reader *r, const char *what) {
    return aq_refuse(AQ_WHY_TOKENIZER_PROTOBUF, r->place, "%s: a SentencePiece model expected", what);
}

static int read_varint(message *m, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        uint8_t b = (uint8_t)*m->at++;
        *out |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80))
            return 1;
    }
    return 0;
}

/* The next field; m->at < m->end. */
static aq_status read_field(const aq_source_reader *r, message *m, field *out) {
    uint64_t tag, n = 0;
    if (!read_varint(m, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
        return malformed(r, "no field where one should begin");
    *out = (field){.number = (uint32_t)(tag >> 3), .wire = (uint32_t)(tag & 7)};
    if (out->wire == VARINT)
        return read_varint(m, &out->value) ? AQ_OK : malformed(r, "a number that is cut off");
    if (out->wire == BYTES ? !read_varint(m, &n) : out->wire == FIXED64 ? (n = 8, 0) : out->wire == FIXED32 ? (n = 4, 0) : 1)
        return malformed(r, "a field of no known kind");
    if (n > (uint64_t)(m->end - m->at))
        return malformed(r, "a field longer than the rest of its message");
    out->inside = (message){m->at, m->at + n};
    if (out->wire == FIXED32)
        for (int i = 0; i < 4; i++)
            out->value |= (uint64_t)(uint8_t)m->at[i] << 8 * i;
    m->at += n;
    return AQ_OK;
}

/* What a model says, gathered before it is judged. */
typedef struct model {
    aq_bytes *texts; /* room for all pieces: counted first, since an empty one takes two bytes of the file and twenty here */
    float *scores;
    uint32_t n;
    uint64_t type, is_suffix, byte_fallback, dummy_prefix, remove_spaces, escape_spaces;
    int64_t ids[4]; /* unk, bos, eos, pad */
    message name, charsmap;
} model;

static aq_status read_piece(aq_source_reader *r, message m, model *to) {
    aq_bytes text = {"", 0};
    uint64_t type = NORMAL;
    uint32_t bits = 0;
    float score;
    while (m.at < m.end) {
        field f;
        AQ_TRY(read_field(r, &m, &f));
        if (f.number == PIECE_TEXT && f.wire == BYTES)
            text = (aq_bytes){f.inside.at, (uint32_t)(f.inside.end - f.inside.at)};
        else if (f.number == PIECE_SCORE && f.wire == FIXED32)
            bits = (uint32_t)f.value;
        else if (f.number == PIECE_TYPE && f.wire == VARINT)
            type = f.value;
    }
    if (r->added.n == AQ_ADDED_LIMIT)
        return aq_tokenizer_refuse_size(r->place, "added tokens", (size_t)r->added.n + 1);
    memcpy(&score, &bits, sizeof score);
    AQ_TRY(aq_arena_string(r->arena, text.s, text.n, &text.s));
    int is_user = type == USER_DEFINED, is_added = text.n && (type == UNKNOWN || type == CONTROL || is_user);
    if (is_added)
        AQ_PUSH(r->arena, &r->added,
                ((aq_added_token){.text = text, .id = (int32_t)to->n, .special = !is_user, .normalized = (uint8_t)is_user, .frozen = (uint8_t)is_user}));
    if (is_added && !is_user)
        text.n = 0; /* merges do not make it */
    to->texts[to->n] = text;
    to->scores[to->n++] = score;
    return AQ_OK;
}

static aq_status read_trainer(const aq_source_reader *r, message m, model *to) {
    while (m.at < m.end) {
        field f;
        AQ_TRY(read_field(r, &m, &f));
        if (f.wire != VARINT)
            continue;
        if (f.number == MODEL_TYPE)
            to->type = f.value;
        else if (f.number == SPACE_AS_SUFFIX)
            to->is_suffix = f.value;
        else if (f.number == BYTE_FALLBACK)
            to->byte_fallback = f.value;
        else if (f.number >= UNK_ID && f.number <= PAD_ID)
            to->ids[f.number - UNK_ID] = (int32_t)(uint32_t)f.value; /* an int32 of the format: -1 is 2^64 - 1 */
    }
    return AQ_OK;
}

static aq_status read_normalizer(const aq_source_reader *r, message m, model *to) {
    while (m.at < m.end) {
        field f;
        AQ_TRY(read_field(r, &m, &f));
        if (f.number == NAME && f.wire == BYTES)
            to->name = f.inside;
        else if (f.number == CHARSMAP && f.wire == BYTES)
            to->charsmap = f.inside;
        else if (f.number == DUMMY_PREFIX && f.wire == VARINT)
            to->dummy_prefix = f.value;
        else if (f.number == REMOVE_SPACES && f.wire == VARINT)
            to->remove_spaces = f.value;
        else if (f.number == ESCAPE_SPACES && f.wire == VARINT)
            to->escape_spaces = f.value;
    }
    return AQ_OK;
}

static aq_status judge(const aq_source_reader *r, const model *m) {
    static const char *const names[] = {"another type", "unigram", "BPE", "word", "char"};
    if (m->type != 2)
        return aq_refuse(AQ_WHY_TOKENIZER_MODEL_TYPE, r->place, "a SentencePiece model of the type %s: BPE expected", names[m->type < 5 ? m->type : 0]);
    if (m->charsmap.at != m->charsmap.end)
        return aq_refuse(AQ_WHY_TOKENIZER_CHARSMAP, r->place, "the normalizer \"%.*s\" maps characters: identity expected",
                         (int)(m->name.end - m->name.at < 60 ? m->name.end - m->name.at : 60), m->name.at ? m->name.at : "");
    if (m->remove_spaces || !m->escape_spaces || m->is_suffix)
        return aq_refuse(AQ_WHY_TOKENIZER_SPACES, r->place, "%s: spaces as they are, before words, expected",
                         m->remove_spaces ? "remove_extra_whitespaces is on" : m->is_suffix ? "treat_whitespace_as_suffix is on"
                                                                                            : "escape_whitespaces is off");
    return AQ_OK;
}

static int32_t known_id(const model *m, int which) { return m->ids[which] >= 0 && m->ids[which] < m->n ? (int32_t)m->ids[which] : -1; }

static aq_status count_pieces(const aq_source_reader *r, message all, size_t *out) {
    *out = 0;
    while (all.at < all.end) {
        field f;
        AQ_TRY(read_field(r, &all, &f));
        *out += f.number == PIECES && f.wire == BYTES;
    }
    if (*out == 0)
        return malformed(r, "no pieces");
    return *out > AQ_TOKENIZER_LIMIT ? aq_tokenizer_refuse_size(r->place, "pieces", *out) : AQ_OK;
}

aq_status aq_source_parse_model(aq_source_reader *r, const char *text, size_t n) {
    size_t pieces;
    model m = {.type = 1, .dummy_prefix = 1, .remove_spaces = 1, .escape_spaces = 1, .ids = {0, 1, 2, -1}};
    message all = {text, text + n};
    AQ_TRY(count_pieces(r, all, &pieces));
    AQ_ALLOC(r->arena, m.texts, pieces);
    AQ_ALLOC(r->arena, m.scores, pieces);
    while (all.at < all.end) {
        field f;
        AQ_TRY(read_field(r, &all, &f));
        if (f.wire != BYTES)
            continue;
        if (f.number == PIECES)
            AQ_TRY(read_piece(r, f.inside, &m));
        else if (f.number == TRAINER)
            AQ_TRY(read_trainer(r, f.inside, &m));
        else if (f.number == NORMALIZER)
            AQ_TRY(read_normalizer(r, f.inside, &m));
    }
    AQ_TRY(judge(r, &m));
    aq_tokenizer_source *out = r->out;
    out->kind = AQ_TOKENIZER_SPM;
    out->pre = AQ_PRE_WHOLE;
    out->vocab = m.texts;
    out->n_vocab = m.n;
    out->scores = m.scores;
    out->add_prefix_space = m.dummy_prefix ? AQ_PREFIX_ALWAYS : AQ_PREFIX_NONE;
    out->strips = m.dummy_prefix != 0;
    out->normalizes = out->fuse_unk = out->add_bos = 1;
    out->unk = known_id(&m, 0), out->bos = known_id(&m, 1), out->eos = known_id(&m, 2), out->pad = known_id(&m, 3);
    out->unk_bytes = out->unk >= 0;
    return m.byte_fallback ? aq_tokenizer_source_bytes(r->arena, out, 1) : AQ_OK;
}
