/* alphabet.c: GPT-2's way to write any bytes as printable text: the bytes 33..126, 161..172 and 174..255 are the characters of the
 * same number, the 68 others are U+0100, U+0101, ... in the order of the bytes (bytes_to_unicode of the GPT-2 release). And SentencePiece's
 * way to write a space. */
#include "frontend/tokenizer/internal.h"

static int is_printable(unsigned byte) { return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174; }

/* The byte of U+0100 + k: the unprintable ones are 0..32, 127..160 and 173. */
static int byte_of_shifted(uint32_t k) {
    if (k <= 32)
        return (int)k;
    if (k <= 66)
        return (int)(127 + k - 33);
    return k == 67 ? 173 : -1;
}

int aq_alphabet_of_byte(uint8_t byte, char out[2]) {
    uint32_t c = byte;
    if (!is_printable(byte))
        c = 0x100 + (byte <= 32 ? byte : byte <= 160 ? byte - 127u + 33u : 67u);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
}

int64_t aq_alphabet_to_bytes(const char *text, size_t n, char *out) {
    int64_t count = 0;
    int foreign = 0; /* go on to the end all the same: bad UTF-8 is the worse news */
    for (size_t i = 0; i < n;) {
        uint32_t c = (uint8_t)text[i];
        int length = c < 0x80 ? 1 : aq_utf8_decode(text + i, n - i, &c);
        if (!length)
            return -2;
        int byte = c >= 0x100 ? byte_of_shifted(c - 0x100) : is_printable(c) ? (int)c : -1;
        foreign |= byte < 0;
        out[count++] = (char)byte;
        i += (size_t)length;
    }
    return foreign ? -1 : count;
}

/* ---- SentencePiece: U+2581 for a space ---- */

int64_t aq_marks_to_spaces(const char *text, size_t n, char *out, int *has_space) {
    int64_t count = 0;
    *has_space = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = (uint8_t)text[i];
        int length = c < 0x80 ? 1 : aq_utf8_decode(text + i, n - i, &c);
        if (!length)
            return -2;
        *has_space |= c == ' ';
        if (c == 0x2581)
            out[count++] = ' ';
        else
            for (int k = 0; k < length; k++)
                out[count++] = text[i + (size_t)k];
        i += (size_t)length;
    }
    return count;
}
