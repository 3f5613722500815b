/* verb_tokenize.c: `aquila tokenize`: text to ids, ids to text, one text or a line at a time. Comparing tokenizers is in
 * verb_stats.c. */
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/lines.h"
#include "frontend/cli/models.h"
#include "frontend/cli/stats.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_LIMIT = 1 << 30 };

/* The digits of id, which is no negative number, before `end`. By hand: snprintf took a third of what finding the ids takes. */
static char *digits_before(char *end, int32_t id) {
    uint32_t left = (uint32_t)id;
    do
        *--end = (char)('0' + left % 10);
    while ((left /= 10));
    return end;
}

static void write_ids(const aq_ids *ids, const char *between) {
    char text[4096], digits[16];
    size_t n = 0, n_between = strlen(between);
    for (size_t i = 0; i < ids->n; i++) {
        char *end = digits + sizeof digits, *s = digits_before(end, ids->at[i]);
        if (i) {
            memcpy(text + n, between, n_between);
            n += n_between;
        }
        memcpy(text + n, s, (size_t)(end - s));
        n += (size_t)(end - s);
        if (n > sizeof text - 32) {
            fwrite(text, 1, n, stdout);
            n = 0;
        }
    }
    fwrite(text, 1, n, stdout);
}

static aq_status encode_text(const aq_args *a, const aq_tokenizer *t, const char *text, size_t n) {
    aq_ids ids = {0};
    aq_status status = aq_tokenizer_encode(t, text, n, !aq_arg_given(a, AQ_OPT_ORDINARY), &ids);
    if (status == AQ_OK && aq_arg_given(a, AQ_OPT_JSON)) {
        fputs("{\"ids\": [", stdout);
        write_ids(&ids, ", ");
        fputs("]}\n", stdout);
    } else if (status == AQ_OK && aq_arg_given(a, AQ_OPT_VERBOSE)) {
        for (size_t i = 0; i < ids.n; i++) {
            aq_bytes b = aq_tokenizer_text(t, ids.at[i]);
            printf("%" PRId32 "\t", ids.at[i]);
            aq_json_write(stdout, b.s, b.n);
            putchar('\n');
        }
    } else if (status == AQ_OK) {
        write_ids(&ids, " ");
        putchar('\n');
    }
    aq_say(a, 1, "%zu bytes, %zu tokens", n, ids.n);
    aq_ids_close(&ids);
    return status;
}

/* Decodes into *text (grown with aq_mem_resize from {NULL, 0}). */
static aq_status decode_ids(const aq_tokenizer *t, int skip_special, const int32_t *id, size_t n, char **text, size_t *text_n) {
    aq_decoder d = aq_decoder_open(t, skip_special);
    void *block = NULL;
    size_t room = 0;
    aq_status status = AQ_OK;
    *text_n = 0;
    for (size_t i = 0; i <= n; i++) {
        aq_bytes b;
        AQ_TRY_GOTO(status, close, i < n ? aq_decoder_push(&d, id[i], &b) : aq_decoder_finish(&d, &b));
        if (*text_n + b.n + 1 > room) {
            size_t more = (*text_n + b.n + 64) * 2;
            AQ_TRY_GOTO(status, close, aq_mem_resize(&block, room, more));
            room = more;
        }
        if (b.n)
            memcpy((char *)block + *text_n, b.s, b.n);
        *text_n += b.n;
    }
close:
    aq_decoder_close(&d);
    *text = block;
    return status;
}

static aq_status check_id(const aq_tokenizer *t, const char *place, int64_t id) {
    if (id < 0 || id >= aq_tokenizer_size(t))
        return aq_fail(AQ_REFUSED, place, "%" PRId64 " is no token: expected an id from 0 to %" PRIu32, id, aq_tokenizer_size(t) - 1);
    return AQ_OK;
}

/* Ids apart by white space, commas or brackets. */
static aq_status parse_ids(const aq_tokenizer *t, const char *place, const char *s, aq_ids *ids) {
    while (*(s += strspn(s, " \t\r\n,[]"))) {
        char *end;
        long id = strtol(s, &end, 10);
        if (end == s || (*end && !strchr(" \t\r\n,[]", *end)))
            return aq_fail(AQ_REFUSED, place, "%.20s is no number: expected ids", s);
        AQ_TRY(check_id(t, place, id));
        AQ_TRY(aq_ids_push(ids, (int32_t)id));
        s = end;
    }
    return AQ_OK;
}

static aq_status decode_text(const aq_args *a, const aq_tokenizer *t, const char *place, const char *s) {
    aq_ids ids = {0};
    char *text = NULL;
    size_t n;
    aq_status status;
    AQ_TRY_GOTO(status, close, parse_ids(t, place, s, &ids));
    AQ_TRY_GOTO(status, close, decode_ids(t, aq_arg_given(a, AQ_OPT_SKIP_SPECIAL), ids.at, ids.n, &text, &n));
    if (aq_arg_given(a, AQ_OPT_JSON)) {
        fputs("{\"text\": ", stdout);
        aq_json_write(stdout, text, n);
        fputs("}\n", stdout);
    } else {
        (void)aq_output_text(text, n); /* aq_output_finish tells */
    }
close:
    aq_mem_free(text);
    aq_ids_close(&ids);
    return status;
}

