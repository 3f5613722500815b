/* micro.h: the smallest model there is, in memory and as files, for tests of import: width 32, 2 layers, 2 heads, 1 kv head, 16 tokens. */
#ifndef AQ_TESTS_SUPPORT_MICRO_H
#define AQ_TESTS_SUPPORT_MICRO_H

#include "frontend/import/import.h"

typedef struct aq_micro {
    aq_arena arena;
    aq_config config;
    aq_tensor *tensors; /* in the order of tensors.def, layer by layer inside a row */
    uint32_t n_tensors;
    aq_tokenizer_source tokenizer;
} aq_micro;

/* Matrices in dtype, norms in f32; all values random by seed. Aborts the test when out of memory. */
void aq_micro_open(aq_micro *m, aq_dtype dtype, int tied, uint64_t seed);
void aq_micro_close(aq_micro *m);

/* Its GGUF file as bytes (aq_mem_free), with its tokenizer and the template "{{ messages }}". */
void aq_micro_gguf(const aq_micro *m, unsigned char **out, size_t *out_size);

/* A new folder under /dev/shm or /tmp in room[64]; removed with everything in it by aq_micro_remove. */
void aq_micro_folder(char *room);
void aq_micro_remove(const char *folder);
/* FOLDER/NAME holds the bytes. */
void aq_micro_put(const char *folder, const char *name, const void *bytes, size_t n);

/* Its tensors [first, last) as a safetensors file with Hugging Face names (naming 1) or FlagAI's (2). Needs a FLOAT dtype. */
void aq_micro_safetensors(const aq_micro *m, uint32_t first, uint32_t last, int naming, unsigned char **out, size_t *out_size);
/* Its config.json in that naming, NUL-terminated, in its arena. */
const char *aq_micro_config(aq_micro *m, int naming);
/* The name of tensor i in that naming, in its arena. */
const char *aq_micro_name(aq_micro *m, uint32_t i, int naming);

#endif
