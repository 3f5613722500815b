/* fuzz_convert.c: any bytes as a model that is converted: a GGUF file, or a folder of config.json, tokenizer.json, tokenizer_config.json and one file of
 * weights (safetensors, a torch archive). Refused in one line; or written in another form, and what was written opens again with the same figures
 * and the same names. The input: two letters that say which source, which form and which type; the texts of a folder, each up to a zero
 * byte; the GGUF file or the weights. */
#include "frontend/convert.h"
#include "ir/memory.h"
#include "tests/fuzz/mutate_gguf.h"
#include "tests/fuzz/mutate_safetensors.h"
#include "tests/fuzz/mutate_torch.h"
#include "tests/fuzz/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FOLDER = 1, TORCH = 2, TEXTS = 3, HEAD = 2, MOST_BYTES = 1 << 20 };
static const char *const text_names[TEXTS] = {"in/config.json", "in/tokenizer.json", "in/tokenizer_config.json"};

static const char *const words[] = {
#define FIGURE(member, kind, hf, flagai, gguf) "\"" hf "\": ", "\"" flagai "\": ",
#include "frontend/import/figures.def"
#undef FIGURE
    "\"tie_word_embeddings\": true", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}", "\"a\": 0, \"b\": 1", "[\"a b\"]", "\"special\": true", "\"type\": \"ByteLevel\"",
    "\"chat_template\": \"{{ x }}\"", "\"bos_token\": \"a\"", "\"dtype\":\"BF16\"", "\"dtype\":\"F32\"", "\"shape\":[2,2]", "\"data_offsets\":[0,16]", "\"lm_head.weight\":",
    "null", "true", "{", "}", "[", "]", ",", ":", NULL};

/* Where the weights begin; the texts of a folder are [from[k], from[k + 1] - 1). */
static size_t weights_at(const uint8_t *data, size_t size, size_t from[TEXTS + 1]) {
    size_t at = HEAD;
    from[0] = at;
    for (int k = 0; (data[0] & FOLDER) && k < TEXTS; k++) {
        const uint8_t *zero = at < size ? memchr(data + at, 0, size - at) : NULL;
        from[k + 1] = at = zero ? (size_t)(zero - data) + 1 : size;
    }
    return at;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    edit e = edit_open(data, size, max_size, seed);
    size_t from[TEXTS + 1], at;
    if (size < HEAD || roll(&e, 16) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    if (roll(&e, 3) == 0)
        data[0] = (uint8_t)((data[0] & (FOLDER | TORCH)) + 4 * roll(&e, 3));
    if (roll(&e, 3) == 0)
        data[1] = (uint8_t)roll(&e, AQ_DTYPE_COUNT);
    at = weights_at(data, size, from);
    size_t k = roll(&e, TEXTS);
    if ((data[0] & FOLDER) && roll(&e, 2) && from[k] < from[k + 1]) {
        mutate_text(&e, from[k], from[k + 1] - 1, words);
        return e.n;
    }
    if (at >= size)
        return size;
    edit weights = edit_part(&e, at);
    if (!(data[0] & FOLDER))
        return at + mutate_gguf(&weights);
    if (data[0] & TORCH)
        return at + mutate_torch(weights.p, weights.n, weights.max, seed);
    mutate_safetensors(&weights, words);
    return at + weights.n;
}

static int one_line(aq_status status) { return status == AQ_OK || (status == AQ_REFUSED && *aq_error() && !strchr(aq_error(), '\n')); }

/* GGUF holds the real ones as f32. */
static int same_figures(const aq_config *a, const aq_config *b) {
    return a->D == b->D && a->L == b->L && a->H == b->H && a->HKV == b->HKV && a->DH == b->DH && a->F == b->F && a->V == b->V && a->max_length == b->max_length &&
           (float)a->theta == (float)b->theta && a->scaling == b->scaling && (float)a->scaling_factor == (float)b->scaling_factor;
}

static void print_figures(const char *when, const aq_config *c) {
    fprintf(stderr, "%s: D %u L %u H %u HKV %u DH %u F %u V %u length %u theta %.9g scaling %d factor %.9g\n", when, (unsigned)c->D, (unsigned)c->L, (unsigned)c->H,
            (unsigned)c->HKV, (unsigned)c->DH, (unsigned)c->F, (unsigned)c->V, (unsigned)c->max_length, (double)c->theta, (int)c->scaling, (double)c->scaling_factor);
}

static void open_again(const char *out, const aq_checkpoint *c) {
    aq_checkpoint again;
    aq_status status = aq_checkpoint_open(out, &again);
    if (status != AQ_OK)
        fprintf(stderr, "what convert wrote does not open: %s\n", aq_error());
    need(status == AQ_OK);
    if (!same_figures(&again.config, &c->config)) {
        print_figures("read", &c->config);
        print_figures("written", &again.config);
        need(0);
    }
    need(again.n_tensors == c->n_tensors);
    for (uint32_t i = 0; i < c->n_tensors; i++)
        need(strcmp(again.tensors[i].name, c->tensors[i].name) == 0 && again.tensors[i].dim[0] == c->tensors[i].dim[0] && again.tensors[i].dim[1] == c->tensors[i].dim[1]);
    aq_checkpoint_close(&again);
}

static void convert(const aq_checkpoint *c, int form, int type) {
    aq_arena arena = {0};
    aq_convert_report report;
    aq_convert_options o = {.to = (aq_form)(form % 3), .type = (aq_dtype)(type % AQ_DTYPE_COUNT), .shard_size = type & 64 ? 4096 : (uint64_t)1 << 31, .threads = 1};
    char room[512];
    const char *out = scratch_path(o.to == AQ_FORM_GGUF ? "out.gguf" : "out", room);
    size_t bytes = 0;
    for (uint32_t i = 0; i < c->n_tensors; i++)
        bytes += c->tensors[i].bytes;
    if (bytes > MOST_BYTES)
        return;
    aq_status status = aq_convert(&arena, c, out, &o, &report);
    need(one_line(status) || status == AQ_USAGE);
    if (status == AQ_OK)
        open_again(out, c);
    aq_arena_close(&arena);
    if (o.to == AQ_FORM_GGUF)
        unlink(out);
    else
        scratch_empty(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t from[TEXTS + 1];
    char room[512];
    aq_checkpoint c;
    if (size < HEAD)
        return 0;
    size_t at = weights_at(data, size, from);
    int folder = data[0] & FOLDER, torch = data[0] & TORCH;
    scratch_make("in");
    for (int k = 0; folder && k < TEXTS; k++) {
        size_t n = from[k + 1] > from[k] ? from[k + 1] - from[k] - (from[k + 1] < size || data[size - 1] == 0) : 0;
        if (n)
            scratch_put(text_names[k], data + from[k], n);
        else
            scratch_drop(text_names[k]);
    }
    scratch_drop(torch ? "in/model.safetensors" : "in/pytorch_model.bin");
    scratch_put(!folder ? "in.gguf" : torch ? "in/pytorch_model.bin" : "in/model.safetensors", data + at, size - at);
    aq_status status = aq_checkpoint_open(scratch_path(folder ? "in" : "in.gguf", room), &c);
    need(one_line(status));
    if (status == AQ_OK) {
        convert(&c, data[0] >> 2, data[1]);
        aq_checkpoint_close(&c);
    }
    need(aq_mem_open_blocks() == 0);
    return 0;
}
