/* write_safetensors.c: tensors [first, end) of a model as one safetensors file: 8 bytes of header length, a JSON object, the data. Format:
 * github.com/huggingface/safetensors. The header is filled up with spaces so that the data begin at a multiple of 64, and the library's order
 * (wider types first) keeps each tensor aligned to its element. The header is made twice: first only counted. */
#include "frontend/import/write.h"

#include <inttypes.h>
#include <string.h>

enum { ALIGNMENT = 64 };

/* The next type in falling width: 8, 4, 2, 1 bytes an element. */
static const int widths[] = {8, 4, 2, 1};
enum { N_WIDTHS = sizeof widths / sizeof *widths };

static int has_width(const aq_out_tensor *t, int k) { return aq_dtype_of(t->dtype)->bytes == widths[k]; }

static void put_entry(aq_put *o, const aq_out_tensor *t, uint64_t at) {
    aq_put_text(o, ",");
    aq_put_json(o, t->name, strlen(t->name), t->name);
    aq_put_format(o, ":{\"dtype\":\"%s\",\"shape\":[%" PRId64, aq_dtype_of(t->dtype)->safetensors, t->from->dim[0]);
    if (t->from->rank == 2)
        aq_put_format(o, ",%" PRId64, t->from->dim[1]);
    aq_put_format(o, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t->bytes);
}

static void put_header(aq_put *o, const aq_out_model *m, uint32_t first, uint32_t end) {
    uint64_t at = 0;
    aq_put_text(o, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int k = 0; k < N_WIDTHS; k++)
        for (uint32_t i = first; i < end; i++)
            if (has_width(&m->tensors[i], k)) {
                put_entry(o, &m->tensors[i], at);
                at += m->tensors[i].bytes;
            }
    aq_put_text(o, "}");
}

aq_status aq_safetensors_put(const aq_out_model *m, uint32_t first, uint32_t end, aq_file_writer *w) {
    aq_put dry = {0}, o = {.writer = w};
    for (uint32_t i = first; i < end; i++)
        if (!*aq_dtype_of(m->tensors[i].dtype)->safetensors)
            return aq_fail(AQ_REFUSED, m->tensors[i].name, "type %s has no name in safetensors", aq_dtype_of(m->tensors[i].dtype)->name);
    put_header(&dry, m, first, end);
    uint64_t fill = (ALIGNMENT - (8 + dry.written) % ALIGNMENT) % ALIGNMENT;
    aq_put_number(&o, dry.written + fill, 8);
    put_header(&o, m, first, end);
    for (; fill; fill--)
        aq_put_text(&o, " ");
    for (int k = 0; k < N_WIDTHS; k++)
        for (uint32_t i = first; i < end && o.status == AQ_OK; i++)
            if (has_width(&m->tensors[i], k))
                aq_pump_run(m->pump, &m->tensors[i], &o);
    return o.status;
}
