// The types of floats that a kernel reads and writes where it computes in float32.
#pragma once

namespace editscore {

enum class ElementType : int { kFloat32 = 0, kBfloat16 = 1, kFloat16 = 2 };

}  // namespace editscore
