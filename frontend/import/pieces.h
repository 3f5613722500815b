/* pieces.h: the two spellings of SentencePiece's BPE turned into each other: scores, as GGUF has them (the pair that makes the piece of the highest
 * score is merged first), and a list of merges, as tokenizer.json has it (the first in the list goes first). */
#ifndef AQ_FRONTEND_IMPORT_PIECES_H
#define AQ_FRONTEND_IMPORT_PIECES_H

#include "frontend/tokenizer/tokenizer.h"

/* Scores of the n_vocab pieces: of one that merges make, minus 1 minus the rank of the first; 0 of others. */
AQ_MUST_USE aq_status aq_pieces_scores(aq_arena *arena, const aq_tokenizer_source *t, float **out);

typedef struct aq_piece_merge {
    uint32_t left, right, made; /* ids */
    float score;
} aq_piece_merge;

/* Every way in which two pieces make a third, in falling order of its score, then by the ids of the parts: what Hugging Face's conversion of a
 * SentencePiece model lists. Cost: pieces times their length. */
AQ_MUST_USE aq_status aq_pieces_merges(aq_arena *arena, const aq_tokenizer_source *t, aq_piece_merge **out, uint32_t *out_n);

#endif
