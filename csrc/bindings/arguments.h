// What every file of the bindings needs: pointers from integers, and instruction sets from their numbers.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "editscore/instruction_set.h"

namespace editscore::bindings {

template <class T>
T* pointer(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

inline InstructionSet checked_set(int set) {
    const auto wanted = static_cast<InstructionSet>(set);
    if (set < 0 || set >= kNumInstructionSets || !has_instruction_set(wanted)) {
        throw std::invalid_argument("instruction set " + std::to_string(set) + " cannot run here");
    }
    return wanted;
}

void add_sampling(pybind11::module_& m);
void add_activation(pybind11::module_& m);
void add_layers(pybind11::module_& m);
void add_attention(pybind11::module_& m);
void add_attention_cuda(pybind11::module_& m);

}  // namespace editscore::bindings
