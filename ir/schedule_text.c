/* schedule_text.c: schedules as text and back: what stands between `schedule TARGET {` and `}`.
 *
 *   AXIS STEP [tiles|for|unroll|warps|mma] ... [lanes [WIDTH] [vec N]] ;     steps outer to inner, at most 3; a width left out is the innermost step
 *   VALUE [inline|tile|phase|late] [in reg|local|scratch] [stages N] ;     VALUE with or without its sigil
 *   split N ;
 * An axis is told from a value by what follows it: a number or `lanes`. The text may also carry its own `schedule TARGET {` and `}`. */
#include "ir/nest.h"
#include "ir/scan.h"

#include <string.h>

static const char *const role_names[] = {"", "tiles", "for", "unroll", "warps", "mma"};
static const char *const made_names[] = {"", "inline", "tile", "phase", "late"};
static const char *const kept_names[] = {"", "reg", "local", "scratch"};
enum { ROLES = AQ_ROLE_MMA, MADES = AQ_MADE_LATE, KEPTS = AQ_KEPT_SCRATCH };

static aq_status print_axis(const aq_axis_plan *a, aq_text *t) {
    AQ_TRY(aq_text_add(t, "%s", a->axis));
    int32_t last = 0;
    for (int i = 0; i < 3 && a->step[i]; i++) {
        AQ_TRY(aq_text_add(t, " %d", a->step[i]));
        if (a->role[i] && a->role[i] <= ROLES)
            AQ_TRY(aq_text_add(t, " %s", role_names[a->role[i]]));
        last = a->step[i];
    }
    if (a->lanes)
        AQ_TRY(aq_text_add(t, a->lanes == last ? " lanes" : " lanes %d", a->lanes));
    return a->vec ? aq_text_add(t, " vec %d", a->vec) : AQ_OK;
}

static aq_status print_value(const aq_value_plan *v, aq_text *t) {
    AQ_TRY(aq_text_add(t, "%%%s", v->value));
    if (v->made && v->made <= MADES)
        AQ_TRY(aq_text_add(t, " %s", made_names[v->made]));
    if (v->kept && v->kept <= KEPTS)
        AQ_TRY(aq_text_add(t, " in %s", kept_names[v->kept]));
    return v->stages ? aq_text_add(t, " stages %d", v->stages) : AQ_OK;
}

aq_status aq_print_schedule(const aq_schedule *s, aq_text *out) {
    const char *between = "";
    for (int i = 0; i < s->n_axes && i < AQ_MAX_AXES; i++, between = "; ") {
        AQ_TRY(aq_text_add(out, "%s", between));
        AQ_TRY(print_axis(&s->axis[i], out));
    }
    for (int i = 0; i < s->n_values && i < AQ_MAX_VALUES; i++, between = "; ") {
        AQ_TRY(aq_text_add(out, "%s", between));
        AQ_TRY(print_value(&s->value[i], out));
    }
    return s->split ? aq_text_add(out, "%ssplit %d", between, s->split) : AQ_OK;
}

/* The row of `names` that comes next, 0 if none does. */
static int choice(aq_scan *s, const char *const *names, int n) {
    for (int i = 1; i <= n; i++)
        if (aq_scan_keyword(s, names[i]))
            return i;
    return 0;
}

static aq_status small(aq_scan *s, const char *what, uint8_t *out) {
    int64_t k;
    AQ_TRY(aq_scan_whole(s, 0, 255, what, &k));
    *out = (uint8_t)k;
    return AQ_OK;
}

