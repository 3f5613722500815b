/* text.c: growing text, and how types, values and numbers are called in messages and prints. */
#include "ir/internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

aq_status aq_text_add(aq_text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char small[256];
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n < 0)
        return aq_fail(AQ_FAILED, NULL, "text could not be formatted");
    if (t->chars.n + (uint64_t)n + 1 > t->chars.room) {
        uint64_t room = t->chars.room ? t->chars.room : 1024;
        while (room < t->chars.n + (uint64_t)n + 1)
            room *= 2;
        if (room > INT32_MAX)
            return aq_fail(AQ_NO_MEMORY, NULL, "a text is longer than 2 GiB");
        void *p;
        AQ_TRY(aq_arena_alloc(t->arena, (size_t)room, 1, &p));
        if (t->chars.n)
            memcpy(p, t->chars.at, t->chars.n);
        t->chars.at = p;
        t->chars.room = (uint32_t)room;
    }
    if ((size_t)n < sizeof small) {
        memcpy(t->chars.at + t->chars.n, small, (size_t)n + 1);
    } else {
        va_start(args, format);
        vsnprintf(t->chars.at + t->chars.n, (size_t)n + 1, format, args);
        va_end(args);
    }
    t->chars.n += (uint32_t)n;
    return AQ_OK;
}

aq_status aq_text_end(aq_text *t, const char **out) {
    AQ_TRY(aq_text_add(t, "%s", "")); /* makes room for the NUL */
    t->chars.at[t->chars.n] = 0;
    *out = t->chars.at;
    return AQ_OK;
}

/* snprintf at the end of buf; silent where it is full. */
static void AQ_PRINTF(3, 4) put(char *buf, size_t size, const char *format, ...) {
    size_t n = strlen(buf);
    va_list args;
    va_start(args, format);
    vsnprintf(buf + n, size - n, format, args);
    va_end(args);
}

const char *aq_describe_type(const aq_module *m, const aq_type *t, char *buf, size_t size) {
    *buf = 0;
    if (t->is_batch) {
        put(buf, size, "batch");
        return buf;
    }
    if (t->dtype != AQ_DTYPE_NONE || !t->rank)
        put(buf, size, "%s", aq_dtype_of(t->dtype)->name);
    for (int i = 0; i < t->rank; i++) {
        aq_dim d = t->dim[i];
        put(buf, size, i ? ", " : "[");
        if (!d.sym || d.k != 1)
            put(buf, size, "%lld", (long long)d.k);
        if (d.sym)
            put(buf, size, "%s%s", d.k != 1 ? "*" : "", d.sym < m->syms.n ? m->syms.at[d.sym].name : "?");
    }
    if (t->rank)
        put(buf, size, "]");
    return buf;
}

const char *aq_describe_value(const aq_module *m, aq_id v, char *buf, size_t size) {
    char type[AQ_DESCRIBE], number[32];
    if (!v || v >= m->values.n) {
        snprintf(buf, size, "no value");
        return buf;
    }
    const aq_value *x = &m->values.at[v];
    aq_describe_type(m, &x->type, type, sizeof type);
    const char *sigil = x->state ? "$" : x->kind == AQ_VALUE_WEIGHT ? "@" : "%";
    if (x->kind == AQ_VALUE_CONST)
        snprintf(buf, size, "%s is a number", aq_number_text(x->number, number));
    else if (x->name)
        snprintf(buf, size, "%s%.80s is %s", sigil, x->name, type);
    else if (x->state && x->state <= m->states.n)
        snprintf(buf, size, "$%.80s is %s", m->states.at[x->state - 1].name, type);
    else if (x->kind == AQ_VALUE_RESULT && x->node < m->nodes.n)
        snprintf(buf, size, "(%s) is %s", aq_op_of(m->nodes.at[x->node].op)->name, type);
    else
        snprintf(buf, size, "%s%u is %s", sigil, v, type);
    return buf;
}

aq_status aq_fail_node(const aq_module *m, const aq_node *n, const char *format, ...) {
    char text[768], place[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n->line)
        snprintf(place, sizeof place, "%.200s:%u:%u", m->file, n->line, n->column);
    else
        snprintf(place, sizeof place, "%.200s", m->file);
    return aq_fail(AQ_REFUSED, place, "%s: %s", aq_op_of(n->op)->name, text);
}

const char *aq_number_text(double x, char *buf) {
    if (x != x)
        return memcpy(buf, "nan", 4);
    if (x == (double)(int64_t)(x > -1e15 && x < 1e15 ? x : 0.5) && (x != 0 || !signbit(x))) { /* 100000, not 1e+05 */
        snprintf(buf, 32, "%lld", (long long)x);
        return buf;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buf, 32, "%.*g", digits, x);
        if (strtod(buf, NULL) == x)
            break;
    }
    return buf;
}

static uint64_t hash(const char *key, size_t n) { /* FNV-1a, 64 bit */
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)key[i]) * 1099511628211u;
    return h ^ h >> 32;
}

static struct aq_names_slot *slot_of(const aq_names *t, const char *key, size_t n) {
    uint64_t i = hash(key, n) & (t->room - 1);
    while (t->slot[i].key && (t->slot[i].n != n || memcmp(t->slot[i].key, key, n)))
        i = (i + 1) & (t->room - 1);
    return &t->slot[i];
}

uint32_t aq_names_find(const aq_names *t, const char *key, size_t n) { return t->room ? slot_of(t, key, n)->value : 0; }

aq_status aq_names_put(aq_names *t, aq_arena *a, const char *key, size_t n, uint32_t value) {
    if (2 * (t->n + 1) > t->room) {
        aq_names more = {.n = t->n, .room = t->room ? t->room * 2 : 64};
        AQ_ALLOC(a, more.slot, more.room);
        for (uint32_t i = 0; i < t->room; i++)
            if (t->slot[i].key)
                *slot_of(&more, t->slot[i].key, t->slot[i].n) = t->slot[i];
        *t = more;
    }
    struct aq_names_slot *s = slot_of(t, key, n);
    if (!s->key)
        t->n++;
    *s = (struct aq_names_slot){key, n, value};
    return AQ_OK;
}
