/* put.h: bytes, numbers and JSON on their way into a file. Errors are kept: once one happened nothing more is written, and the end looks at
 * `status`. Without a writer it only counts, which tells the length of a header before it is written. */
#ifndef AQ_FRONTEND_IMPORT_PUT_H
#define AQ_FRONTEND_IMPORT_PUT_H

#include "ir/file.h"

typedef struct aq_put {
    aq_file_writer *writer; /* stays its owner's */
    uint64_t written;
    aq_status status;
    int sums;     /* keep crc of what is put */
    uint32_t crc; /* CRC-32 as zip has it; set to 0 where a new one begins */
} aq_put;

void aq_put_bytes(aq_put *o, const void *bytes, size_t n);
void aq_put_text(aq_put *o, const char *text);
void aq_put_format(aq_put *o, const char *format, ...) AQ_PRINTF(2, 3); /* at most 400 bytes come out */
void aq_put_number(aq_put *o, uint64_t x, int bytes);                    /* little endian, 1, 2, 4 or 8 bytes */
void aq_put_zeros(aq_put *o, uint64_t n);
/* s[0..n) as a JSON string. AQ_REFUSED with `what` in the message where it is not UTF-8. */
void aq_put_json(aq_put *o, const char *s, size_t n, const char *what);
/* The shortest decimal that reads back as x: as an f32 where x is one, since then it came from a file that stores 32 bits. */
void aq_put_real(aq_put *o, double x);

#endif
