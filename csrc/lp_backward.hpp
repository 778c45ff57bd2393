// The gradients of the l_p similarity: tiles of rows x coordinates, coordinates as lanes.
#pragma once

#include <cstring>
#include <type_traits>

#include "lp_orders.hpp"
#include "lp_rows.hpp"

namespace SIMROOT_ISA {
namespace {

// Sums over rows are kept for each template and coordinate: of -dx's part g s, of g |d|^p and of g |d|^p log2 |d|.
template <bool weighted, bool learned>
constexpr int sums_of() { return 1 + weighted + learned; }

template <class Order, bool special, bool weighted, bool image, bool parameters, bool learned>
void backward_tile(Order order, const float *x, int64_t stride, const float *grad, int64_t grad_stride,
                   const float *panel, int64_t templates, float *sums, float *dx, float factor) {
    constexpr int together = Order::together < tile_rows ? Order::together : tile_rows;
    Vec value[tile_rows], total[tile_rows];
    SIMROOT_EACH(tile_rows) value[i] = load(x + i * stride);
    SIMROOT_EACH(tile_rows) total[i] = zero();
    for (int64_t r = 0; r < templates; ++r, panel += 2 * W) {
        const Vec z = load(panel), u = load(panel + W);
        Vec dz = zero(), du = zero(), dp = zero();
        if (parameters) dz = load(sums);
        if (parameters && weighted) du = load(sums + W);
        if (learned) dp = load(sums + 2 * W);
        SIMROOT_UNROLL
        for (int t = 0; t < tile_rows; t += together) {
            Vec d[together], slope[together], logarithm[together];
            SIMROOT_EACH(together) slope[i] = d[i] = difference<special>(value[t + i], z);
            if constexpr (learned) {
                order.template slope<special>(slope, logarithm);
            } else {
                order.template slope<special>(slope);
            }
            SIMROOT_EACH(together) {
                const Vec part = set1(grad[(t + i) * grad_stride + r]) * slope[i];
                if (image) total[t + i] = weighted ? fnma(u, part, total[t + i]) : total[t + i] - part;
                if (parameters) dz = dz + part;
                if (parameters && weighted) du = fnma(part, d[i], du);
                if constexpr (learned) dp = fnma(part * d[i], logarithm[i], dp);
            }
        }
        if (parameters) {
            store(sums, dz);
            if (weighted) store(sums + W, du);
            if (learned) store(sums + 2 * W, dp);
            sums += sums_of<weighted, learned>() * W;
        }
    }
    if (image) SIMROOT_EACH(tile_rows) store(dx + i * stride, total[i] * set1(factor));
}

void pack_lanes(const Shape &s, const float *z, const float *u, float *panels) {
    const int64_t taps = s.kernel_height * s.kernel_width;
    for (int64_t group = 0; group < s.groups; ++group) {
        for (int64_t first = 0; first < s.k; first += W) {
            for (int64_t r = 0; r < s.group_templates; ++r, panels += 2 * W) {
                const int64_t begin = (group * s.group_templates + r) * s.k;
                for (int64_t lane = 0; lane < W; ++lane) {
                    const int64_t k = first + lane, from = begin + k % s.group_channels * taps + k / s.group_channels;
                    panels[lane] = k < s.k ? z[from] : 0.0f;
                    panels[W + lane] = k >= s.k ? 0.0f : u ? u[from] : 1.0f;
                }
            }
        }
    }
}

struct Gradients {
    float *x, *templates, *weights, *bias;
    double *order;
};

struct Backward {
    Shape s;
    const float *grad, *x, *panels;
    Gradients d;
    float *scratch;
    double *partial, *order_parts;
    float p, reach;
    bool weighted, templates_finite;
    int64_t block, chunk, chunks;

    bool parameters() const { return d.templates || d.weights || d.order; }
    bool learned() const { return d.order != nullptr; }
    int64_t sums() const { return 1 + weighted + learned(); }
    int64_t panel_size() const { return s.group_templates * sums() * W; }
    int64_t panels_of_group() const { return s.padded_k / W; }
    int64_t sums_size() const { return panels_of_group() * panel_size() + s.group_templates; }
    int64_t rows_size() const { return block * s.padded_k + W; }
    int64_t scratch_size() const {
        return rounded_up(2 * rows_size() + sums_size() + tile_rows * s.group_templates, 16);
    }

