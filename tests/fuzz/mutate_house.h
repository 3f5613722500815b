/* mutate_house.h: the words of model texts, nests and schedules, for mutate_text. */
#ifndef AQ_TESTS_FUZZ_MUTATE_HOUSE_H
#define AQ_TESTS_FUZZ_MUTATE_HOUSE_H

#include "tests/fuzz/mutate.h"

static const char *const aq_house_words[] = {
#define OP(ID, ...) #ID "(",
#include "ir/ops.def"
#undef OP
#define ATTR(key, kind, doc) "{" #key "=", ", " #key "=",
#include "ir/attrs.def"
#undef ATTR
#define MONOID(id, text, parts, doc) text, #id,
#include "ir/reduce.def"
#undef MONOID
#define DTYPE(ID, name, ...) #name, ": " #name "[",
#include "ir/dtype.def"
#undef DTYPE
    "T", "O", "B", "S", "P", "*", "+", "-", "/", "..", "->", "%x", "%x2", "@w", "@w[l]", "sym", "dims", "weight", "state", "graph", "return", "repeat", "region",
    "model", "panel", "in", "out", "scratch", "axis", "phase", "tiles", "by", "for", "lanes", "acc", "let", "store", "unroll", "split", "late", "warps", "serial",
    "tile", "if", "while", "{", "}", "[", "]", "(", ")", ",", ":", ";", "=", "+=", "max=", "0", "1", NULL};

#endif
