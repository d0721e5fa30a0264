#include "check.h"

namespace primitives {

namespace {

void check_async_copies(const Run& run, uint32_t seed) {
    const Words in = random_words(kTiles * kTileWords, seed);
    const Launch launch = {.grid = 1, .grid_y = 1, .threads = kPipelineWarps * 32, .shared_bytes = kPipelineShared};
    const Words out = run(async_copies_kernel, launch, in, in.size());
    constexpr int kPieces = kTileWords / 4;
    for (int tile = 0; tile < kTiles; ++tile) {
        for (int i = 0; i < kTileWords; ++i) {
            const int source = kPieces - 1 - i / 4;
            const uint32_t want = source % 8 == 5 ? 0 : in[static_cast<size_t>(tile * kTileWords + source * 4 + i % 4)];
            expect_equal(out[static_cast<size_t>(tile * kTileWords + i)], want,
                         "cp_async, tile " + std::to_string(tile) + ", word " + std::to_string(i));
        }
    }
}

void check_named_barriers(const Run& run, uint32_t seed) {
    const Words in = random_words(kTiles * 32, seed);
    const Launch launch = {.grid = 1, .grid_y = 1, .threads = kPipelineWarps * 32, .shared_bytes = kPipelineShared};
    const Words out = run(named_barriers_kernel, launch, in, in.size());
    for (size_t i = 0; i < in.size(); ++i) {
        expect_equal(out[i], in[i] + static_cast<uint32_t>(i / 32), "named barriers, word " + std::to_string(i));
    }
}

}  // namespace

void check_pipelines(const Run& run, uint32_t seed) {
    check_async_copies(run, seed);
    check_named_barriers(run, seed);
}

void check_engine_copies(const Run& run, uint32_t seed) {
    // The last box hangs over the end by 5 rows, and over the right edge by 8 columns: zeros there.
    constexpr int kRows = kTiles * kBoxRows - 5, kColumns = 120, kStride = 128;
    const Words in = random_words(kTiles * kBoxRows * kStride / 2, seed);
    const Launch launch = {.grid = 1,
                           .grid_y = 1,
                           .threads = kPipelineWarps * 32,
                           .shared_bytes = kEngineShared,
                           .map_rows = kRows,
                           .map_columns = kColumns};
    const size_t half = kBoxBytes / 4;
    const Words out = run(engine_copies_kernel, launch, in, kTiles * 2 * half);
    for (size_t tile = 0; tile < kTiles; ++tile) {
        for (size_t i = 0; i < half; ++i) {
            const std::string name = ", tile " + std::to_string(tile) + ", word " + std::to_string(i);
            expect_equal(out[tile * 2 * half + i], in[tile * half + i], "bulk_copy" + name);
            const size_t row = tile * kBoxRows + i / 32, column = 64 + i % 32 * 2;
            const bool is_inside = row < kRows && column < kColumns;
            expect_equal(out[tile * 2 * half + half + i], is_inside ? in[(row * kStride + column) / 2] : 0,
                         "bulk_copy_box" + name);
        }
    }
}

}  // namespace primitives
