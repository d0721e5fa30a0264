#include "editscore/instruction_set.h"

namespace editscore {

const char* instruction_set_name(InstructionSet set) {
    switch (set) {
        case InstructionSet::kAvx2:
            return "avx2";
        case InstructionSet::kAvx512:
            return "avx512";
        case InstructionSet::kAvx512Bf16:
            return "avx512_bf16";
        default:
            return "portable";
    }
}

bool has_instruction_set(InstructionSet set) {
    if (set == InstructionSet::kPortable) return true;
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (set == InstructionSet::kAvx2) return avx2;
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (set == InstructionSet::kAvx512) return avx512;
    return avx512 && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

InstructionSet best_instruction_set() {
    for (int i = kNumInstructionSets - 1; i > 0; --i) {
        if (has_instruction_set(static_cast<InstructionSet>(i))) return static_cast<InstructionSet>(i);
    }
    return InstructionSet::kPortable;
}

}  // namespace editscore
