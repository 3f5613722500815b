/* tiny_kernels.c: the kernels of the tiny model of tests/runtime/tiny.h, with the signature that emitted code has (aq_kernel). Plain C that
 * needs nothing from outside, so that it can also be compiled to an object by itself and be loaded. */
#include <stdint.h>

enum { D = 16, V = 50, PANEL = 16, PAGE = 64, SYM_T = 1, SYM_B = 3, SYM_P = 5 };

void tiny_embed(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);
void tiny_sum(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);
void tiny_add(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);
void tiny_head(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end);

/* tok, slot, emb -> x, k. Four tokens an item. */
void tiny_embed(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    const int32_t *tok = buf[0], *slot = buf[1];
    const float *emb = buf[2];
    float *x = buf[3], *k = buf[4];
    (void)local;
    for (int64_t t = begin * 4; t < end * 4 && t < sym[SYM_T]; t++)
        for (int d = 0; d < D; d++)
            k[slot[t] * D + d] = x[t * D + d] = emb[tok[t] * D + d];
}

/* pos, start, rows, len, pages, k, x -> z += sum of k / (1 + q). One token an item; long sequences take longer. */
void tiny_sum(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    const int32_t *pos = buf[0], *start = buf[1], *rows = buf[2], *len = buf[3], *pages = buf[4];
    const float *k = buf[5];
    float *z = buf[7], *sum = local;
    for (int64_t t = begin; t < end; t++) {
        int64_t b = 0;
        while (b < sym[SYM_B] && !(t >= start[b] && t < start[b] + rows[b]))
            b++;
        for (int d = 0; d < D; d++)
            sum[d] = 0;
        for (int32_t q = 0; q <= pos[t] && q < len[b]; q++) {
            int64_t row = (int64_t)pages[b * sym[SYM_P] + q / PAGE] * PAGE + q % PAGE;
            for (int d = 0; d < D; d++)
                sum[d] += k[row * D + d] / (float)(1 + q);
        }
        for (int d = 0; d < D; d++)
            z[t * D + d] += sum[d];
    }
}

/* z += x */
void tiny_add(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    const float *x = buf[6];
    float *z = buf[7];
    (void)sym, (void)local;
    for (int64_t i = begin * D; i < end * D; i++)
        z[i] += x[i];
}

/* want, y, out (panels), mix, norm -> logits. Items: wanted row, panel of 16 words. */
void tiny_head(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    const int32_t *want = buf[0];
    const float *y = buf[1], *out = buf[2], *mix = buf[3], *norm = buf[4];
    float *logits = buf[5], *z = local;
    int64_t panels = (V + PANEL - 1) / PANEL;
    (void)sym;
    for (int64_t i = begin; i < end; i++) {
        int64_t o = i / panels, p = i % panels;
        const float *row = y + want[o] * D;
        for (int j = 0; j < D; j++) {
            z[j] = 0;
            for (int d = 0; d < D; d++)
                z[j] += mix[j * D + d] * row[d];
            z[j] *= norm[j];
        }
        for (int r = 0; r < PANEL && p * PANEL + r < V; r++) {
            float sum = 0;
            for (int d = 0; d < D; d++)
                sum += out[(p * D + d) * PANEL + r] * z[d];
            logits[o * V + p * PANEL + r] = sum;
        }
    }
}