    // Chunks of whole images (rows, where fields are single pixels): no two add to the same pixel.
    void divide() {
        block = block_of(s);
        const int64_t unit = s.pointwise() ? float_rows : s.out_height * s.out_width;
        const int64_t memory = s.groups * sums_size() * static_cast<int64_t>(sizeof(double));
        const int64_t wanted = most(4, least(32, (int64_t{16} << 20) / memory));
        chunk = most(1, parts(parts(s.rows, unit), wanted)) * unit;
        chunks = parts(s.rows, chunk);
    }

    void clear(int64_t group, int64_t first, int64_t count) const {
        const int64_t pixels = s.height * s.width, per_image = s.out_height * s.out_width;
        float *at = d.x + first / per_image * pixels * s.channels + group * s.group_channels;
        for (int64_t i = 0; i < count / per_image * pixels; ++i, at += s.channels) {
            std::memset(at, 0, static_cast<size_t>(s.group_channels) * sizeof(float));
        }
    }

    template <class Order, bool special, bool weighted, bool image, bool parameters, bool learned>
    void rows(Order order, int64_t group, int64_t first, int64_t count, float *gathered) const {
        float *dx = gathered + rows_size(), *sums = dx + rows_size(), *last = sums + sums_size();
        const float *g = grad + first * s.templates + group * s.group_templates;
        const int64_t whole = count / tile_rows * tile_rows;
        for (int64_t t = 0; t < count; ++t) {  // The next block's gradients, while this one is worked on.
            for (int64_t r = 0; r < s.group_templates; r += 16) prefetch(g + (count + t) * s.templates + r);
        }
        if (whole < count) {  // The last tile's missing rows have a gradient of 0.
            std::memset(last, 0, static_cast<size_t>(tile_rows * s.group_templates) * sizeof(float));
            for (int64_t t = whole; t < count; ++t) {
                std::memcpy(last + (t - whole) * s.group_templates, g + t * s.templates,
                            static_cast<size_t>(s.group_templates) * sizeof(float));
            }
        }
        for (int64_t index = 0; index < panels_of_group(); ++index, sums += panel_size()) {
            const float *panel = panels + (group * panels_of_group() + index) * s.group_templates * 2 * W;
            for (int64_t t = 0; t < count; t += tile_rows) {
                const int64_t at = t * s.padded_k + index * W;
                backward_tile<Order, special, weighted, image, parameters, learned>(
                    order, gathered + at, s.padded_k, t < whole ? g + t * s.templates : last,
                    t < whole ? s.templates : s.group_templates, panel, s.group_templates, sums, dx + at,
                    p / Order::scale);
            }
        }
    }

    // Calls the kernel that does what is needed and no more; rare cases share one that does everything.
    template <class Order>
    void rows(Order order, bool special, int64_t group, int64_t first, int64_t count, float *at) const {
        const bool image = d.x != nullptr;
        if constexpr (std::is_same<Order, AnyOrder>::value) {
            if (learned()) {
                if (special) return rows<Order, true, true, true, true, true>(order, group, first, count, at);
                return rows<Order, false, true, true, true, true>(order, group, first, count, at);
            }
        }
        if (weighted || !Order::unweighted) {
            if (special) return rows<Order, true, true, true, true, false>(order, group, first, count, at);
            if (!parameters()) return rows<Order, false, true, true, false, false>(order, group, first, count, at);
            if (!image) return rows<Order, false, true, false, true, false>(order, group, first, count, at);
            return rows<Order, false, true, true, true, false>(order, group, first, count, at);
        }
        if constexpr (Order::unweighted) {
            if (special) return rows<Order, true, false, true, true, false>(order, group, first, count, at);
            if (!parameters()) return rows<Order, false, false, true, false, false>(order, group, first, count, at);
            if (!image) return rows<Order, false, false, false, true, false>(order, group, first, count, at);
            return rows<Order, false, false, true, true, false>(order, group, first, count, at);
        }
    }

