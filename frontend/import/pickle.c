/* pickle.c: the stack machine of the pickle format, as far as torch.save uses it for a dictionary of tensors (protocols 2 to 5).
 * Format: the docstrings of Python's pickletools.
 *
 * A loop reads an opcode and does its row of work: numbers and texts push a value, TUPLE and friends pop some, the memo keeps stack entries under
 * numbers. GLOBAL looks its two names up in pickle_names.def; REDUCE, NEWOBJ and BUILD, by which a pickle runs code, only note which row and which
 * arguments. So nothing here can call, import or make anything; a name without a row is refused.
 * Values are rows of one table and know each other by number; items of containers are cells of chained lists, so appending moves nothing. */
#include "frontend/import/pickle.h"

#include "frontend/import/internal.h"
#include "frontend/reasons.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 1 << 17, LONGEST_NAME = 256 };

const aq_pickle_name aq_pickle_names[] = {
#define PICKLE_NAME(module, name, role, dtype, bytes) {module, name, AQ_ROLE_##role, AQ_PICKLE_DTYPE_##dtype, bytes},
#define AQ_PICKLE_DTYPE_NONE AQ_DTYPE_NONE
#define AQ_PICKLE_DTYPE_F64 AQ_F64
#define AQ_PICKLE_DTYPE_F32 AQ_F32
#define AQ_PICKLE_DTYPE_F16 AQ_F16
#define AQ_PICKLE_DTYPE_BF16 AQ_BF16
#define AQ_PICKLE_DTYPE_I32 AQ_I32
#define AQ_PICKLE_DTYPE_I8 AQ_I8
#include "frontend/import/pickle_names.def"
#undef PICKLE_NAME
};
enum { NAMES = sizeof aq_pickle_names / sizeof *aq_pickle_names };

typedef AQ_VEC(uint32_t) number_list;

/* stack: numbers of values. marks: heights of the stack at MARK. memo: value + 1, 0 where nothing was put. */
typedef struct machine {
    aq_arena *arena;
    const char *path;
    const unsigned char *begin, *at, *end;
    aq_pickle *p;
    number_list stack, marks, memo;
} machine;

static aq_status refuse(const machine *m, int reason, const char *format, ...) AQ_PRINTF(3, 4);
static aq_status refuse(const machine *m, int reason, const char *format, ...) {
    char byte[32], text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int n = snprintf(byte, sizeof byte, "%zu", (size_t)(m->at - m->begin));
    return aq_import_refuse(reason, m->path, "data.pkl byte", byte, (size_t)n, "%s", text);
}

/* ---- the table, the stack ---- */

static aq_status push(machine *m, uint32_t value) {
    if (m->stack.n == MOST)
        return refuse(m, AQ_WHY_PICKLE_STACK, "more than %d values at once: expected a dictionary of tensors", MOST);
    AQ_PUSH(m->arena, &m->stack, value);
    return AQ_OK;
}

static aq_status push_value(machine *m, aq_pickle_value v) {
    if (m->p->values.n == MOST)
        return refuse(m, AQ_WHY_PICKLE_VALUES, "more than %d values: expected a dictionary of tensors", MOST);
    AQ_PUSH(m->arena, &m->p->values, v);
    return push(m, m->p->values.n - 1);
}

static aq_pickle_value *value_of(const machine *m, uint32_t number) { return &m->p->values.at[number]; }

/* The stack above the last mark belongs to what the mark opened. */
static uint32_t height(const machine *m) { return m->stack.n - (m->marks.n ? m->marks.at[m->marks.n - 1] : 0); }

static aq_status need(const machine *m, uint32_t n) {
    return height(m) < n ? refuse(m, AQ_WHY_PICKLE_EMPTY, "takes %u values where %u are: expected a whole pickle", n, height(m)) : AQ_OK;
}

static aq_status pop_mark(machine *m, uint32_t *from) {
    if (m->marks.n == 0)
        return refuse(m, AQ_WHY_PICKLE_MARK, "closes what no MARK opened: expected a whole pickle");
    *from = m->marks.at[--m->marks.n];
    return AQ_OK;
}

