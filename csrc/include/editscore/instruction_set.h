// The instruction sets that one library holds side by side. Kernels are written once per set, or once for all of them,
// and chosen at run time; a caller may name one, so that tests can run each.
#pragma once

namespace editscore {

enum class InstructionSet : int {
    kPortable = 0,    // plain C++ as the target's baseline compiles it
    kAvx2 = 1,        // with FMA and F16C
    kAvx512 = 2,      // F, BW, DQ, VL
    kAvx512Bf16 = 3,  // the same and dot products of bfloat16 pairs; a kernel without them runs its kAvx512 loops
};
constexpr int kNumInstructionSets = 4;

const char* instruction_set_name(InstructionSet set);

// Whether this build has the set and this processor can run it.
bool has_instruction_set(InstructionSet set);

InstructionSet best_instruction_set();

}  // namespace editscore
