#include "arguments.h"
#include "editscore/rms_norm.h"
#include "editscore/rotary_embedding.h"

namespace editscore::bindings {
namespace {

namespace py = pybind11;

void rms_norm(int type, uintptr_t x, uintptr_t weight, uintptr_t out, int64_t num_rows, int64_t width,
              int64_t x_row_stride, float epsilon, int num_threads, int set) {
    const RmsNormParams params = {
        .type = static_cast<ElementType>(type),
        .x = pointer<const void>(x),
        .weight = pointer<const void>(weight),
        .out = pointer<void>(out),
        .num_rows = num_rows,
        .width = width,
        .x_row_stride = x_row_stride,
        .epsilon = epsilon,
    };
    const InstructionSet wanted = checked_set(set);
    const py::gil_scoped_release released;
    rms_norm_cpu(params, num_threads, wanted);
}

void rotary_embedding(int type, uintptr_t q, uintptr_t q_out, int64_t num_q_heads, int64_t q_token_stride,
                      int64_t q_head_stride, uintptr_t k, uintptr_t k_out, int64_t num_k_heads, int64_t k_token_stride,
                      int64_t k_head_stride, uintptr_t cos, uintptr_t sin, int64_t num_tokens, int64_t head_dim,
                      int64_t cos_token_stride, int64_t sin_token_stride, int num_threads, int set) {
    const RotaryEmbeddingParams params = {
        .type = static_cast<ElementType>(type),
        .q = {pointer<const void>(q), pointer<void>(q_out), num_q_heads, q_token_stride, q_head_stride},
        .k = {pointer<const void>(k), pointer<void>(k_out), num_k_heads, k_token_stride, k_head_stride},
        .cos = pointer<const void>(cos),
        .sin = pointer<const void>(sin),
        .num_tokens = num_tokens,
        .head_dim = head_dim,
        .cos_token_stride = cos_token_stride,
        .sin_token_stride = sin_token_stride,
    };
    const InstructionSet wanted = checked_set(set);
    const py::gil_scoped_release released;
    rotary_embedding_cpu(params, num_threads, wanted);
}

}  // namespace

void add_layers(pybind11::module_& m) {
    m.def("rms_norm_cpu", &rms_norm, "Arguments as RmsNormParams, then num_threads and the instruction set's number.");
    m.def("rotary_embedding_cpu", &rotary_embedding,
          "Arguments as RotaryEmbeddingParams, then num_threads and the instruction set's number.");
}

}  // namespace editscore::bindings
