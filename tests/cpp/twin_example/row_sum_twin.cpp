// The Python module of the example: row_sum(x, rows, columns, out, **options), pointers as integers.
#include "bindings/twin.h"
#include "row_sum.cuh"

namespace {

warp::host::Stats launch_row_sum(const float* x, int rows, int columns, float* out, warp::host::Options options) {
    const row_sum::Params params = {x, out, columns};
    options.buffers = {warp::host::input("x", x, rows * columns), warp::host::output("out", out, rows)};
    const warp::host::Shape shape = {
        .grid = rows, .threads = row_sum::kWarps * 32, .shared_bytes = row_sum::kSharedBytes};
    return warp::host::launch([&] { row_sum::row_sum_kernel(params); }, shape, options);
}

}  // namespace

PYBIND11_MODULE(row_sum_twin, m) {
    twin::add_host_twin(m);
    m.def("row_sum", [](uintptr_t x, int rows, int columns, uintptr_t out, const py::kwargs& options) {
        return launch_row_sum(twin::pointer<const float>(x), rows, columns, twin::pointer<float>(out),
                              twin::options(options));
    });
}