/* The stack's entries from `from` on become the last items of the container. */
static aq_status append(machine *m, uint32_t container, uint32_t from) {
    for (uint32_t i = from; i < m->stack.n; i++) {
        if (m->p->cells.n == MOST)
            return refuse(m, AQ_WHY_PICKLE_ITEMS, "more than %d items: expected a dictionary of tensors", MOST);
        AQ_PUSH(m->arena, &m->p->cells, (aq_pickle_cell){.value = m->stack.at[i]});
        aq_pickle_value *c = value_of(m, container);
        uint32_t cell = m->p->cells.n - 1;
        if (c->n++)
            m->p->cells.at[c->last].next = cell;
        else
            c->first = cell;
        c->last = cell;
    }
    m->stack.n = from;
    return AQ_OK;
}

const aq_pickle_value *aq_pickle_item(const aq_pickle *p, const aq_pickle_value *of, uint32_t i) {
    uint32_t cell = of->first;
    while (i--)
        cell = p->cells.at[cell].next;
    return &p->values.at[p->cells.at[cell].value];
}

/* ---- operands in the bytes ---- */

static aq_status take(machine *m, size_t n, const unsigned char **out) {
    if ((size_t)(m->end - m->at) < n)
        return refuse(m, AQ_WHY_PICKLE_CUT, "ends in the middle of an operand: expected a whole pickle");
    *out = m->at;
    m->at += n;
    return AQ_OK;
}

/* A little-endian number of n <= 8 bytes, unsigned (n 8: as it stands). */
static aq_status take_number(machine *m, size_t n, uint64_t *out) {
    const unsigned char *p = NULL;
    AQ_TRY(take(m, n, &p));
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out |= (uint64_t)p[i] << 8 * i;
    return AQ_OK;
}

static aq_status push_int(machine *m, int64_t x) { return push_value(m, (aq_pickle_value){.kind = AQ_PICKLE_INT, .number = x}); }
static aq_status push_kind(machine *m, aq_pickle_kind kind) { return push_value(m, (aq_pickle_value){.kind = (uint8_t)kind}); }

/* Two's complement of n bytes. Longer than 8 it is a number, but none that a tensor has. */
static aq_status push_long(machine *m, uint64_t n) {
    const unsigned char *p = NULL;
    uint64_t x = 0;
    AQ_TRY(take(m, n, &p));
    if (n > 8)
        return push_kind(m, AQ_PICKLE_ONE);
    for (size_t i = 0; i < 8; i++)
        x |= (uint64_t)(i < n ? p[i] : n && p[n - 1] & 0x80 ? 0xff : 0) << 8 * i;
    return push_int(m, (int64_t)x);
}

static aq_status push_text(machine *m, size_t length_bytes) {
    uint64_t n = 0;
    const unsigned char *p = NULL;
    AQ_TRY(take_number(m, length_bytes, &n));
    AQ_TRY(take(m, n, &p));
    if (n > UINT32_MAX)
        return push_kind(m, AQ_PICKLE_ONE); /* no name of a tensor */
    return push_value(m, (aq_pickle_value){.kind = AQ_PICKLE_TEXT, .n = (uint32_t)n, .text = (const char *)p});
}

/* ---- names ---- */

static aq_status take_line(machine *m, aq_bytes *out) {
    size_t most = (size_t)(m->end - m->at) < LONGEST_NAME ? (size_t)(m->end - m->at) : LONGEST_NAME;
    const unsigned char *stop = memchr(m->at, '\n', most);
    if (!stop)
        return refuse(m, AQ_WHY_PICKLE_LINE, "a name that does not end within %d bytes: expected a whole pickle", LONGEST_NAME);
    *out = (aq_bytes){(const char *)m->at, (uint32_t)(stop - m->at)};
    m->at = stop + 1;
    return AQ_OK;
}

