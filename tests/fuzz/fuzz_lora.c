/* fuzz_lora.c: any bytes as an adapter, adapter_config.json and safetensors or a torch archive, or a GGUF file, to a model of width 32: refused in one line with a
 * reason, or pairs whose matrices merge, or stand beside the weights, and can be read from the first to the last row. The input: a letter that says
 * which file, which model and what becomes of it; the settings, up to a zero byte (not of GGUF); the weights. */
#include "frontend/import/internal.h"
#include "frontend/import/made.h"
#include "frontend/lora.h"
#include "ir/memory.h"
#include "tests/fuzz/mutate_gguf.h"
#include "tests/fuzz/mutate_safetensors.h"
#include "tests/fuzz/mutate_torch.h"
#include "tests/fuzz/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TORCH = 1, UNTIED = 2, BLOCKS = 4, DOTS = 8, TWICE = 16, HALVES = 32, GGUF = 128, MOST_TENSORS = 16 };

static const char *const settings_words[] = {
    "\"peft_type\": \"LORA\"", "\"lora_alpha\": 8", "\"r\": 1", "\"use_rslora\": true", "\"use_dora\": true", "\"bias\": \"none\"", "\"fan_in_fan_out\": false",
    "\"init_lora_weights\": \"gaussian\"", "\"modules_to_save\": [\"lm_head\", \"norm\"]", "\"alpha_pattern\": {\"q_proj\": 2}", "null", "true", "[", "]", "{", "}", ",", ":", "\"\"", NULL};
static const char *const header_words[] = {
    "\"dtype\":\"F16\"", "\"dtype\":\"BF16\"", "\"dtype\":\"F32\"", "\"shape\":[1,32]", "\"shape\":[32,1]", "\"shape\":[2,32]", "\"shape\":[64,1]", "\"data_offsets\":[0,64]",
    "\"base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight\":", "\"base_model.model.model.layers.0.mlp.down_proj.lora_B.default.weight\":",
    "\"base_model.model.lm_head.lora_A.weight\":", "\"base_model.model.layers.0.attention.Wqkv.lora_A.weight\":", "\"base_model.model.layers.0.attention.Wqkv.lora_B.weight\":",
    "\"base_model.model.lm_head.base_layer.weight\":", "\"base_model.model.model.norm.weight\":", "\"base_model.model.lm_head.modules_to_save.weight\":", "\"__metadata__\":{}", "{", "}", "[", "]", ",", ":", NULL};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    edit e = edit_open(data, size, max_size, seed);
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t text = zero ? (size_t)(zero - data) : size;
    if (size < 2 || text == 0 || roll(&e, 16) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    if (roll(&e, 4) == 0)
        data[0] = (uint8_t)((data[0] & GGUF ? GGUF : 64) + (data[0] & TORCH) + roll(&e, 32) * 2);
    if (data[0] & GGUF) {
        edit file = edit_part(&e, 1);
        return 1 + mutate_gguf(&file);
    }
    if (roll(&e, 4) == 0 || text == size) {
        mutate_text(&e, 1, text, settings_words);
        return e.n;
    }
    edit weights = edit_part(&e, text + 1);
    if (data[0] & TORCH)
        return text + 1 + mutate_torch(weights.p, weights.n, weights.max, seed);
    mutate_safetensors(&weights, header_words);
    return text + 1 + weights.n;
}

static uint32_t model(aq_checkpoint *c, aq_tensor *t, int letter) {
    static const unsigned char zeros[32 * 32 * 4];
    uint32_t n = 0;
    c->config = (aq_config){.name = "", .family = "llama", .D = 32, .L = 1, .H = 2, .HKV = 1, .DH = 16, .F = 32, .V = 8, .max_length = 8, .eps = 1e-5, .theta = 1e4, .scaling_factor = 1,
                            .tied = !(letter & UNTIED)};
    for (uint32_t row = 0; row < aq_tensor_rows_count; row++) {
        const aq_tensor_row *r = &aq_tensor_rows[row];
        if (r->output && c->config.tied)
            continue;
        aq_tensor *x = &t[n++];
        *x = (aq_tensor){.dtype = AQ_F16, .data = zeros, .rotate_half = r->rotates && (letter & HALVES)};
        aq_tensor_shape(&c->config, row, x->dim);
        x->rank = x->dim[1] ? 2 : 1;
        if (x->rank == 2 && (letter & BLOCKS))
            x->dtype = AQ_Q8_0;
        need(aq_tensor_house_name(&c->arena, row, 0, &x->name) == AQ_OK);
        x->file_name = x->name;
        need(aq_dtype_bytes(x->dtype, (size_t)x->dim[0] * (size_t)(x->rank == 2 ? x->dim[1] : 1), "fuzz", &x->bytes) == AQ_OK && x->bytes <= sizeof zeros);
    }
    c->tensors = t;
    c->n_tensors = n;
    aq_import_sort(c);
    return n;
}

static void read_all(const aq_checkpoint *c) {
    for (uint32_t i = 0; i < c->n_tensors; i++) {
        const aq_tensor *t = &c->tensors[i];
        void *rows = malloc(t->bytes + 1);
        need(rows && t->dim[0] > 0 && aq_tensor_read(t, 0, t->dim[0], rows) == AQ_OK && aq_checkpoint_find(c, t->name) == t);
        free(rows);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const aq_dtype types[] = {AQ_DTYPE_NONE, AQ_F32, AQ_BF16, AQ_F16};
    const char *at = (const char *)data + 1, *end = (const char *)data + size;
    char path[512];
    if (size < 2)
        return 0;
    int letter = data[0];
    int is_gguf = letter & GGUF;
    aq_bytes settings = is_gguf ? (aq_bytes){"", 0} : next_section(&at, end);
    const char *file = is_gguf ? "adapter.gguf" : letter & TORCH ? "adapter_model.bin" : "adapter_model.safetensors";
    scratch_drop(letter & TORCH ? "adapter_model.safetensors" : "adapter_model.bin");
    scratch_put("adapter_config.json", settings.s, settings.n);
    scratch_put(file, at, (size_t)(end - at));
    aq_checkpoint c = {.path = "f"};
    aq_tensor tensors[MOST_TENSORS];
    need(model(&c, tensors, letter) <= MOST_TENSORS);
    aq_status status = aq_lora_add(&c, scratch_path(is_gguf ? file : "", path), 0.5);
    if (status == AQ_OK && (letter & TWICE))
        status = aq_lora_add(&c, scratch_path(file, path), 2);
    need(status == AQ_OK || (status == AQ_REFUSED && !strchr(aq_error(), '\n') && aq_error_reason() != 0));
    if (status == AQ_OK)
        status = letter & DOTS ? aq_lora_dots(&c) : aq_lora_merge(&c, types[size % 4]);
    need(status == AQ_OK || status == AQ_REFUSED);
    if (status == AQ_OK)
        read_all(&c);
    aq_checkpoint_close(&c);
    need(aq_mem_open_blocks() == 0);
    return 0;
}
