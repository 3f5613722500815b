/* help.h: what the tables of verbs and options say, as text on standard output. */
#ifndef AQ_FRONTEND_CLI_HELP_H
#define AQ_FRONTEND_CLI_HELP_H

#include "frontend/cli/options.h"

void aq_help_all(void);
void aq_help_verb(const aq_verb *v);

#endif
