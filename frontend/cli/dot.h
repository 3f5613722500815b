/* dot.h: a graph as Graphviz text: `aquila opt FILE.aq --dot | dot -Tsvg`. */
#ifndef AQ_FRONTEND_CLI_DOT_H
#define AQ_FRONTEND_CLI_DOT_H

#include "ir/graph.h"

/* Every graph of the module on standard output. */
void aq_dot_print(const aq_module *m);

#endif
