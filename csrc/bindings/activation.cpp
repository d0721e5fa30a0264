#include "arguments.h"
#include "editscore/gated_activation.h"

namespace editscore::bindings {
namespace {

namespace py = pybind11;

void gated_activation_cpu(int kind, int type, uintptr_t x, uintptr_t up, uintptr_t out, int64_t num_rows, int64_t width,
                          int64_t x_row_stride, int64_t up_row_stride, int num_threads, int set) {
    const GatedActivationParams params = {
        .kind = static_cast<ActivationKind>(kind),
        .type = static_cast<ActivationType>(type),
        .x = pointer<const void>(x),
        .up = pointer<const void>(up),
        .out = pointer<void>(out),
        .num_rows = num_rows,
        .width = width,
        .x_row_stride = x_row_stride,
        .up_row_stride = up_row_stride,
    };
    const InstructionSet wanted = checked_set(set);
    const py::gil_scoped_release released;
    editscore::gated_activation_cpu(params, num_threads, wanted);
}

}  // namespace

void add_activation(pybind11::module_& m) {
    m.def("gated_activation_cpu", &gated_activation_cpu,
          "Arguments as GatedActivationParams, then num_threads and the instruction set's number.");
}

}  // namespace editscore::bindings
