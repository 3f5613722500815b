/* schedule.c: the schedule a region gets when nobody has tuned it: always legal (aq_lower fills in what it does not say), and good where
 * it matters: dots of panels keep a tile of accumulators in registers, rows are normalised one a work item, attention keeps its rows'
 * scores in registers and is split where tokens are few.
 *
 * The figures: an AVX-512 core has 32 registers of 16 numbers: 6 tokens x 32 columns is 12 accumulators, and as many sums of integers
 * beside them for blocks; dots that share a loop share the budget. x86-64-v3 has half the registers at half the width. Blocks of tokens are
 * as many as keep their activations in half of L2 while the columns go by. Few tokens read one panel at a time: a core draws more from
 * memory in one long stream than in several (Zen 4, 269 MB of bf16, 2 threads: 64 columns 124, 32 164, 16 204 tokens/s). */
#include "codegen/lower.h"
#include "ir/block.h"

#include <string.h>

/* Positions that attention takes at a time, and those of a piece: the same for every number of tokens, because they are part of the order of its
 * sums: an answer must not depend on how many tokens went with it in a step. */
enum { ATTEND_POSITIONS = 32, ATTEND_PIECE = 2 * AQ_PAGE };

/* The ranges of T of frontend/compile.c end at these. Up to SOME_TOKENS, blocks keep the tile of a few tokens, one panel by 4: it opens no weights
 * (they would not be used often enough) and cuts 9, 12 or 16 tokens well. D = 1024, tokens a processor second at T = 9, 12, 16, 24, 32 with the schedule
 * of many tokens, and with this: q4_k 370 500 510 620 628 -> 497 655 680 710 740; q5_k 16, 24, 32: 498 582 600 -> 570 663 682; q6_k 9, 16, 24: 366 506
 * 628 -> 394 555 590; q4_0 537 650 (16) 790 (24) -> 553 745 750. 6 or 8 tokens instead of 4: 5 % slower. Attention has its own border: at depth 1000 one
 * token a tile costs 13 % of a step of 32. */
enum { FEW_TOKENS = 8, SOME_TOKENS = 32 };

typedef struct look { /* what the region holds */
    int dots, blocks, pairs, widened, panels, rows_layout, row_sums;
    int dots_together; /* the most that share a loop */
    int64_t k;         /* the longest sum of a dot */
    aq_id token_sym;   /* of the first result's first axis */
    const aq_node *attend;
} look;

static const aq_type *in_type(const aq_module *m, const aq_node *n, int i) {
    return &m->values.at[aq_node_in(m, n)[i]].type;
}

/* The layout that the fused node of `body` has for a param; ROWS for anything else. */
static aq_layout layout_of(const aq_module *m, aq_id body, aq_id value) {
    const aq_body *b = &m->bodies.at[body];
    for (uint32_t p = 0; p < b->params.n; p++)
        if (b->params.at[p] == value)
            return aq_low_layout_of(m, body, p);
    return AQ_LAYOUT_ROWS;
}

static void look_at_dot(const aq_module *m, aq_id body, const aq_node *n, look *w) {
    w->dots++;
    aq_dtype x = in_type(m, n, 0)->dtype, weight = in_type(m, n, 1)->dtype;
    w->pairs += x == AQ_BF16 && weight == AQ_BF16;
    w->widened += x == AQ_F32 && (weight == AQ_BF16 || weight == AQ_F16);
    for (int i = 0; i < 2; i++) {
        const aq_type *t = in_type(m, n, i);
        aq_dim last = t->rank ? t->dim[t->rank - 1] : aq_dim_const(1);
        w->blocks |= aq_dtype_of(t->dtype)->block > 1;
        w->k = !last.sym && last.k > w->k ? last.k : w->k;
        if (t->rank == 2 && m->values.at[aq_node_in(m, n)[i]].kind == AQ_VALUE_PARAM && i == 1) {
            int panel = layout_of(m, body, aq_node_in(m, n)[i]) == AQ_LAYOUT_PANEL;
            w->panels += panel;
            w->rows_layout += !panel;
        }
    }
}

/* Dots of equal shapes whose results meet in one map: gate and up. */
static int meet(const aq_module *m, const aq_body *b) {
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        int below = 0;
        for (int k = 0; k < n->n_in && (aq_op_of(n->op)->traits & AQ_MAP); k++) {
            aq_id v = aq_node_in(m, n)[k];
            for (int up = 0; up < 4 && m->values.at[v].kind == AQ_VALUE_RESULT; up++) { /* through a chain of maps */
                const aq_node *from = &m->nodes.at[m->values.at[v].node];
                if (from->op == AQ_OP_dot) {
                    below++;
                    break;
                }
                if (!(aq_op_of(from->op)->traits & AQ_MAP) || !from->n_in)
                    break;
                v = aq_node_in(m, from)[0];
            }
        }
        if (below >= 2)
            return below;
    }
    return 1;
}