static aq_status read_axis(aq_scan *s, aq_arena *arena, aq_word name, aq_schedule *out) {
    double x;
    int whole, n = 0;
    int64_t k;
    if (out->n_axes == AQ_MAX_AXES)
        return aq_scan_fail(s, "too many axes: expected at most %d", AQ_MAX_AXES);
    aq_axis_plan *a = &out->axis[out->n_axes++];
    AQ_TRY(aq_arena_string(arena, name.at, name.n, &a->axis));
    for (aq_scan before = *s; n < 3 && aq_scan_number(s, &x, &whole); before = *s) {
        *s = before;
        AQ_TRY(aq_scan_whole(s, 1, 1 << 30, "step", &k));
        a->step[n] = (int32_t)k;
        a->role[n] = (uint8_t)choice(s, role_names, ROLES);
        if (a->role[n] >= AQ_ROLE_WARPS && (n == 0 || a->step[n - 1] % a->step[n]))
            return aq_scan_fail(s, "%s of %d: expected a step before it that this one divides", role_names[a->role[n]], a->step[n]);
        n++;
    }
    if (!aq_scan_keyword(s, "lanes"))
        return AQ_OK;
    k = n ? a->step[n - 1] : 0;
    aq_scan before = *s;
    if (aq_scan_number(s, &x, &whole)) {
        *s = before;
        AQ_TRY(aq_scan_whole(s, 1, 1024, "number of lanes", &k));
    }
    if (k < 1 || k > 1024 || (n && a->step[n - 1] % k))
        return aq_scan_fail(s, "lanes %lld do not divide the step of %d: expected 1 to 1024 that do", (long long)k, n ? a->step[n - 1] : 0);
    a->lanes = (int16_t)k;
    if (!aq_scan_keyword(s, "vec"))
        return AQ_OK;
    AQ_TRY(aq_scan_whole(s, 1, 64, "number of elements side by side", &k));
    a->vec = (int16_t)k;
    return AQ_OK;
}

static aq_status read_value(aq_scan *s, aq_arena *arena, aq_word name, aq_schedule *out) {
    if (out->n_values == AQ_MAX_VALUES)
        return aq_scan_fail(s, "too many values: expected at most %d", AQ_MAX_VALUES);
    aq_value_plan *v = &out->value[out->n_values++];
    AQ_TRY(aq_arena_string(arena, name.at, name.n, &v->value));
    v->made = (uint8_t)choice(s, made_names, MADES);
    if (aq_scan_keyword(s, "in") && !(v->kept = (uint8_t)choice(s, kept_names, KEPTS)))
        return aq_scan_fail(s, "unknown place: expected in reg, in local or in scratch");
    if (aq_scan_keyword(s, "stages"))
        AQ_TRY(small(s, "number of stages", &v->stages));
    if (!v->made && !v->kept && !v->stages)
        return aq_scan_fail(s, "nothing is said of %s: expected steps, or inline, tile, phase, late, in ..", v->value);
    return AQ_OK;
}

static aq_status read_item(aq_scan *s, aq_arena *arena, aq_schedule *out) {
    double x;
    int whole;
    int64_t k;
    aq_word name = aq_scan_name(s);
    if (name.n)
        return read_value(s, arena, (aq_word){name.at + 1, name.n - 1}, out);
    name = aq_scan_word(s);
    if (!name.n)
        return aq_scan_fail(s, "no name: expected an axis, a value or split");
    if (aq_word_is(name, "split")) {
        AQ_TRY(aq_scan_whole(s, 1, 1 << 30, "split", &k));
        out->split = (int32_t)k;
        return AQ_OK;
    }
    aq_scan before = *s;
    int is_axis = aq_scan_number(s, &x, &whole) || aq_scan_keyword(s, "lanes");
    *s = before;
    return is_axis ? read_axis(s, arena, name, out) : read_value(s, arena, name, out);
}

aq_status aq_read_schedule(aq_arena *arena, const char *file, const char *text, size_t n, aq_schedule **out) {
    aq_scan s = {file, text, 0, n};
    aq_schedule *schedule;
    AQ_ALLOC(arena, schedule, 1);
    schedule->target = "";
    int braces = aq_scan_keyword(&s, "schedule");
    if (braces) {
        aq_word target = aq_scan_word(&s);
        AQ_TRY(aq_arena_string(arena, target.at, target.n, &schedule->target));
        AQ_TRY(aq_scan_expect(&s, "{", "after the schedule's target"));
    }
    while (aq_scan_more(&s) && !(braces && aq_scan_take(&s, "}") && braces--)) {
        AQ_TRY(read_item(&s, arena, schedule));
        if (!aq_scan_take(&s, ";") && aq_scan_more(&s) && !(braces && s.text[s.at] == '}'))
            return aq_scan_fail(&s, "no ';' between the parts of a schedule: expected it here");
    }
    if (braces || aq_scan_more(&s))
        return aq_scan_fail(&s, braces ? "the text ends inside a schedule: expected '}'" : "text after the schedule: expected its end");
    *out = schedule;
    return AQ_OK;
}
