/* test_elf.c: the loader of machine code: what LLVM makes loads and runs; the same cut at every byte and with changed bytes is loaded or
 * refused, never followed out of its bounds, and leaves nothing behind; objects that need more than the loader has are refused by name. */
#include "tests/cpu/kernel.h"

#include <elf.h>

static unsigned char *object;
static size_t size;

static void make_object(kernel *k) {
    kernel_open(k,
                "nest r(in %x: f32[T, 32], in %pos: i32[T], out %y: f32[T, 32]) { axis t: T, n: 32\n"
                "phase { tiles t by 1 { for n by 16 lanes 16 { store %y[t, n] = rope(exp(%x[t, n]), %pos[t]) {dim=32, theta=10000} } } } }",
                5);
    aq_target t;
    OK(aq_target_parse("cpu:v3", &t));
    const aq_nest *n = k->n;
    OK(aq_cpu_emit(&n, 1, &t, 1, &k->arena, &object, &size, &k->local_bytes, NULL));
}

static void loads_and_finds(void **state) {
    (void)state;
    kernel k;
    aq_elf *elf;
    make_object(&k);
    OK(aq_elf_load("m.aqp", object, size, &elf));
    assert_non_null(aq_elf_symbol(elf, "r.p0"));
    assert_null(aq_elf_symbol(elf, "r.p1"));
    assert_null(aq_elf_symbol(elf, ""));
    aq_elf_close(elf);
    aq_elf_close(NULL);
    kernel_close(&k);
}

static void same_bytes_again(void **state) {
    (void)state;
    kernel a, b;
    make_object(&a);
    unsigned char *first = object;
    size_t first_size = size;
    make_object(&b);
    assert_int_equal(size, first_size);
    assert_memory_equal(object, first, size);
    kernel_close(&a);
    kernel_close(&b);
}

static void try_load(const unsigned char *bytes, size_t n) {
    aq_elf *elf = NULL;
    long open = aq_mem_open_blocks();
    if (aq_elf_load("m.aqp", bytes, n, &elf) == AQ_OK)
        aq_elf_close(elf);
    else
        assert_non_null(strstr(aq_error(), "m.aqp: "));
    assert_int_equal(aq_mem_open_blocks(), open);
}

static void cut_at_every_byte(void **state) {
    (void)state;
    kernel k;
    make_object(&k);
    for (size_t n = 0; n < size; n++) {
        void *copy; /* its own block, so that a sanitizer sees the first byte past it */
        OK(aq_mem_alloc(n, &copy));
        memcpy(copy, object, n);
        try_load(copy, n);
        aq_mem_free(copy);
    }
    kernel_close(&k);
}

static void with_changed_bytes(void **state) {
    (void)state;
    kernel k;
    make_object(&k);
    aq_random r = aq_random_open(3);
    for (int i = 0; i < 20000; i++) {
        void *p;
        OK(aq_mem_alloc(size, &p));
        unsigned char *copy = p;
        memcpy(copy, object, size);
        for (int n = 1 + (int)aq_random_below(&r, 3); n > 0; n--) {
            /* mostly the tables at the end and the header, where the offsets are */
            size_t at = aq_random_below(&r, 3)   ? size - 1 - aq_random_below(&r, (uint32_t)(size / 3))
                        : aq_random_below(&r, 2) ? aq_random_below(&r, 64)
                                                 : aq_random_below(&r, (uint32_t)size);
            copy[at] = (unsigned char)(aq_random_below(&r, 2) ? aq_random_u32(&r) : (uint32_t[]){0, 255, 127, 128}[aq_random_below(&r, 4)]);
        }
        try_load(copy, size);
        aq_mem_free(copy);
    }
    kernel_close(&k);
}

static void failing_allocations(void **state) {
    (void)state;
    kernel k;
    make_object(&k);
    long open = aq_mem_open_blocks();
    int refused = 0;
    for (long nth = 1; nth < 20; nth++) {
        aq_elf *elf = NULL;
        aq_mem_fail_after(nth);
        aq_status s = aq_elf_load("m.aqp", object, size, &elf);
        aq_mem_fail_after(0);
        refused += s == AQ_NO_MEMORY;
        if (s == AQ_OK)
            aq_elf_close(elf);
        assert_int_equal(aq_mem_open_blocks(), open);
    }
    assert_true(refused >= 4);
    kernel_close(&k);
}

static void patch_section(unsigned char *o, unsigned type, size_t field, uint64_t value, int bytes) {
    Elf64_Ehdr h;
    memcpy(&h, o, sizeof h);
    for (unsigned i = 1; i < h.e_shnum; i++) {
        Elf64_Shdr s;
        memcpy(&s, o + h.e_shoff + i * sizeof s, sizeof s);
        if (s.sh_type == type && s.sh_size)
            memcpy(o + (field < 1000 ? h.e_shoff + i * sizeof s + field : s.sh_offset + field - 1000), &value, (size_t)bytes);
    }
}

static void refused_by_name(void **state) {
    (void)state;
    static const struct {
        unsigned section;
        size_t field; /* of the header; from 1000: of the contents */
        uint64_t value;
        int bytes;
        const char *message;
    } rows[] = {
        {SHT_RELA, 1000 + 8, 42, 4, "relocation type 42"},
        {SHT_RELA, 1000 + 12, 99999, 4, "symbol 99999 is past the end"},
        {SHT_RELA, 1000, 1 << 30, 8, "lies outside of section"},
        {SHT_RELA, 1000 + 16, (uint64_t)1 << 40, 8, "does not fit 32 bits"},
        {SHT_SYMTAB, offsetof(Elf64_Shdr, sh_size), (uint64_t)1 << 60, 8, "lies outside of the object"},
        {SHT_SYMTAB, offsetof(Elf64_Shdr, sh_link), 0, 4, "has no names"},
        {SHT_PROGBITS, offsetof(Elf64_Shdr, sh_flags), SHF_ALLOC | SHF_WRITE, 8, "writable"},
        {SHT_PROGBITS, offsetof(Elf64_Shdr, sh_addralign), 3, 8, "aligned to 3"},
    };
    kernel k;
    make_object(&k);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *p;
        aq_elf *elf;
        OK(aq_mem_alloc(size, &p));
        memcpy(p, object, size);
        patch_section(p, rows[i].section, rows[i].field, rows[i].value, rows[i].bytes);
        assert_int_equal(aq_elf_load("m.aqp", p, size, &elf), AQ_REFUSED);
        if (!strstr(aq_error(), rows[i].message))
            fail_msg("row %zu: '%s' does not say '%s'", i, aq_error(), rows[i].message);
        aq_mem_free(p);
    }
    kernel_close(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_and_finds),    cmocka_unit_test(same_bytes_again),    cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(with_changed_bytes), cmocka_unit_test(failing_allocations), cmocka_unit_test(refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