    void add_bias(int64_t group, int64_t first, int64_t count, float *sums) const {
        const float *g = grad + first * s.templates + group * s.group_templates;
        for (int64_t row = 0; row < count; ++row, g += s.templates) {
            for (int64_t r = 0; r < s.group_templates; ++r) sums[r] += g[r];
        }
    }

    template <class Order>
    void run_chunk(Order order, int64_t task, float *gathered) const {
        const int64_t group = task % s.groups, begin = task / s.groups * chunk, end = least(s.rows, begin + chunk);
        float *sums = gathered + 2 * rows_size();
        double *total = partial + task * sums_size();
        std::memset(sums, 0, static_cast<size_t>(sums_size()) * sizeof(float));
        std::memset(total, 0, static_cast<size_t>(sums_size()) * sizeof(double));
        if (d.x && !s.pointwise()) clear(group, begin, end - begin);
        int64_t added = 0;
        for (int64_t first = begin; first < end; first += block) {
            const int64_t count = least(block, end - first);
            if (d.bias) add_bias(group, first, count, sums + panels_of_group() * panel_size());
            if (d.x || parameters()) {
                const bool finite = gather(s, x, reach, group, first, count, tile_rows, gathered);
                rows(order, !finite || !templates_finite, group, first, count, gathered);
                if (d.x) scatter(s, gathered + rows_size(), group, first, count, d.x);
            }
            added += count;
            if (added < float_rows && first + block < end) continue;
            for (int64_t i = 0; i < sums_size(); ++i) {
                total[i] += static_cast<double>(sums[i]);
                sums[i] = 0.0f;
            }
            added = 0;
        }
    }

    template <class Order>
    void run(Order order, int threads) const {
        auto body = [this, order](int64_t task, int worker) {
            run_chunk(order, task, scratch + worker * scratch_size());
        };
        parallel(chunks * s.groups, threads, body);
        const double scale = Order::scale;
        auto reduce = [this, scale](int64_t task, int) {
            finish(task / panels_of_group(), task % panels_of_group(), scale);
        };
        parallel(s.groups * panels_of_group(), threads, reduce);
        if (d.order) {
            *d.order = 0.0;
            for (int64_t i = 0; i < s.groups * panels_of_group(); ++i) *d.order += order_parts[i];
        }
    }

    // Adds up the chunks of one panel of coordinates.
    void finish(int64_t group, int64_t index, double scale) const {
        const int64_t taps = s.kernel_height * s.kernel_width;
        const float *u = panels + (group * panels_of_group() + index) * s.group_templates * 2 * W + W;
        double order_sum = 0.0;
        for (int64_t r = 0; r < s.group_templates; ++r, u += 2 * W) {
            if (index == 0 && d.bias) {
                double total = 0.0;
                for (int64_t c = 0; c < chunks; ++c) {
                    total += partial[(c * s.groups + group + 1) * sums_size() - s.group_templates + r];
                }
                d.bias[group * s.group_templates + r] = static_cast<float>(total);
            }
            if (!parameters()) continue;
            double total[3][W] = {};
            for (int64_t c = 0; c < chunks; ++c) {
                const double *part =
                    partial + (c * s.groups + group) * sums_size() + index * panel_size() + r * sums() * W;
                for (int64_t i = 0; i < sums() * W; ++i) total[i / W][i % W] += part[i];
            }
            for (int64_t lane = 0; lane < least(W, s.k - index * W); ++lane) {
                const int64_t k = index * W + lane;
                const int64_t template_begin = (group * s.group_templates + r) * s.k;
                const int64_t to = template_begin + k % s.group_channels * taps + k / s.group_channels;
                const double weight = static_cast<double>(u[lane]);
                if (d.templates) d.templates[to] = static_cast<float>(total[0][lane] * weight * p / scale);
                if (d.weights) d.weights[to] = static_cast<float>(total[1][lane] / scale);
                order_sum += total[2][lane] * weight;
            }
        }
        order_parts[group * panels_of_group() + index] = order_sum * 0.69314718055994531;
    }
};

}  // namespace
}  // namespace SIMROOT_ISA
