/* show_plan.h: `aquila show F.aqp`. */
#ifndef AQ_FRONTEND_CLI_SHOW_PLAN_H
#define AQ_FRONTEND_CLI_SHOW_PLAN_H

#include "frontend/cli/options.h"

/* Opens and checks the plan; prints its target, figures, tables, and with -v every step and the manifest. */
AQ_MUST_USE aq_status aq_plan_show(const aq_args *args, const char *path);

#endif
