#include "arguments.h"
#include "editscore/sample_tokens.h"

namespace editscore::bindings {
namespace {

namespace py = pybind11;

// Arguments as SampleTokensParams, then those of the backend.
template <auto kRun, class... Rest>
void sample_tokens(uintptr_t logits, int logit_type, int64_t num_rows, int64_t vocabulary, int64_t logits_row_stride,
                   uintptr_t temperature, uintptr_t top_k, uintptr_t top_p, uintptr_t seed, uintptr_t request,
                   uintptr_t position, uintptr_t mask, int64_t mask_words, int64_t mask_row_stride,
                   uintptr_t option_ids, int64_t num_options, uintptr_t token, uintptr_t logprob_raw, uintptr_t logprob,
                   uintptr_t status, uintptr_t option_logprob, Rest... rest) {
    const SampleTokensParams params = {
        .logits = pointer<const void>(logits),
        .logit_type = static_cast<LogitType>(logit_type),
        .num_rows = num_rows,
        .vocabulary = vocabulary,
        .logits_row_stride = logits_row_stride,
        .temperature = pointer<const double>(temperature),
        .top_k = pointer<const int64_t>(top_k),
        .top_p = pointer<const double>(top_p),
        .seed = pointer<const int64_t>(seed),
        .request = pointer<const int64_t>(request),
        .position = pointer<const int64_t>(position),
        .mask = pointer<const int32_t>(mask),
        .mask_words = mask_words,
        .mask_row_stride = mask_row_stride,
        .option_ids = pointer<const int64_t>(option_ids),
        .num_options = num_options,
        .token = pointer<int64_t>(token),
        .logprob_raw = pointer<float>(logprob_raw),
        .logprob = pointer<float>(logprob),
        .status = pointer<int32_t>(status),
        .option_logprob = pointer<float>(option_logprob),
    };
    kRun(params, rest...);
}

void run_cpu(const SampleTokensParams& params, int num_threads, int set) {
    const InstructionSet wanted = checked_set(set);
    const py::gil_scoped_release released;
    sample_tokens_cpu(params, num_threads, wanted);
}

[[maybe_unused]] void run_cuda(const SampleTokensParams& params, uintptr_t stream) {
    const py::gil_scoped_release released;
    sample_tokens_cuda(params, pointer<void>(stream));
}

int64_t sample_weights_cpu(uintptr_t x, int64_t count, float best, float scale, int set) {
    return editscore::sample_weights_cpu(pointer<const float>(x), count, best, scale, checked_set(set));
}

}  // namespace

void add_sampling(pybind11::module_& m) {
    m.def("sample_tokens_cpu", &sample_tokens<run_cpu, int, int>,
          "Arguments as SampleTokensParams, then num_threads and the instruction set's number.");
    // Without CUDA objects this is discarded, so that nothing refers to a function that is not there.
    if constexpr (sizeof(EDITSCORE_CUDA_ARCHITECTURES) > 1) {
        m.def("sample_tokens_cuda", &sample_tokens<run_cuda, uintptr_t>,
              "Arguments as SampleTokensParams on one device, then a stream of that device.");
    }
    m.def("sample_weights_cpu", &sample_weights_cpu, "Address, count, best, scale, the instruction set's number.");
}

}  // namespace editscore::bindings