/* {"text"} or {"bytes"} -> {"ids"}. */
static aq_status encode_line(const aq_args *a, const aq_tokenizer *t, const char *place, const cJSON *line) {
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(line, "text"), *bytes = cJSON_GetObjectItemCaseSensitive(line, "bytes");
    const cJSON *given = text ? text : bytes;
    if (!cJSON_IsString(given))
        return aq_fail(AQ_REFUSED, place, "expected {\"text\": \"...\"} or {\"bytes\": \"base64\"}");
    size_t n;
    if (text)
        n = aq_json_restore(given->valuestring);
    else
        AQ_TRY(aq_base64_decode(place, given->valuestring, &n));
    aq_ids ids = {0};
    aq_status status = aq_tokenizer_encode(t, given->valuestring, n, !aq_arg_given(a, AQ_OPT_ORDINARY), &ids);
    if (status == AQ_OK) {
        fputs("{\"ids\": [", stdout);
        write_ids(&ids, ", ");
        fputs("]}\n", stdout);
    }
    aq_ids_close(&ids);
    return status;
}

/* {"ids"} -> {"text"}. */
static aq_status decode_line(const aq_args *a, const aq_tokenizer *t, const char *place, const cJSON *line) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(line, "ids"), *item;
    if (!cJSON_IsArray(list))
        return aq_fail(AQ_REFUSED, place, "expected {\"ids\": [...]}");
    aq_ids ids = {0};
    char *text = NULL;
    size_t n;
    aq_status status = AQ_OK;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || item->valuedouble != item->valueint)
            AQ_TRY_GOTO(status, close, aq_fail(AQ_REFUSED, place, "\"ids\" holds what is no whole number"));
        AQ_TRY_GOTO(status, close, check_id(t, place, item->valueint));
        AQ_TRY_GOTO(status, close, aq_ids_push(&ids, item->valueint));
    }
    AQ_TRY_GOTO(status, close, decode_ids(t, aq_arg_given(a, AQ_OPT_SKIP_SPECIAL), ids.at, ids.n, &text, &n));
    fputs("{\"text\": ", stdout);
    aq_json_write(stdout, text, n);
    fputs("}\n", stdout);
close:
    aq_mem_free(text);
    aq_ids_close(&ids);
    return status;
}

static aq_status all_lines(const aq_args *a, const aq_tokenizer *t, const char *path) {
    aq_lines lines;
    char *line;
    size_t n;
    AQ_TRY(aq_lines_open(path, &lines));
    aq_status status;
    while ((status = aq_lines_next(&lines, &line, &n)) == AQ_OK && line) {
        if (!n)
            continue;
        char place[256];
        cJSON *tree;
        snprintf(place, sizeof place, "%.200s:%" PRIu64, strcmp(path, "-") ? path : "standard input", lines.number);
        AQ_TRY_GOTO(status, close, aq_json_line_parse(place, line, n, &tree));
        status = aq_arg_given(a, AQ_OPT_DECODE) ? decode_line(a, t, place, tree) : encode_line(a, t, place, tree);
        cJSON_Delete(tree);
        if (status != AQ_OK)
            goto close;
    }
close:
    aq_lines_close(&lines);
    return status;
}

static aq_status one_text(const aq_args *a, const aq_tokenizer *t, const char *path) {
    char *text;
    size_t n;
    AQ_TRY(aq_file_read(path, TEXT_LIMIT, &text, &n));
    aq_status status = aq_arg_given(a, AQ_OPT_DECODE) ? decode_text(a, t, path, text) : encode_text(a, t, text, n);
    aq_mem_free(text);
    return status;
}

aq_status aq_verb_tokenize(const aq_args *a) {
    if (aq_arg_given(a, AQ_OPT_STATS))
        return aq_stats_run(a);
    if (a->n_operands > 1)
        return aq_fail(AQ_USAGE, NULL, "tokenize: %s is one too many: expected one MODEL (several with --stats)", a->operand[1]);
    const aq_option_value *file = &a->at[AQ_OPT_TEXT_FILE];
    if (file->n_list > 1)
        return aq_fail(AQ_USAGE, NULL, "--file %s is one too many: expected one (several with --stats)", file->list[1]);
    const char *path = file->n_list ? file->list[0] : "-";
    aq_tokenizer *t;
    AQ_TRY(aq_tokenizer_of(a->operand[0], &t));
    aq_status status = aq_arg_given(a, AQ_OPT_BATCH_LINES) ? all_lines(a, t, path) : one_text(a, t, path);
    aq_tokenizer_close(t);
    return status;
}
