/* region.h: one region, run as a graph by the reference and as a nest by whoever runs nests, on the same random data, and compared. */
#ifndef AQ_TESTS_SUPPORT_REGION_H
#define AQ_TESTS_SUPPORT_REGION_H

#include "codegen/codegen.h"
#include "codegen/ref/ref.h"

enum { REGION_MAX = 40 };

typedef struct region_data { /* one value in row-major form, as bytes of its dtype */
    aq_type type;
    int64_t dim[AQ_MAX_RANK];
    unsigned char *rows, *want; /* want: what the reference made of it (states and results) */
    int is_output;
} region_data;

typedef struct region {
    aq_module *m;
    aq_id graph, node, body; /* the graph holds one `fused` node, `body` is its region */
    int64_t sym[16];
    aq_arena arena;
    region_data in[REGION_MAX], out[REGION_MAX]; /* inputs and results of the fused node */
    int32_t *field[6];
    int64_t n_field[6];
    double tolerance;
} region;

/* Data of seed for T = t; `panels`: matrices of weights and states in the layouts of the CPU; 2: weights in planes. Runs the reference graph. 0, or the reason.
 */
const char *region_open(region *r, aq_module *m, int64_t t, int panels, uint64_t seed);
void region_close(region *r);

/* Runs the nest with `run` and compares what it left in outputs and states. 0, or the reason (in the arena). */
typedef aq_status (*region_runner)(void *user, const aq_nest *n, void *const *buf, const int64_t *sym, uint64_t seed);
const char *region_compare(region *r, const aq_nest *n, region_runner run, void *user, uint64_t seed);
aq_status region_run_ref(void *user, const aq_nest *n, void *const *buf, const int64_t *sym, uint64_t seed);

/* Text to comparison with the reference of nests; fails the test with the region, the schedule and the nest. */
void region_check(const char *story, const char *text, const char *schedule, int64_t t, int panels, uint64_t seed);

#endif