static look look_at(const aq_module *m, aq_id body) {
    look w = {0};
    const aq_body *b = &m->bodies.at[body];
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        if (n->op == AQ_OP_dot)
            look_at_dot(m, body, n, &w);
        if (n->op == AQ_OP_attend)
            w.attend = n;
        w.row_sums |= (aq_op_of(n->op)->traits & AQ_REDUCE) != 0;
    }
    w.dots_together = meet(m, b);
    for (uint32_t i = 0; i < b->results.n && !w.token_sym; i++) {
        const aq_type *t = &m->values.at[b->results.at[i]].type;
        if (t->rank && !m->values.at[b->results.at[i]].state)
            w.token_sym = t->dim[0].sym;
    }
    return w;
}

/* ---- writing it down ---- */

static void axis(aq_schedule *s, const char *name, int32_t a, int32_t b, int16_t lanes, int is_for) {
    aq_axis_plan *p = &s->axis[s->n_axes++];
    *p = (aq_axis_plan){.axis = name, .step = {a, b, 0}, .lanes = lanes, .role = {is_for ? AQ_ROLE_FOR : AQ_ROLE_TILES}};
}

static int32_t at_least(int64_t x, int64_t lo) {
    return (int32_t)(x < lo ? lo : x);
}

/* Rows whose logits are wanted are often one of many tokens, or one of each of a few sequences: two share a panel (SmolLM2, eight sequences a step:
 * one at a time 17.4 ms, two 16.1, four 15.8; where one is wanted, two cost what one does). */
static void plan_dots(aq_schedule *s, const look *w, const aq_target *t, int64_t t_hi, int wanted_rows) {
    int wide = t->has_avx512 || t->is_ref, few = t_hi == 1 && !wanted_rows, one_row = few || wanted_rows;
    int small = t_hi <= (w->blocks ? SOME_TOKENS : FEW_TOKENS);
    int unpacked = (w->blocks && w->dots_together > 1) || w->widened == w->dots;
    int thin = unpacked && w->panels && wide; /* one panel of each and twice the tokens: a piece is unpacked for more rows */
    int32_t tokens = few || (wanted_rows && t_hi == 1) ? 1 : wanted_rows ? 2 : (wide ? 6 : 3) * (thin ? 2 : 1) / w->dots_together;
    if (w->rows_layout && !w->panels) { /* lanes along the sum; a few rows side by side */
        tokens = few || wanted_rows ? 1 : 2;
        axis(s, "n", few ? 4 : 64, few ? 0 : 4, 0, 0);
        axis(s, "d", w->blocks ? 32 : few ? 64 : 32, 0, w->blocks ? 0 : 16, 0);
    } else {
        axis(s, "n", one_row || small || thin ? 16 : wide ? 32 : 16, 0, 16, 0);
        axis(s, "d", w->blocks ? 32 : w->widened == w->dots ? 8 : 4, 0, 0, 0);
        if (t->has_bf16 && w->pairs == w->dots) { /* for all numbers of tokens, because it is part of the order of the sums */
            s->axis[s->n_axes - 1].step[1] = 2;
            s->axis[s->n_axes - 1].role[1] = AQ_ROLE_MMA;
        }
    }
    tokens = at_least(tokens, 1);
    if (!few && small && tokens > 4)
        tokens = 4;
    int64_t bytes = 9 * at_least(w->k, 1) / 4, block = (int64_t)t->l2_bytes / 2 / bytes / tokens * tokens;
    block = block > 96 ? 96 / tokens * tokens : at_least(block, tokens);
    if (few || (t_hi <= block && !wanted_rows))
        axis(s, "t", tokens, 0, 0, 0);
    else
        axis(s, "t", wanted_rows ? 16 : (int32_t)block, tokens, 0, 0);
}

static void plan_attend(const aq_module *m, aq_schedule *s, const look *w, const aq_target *t, int64_t t_hi) {
    int64_t group = in_type(m, w->attend, 0)->dim[1].k / in_type(m, w->attend, 1)->dim[1].k, rows = group,
            most = t->has_avx512 || t->is_ref ? 12 : 4;
    while (rows > most || group % rows)
        rows--;
    int64_t tokens = t_hi <= FEW_TOKENS ? 1 : most / rows; /* a few: most often the next ones of several sequences, one each */
    axis(s, "t", at_least(tokens, 1), tokens > 1, 0, 0);
    axis(s, "j", (int32_t)rows, 0, 0, 0);
    axis(s, "s", t->has_avx512 || t->is_ref ? ATTEND_POSITIONS : 16, 0, 16, 0);
    axis(s, "f", 4, 0, 0, 0);
    axis(s, "e", 16, 0, 16, 0);
    if (t_hi <= FEW_TOKENS)
        s->split = ATTEND_PIECE;
    else
        axis(s, "c", ATTEND_PIECE, 0, 0, 0);
}

static aq_axis_plan *plan_of(aq_schedule *s, char letter) {
    for (int i = 0; i < s->n_axes; i++)
        if (s->axis[i].axis[0] == letter)
            return &s->axis[i];
    return NULL;
}

