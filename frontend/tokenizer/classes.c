/* classes.c: which characters are letters, numbers and white space, as the regular expressions of Hugging Face's tokenizers see them; \w.
 *
 * Texts ask for the class of every character, and utf8proc answers in some 4 ns: the answers for the first 65536 characters are kept, two bits each,
 * which fit the first-level cache. They are asked for once a process: all tokenizers see those characters alike (NEWEST are beyond them). */
#include "frontend/tokenizer/internal.h"

#include <pthread.h>
#include <utf8proc.h>

const aq_younger aq_younger_characters[] = {
#define YOUNGER(first, last, category) {first, last, category},
#include "frontend/tokenizer/younger.def"
#undef YOUNGER
};
const size_t aq_n_younger = sizeof aq_younger_characters / sizeof *aq_younger_characters;

/* NEWEST are numbers to the digit splitter only. MARK is of no class, but part of a word. */
enum { NEWEST = 4, MARK };

static int find_younger(uint32_t c) {
    for (size_t i = 0; i < aq_n_younger; i++) {
        const aq_younger *y = &aq_younger_characters[i];
        if (c < y->first || c > y->last)
            continue;
        switch (y->category[0]) {
        case 'L': return AQ_CLASS_LETTER;
        case 'N': return AQ_CLASS_NUMBER;
        case 'M': return MARK;
        case '+': return NEWEST;
        default: return AQ_CLASS_OTHER;
        }
    }
    return AQ_CLASS_OTHER;
}

static aq_class class_of_younger(aq_pretokenizer pre, uint32_t c) {
    int class = find_younger(c);
    return class < NEWEST ? (aq_class)class : class == NEWEST && pre == AQ_PRE_SMOLLM ? AQ_CLASS_NUMBER : AQ_CLASS_OTHER;
}

int aq_class_is_space(uint32_t c) {
    return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* \p{L}: utf8proc's numbers of its five categories are in a row. */
static int is_letter(utf8proc_category_t category) {
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

aq_class aq_class_of(aq_pretokenizer pre, uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    if (is_letter(category))
        return AQ_CLASS_LETTER;
    switch (category) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return AQ_CLASS_NUMBER;
    case UTF8PROC_CATEGORY_CN:
        return class_of_younger(pre, c);
    default:
        return aq_class_is_space(c) ? AQ_CLASS_SPACE : AQ_CLASS_OTHER;
    }
}

static uint8_t classes[0x10000 / 4];
static pthread_once_t classes_once = PTHREAD_ONCE_INIT;

static void make_classes(void) {
    for (uint32_t c = 0; c < 0x10000; c++)
        classes[c / 4] |= (uint8_t)(aq_class_of(AQ_PRE_GPT2, c) << c % 4 * 2);
}

const uint8_t *aq_classes(void) {
    pthread_once(&classes_once, make_classes);
    return classes;
}

/* Rust's \w, by Unicode's UTS 18: Alphabetic, marks, decimal numbers, connector punctuation, join controls. Alphabetic goes beyond
 * letters and letter numbers only by Other_Alphabetic: marks, and the circled letters. */
int aq_class_is_word(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    if (is_letter(category))
        return 1;
    switch (category) {
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_PC:
        return 1;
    case UTF8PROC_CATEGORY_CN:
        return find_younger(c) != AQ_CLASS_OTHER && find_younger(c) != NEWEST;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}
