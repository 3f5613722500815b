/* llvm.h: LLVM 19's C API as a table of functions, opened by dlopen and never linked, so that a program that only runs plans has no LLVM
 * in its process. llvm->BuildAdd is LLVMBuildAdd. */
#ifndef AQ_CODEGEN_CPU_LLVM_H
#define AQ_CODEGEN_CPU_LLVM_H

#include "ir/status.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

typedef struct aq_llvm {
#define FN(name) __typeof__(&LLVM##name) name;
#include "codegen/cpu/llvm.def"
#undef FN
} aq_llvm;

/* Opens the library on the first call (13 ms), once a process. AQ_MISSING: what was looked for, what to install. */
AQ_MUST_USE aq_status aq_llvm_open(const aq_llvm **out);

#endif
