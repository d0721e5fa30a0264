// The Python module of the twin: shared_prefix_attention(arch, warps, is_half, fields, **options). `fields` has the
// fields of Params by name, pointers as integers, and the sizes that the checks of global memory need.
#include "cuda/shared_prefix_attention_twin.h"

#include "bindings/twin.h"

namespace editscore::attention {

warp::host::Stats launch_sm80(const Params<warp::bf16>& params, const TwinShape& shape,
                              const warp::host::Options& options) {
    return with_config(shape, [&]<class C, class Half>(C, Half) {
        const Params<Half> p = with_type<Half>(params);
        const warp::host::Shape grid = {.grid = grid_x(params, C::kBlockRows),
                                        .grid_y = p.num_kv_heads * p.num_splits,
                                        .threads = C::kWarps * 32,
                                        .shared_bytes = C::kSharedBytes};
        return warp::host::launch([&] { attend_sm80<C>(p); }, grid, options);
    });
}

namespace {

using warp::bf16;

class Fields {
  public:
    explicit Fields(const py::dict& values) : values_(values) {}
    template <class T>
    T number(const char* name) const {
        return py::cast<T>(values_[name]);
    }
    template <class T>
    T* pointer(const char* name) const {
        return twin::pointer<T>(py::cast<uintptr_t>(values_[name]));
    }

  private:
    const py::dict& values_;
};

Params<bf16> read_params(const Fields& f) {
    Params<bf16> p = {};
    p.q = f.pointer<const bf16>("q");
    p.k_pages = f.pointer<const bf16>("k_pages");
    p.v_pages = f.pointer<const bf16>("v_pages");
    p.q_row_stride = f.number<int64_t>("q_row_stride");
    p.q_head_stride = f.number<int64_t>("q_head_stride");
    p.leaf_pages = f.pointer<const int32_t>("leaf_pages");
    p.leaf_lengths = f.pointer<const int32_t>("leaf_lengths");
    p.own_pages = f.pointer<const int32_t>("own_pages");
    p.seq_leaf = f.pointer<const int32_t>("seq_leaf");
    p.row_seq = f.pointer<const int32_t>("row_seq");
    p.row_lengths = f.pointer<const int32_t>("row_lengths");
    p.group_rows = f.pointer<const int32_t>("group_rows");
    p.group_starts = f.pointer<const int32_t>("group_starts");
    p.num_rows = f.number<int>("num_rows");
    p.num_kv_heads = f.number<int>("num_kv_heads");
    p.num_queries_per_head = f.number<int>("num_queries_per_head");
    p.num_pages = f.number<int>("num_pages");
    p.num_leaves = f.number<int>("num_leaves");
    p.leaf_width = f.number<int>("leaf_width");
    p.num_seqs = f.number<int>("num_seqs");
    p.own_width = f.number<int>("own_width");
    p.num_group_rows = f.number<int>("num_group_rows");
    p.num_groups = f.number<int>("num_groups");
    p.scale_log2e = f.number<float>("scale_log2e");
    p.out = f.pointer<bf16>("out");
    p.lse = f.pointer<float>("lse");
    p.status = f.pointer<int32_t>("status");
    p.num_splits = f.number<int>("num_splits");
    p.max_chunks = f.number<int>("max_chunks");
    p.part_o = f.pointer<float>("part_o");
    p.part_ml = f.pointer<float>("part_ml");
    p.part_status = f.pointer<int32_t>("part_status");
    p.arrivals = f.pointer<uint32_t>("arrivals");
    return p;
}

std::vector<warp::host::Buffer> buffers(const Params<bf16>& p, int64_t head_dim, int64_t q_numbers, int64_t num_items) {
    using namespace warp::host;
    const auto size = [](int64_t count) { return static_cast<size_t>(count); };
    const int64_t pages = int64_t{p.num_pages} * p.num_kv_heads * kPageTokens * head_dim;
    const int64_t heads = int64_t{p.num_rows} * p.num_kv_heads * p.num_queries_per_head;
    const int64_t chunks = p.num_splits > 1 ? heads * p.max_chunks : 0;
    return {input("q", p.q, size(q_numbers)),
            input("k_pages", p.k_pages, size(pages)),
            input("v_pages", p.v_pages, size(pages)),
            input("leaf_pages", p.leaf_pages, size(int64_t{p.num_leaves} * p.leaf_width)),
            input("leaf_lengths", p.leaf_lengths, size(p.num_leaves)),
            input("own_pages", p.own_pages, size(int64_t{p.num_seqs} * p.own_width)),
            input("seq_leaf", p.seq_leaf, size(p.num_seqs)),
            input("row_seq", p.row_seq, size(p.num_rows)),
            input("row_lengths", p.row_lengths, size(p.num_rows)),
            input("group_rows", p.group_rows, size(p.num_group_rows)),
            input("group_starts", p.group_starts, size(p.num_groups + 1)),
            output("out", p.out, size(heads * head_dim)),
            output("lse", p.lse, size(heads)),
            output("status", p.status, size(p.num_rows)),
            output("part_o", p.part_o, size(chunks * head_dim)),
            output("part_ml", p.part_ml, size(chunks * 2)),
            output("part_status", p.part_status, size(p.num_splits > 1 ? int64_t{p.num_splits} * p.num_rows : 0)),
            inout("arrivals", p.arrivals, size(num_items))};
}

warp::host::Stats run(int arch, int warps, bool is_half, const py::dict& values, const py::kwargs& kwargs) {
    const Fields fields(values);
    const Params<bf16> params = read_params(fields);
    const TwinShape shape = {fields.number<int>("head_dim"), warps, is_half};
    const int64_t num_items = int64_t{grid_x(params, warps * 16)} * params.num_kv_heads;
    warp::host::Options options = twin::options(kwargs);
    options.buffers =
        buffers(params, shape.head_dim, fields.number<int64_t>("q_numbers"), params.num_splits > 1 ? num_items : 0);
    return arch == 80 ? launch_sm80(params, shape, options) : launch_sm90(params, shape, options);
}

}  // namespace

}  // namespace editscore::attention

PYBIND11_MODULE(shared_prefix_attention_twin, m) {
    twin::add_host_twin(m);
    m.def("shared_prefix_attention", &editscore::attention::run);
}
