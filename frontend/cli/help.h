/* help.h: what the tables of verbs and options say, on standard output. */
#ifndef AQ_FRONTEND_CLI_HELP_H
#define AQ_FRONTEND_CLI_HELP_H

#include "frontend/cli/options.h"

/* By --help on any verb; with --json as a document. */
AQ_MUST_USE aq_status aq_help_verb(const aq_args *a, const aq_verb *v);

#endif
