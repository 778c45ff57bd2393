// Products of rows of channels with the filters of a 1x1 convolution, tile by tile, whose sums stay in registers.
#pragma once

#include "channels.hpp"
#include "pieces.hpp"

namespace SIMROOT_ISA {
namespace {

// Sums of a tile, and the rows whose addresses registers hold beside them.
constexpr int tile_sums = registers == 32 ? 24 : 12, rows_at_once = 8;
// The filters as panels: for each two vectors of outputs, or the last one, what belongs to each input in turn.
class Panels {
public:
    Panels(int64_t outputs, int64_t inputs) : memory_(parts(outputs, W) * W * inputs), outputs_(outputs), inputs_(inputs) {}

    template <typename Weight>
    bool pack(const Weight &weight) const {
        if (!memory_.data()) return false;
        float *to = memory_.data();
        for (int64_t first = 0; first < outputs_; first += 2 * W) {
            const int64_t lanes = parts(least(2 * W, outputs_ - first), W) * W;
            for (int64_t k = 0; k < inputs_; ++k) {
                for (int64_t i = first; i < first + lanes; ++i) *to++ = i < outputs_ ? weight(i, k) : 0;
            }
        }
        return true;
    }
    const float *at(int64_t first) const { return memory_.data() + first * inputs_; }

private:
    Memory<float> memory_;
    int64_t outputs_, inputs_;
};

template <int rows, int vectors>
void multiply_tile(const float *a, int64_t inputs, const float *panel, float *out, int64_t outputs, int lanes) {
    Vec sums[rows][vectors];
    SIMROOT_UNROLL
    for (int r = 0; r < rows; ++r) {
        SIMROOT_EACH(vectors) sums[r][i] = zero();
    }
    for (int64_t k = 0; k < inputs; ++k, panel += vectors * W) {
        Vec b[vectors];
        SIMROOT_EACH(vectors) b[i] = load(panel + i * W);
        SIMROOT_UNROLL
        for (int r = 0; r < rows; ++r) {
            const Vec x = set1(a[r * inputs + k]);
            SIMROOT_EACH(vectors) sums[r][i] = fma(x, b[i], sums[r][i]);
        }
    }
    SIMROOT_UNROLL
    for (int r = 0; r < rows; ++r) {
        float *to = out + r * outputs;
        SIMROOT_EACH(vectors) prefetch(to + floats_ahead + i * W);
        SIMROOT_EACH(vectors - 1) store(to + i * W, sums[r][i]);
        if (lanes == W) {
            store(to + (vectors - 1) * W, sums[r][vectors - 1]);
        } else {
            store(to + (vectors - 1) * W, sums[r][vectors - 1], lanes);
        }
    }
}

// out[r][o] = sum_k a[r][k] weights[o][k]
void multiply(const float *a, int64_t rows, int64_t inputs, const Panels &panels, float *out, int64_t outputs) {
    for (int64_t first = 0; first < outputs; first += 2 * W) {
        const int64_t left = least(2 * W, outputs - first);
        const int lanes = static_cast<int>((left - 1) % W + 1);
        const auto tiles = [&](auto count) {
            constexpr int vectors = decltype(count)::value;
            constexpr int most_rows = tile_sums / vectors < rows_at_once ? tile_sums / vectors : rows_at_once;
            each_piece<most_rows>(rows, [&](int64_t row, auto several) {
                multiply_tile<decltype(several)::value, vectors>(
                    a + row * inputs, inputs, panels.at(first), out + row * outputs + first, outputs, lanes);
            });
        };
        if (left > W) {
            tiles(std::integral_constant<int, 2>());
        } else {
            tiles(std::integral_constant<int, 1>());
        }
    }
}

template <int rows, int vectors, bool whole>
void add_tile(
    const float *g, int64_t g_step, const float *a, int64_t a_step, int64_t count, float *out, int64_t out_step, int lanes) {
    Vec sums[rows][vectors];
    SIMROOT_UNROLL
    for (int r = 0; r < rows; ++r) {
        SIMROOT_EACH(vectors) sums[r][i] = load(out + r * out_step + i * W);
    }
    for (int64_t k = 0; k < count; ++k, g += g_step, a += a_step) {
        Vec b[vectors];
        SIMROOT_EACH(vectors) b[i] = whole || i + 1 < vectors ? load(a + i * W) : load(a + i * W, lanes);
        SIMROOT_UNROLL
        for (int r = 0; r < rows; ++r) {
            const Vec x = set1(g[r]);
            SIMROOT_EACH(vectors) sums[r][i] = fma(x, b[i], sums[r][i]);
        }
    }
    SIMROOT_UNROLL
    for (int r = 0; r < rows; ++r) {
        SIMROOT_EACH(vectors) store(out + r * out_step + i * W, sums[r][i]);
    }
}

// out[o][k] += sum_r g[r][o] a[r][k]; rows of out are whole vectors.
void add_products(const float *g, int64_t outputs, const float *a, int64_t inputs, int64_t count, float *out) {
    const int64_t step = parts(inputs, W) * W;
    for (int64_t first = 0; first < inputs; first += 2 * W) {
        const int64_t left = least(2 * W, inputs - first);
        const int lanes = static_cast<int>((left - 1) % W + 1);
        const auto tiles = [&](auto count_of_vectors, auto whole) {
            constexpr int vectors = decltype(count_of_vectors)::value;
            each_piece<tile_sums / vectors>(outputs, [&](int64_t o, auto several) {
                add_tile<decltype(several)::value, vectors, decltype(whole)::value>(
                    g + o, outputs, a + first, inputs, count, out + o * step + first, step, lanes);
            });
        };
        using Two = std::integral_constant<int, 2>;
        using One = std::integral_constant<int, 1>;
        if (left > W) {
            lanes == W ? tiles(Two(), std::true_type()) : tiles(Two(), std::false_type());
        } else {
            lanes == W ? tiles(One(), std::true_type()) : tiles(One(), std::false_type());
        }
    }
}

// sum_r g[r][o] a[r][i] for all outputs and inputs. Lanes are of the one or of the other, whichever leaves fewer of them empty.
struct Products {
    int64_t outputs, inputs;
    bool by_outputs;

    Products(int64_t outputs, int64_t inputs)
        : outputs(outputs), inputs(inputs), by_outputs(parts(outputs, W) * inputs < parts(inputs, W) * outputs) {}
    int64_t floats() const { return W * (by_outputs ? parts(outputs, W) * inputs : parts(inputs, W) * outputs); }
    int64_t at(int64_t o, int64_t i) const {
        return by_outputs ? i * parts(outputs, W) * W + o : o * parts(inputs, W) * W + i;
    }
    void add(const float *g, const float *a, int64_t count, float *sums) const {
        by_outputs ? add_products(a, inputs, g, outputs, count, sums) : add_products(g, outputs, a, inputs, count, sums);
    }
};

}  // namespace
}  // namespace SIMROOT_ISA
