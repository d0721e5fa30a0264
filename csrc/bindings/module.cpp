// The Python module `_C`: one m.def per function, pointers as integers, the GIL released while a kernel runs. Only
// kernels/editscore_kernels/_native.py calls it, and it has checked every tensor before.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "editscore/instruction_set.h"

namespace {

std::vector<std::pair<std::string, bool>> instruction_sets() {
    std::vector<std::pair<std::string, bool>> sets;
    for (int i = 0; i < editscore::kNumInstructionSets; ++i) {
        const auto set = static_cast<editscore::InstructionSet>(i);
        sets.emplace_back(editscore::instruction_set_name(set), editscore::has_instruction_set(set));
    }
    return sets;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "Compiled kernels of EditScore; call them through editscore_kernels.";
    m.attr("compiler") = EDITSCORE_COMPILER;
    m.attr("cuda_architectures") = EDITSCORE_CUDA_ARCHITECTURES;  // empty: no CUDA objects in this build
    m.def("instruction_sets", &instruction_sets,
          "Names in the order of their numbers, and whether this machine runs them.");
    editscore::bindings::add_sampling(m);
    editscore::bindings::add_activation(m);
    editscore::bindings::add_layers(m);
    editscore::bindings::add_attention(m);
    editscore::bindings::add_attention_cuda(m);
}