/* A millisecond. */
static aq_status lowers(const aq_module *m, aq_id body, const aq_schedule *s, int *out) {
    aq_arena scratch = {0};
    aq_nest *n;
    aq_status status = aq_lower(m, body, s, "k", &scratch, &n);
    aq_arena_close(&scratch);
    *out = status == AQ_OK;
    return status == AQ_REFUSED ? AQ_OK : status;
}

enum { OPEN_TOKENS = 258, OPEN_BYTES = 8 << 20 /* of activations: they come from L3, which the workers share */ };

/* Weights with steps in their integers (the K types) that int16 activations meet, in panels, are opened once for all tokens of a work item: bits the
 * same, and from some twenty tokens on faster (emit_wide.c). The more tokens the better, though their activations leave L2: q6_k, 512 tokens, K = 1024,
 * 96 at a time 178, 258 180, 516 184 Gop/s; K = 2816, 78 175, 258 180; K = 11008, 84 120, 258 177, one panel for 12 tokens 146. Tried and dropped
 * for the other types, whose codes are quick to unpack: q4_0 at 512 tokens 196 -> 194, at 16 181 -> 158; iq4_xs 199 -> 200, at 24 206 -> 188.
 * Activations of bytes would lose: their dots take the codes as bytes. */
static aq_status open_weights(aq_module *m, aq_id body, const look *w, const aq_target *t, aq_schedule *s) {
    const aq_body *b = &m->bodies.at[body];
    aq_axis_plan *n_plan = plan_of(s, 'n'), *t_plan = plan_of(s, 't');
    int64_t row = 9 * at_least(w->k, 1) / 4; /* bytes, about the same for both sides */
    aq_axis_plan n_before = *n_plan, before = *t_plan;
    int64_t room = (int64_t)t->l2_bytes / row / w->dots_together;
    int first = s->n_values, tokens = t_plan->step[1] ? t_plan->step[1] : t_plan->step[0];
    if (!t->has_avx512 || room < AQ_PANEL_ROWS)
        return AQ_OK;
    if (n_plan->step[0] > room) { /* the longest rows of the largest models: one panel at a time, for twice the tokens */
        n_plan->step[0] = AQ_PANEL_ROWS;
        tokens *= 2;
    }
    for (uint32_t i = 0; i < b->nodes.n && s->n_values < AQ_MAX_VALUES; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        if (n->op != AQ_OP_dot || in_type(m, n, 0)->dtype != AQ_A16 || in_type(m, n, 1)->rank != 2)
            continue;
        aq_id weight = aq_node_in(m, n)[1];
        aq_dtype type = in_type(m, n, 1)->dtype;
        char name[96];
        aq_value_plan *p = &s->value[s->n_values];
        if (aq_dtype_of(type)->kind != AQ_KIND_WEIGHT || !aq_block_of(type)->steps || aq_block_steps_scale(aq_block_of(type)) ||
            layout_of(m, body, weight) != AQ_LAYOUT_PANEL || aq_low_value_plan(m, b, s, weight))
            continue;
        aq_low_value_name(m, b, weight, name, sizeof name);
        *p = (aq_value_plan){.kept = AQ_KEPT_LOCAL};
        AQ_TRY(aq_arena_string(&m->arena, name, strlen(name), &p->value));
        s->n_values++;
    }
    int64_t block = OPEN_BYTES / row;
    block = (block < OPEN_TOKENS ? at_least(block, tokens) : OPEN_TOKENS) / tokens * tokens;
    t_plan->step[0] = (int32_t)block;
    t_plan->step[1] = block > tokens ? tokens : 0;
    t_plan->role[1] = 0;
    int fits = s->n_values > first;
    if (fits)
        AQ_TRY(lowers(m, body, s, &fits));
    if (!fits) { /* a dot whose rows are not simply an axis */
        s->n_values = (uint8_t)first;
        *t_plan = before;
        *n_plan = n_before;
    }
    return AQ_OK;
}

aq_status aq_schedule_default(aq_module *m, aq_id body, const aq_target *t, int64_t t_lo, int64_t t_hi, aq_schedule **out) {
    aq_schedule *s;
    (void)t_lo;
    AQ_ALLOC(&m->arena, s, 1);
    s->target = t->is_ref ? "ref" : t->has_avx512 ? "cpu.v4" : "cpu.v3";
    look w = look_at(m, body);
    aq_id T = aq_sym_find(m, "T", 1);
    int wanted_rows = w.token_sym && T && w.token_sym != T;
    if (w.attend)
        plan_attend(m, s, &w, t, t_hi);
    else if (w.dots)
        plan_dots(s, &w, t, t_hi, wanted_rows);
    else
        axis(s, "t", 1, 0, 0, 0);
    axis(s, "r", 64, 0, 16, 0);
    if (w.panels && !w.attend && t_hi > SOME_TOKENS && !wanted_rows)
        AQ_TRY(open_weights(m, body, &w, t, s));
    *out = s;
    return AQ_OK;
}
