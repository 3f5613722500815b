/* main.c: the program: reads the command line, runs the verb, turns its status into one line and an exit status. */
#include "codegen/cpu/cpu.h"
#include "frontend/cli/common.h"
#include "frontend/cli/help.h"
#include "frontend/cli/json.h"
#include "frontend/cli/switches.h"

int main(int argc, char **argv) {
    aq_signals_open();
    aq_json_open();
    if (aq_switch(AQ_SWITCH_AQ_LLVM))
        aq_cpu_llvm_use(aq_switch(AQ_SWITCH_AQ_LLVM));
    aq_args args;
    aq_status status = aq_args_parse(argc, argv, &args);
    if (status == AQ_OK && aq_arg_given(&args, AQ_OPT_HELP))
        status = aq_help_verb(&args, args.verb);
    else if (status == AQ_OK)
        status = args.verb->run(&args);
    if (status == AQ_OK || status == AQ_CHECK_FAILED) {
        aq_status written = aq_output_finish();
        status = written == AQ_OK ? status : written;
    }
    int verbose = aq_arg_given(&args, AQ_OPT_VERBOSE);
    aq_args_close(&args);
    return aq_report(status, verbose);
}