static int same(aq_bytes a, const char *b) { return a.n == strlen(b) && memcmp(a.s, b, a.n) == 0; }

static aq_status push_name(machine *m, aq_bytes module, aq_bytes name) {
    for (uint32_t i = 0; i < NAMES; i++)
        if (same(module, aq_pickle_names[i].module) && same(name, aq_pickle_names[i].name))
            return push_value(m, (aq_pickle_value){.kind = AQ_PICKLE_NAME, .n = i});
    return refuse(m, AQ_WHY_PICKLE_NAME, "it names %.*s.%.*s: expected only tensors and dictionaries of them (nothing was executed)",
                  (int)(module.n < 100 ? module.n : 100), module.s, (int)(name.n < 100 ? name.n : 100), name.s);
}

static aq_status push_global(machine *m) {
    aq_bytes module = {0}, name = {0};
    AQ_TRY(take_line(m, &module));
    AQ_TRY(take_line(m, &name));
    return push_name(m, module, name);
}

static aq_status push_stack_global(machine *m) {
    AQ_TRY(need(m, 2));
    const aq_pickle_value *module = value_of(m, m->stack.at[m->stack.n - 2]), *name = value_of(m, m->stack.at[m->stack.n - 1]);
    if (module->kind != AQ_PICKLE_TEXT || name->kind != AQ_PICKLE_TEXT)
        return refuse(m, AQ_WHY_PICKLE_NAME_KIND, "a name that is no text: expected a module and a name in it");
    m->stack.n -= 2;
    return push_name(m, (aq_bytes){module->text, module->n}, (aq_bytes){name->text, name->n});
}

/* ---- memo ---- */

static aq_status put_memo(machine *m, uint64_t i) {
    AQ_TRY(need(m, 1));
    if (i >= MOST)
        return refuse(m, AQ_WHY_PICKLE_MEMO, "memo number %llu: expected one below %d", (unsigned long long)i, MOST);
    while (m->memo.n <= i)
        AQ_PUSH(m->arena, &m->memo, 0);
    m->memo.at[i] = m->stack.at[m->stack.n - 1] + 1;
    return AQ_OK;
}

static aq_status get_memo(machine *m, uint64_t i) {
    if (i >= m->memo.n || m->memo.at[i] == 0)
        return refuse(m, AQ_WHY_PICKLE_MEMO_EMPTY, "memo number %llu, where nothing was put: expected a whole pickle", (unsigned long long)i);
    return push(m, m->memo.at[i] - 1);
}

/* ---- containers and records ---- */

static aq_status make_tuple(machine *m, uint32_t n) {
    AQ_TRY(need(m, n));
    uint32_t from = m->stack.n - n, tuple;
    AQ_TRY(push_kind(m, AQ_PICKLE_TUPLE));
    tuple = m->stack.at[--m->stack.n];
    AQ_TRY(append(m, tuple, from));
    return push(m, tuple);
}

static aq_status make_marked_tuple(machine *m) {
    uint32_t from = 0;
    AQ_TRY(pop_mark(m, &from));
    return make_tuple(m, m->stack.n - from);
}

/* The entries from `from` on go into the container under them; opaque things swallow theirs. */
static aq_status fill(machine *m, uint32_t from, aq_pickle_kind kind) {
    if (from == 0 || (m->marks.n && from <= m->marks.at[m->marks.n - 1]))
        return refuse(m, AQ_WHY_PICKLE_NO_CONTAINER, "items without a container: expected a whole pickle");
    uint32_t container = m->stack.at[from - 1];
    if (value_of(m, container)->kind == AQ_PICKLE_ONE) {
        m->stack.n = from;
        return AQ_OK;
    }
    if (value_of(m, container)->kind != kind)
        return refuse(m, AQ_WHY_PICKLE_CONTAINER, "items for what takes none: expected a %s", kind == AQ_PICKLE_DICT ? "dictionary" : "list");
    if (kind == AQ_PICKLE_DICT && (m->stack.n - from) % 2)
        return refuse(m, AQ_WHY_PICKLE_ODD, "a key without a value: expected pairs");
    return append(m, container, from);
}

