/* reasons.h: the numbers of reasons.def, for aq_refuse. */
#ifndef AQ_FRONTEND_REASONS_H
#define AQ_FRONTEND_REASONS_H

enum {
    AQ_WHY_NONE = 0,
#define REASON(NAME, number, doc) AQ_WHY_##NAME = (number),
#include "frontend/reasons.def"
#undef REASON
};

#endif
