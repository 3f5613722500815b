/* switches.c: the only call of getenv. */
#include "frontend/cli/switches.h"

#include <stdlib.h>

static const aq_switch_info table[AQ_SWITCH_COUNT] = {
#define SWITCH(ID, fallback, doc) {#ID, fallback, doc},
#include "frontend/cli/switches.def"
#undef SWITCH
};

const aq_switch_info *aq_switch_of(aq_switch_id id) {
    return &table[id];
}

const char *aq_switch(aq_switch_id id) {
    const char *value = getenv(table[id].name);
    return value && *value ? value : NULL;
}