static aq_status fill_marked(machine *m, aq_pickle_kind kind) {
    uint32_t from = 0;
    AQ_TRY(pop_mark(m, &from));
    return fill(m, from, kind);
}

static aq_status fill_last(machine *m, uint32_t n, aq_pickle_kind kind) {
    AQ_TRY(need(m, n + 1));
    return fill(m, m->stack.n - n, kind);
}

/* Two entries, a name and a tuple, become what the name's role says. */
static aq_status reduce(machine *m) {
    AQ_TRY(need(m, 2));
    uint32_t args = m->stack.at[m->stack.n - 1];
    const aq_pickle_value *name = value_of(m, m->stack.at[m->stack.n - 2]), *tuple = value_of(m, args);
    m->stack.n -= 2;
    if (name->kind == AQ_PICKLE_ONE)
        return push_kind(m, AQ_PICKLE_ONE);
    if (name->kind != AQ_PICKLE_NAME || tuple->kind != AQ_PICKLE_TUPLE)
        return refuse(m, AQ_WHY_PICKLE_CALL, "a call of what has no name, or without arguments: expected only tensors");
    switch (aq_pickle_names[name->n].role) {
    case AQ_ROLE_ORDERED:
        if (tuple->n)
            return refuse(m, AQ_WHY_PICKLE_ORDERED, "an OrderedDict made of something: expected an empty one that is filled later");
        return push_kind(m, AQ_PICKLE_DICT);
    case AQ_ROLE_OPAQUE: return push_kind(m, AQ_PICKLE_ONE);
    default: return push_value(m, (aq_pickle_value){.kind = AQ_PICKLE_CALL, .n = name->n, .first = args});
    }
}

/* BUILD gives an object its attributes; a state dict has _metadata, which say nothing about its tensors. */
static aq_status build(machine *m) {
    AQ_TRY(need(m, 2));
    m->stack.n--;
    uint8_t kind = value_of(m, m->stack.at[m->stack.n - 1])->kind;
    if (kind != AQ_PICKLE_DICT && kind != AQ_PICKLE_ONE && kind != AQ_PICKLE_CALL)
        return refuse(m, AQ_WHY_PICKLE_BUILD, "attributes for what has none: expected a dictionary or a tensor");
    return AQ_OK;
}

static aq_status persist(machine *m) {
    AQ_TRY(need(m, 1));
    uint32_t id = m->stack.at[--m->stack.n];
    if (value_of(m, id)->kind != AQ_PICKLE_TUPLE)
        return refuse(m, AQ_WHY_PICKLE_PERSISTENT, "a persistent id that is no tuple: expected (\"storage\", type, key, place, length)");
    return push_value(m, (aq_pickle_value){.kind = AQ_PICKLE_STORED, .first = id});
}

/* ---- the loop ---- */

static aq_status check_protocol(machine *m) {
    uint64_t x = 0;
    AQ_TRY(take_number(m, 1, &x));
    return x > 5 ? refuse(m, AQ_WHY_PICKLE_PROTOCOL, "protocol %llu: expected one up to 5", (unsigned long long)x) : AQ_OK;
}

