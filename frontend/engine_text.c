/* engine_text.c: ids to text and back for who holds an engine. The program's verbs have tokenizers of their own (--tokenizer, templates, what a
 * user may not type); here is what the model brings along, made when it is first asked for. */
#include "frontend/engine.h"

static aq_status need_tokenizer(aq_engine *e, aq_engine_text **out) {
    const aq_checkpoint *c = aq_engine_checkpoint(e);
    *out = aq_engine_text_of(e);
    if ((*out)->tokenizer)
        return AQ_OK;
    if (c->tokenizer.kind == AQ_TOKENIZER_NONE)
        return aq_fail(AQ_REFUSED, c->path, "has no tokenizer: expected ids");
    AQ_TRY(aq_tokenizer_build(&c->tokenizer, &(*out)->tokenizer));
    (*out)->decoder = aq_decoder_open((*out)->tokenizer, 1);
    return AQ_OK;
}

aq_status aq_engine_tokenize(aq_engine *e, const char *text, size_t n, const int32_t **out_ids, size_t *out_n) {
    aq_engine_text *t;
    AQ_TRY(need_tokenizer(e, &t));
    t->ids.n = 0;
    AQ_TRY(aq_tokenizer_encode(t->tokenizer, text, n, 1, &t->ids));
    *out_ids = t->ids.at;
    *out_n = t->ids.n;
    return AQ_OK;
}

aq_status aq_engine_decode(aq_engine *e, int32_t id, const char **out_text, size_t *out_n) {
    aq_engine_text *t;
    aq_bytes text;
    AQ_TRY(need_tokenizer(e, &t));
    AQ_TRY(aq_decoder_push(&t->decoder, id, &text));
    *out_text = text.s;
    *out_n = text.n;
    return AQ_OK;
}

int64_t aq_engine_vocab(const aq_engine *e) { return aq_engine_checkpoint(e)->config.V; }
int32_t aq_engine_eos(const aq_engine *e) { return aq_engine_checkpoint(e)->config.eos; }

void aq_engine_text_close(aq_engine_text *t) {
    if (t->tokenizer)
        aq_decoder_close(&t->decoder);
    aq_ids_close(&t->ids);
    aq_tokenizer_close(t->tokenizer);
    *t = (aq_engine_text){0};
}
