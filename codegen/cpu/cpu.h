/* cpu.h: nests to x86-64 machine code through the LLVM 19 C API, opened at run time. */
#ifndef AQ_CODEGEN_CPU_H
#define AQ_CODEGEN_CPU_H

#include "codegen/codegen.h"
#include "ir/file.h"

/* One relocatable ELF object for all nests: function "NAME.pK" for phase K of nest NAME, as aq_kernel (ir/plan.h). In `arena`.
 * Deterministic: same nests, same target, same bytes, with any number of threads. AQ_MISSING if LLVM 19 is not found (what was looked for, what to install);
 * AQ_REFUSED if a nest needs what the emitter lacks, or if the object would need a symbol or relocation the loader does not know.
 * local_bytes[i]: memory each worker needs for nest i. asm_text (may be NULL): the assembly of everything, for `show` and the tour. */
AQ_MUST_USE aq_status aq_cpu_emit(const aq_nest *const *nests, uint32_t n, const aq_target *t, int threads, aq_arena *arena, unsigned char **out_object,
                                  size_t *out_size, uint64_t *local_bytes, const char **asm_text);

/* The library that would be opened, found without opening it: a path in room or elsewhere; NULL if there is none. */
const char *aq_cpu_llvm_file(char room[AQ_FILE_PATH]);
/* The version of LLVM in use, "19.1.7", and its library's path; opens it. */
AQ_MUST_USE aq_status aq_cpu_llvm_version(const char **out, const char **out_path);
/* The library to open instead of looking for it by name (the switch AQ_LLVM). Before the first call of the others; the text must live on. */
void aq_cpu_llvm_use(const char *file);

#endif
