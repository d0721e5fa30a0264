#include "editscore/instruction_set.h"

namespace editscore {

const char* instruction_set_name(InstructionSet set) {
    switch (set) {
        case InstructionSet::kAvx2:
            return "avx2";
        case InstructionSet::kAvx512:
            return "avx512";
        default:
            return "portable";
    }
}

bool has_instruction_set(InstructionSet set) {
    if (set == InstructionSet::kPortable) return true;
#if defined(__x86_64__)
    if (set == InstructionSet::kAvx2) return __builtin_cpu_supports("avx2");
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

InstructionSet best_instruction_set() {
    if (has_instruction_set(InstructionSet::kAvx512)) return InstructionSet::kAvx512;
    if (has_instruction_set(InstructionSet::kAvx2)) return InstructionSet::kAvx2;
    return InstructionSet::kPortable;
}

}  // namespace editscore
