// The instruction sets that plain C++ loops are compiled for, each by a `target` attribute on the function that they
// are inlined into, and the choice among such functions. No standard templates: see sample_tokens_loops.cpp.
#pragma once

#include "editscore/instruction_set.h"

#if defined(__clang__)
#define EDITSCORE_WIDE ""  // clang takes the width from elsewhere, and drops a target attribute that names it
#else
#define EDITSCORE_WIDE ",prefer-vector-width=512"
#endif
#define EDITSCORE_AVX2 __attribute__((target("avx2")))
#define EDITSCORE_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl" EDITSCORE_WIDE)))

// EDITSCORE_FOR_EACH_SET(DEFINE) is DEFINE(name, attribute) for every set of this kind of processor, and
// EDITSCORE_OF_SET(set, prefix) that one of prefix_portable, prefix_avx2 and prefix_avx512 which a processor with `set`
// runs.
#if defined(__x86_64__)
#define EDITSCORE_FOR_EACH_SET(DEFINE) \
    DEFINE(portable, );                \
    DEFINE(avx2, EDITSCORE_AVX2);      \
    DEFINE(avx512, EDITSCORE_AVX512)
#define EDITSCORE_OF_SET(set, prefix)                                                           \
    ((set) == InstructionSet::kAvx512 || (set) == InstructionSet::kAvx512Bf16 ? prefix##_avx512 \
     : (set) == InstructionSet::kAvx2                                         ? prefix##_avx2   \
                                                                              : prefix##_portable)
#else
#define EDITSCORE_FOR_EACH_SET(DEFINE) DEFINE(portable, )
#define EDITSCORE_OF_SET(set, prefix) (static_cast<void>(set), prefix##_portable)
#endif
