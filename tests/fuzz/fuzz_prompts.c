/* fuzz_prompts.c: any bytes as the file of `run --prompts-file`, and as a line that `chat` or `tokenize --batch` gets: each line becomes a prompt of ids
 * that the model has, or is refused by its number. The first byte picks a template. */
#include "frontend/cli/json.h"
#include "frontend/cli/options.h"
#include "frontend/cli/prompts.h"
#include "ir/memory.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/scratch.h"

#include <math.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const templates[] = {"none", "chatml", "llama-2", "aquila-v1", "aquila-legacy"};
enum { TEMPLATES = sizeof templates / sizeof *templates, TOKENS = 260 };

static aq_tokenizer *tokenizer;
static aq_args args[TEMPLATES];

/* What is refused goes to standard error line by line: not here. libFuzzer has kept its own. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    static char text[TOKENS][8];
    static aq_bytes vocab[TOKENS];
    static aq_added_token added[] = {{.text = {"<|im_start|>", 12}, .id = 258, .special = 1}, {.text = {"<|im_end|>", 10}, .id = 259, .special = 1}};
    for (int b = 0, other = 256; b < 256; b++) { /* GPT-2's printable alphabet */
        int c = (b > 32 && b < 127) || (b > 160 && b != 173) ? b : other++;
        int n = c < 128 ? 1 : 2;
        text[b][0] = (char)(n == 1 ? c : 0xC0 | c >> 6);
        text[b][1] = (char)(n == 1 ? 0 : 0x80 | (c & 63));
        vocab[b] = (aq_bytes){text[b], (uint32_t)n};
    }
    vocab[256] = (aq_bytes){"ab", 2};
    vocab[257] = (aq_bytes){"abc", 3};
    static const aq_bytes merges[] = {{"a b", 3}, {"ab c", 4}};
    aq_tokenizer_source source = {.kind = AQ_TOKENIZER_BPE, .place = "fuzz", .n_vocab = TOKENS, .vocab = vocab, .n_merges = 2, .merges = merges, .n_added = 2, .added = added, .bos = 258,
                                  .eos = 259, .pad = -1, .unk = -1};
    need(aq_tokenizer_build(&source, &tokenizer) == AQ_OK);
    for (int i = 0; i < TEMPLATES; i++) {
        char *words[] = {"aquila", "run", "model", "--prompts-file", "file", "--template", (char *)(uintptr_t)templates[i], "--stop", "end", NULL};
        need(aq_args_parse(9, words, &args[i]) == AQ_OK);
    }
    FILE *nowhere = fopen("/dev/null", "w");
    need(nowhere != NULL);
    stderr = nowhere;
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    static const char *const words[] = {
        "{\"prompt\": \"abc\"}\n", "\"messages\": [{\"role\": \"user\", \"content\": \"ab\"}]", "\"ids\": [1, 2, 3]", "\"max_new_tokens\": 4", "\"temperature\": 0.5", "\"top_k\": 3",
        "\"top_p\": 0.9", "\"seed\": 7", "\"stop\": [\"a\", \"b\"]", "\"stop\": \"end\"", "\"bytes\": \"YWI=\"", "\"text\": \"ab\"", "{\"role\": \"assistant\", \"content\": \"\"}",
        "\"system\"", "\\u0000", "\\ud83d\\ude00", "\\ud800", "<|im_end|>", "\r\n", "\n", " ", "null", "{", "}", "[", "]", ",", ":", NULL};
    edit e = edit_open(data, size, max_size, seed);
    if (size < 2)
        return LLVMFuzzerMutate(data, size, max_size);
    if (roll(&e, 6) == 0)
        data[0] = (uint8_t)roll(&e, TEMPLATES);
    mutate_text(&e, 1, e.n, words);
    return e.n;
}

static void check(const aq_prompts_item *item) {
    for (size_t k = 0; k < item->prompt.ids.n; k++)
        need(item->prompt.ids.at[k] >= 0 && item->prompt.ids.at[k] < TOKENS);
    if (item->refused) {
        need(*item->refused && !strchr(item->refused, '\n'));
        return;
    }
    need(item->prompt.ids.n > 0 && item->max_new >= 0 && item->how.temperature >= 0 && isfinite(item->how.temperature) && item->how.top_p > 0 && item->how.top_p <= 1 && item->how.top_k >= 0);
    for (uint32_t k = 0; k < item->prompt.n_stops; k++)
        need(item->prompt.stops[k].n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aq_prompts prompts;
    char path[512];
    if (size < 1)
        return 0;
    long blocks = aq_mem_open_blocks();
    aq_subject s = {.args = &args[data[0] % TEMPLATES], .model = "fuzz", .tokenizer = tokenizer, .checkpoint = {.path = "fuzz", .config = {.V = TOKENS, .eos = 259, .max_length = 64}}};
    scratch_put("prompts", data + 1, size - 1);
    aq_status status = aq_prompts_read(&s, scratch_path("prompts", path), &prompts);
    need(status == AQ_OK || (status == AQ_REFUSED && *aq_error() && !strchr(aq_error(), '\n')));
    for (uint32_t i = 0; i < prompts.items.n; i++)
        check(&prompts.items.at[i]);
    aq_prompts_close(&prompts);
    aq_arena_close(&s.arena);
    need(aq_mem_open_blocks() == blocks);
    return 0;
}
