#include "arguments.h"
#include "editscore/gated_activation.h"

namespace editscore::bindings {
namespace {

namespace py = pybind11;

// Arguments as GatedActivationParams, then those of the backend.
template <auto kRun, class... Rest>
void gated_activation(int kind, int type, uintptr_t x, uintptr_t up, uintptr_t out, int64_t num_rows, int64_t width,
                      int64_t x_row_stride, int64_t up_row_stride, Rest... rest) {
    const GatedActivationParams params = {
        .kind = static_cast<ActivationKind>(kind),
        .type = static_cast<ElementType>(type),
        .x = pointer<const void>(x),
        .up = pointer<const void>(up),
        .out = pointer<void>(out),
        .num_rows = num_rows,
        .width = width,
        .x_row_stride = x_row_stride,
        .up_row_stride = up_row_stride,
    };
    kRun(params, rest...);
}

void run_cpu(const GatedActivationParams& params, int num_threads, int set) {
    const InstructionSet wanted = checked_set(set);
    const py::gil_scoped_release released;
    gated_activation_cpu(params, num_threads, wanted);
}

[[maybe_unused]] void run_cuda(const GatedActivationParams& params, uintptr_t stream) {
    const py::gil_scoped_release released;
    gated_activation_cuda(params, pointer<void>(stream));
}

}  // namespace

void add_activation(pybind11::module_& m) {
    m.def("gated_activation_cpu", &gated_activation<run_cpu, int, int>,
          "Arguments as GatedActivationParams, then num_threads and the instruction set's number.");
    // Without CUDA objects this is discarded, so that nothing refers to a function that is not there.
    if constexpr (sizeof(EDITSCORE_CUDA_ARCHITECTURES) > 1) {
        m.def("gated_activation_cuda", &gated_activation<run_cuda, uintptr_t>,
              "Arguments as GatedActivationParams on one device, then a stream of that device.");
    }
}

}  // namespace editscore::bindings
