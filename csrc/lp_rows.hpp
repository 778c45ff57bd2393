// Receptive fields as rows: where they lie in an image, and copies of them one below the other, gone over in tiles.
#pragma once

#include <cstdlib>

#include "kernel.hpp"
#include "vec.hpp"

namespace SIMROOT_ISA {
namespace {

constexpr int W = Vec::width;

// Rows of a tile, as many as keep its sums in registers; and rows whose sums are kept as floats.
constexpr int tile_rows = registers == 32 ? 8 : 4;
constexpr int64_t float_rows = 512;
// Coordinates that a tile goes over before it turns to other rows: their templates fit into the nearest cache.
constexpr int64_t depth = 256;

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t parts(int64_t total, int64_t size) { return (total + size - 1) / size; }
int64_t rounded_up(int64_t total, int64_t size) { return parts(total, size) * size; }

struct Shape {
    int64_t images, height, width, channels, templates, kernel_height, kernel_width, step_down, step_right, groups;

    int64_t out_height = 0, out_width = 0, rows = 0, group_channels = 0, group_templates = 0, k = 0, padded_k = 0;
    // A receptive field is segments of adjacent floats, each as long as can be.
    int64_t segments_right = 0, segment = 0;

    bool pointwise() const { return kernel_height * kernel_width * step_down * step_right == 1; }

    void derive() {
        out_height = (height - kernel_height) / step_down + 1;
        out_width = (width - kernel_width) / step_right + 1;
        rows = images * out_height * out_width;
        if (pointwise()) {  // One long line of pixels.
            images = height = out_height = 1;
            width = out_width = rows;
        }
        group_channels = channels / groups;
        group_templates = templates / groups;
        k = kernel_height * kernel_width * group_channels;
        padded_k = rounded_up(k, W);
        segments_right = groups == 1 ? 1 : kernel_width;
        segment = groups == 1 ? kernel_width * channels : group_channels;
    }
};

// Calls visit(offset of a segment in the image, offset in the row) for every segment of some rows.
template <typename Visit>
SIMROOT_INLINE void for_each_segment(const Shape &s, int64_t group, int64_t first, int64_t count, Visit visit) {
    int64_t right = first % s.out_width, down = first / s.out_width % s.out_height,
            image = first / s.out_width / s.out_height;
    for (int64_t row = 0; row < count; ++row) {
        const int64_t corner = (image * s.height + down * s.step_down) * s.width + right * s.step_right;
        int64_t at = row * s.padded_k;
        for (int64_t i = 0; i < s.kernel_height; ++i) {
            for (int64_t j = 0; j < s.segments_right; ++j, at += s.segment) {
                visit((corner + i * s.width + j) * s.channels + group * s.group_channels, at);
            }
        }
        if (++right == s.out_width) {
            right = 0;
            if (++down == s.out_height) {
                down = 0;
                ++image;
            }
        }
    }
}

// Rows of x one below the other, each padded with zeros; then rows of zeros up to a multiple of `tile`. Returns
// whether all numbers are finite and remain so multiplied by `reach`. `rows` has room for one vector more. -0 becomes
// 0, so that no difference is -0.
bool gather(const Shape &s, const float *x, float reach, int64_t group, int64_t first, int64_t count, int64_t tile,
            float *rows) {
    Vec check = zero();
    const int64_t tail = s.segment % W, whole = s.segment - tail, ahead = count * s.step_right * s.channels;
    if (s.k < s.padded_k) {
        for (int64_t row = 0; row < count; ++row) store(rows + (row + 1) * s.padded_k - W, zero());
    }
    // A segment's last vector reaches into what follows, which is written later, or is padding and takes its zeros.
    for_each_segment(s, group, first, count, [&](int64_t from, int64_t to) {
        for (int64_t i = 0; i < whole; i += W) {
            prefetch(x + from + ahead + i);
            const Vec v = load(x + from + i) + zero();
            check = fma(v * set1(reach), zero(), check);
            store(rows + to + i, v);
        }
        if (tail) {
            const Vec v = load(x + from + whole, static_cast<int>(tail)) + zero();
            check = fma(v * set1(reach), zero(), check);
            store(rows + to + whole, v);
        }
    });
    const int64_t end = rounded_up(count, tile) * s.padded_k;
    for (int64_t i = count * s.padded_k; i < end; i += W) store(rows + i, zero());
    return !any(is_nan(check));
}

// The way back: adds rows to an image.
void scatter(const Shape &s, const float *rows, int64_t group, int64_t first, int64_t count, float *x) {
    const int64_t tail = s.segment % W, whole = s.segment - tail;
    const bool fresh = s.pointwise();
    for_each_segment(s, group, first, count, [&](int64_t to, int64_t from) {
        for (int64_t i = 0; i < whole; i += W) {
            const Vec v = load(rows + from + i);
            store(x + to + i, fresh ? v : load(x + to + i) + v);
        }
        if (tail) {
            const int n = static_cast<int>(tail);
            const Vec v = load(rows + from + whole, n);
            store(x + to + whole, fresh ? v : load(x + to + whole, n) + v, n);
        }
    });
}

// Memory that begins at a cache line.
class Floats {
public:
    explicit Floats(int64_t count) : memory_(std::malloc(static_cast<size_t>(count) * sizeof(float) + 64)) {}
    ~Floats() { std::free(memory_); }
    Floats(const Floats &) = delete;
    Floats &operator=(const Floats &) = delete;
    float *get() const {
        const uintptr_t line = (reinterpret_cast<uintptr_t>(memory_) + 63) & ~uintptr_t{63};
        return memory_ ? reinterpret_cast<float *>(line) : nullptr;
    }

private:
    void *memory_;
};

bool all_finite(const float *values, int64_t count, float reach) {
    Vec check = zero();
    for (int64_t i = 0; i < count; i += W) {
        check = fma(load(values + i, static_cast<int>(least(W, count - i))) * set1(reach), zero(), check);
    }
    return !any(is_nan(check));
}

// Rows that are gathered at once: few enough that they stay in the nearest cache, but more where the templates do not,
// and have to be fetched anew for each block. Fewer where rows are long.
int64_t block_of(const Shape &s) {
    const int64_t rows = s.group_templates * s.padded_k <= 8192 ? 32 : 128;
    return most(tile_rows, least(rows, 65536 / s.padded_k / tile_rows * tile_rows));
}

}  // namespace
}  // namespace SIMROOT_ISA
