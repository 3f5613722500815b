/* switches.h: the environment, read in one place. The table is switches.def; `aquila show switches` prints it. */
#ifndef AQ_FRONTEND_CLI_SWITCHES_H
#define AQ_FRONTEND_CLI_SWITCHES_H

typedef enum aq_switch_id {
#define SWITCH(ID, fallback, doc) AQ_SWITCH_##ID,
#include "frontend/cli/switches.def"
#undef SWITCH
    AQ_SWITCH_COUNT
} aq_switch_id;

typedef struct aq_switch_info {
    const char *name, *fallback, *doc;
} aq_switch_info;

const aq_switch_info *aq_switch_of(aq_switch_id id);

/* Its value, or NULL where it is not set or empty. */
const char *aq_switch(aq_switch_id id);

#endif
