/* npy.h: NumPy's .npy files (format 1.0 to 3.0: numpy/lib/format.py describes it), as exec reads inputs and writes outputs. */
#ifndef AQ_FRONTEND_CLI_NPY_H
#define AQ_FRONTEND_CLI_NPY_H

#include "ir/dtype.h"

enum { AQ_NPY_MAX_RANK = 8 };

typedef struct aq_npy {
    aq_dtype dtype; /* F64 F32 F16 I8 I32; files of i8 bytes wide integers are read as I32 where every value fits */
    int rank;
    int64_t dim[AQ_NPY_MAX_RANK];
    size_t n;       /* elements */
    void *data;     /* row-major, 64-byte aligned; aq_npy_close frees it */
} aq_npy;

/* Parses bytes[0..size). AQ_REFUSED "FILE: ..." for anything that is not such an array, in C order, little endian. */
AQ_MUST_USE aq_status aq_npy_parse(const char *file, const unsigned char *bytes, size_t size, aq_npy *out);
AQ_MUST_USE aq_status aq_npy_read(const char *path, aq_npy *out);
void aq_npy_close(aq_npy *a);

/* Writes a C-order array; the path appears only when it is whole. dtype as above. */
AQ_MUST_USE aq_status aq_npy_write(const char *path, aq_dtype dtype, const int64_t *dim, int rank, const void *data);

#endif
