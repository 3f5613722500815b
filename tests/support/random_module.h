/* random_module.h: random legal modules: every op, weights of every type, states with several versions, regions, layers, odd numbers. */
#ifndef AQ_TESTS_SUPPORT_RANDOM_MODULE_H
#define AQ_TESTS_SUPPORT_RANDOM_MODULE_H

#include "ir/graph.h"
#include "ir/random.h"

/* Opens *m with one graph of about `nodes` nodes. floats_only: no block types, so every pass may run. used[op] counts ops (may be NULL). */
void aq_random_module(uint64_t seed, int nodes, int with_regions, aq_module *m, int *used);

/* Its print, in `arena`; fails the test if it cannot be printed. */
const char *aq_print_or_fail(const aq_module *m, aq_arena *arena);

#endif
