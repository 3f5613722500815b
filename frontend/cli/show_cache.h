/* show_cache.h: `aquila show cache`. */
#ifndef AQ_FRONTEND_CLI_SHOW_CACHE_H
#define AQ_FRONTEND_CLI_SHOW_CACHE_H

#include "frontend/cli/options.h"

/* What the cache holds; --clear removes it, --check looks at every byte of the packed weights and removes damaged files. */
AQ_MUST_USE aq_status aq_cache_show(const aq_args *a);

#endif
