/* stats.h: `aquila tokenize --stats A B C`: tokens per text for several tokenizers. */
#ifndef AQ_FRONTEND_CLI_STATS_H
#define AQ_FRONTEND_CLI_STATS_H

#include "frontend/cli/options.h"

AQ_MUST_USE aq_status aq_stats_run(const aq_args *args);

#endif
