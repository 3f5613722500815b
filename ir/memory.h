/* memory.h: the door to memory. Nothing else calls malloc, so a test can fail the Nth call and count what is open. */
#ifndef AQ_IR_MEMORY_H
#define AQ_IR_MEMORY_H

#include "ir/status.h"

/* *out gets `size` zeroed bytes, aligned to 64; AQ_NO_MEMORY otherwise. Free with aq_mem_free. size 0 gives a valid
 * pointer. */
AQ_MUST_USE aq_status aq_mem_alloc(size_t size, void **out);

/* Grows or shrinks *block from old_size to new_size (realloc semantics, new bytes zeroed); *block is untouched on failure. */
AQ_MUST_USE aq_status aq_mem_resize(void **block, size_t old_size, size_t new_size);

/* NULL is fine. */
void aq_mem_free(void *block);

/* Anonymous pages, zeroed, 2 MiB pages advised where large: for caches, arenas of activations and packed weights.
 * Free with the same size. */
AQ_MUST_USE aq_status aq_mem_map(size_t size, void **out);
void aq_mem_unmap(void *block, size_t size);

/* Bytes that can still be taken before something has to be thrown out: of the machine and of this process's control group. Pages of files
 * count as free. UINT64_MAX where nobody can tell. (folder.c) */
uint64_t aq_mem_available(void);

/* Bytes of addresses that this process may still map (ulimit -v); UINT64_MAX where nothing limits them. Libraries that end the program when they
 * get no memory are only opened where there is enough. (folder.c) */
uint64_t aq_mem_addresses(void);

/* For tests: the Nth allocation from now (1 = the next) and all after it fail; 0 switches it off. */
void aq_mem_fail_after(long nth);
/* Blocks allocated and not yet freed, maps included; and the number of allocations made so far. */
long aq_mem_open_blocks(void);
long aq_mem_allocations(void);
/* The most bytes that blocks (maps left out) took together since reset. */
size_t aq_mem_peak(int reset);

#endif
