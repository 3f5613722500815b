/* classes.c: which characters are letters, numbers and white space, as the regular expressions of Hugging Face's tokenizers see them; \w.
 *
 * Texts ask for the class of every character, and utf8proc answers in some 4 ns: the answers for the first 65536 characters are kept, two bits each,
 * which fit the first-level cache. They are asked for once a process: all tokenizers see those characters alike (NEWEST are beyond them). */
#include "frontend/tokenizer/internal.h"

#include <pthread.h>
#include <utf8proc.h>

/* Characters younger than Unicode 15.0, which the oldest utf8proc we meet knows: Hugging Face's tokenizers 0.23 see them so. NEWEST are
 * numbers to its digit splitter (Unicode 17), but not yet to its regular expressions. MARK is of no class, but part of a word. */
enum { NEWEST = 4, MARK };
static const struct {
    uint32_t first, last;
    uint8_t class;
} younger[] = {
    {0x897, 0x897, MARK}, {0x1C89, 0x1C8A, AQ_CLASS_LETTER}, {0xA7CB, 0xA7CD, AQ_CLASS_LETTER}, {0xA7DA, 0xA7DC, AQ_CLASS_LETTER},
    {0x105C0, 0x105F3, AQ_CLASS_LETTER}, {0x10D40, 0x10D49, AQ_CLASS_NUMBER}, {0x10D4A, 0x10D65, AQ_CLASS_LETTER}, {0x10D69, 0x10D6D, MARK},
    {0x10D6F, 0x10D85, AQ_CLASS_LETTER}, {0x10EC2, 0x10EC4, AQ_CLASS_LETTER}, {0x10EFC, 0x10EFC, MARK}, {0x11380, 0x11389, AQ_CLASS_LETTER},
    {0x1138B, 0x1138B, AQ_CLASS_LETTER}, {0x1138E, 0x1138E, AQ_CLASS_LETTER}, {0x11390, 0x113B5, AQ_CLASS_LETTER},
    {0x113B7, 0x113B7, AQ_CLASS_LETTER}, {0x113B8, 0x113C0, MARK}, {0x113C2, 0x113C2, MARK}, {0x113C5, 0x113C5, MARK},
    {0x113C7, 0x113CA, MARK}, {0x113CC, 0x113D0, MARK}, {0x113D1, 0x113D1, AQ_CLASS_LETTER}, {0x113D2, 0x113D2, MARK},
    {0x113D3, 0x113D3, AQ_CLASS_LETTER}, {0x113E1, 0x113E2, MARK}, {0x116D0, 0x116E3, AQ_CLASS_NUMBER}, {0x11BC0, 0x11BE0, AQ_CLASS_LETTER},
    {0x11BF0, 0x11BF9, AQ_CLASS_NUMBER}, {0x11DE0, 0x11DE9, NEWEST}, {0x11F5A, 0x11F5A, MARK}, {0x13460, 0x143FA, AQ_CLASS_LETTER},
    {0x16100, 0x1611D, AQ_CLASS_LETTER}, {0x1611E, 0x1612F, MARK}, {0x16130, 0x16139, AQ_CLASS_NUMBER}, {0x16D40, 0x16D6C, AQ_CLASS_LETTER},
    {0x16D70, 0x16D79, AQ_CLASS_NUMBER}, {0x16FF4, 0x16FF6, NEWEST}, {0x18CFF, 0x18CFF, AQ_CLASS_LETTER},
    {0x1CCF0, 0x1CCF9, AQ_CLASS_NUMBER}, {0x1E5D0, 0x1E5ED, AQ_CLASS_LETTER}, {0x1E5EE, 0x1E5EF, MARK}, {0x1E5F0, 0x1E5F0, AQ_CLASS_LETTER},
    {0x1E5F1, 0x1E5FA, AQ_CLASS_NUMBER}, {0x2EBF0, 0x2EE5D, AQ_CLASS_LETTER},
};

static int find_younger(uint32_t c) {
    for (size_t i = 0; i < sizeof younger / sizeof *younger; i++)
        if (c >= younger[i].first && c <= younger[i].last)
            return younger[i].class;
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
