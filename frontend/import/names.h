/* names.h: what belongs to a model's name (names.def): its architecture, the form of its conversations, how it is sampled.
 *
 * A name is matched so: letters without regard to case; -, _ and spaces may stand in it anywhere or be left out; behind a row's name must come
 * the end or a character that is neither letter nor digit; of several rows the longest. "BAAI/aquilachat2-7b_16k-Q4_0.gguf" is
 * AquilaChat2-7B-16K, "Aquila2-7B-16K" is Aquila2-7B (there is no such row), "MyAquila-7B" is none: a name begins at its beginning, or behind its
 * owner's: "BAAI_AquilaChat-7B.gguf", "models--BAAI--AquilaChat-7B". */
#ifndef AQ_FRONTEND_IMPORT_NAMES_H
#define AQ_FRONTEND_IMPORT_NAMES_H

#include <stddef.h>
#include <stdint.h>

typedef struct aq_known_model {
    const char *name, *config, *template;
    const char *sampling, *temperature, *top_k, *top_p, *max_new; /* NULL: the program's default */
    const char *doc;
} aq_known_model;

const aq_known_model *aq_known_model_at(uint32_t i); /* NULL past the last */

/* The row that the name names, NULL if none does. Only what is behind the last '/' counts. */
const aq_known_model *aq_known_model_find(const char *name);

/* The row whose name is name[0..n), case and -, _ and spaces aside, nothing behind it; NULL if there is none. */
const aq_known_model *aq_known_model_exact(const char *name, size_t n);

/* The row of a checkpoint: by its path's last part (of NAME:random by NAME), else by the name that it gives itself (general.name, name,
 * _name_or_path: often the name of what it was made from), else by the folder that its file is in, or that its snapshot in the Hub's cache is one
 * of. "." and ".." are the folders that they mean. Both may be "" or NULL. */
const aq_known_model *aq_known_model_of(const char *own_name, const char *path);

#endif
