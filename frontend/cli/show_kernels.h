/* show_kernels.h: `aquila show kernels MODEL`. */
#ifndef AQ_FRONTEND_CLI_SHOW_KERNELS_H
#define AQ_FRONTEND_CLI_SHOW_KERNELS_H

#include "frontend/cli/options.h"

/* The distinct kernels of a plan (.aqp), or of the plan that this model gets here: compiled, or from the cache. */
AQ_MUST_USE aq_status aq_kernels_show(const aq_args *args, const char *model);

#endif