/* Opcodes that take operands from the bytes. *known 0: none of them. */
static aq_status run_operand(machine *m, unsigned char op, int *known) {
    uint64_t x = 0;
    const unsigned char *skipped;
    *known = 1;
    switch (op) {
    case 0x80: return check_protocol(m);
    case 0x95: return take(m, 8, &skipped); /* FRAME: a length that tells a reader of streams how much to read */
    case 'c': return push_global(m);
    case 'G': AQ_TRY(take(m, 8, &skipped)); return push_kind(m, AQ_PICKLE_ONE); /* BINFLOAT */
    case 'K': AQ_TRY(take_number(m, 1, &x)); return push_int(m, (int64_t)x);    /* BININT1 */
    case 'M': AQ_TRY(take_number(m, 2, &x)); return push_int(m, (int64_t)x);    /* BININT2 */
    case 'J': AQ_TRY(take_number(m, 4, &x)); return push_int(m, (int32_t)(uint32_t)x); /* BININT */
    case 0x8a: AQ_TRY(take_number(m, 1, &x)); return push_long(m, x);           /* LONG1 */
    case 0x8b: AQ_TRY(take_number(m, 4, &x)); return push_long(m, x);           /* LONG4 */
    case 'X': case 'B': case 'T': return push_text(m, 4);                       /* BINUNICODE, BINBYTES, BINSTRING */
    case 0x8c: case 'C': case 'U': return push_text(m, 1);                      /* the short ones */
    case 0x8d: case 0x8e: return push_text(m, 8);                               /* the long ones */
    case 'q': AQ_TRY(take_number(m, 1, &x)); return put_memo(m, x);             /* BINPUT */
    case 'r': AQ_TRY(take_number(m, 4, &x)); return put_memo(m, x);             /* LONG_BINPUT */
    case 'h': AQ_TRY(take_number(m, 1, &x)); return get_memo(m, x);             /* BINGET */
    case 'j': AQ_TRY(take_number(m, 4, &x)); return get_memo(m, x);             /* LONG_BINGET */
    default: *known = 0; return AQ_OK;
    }
}

static aq_status run(machine *m, unsigned char op) {
    int known;
    aq_status status = run_operand(m, op, &known);
    if (known)
        return status;
    switch (op) {
    case '(':
        if (m->marks.n == MOST)
            return refuse(m, AQ_WHY_PICKLE_MARKS, "more than %d marks at once: expected a dictionary of tensors", MOST);
        AQ_PUSH(m->arena, &m->marks, m->stack.n);
        return AQ_OK;
    case 'N': case 0x88: case 0x89: return push_kind(m, AQ_PICKLE_ONE); /* NONE NEWTRUE NEWFALSE */
    case '}': return push_kind(m, AQ_PICKLE_DICT);
    case ']': return push_kind(m, AQ_PICKLE_LIST);
    case ')': return push_kind(m, AQ_PICKLE_TUPLE);
    case 0x85: return make_tuple(m, 1);
    case 0x86: return make_tuple(m, 2);
    case 0x87: return make_tuple(m, 3);
    case 't': return make_marked_tuple(m);
    case 'a': return fill_last(m, 1, AQ_PICKLE_LIST);  /* APPEND */
    case 'e': return fill_marked(m, AQ_PICKLE_LIST);   /* APPENDS */
    case 's': return fill_last(m, 2, AQ_PICKLE_DICT);  /* SETITEM */
    case 'u': return fill_marked(m, AQ_PICKLE_DICT);   /* SETITEMS */
    case 0x93: return push_stack_global(m);
    case 0x94: return put_memo(m, m->memo.n);          /* MEMOIZE */
    case 'R': case 0x81: return reduce(m);             /* REDUCE NEWOBJ */
    case 'b': return build(m);
    case 'Q': return persist(m);                       /* BINPERSID */
    default:
        m->at--;
        return refuse(m, AQ_WHY_PICKLE_OPCODE, "opcode 0x%02x is none of those that a dictionary of tensors needs: expected what torch.save writes", op);
    }
}

aq_status aq_pickle_read(aq_arena *arena, const char *path, const unsigned char *bytes, size_t n, aq_pickle *out) {
    *out = (aq_pickle){0};
    machine m = {.arena = arena, .path = path, .begin = bytes, .at = bytes, .end = bytes + n, .p = out};
    AQ_PUSH(arena, &out->cells, (aq_pickle_cell){0});
    while (m.at < m.end && *m.at != '.')
        AQ_TRY(run(&m, *m.at++));
    if (m.at == m.end)
        return refuse(&m, AQ_WHY_PICKLE_STOP, "ends without STOP: expected a whole pickle");
    AQ_TRY(need(&m, 1));
    out->root = m.stack.at[m.stack.n - 1];
    return AQ_OK;
}
