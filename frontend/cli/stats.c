/* stats.c: compares tokenizers. Each --file is one text (with --batch: each of its lines {"text"} is one); rows are files, columns
 * tokenizers, cells the average number of tokens a text, as the published comparison of Aquila's tokenizer gives them. */
#include "frontend/cli/stats.h"

#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/lines.h"
#include "frontend/cli/models.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <string.h>

typedef struct row {
    const char *path;
    uint64_t texts, bytes;
    uint64_t *tokens; /* one a tokenizer */
} row;

static aq_status count_text(const aq_args *a, aq_tokenizer *const *t, const char *text, size_t n, row *r) {
    aq_ids ids = {0};
    aq_status status = AQ_OK;
    r->texts++;
    r->bytes += n;
    for (uint32_t i = 0; i < a->n_operands && status == AQ_OK; i++) {
        ids.n = 0;
        status = aq_tokenizer_encode(t[i], text, n, !aq_arg_given(a, AQ_OPT_ORDINARY), &ids);
        r->tokens[i] += ids.n;
    }
    aq_ids_close(&ids);
    return status;
}

static aq_status count_lines(const aq_args *a, aq_tokenizer *const *t, row *r) {
    aq_lines lines;
    char *line;
    size_t n;
    AQ_TRY(aq_lines_open(r->path, &lines));
    aq_status status;
    while ((status = aq_lines_next(&lines, &line, &n)) == AQ_OK && line) {
        if (!n)
            continue;
        char place[256];
        cJSON *tree;
        snprintf(place, sizeof place, "%.200s:%" PRIu64, r->path, lines.number);
        AQ_TRY_GOTO(status, close, aq_json_line_parse(place, line, n, &tree));
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(tree, "text");
        if (cJSON_IsString(text))
            status = count_text(a, t, text->valuestring, aq_json_restore(text->valuestring), r);
        else
            status = aq_fail(AQ_REFUSED, place, "expected {\"text\": \"...\"}");
        cJSON_Delete(tree);
        if (status != AQ_OK)
            goto close;
    }
close:
    aq_lines_close(&lines);
    return status;
}

static aq_status count_file(const aq_args *a, aq_tokenizer *const *t, row *r) {
    if (aq_arg_given(a, AQ_OPT_BATCH_LINES))
        return count_lines(a, t, r);
    char *text;
    size_t n;
    AQ_TRY(aq_file_read(r->path, (size_t)1 << 30, &text, &n));
    aq_status status = count_text(a, t, text, n, r);
    aq_mem_free(text);
    return status;
}

static double average(const row *r, uint32_t i) {
    return r->texts ? (double)r->tokens[i] / (double)r->texts : 0;
}

static aq_status print_json(const aq_args *a, const row *rows, uint32_t n) {
    cJSON *document = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(document, "texts");
    for (uint32_t r = 0; r < n; r++) {
        cJSON *one = cJSON_CreateObject(), *columns;
        aq_json_set_string(one, "file", rows[r].path);
        aq_json_set_int(one, "texts", (int64_t)rows[r].texts);
        aq_json_set_int(one, "bytes", (int64_t)rows[r].bytes);
        columns = cJSON_AddArrayToObject(one, "tokenizers");
        for (uint32_t i = 0; i < a->n_operands; i++) {
            cJSON *cell = cJSON_CreateObject();
            aq_json_set_string(cell, "model", a->operand[i]);
            aq_json_set_int(cell, "tokens", (int64_t)rows[r].tokens[i]);
            cJSON_AddNumberToObject(cell, "tokens_per_text", average(&rows[r], i));
            cJSON_AddItemToArray(columns, cell);
        }
        cJSON_AddItemToArray(list, one);
    }
    return aq_json_print(document);
}

static void print_table(const aq_args *a, const row *rows, uint32_t n) {
    printf("tokens per text\n%-28s %8s %12s", "", "texts", "bytes");
    for (uint32_t i = 0; i < a->n_operands; i++) {
        const char *slash = strrchr(a->operand[i], '/');
        printf(" %18.18s", slash && slash[1] ? slash + 1 : a->operand[i]);
    }
    for (uint32_t r = 0; r < n; r++) {
        printf("\n%-28.28s %8" PRIu64 " %12" PRIu64, rows[r].path, rows[r].texts, rows[r].bytes);
        for (uint32_t i = 0; i < a->n_operands; i++)
            printf(" %18.1f", average(&rows[r], i));
    }
    putchar('\n');
}

aq_status aq_stats_run(const aq_args *a) {
    aq_arena arena = {0};
    aq_tokenizer **t = NULL;
    row *rows;
    const aq_option_value *file = &a->at[AQ_OPT_TEXT_FILE];
    uint32_t n = file->n_list ? file->n_list : 1;
    aq_status status;
    void *block;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, a->n_operands, sizeof *t, &block));
    t = block;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, n, sizeof *rows, &block));
    rows = block;
    for (uint32_t i = 0; i < a->n_operands; i++)
        AQ_TRY_GOTO(status, close, aq_tokenizer_of(a->operand[i], &t[i]));
    for (uint32_t r = 0; r < n; r++) {
        AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, a->n_operands, sizeof *rows[r].tokens, &block));
        rows[r].tokens = block;
        rows[r].path = file->n_list ? file->list[r] : "-";
        AQ_TRY_GOTO(status, close, count_file(a, t, &rows[r]));
    }
    if (aq_arg_given(a, AQ_OPT_JSON))
        status = print_json(a, rows, n);
    else
        print_table(a, rows, n);
close:
    for (uint32_t i = 0; t && i < a->n_operands; i++)
        aq_tokenizer_close(t[i]);
    aq_arena_close(&arena);
    return status;
}
