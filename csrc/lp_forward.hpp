// The l_p similarity: tiles of rows x templates, templates as lanes.
#pragma once

#include "lp_orders.hpp"
#include "lp_rows.hpp"

namespace SIMROOT_ISA {
namespace {

// Templates of all groups in panels of two vectors of templates (the last of one, if that is enough): for each
// coordinate z of all lanes, then u of all lanes, 0 in lanes without a template.
struct Panel {
    int64_t first, vectors;
};

Panel panel_at(const Shape &s, int64_t index) {
    const int64_t first = index * 2 * W;
    return {first, s.group_templates - first > W ? 2 : 1};
}

void pack_panels(const Shape &s, const float *z, const float *u, float *panels) {
    const int64_t taps = s.kernel_height * s.kernel_width;
    for (int64_t group = 0; group < s.groups; ++group) {
        for (int64_t index = 0; index < parts(s.group_templates, 2 * W); ++index) {
            const Panel panel = panel_at(s, index);
            const int64_t lanes = panel.vectors * W, used = least(lanes, s.group_templates - panel.first);
            const int64_t begin = (group * s.group_templates + panel.first) * s.k;
            for (int64_t tap = 0; tap < taps; ++tap) {
                for (int64_t c = 0; c < s.group_channels; ++c, panels += 2 * lanes) {
                    const int64_t from = begin + c * taps + tap;
                    for (int64_t lane = 0; lane < used; ++lane) {
                        panels[lane] = z[from + lane * s.k];
                        panels[lanes + lane] = u ? u[from + lane * s.k] : 1.0f;
                    }
                    for (int64_t lane = used; lane < lanes; ++lane) panels[lane] = panels[lanes + lane] = 0.0f;
                }
            }
        }
    }
}

// Where a tile's results go: `rows` of them, `lanes` templates.
struct Target {
    float *out;
    int64_t stride;
    const float *bias;
    int64_t rows, lanes;
    bool first;  // Of the passes over parts of the coordinates: it begins with the bias, later ones add.
};

template <class Order, bool special, bool weighted, int vectors>
void forward_tile(Order order, const float *x, int64_t stride, const float *panel, int64_t length,
                  const Target &target) {
    Vec total[tile_rows][vectors];
    SIMROOT_UNROLL
    for (int t = 0; t < tile_rows; ++t) {
        SIMROOT_UNROLL
        for (int v = 0; v < vectors; ++v) total[t][v] = zero();
    }
    for (int64_t k = 0; k < length; ++k, panel += 2 * vectors * W) {
        Vec z[vectors], u[vectors];
        SIMROOT_UNROLL
        for (int v = 0; v < vectors; ++v) {
            z[v] = load(panel + v * W);
            u[v] = load(panel + (vectors + v) * W);
        }
        SIMROOT_UNROLL
        for (int t = 0; t < tile_rows; t += Order::together) {
            Vec d[Order::together * vectors];
            SIMROOT_EACH(Order::together * vectors) {
                d[i] = difference<special>(set1(x[(t + i / vectors) * stride + k]), z[i % vectors]);
            }
            order.template power<special>(d);
            SIMROOT_EACH(Order::together * vectors) {
                Vec &sum = total[t + i / vectors][i % vectors];
                sum = weighted ? fnma(u[i % vectors], d[i], sum) : sum - d[i];
            }
        }
    }
    for (int t = 0; t < target.rows; ++t) {
        float *out = target.out + t * target.stride;
        SIMROOT_UNROLL
        for (int v = 0; v < vectors; ++v, out += W) {
            if (target.lanes >= (v + 1) * W) {
                const Vec before = !target.first ? load(out) : target.bias ? load(target.bias + v * W) : zero();
                store(out, before + total[t][v]);
            } else {
                const int lanes = static_cast<int>(target.lanes - v * W);
                const Vec before = !target.first ? load(out, lanes)
                                   : target.bias ? load(target.bias + v * W, lanes)
                                                 : zero();
                store(out, before + total[t][v], lanes);
            }
        }
    }
}

struct Forward {
    Shape s;
    const float *x, *panels, *bias;
    float *out, *scratch;
    float reach;
    bool weighted, templates_finite;
    int64_t block, blocks, blocks_per_task, tasks_per_group;

    int64_t scratch_size() const { return block * s.padded_k + W; }

    template <class Order, bool special, bool weighted, int vectors>
    void panel(Order order, const float *rows, int64_t count, const float *panel, int64_t k, Target target) const {
        for (int64_t t = 0; t < count; t += tile_rows, target.out += tile_rows * target.stride) {
            target.rows = least(tile_rows, count - t);
            forward_tile<Order, special, weighted, vectors>(order, rows + t * s.padded_k, s.padded_k, panel, k, target);
        }
    }

    template <class Order, bool special, bool weighted>
    void rows(Order order, const float *rows, int64_t group, int64_t first, int64_t count) const {
        const float *packed = panels + group * parts(s.group_templates, W) * W * 2 * s.k;
        for (int64_t index = 0; index < parts(s.group_templates, 2 * W); ++index) {
            const Panel p = panel_at(s, index);
            const int64_t column = group * s.group_templates + p.first;
            for (int64_t i = 0; i < s.k; i += depth) {
                const int64_t k = least(depth, s.k - i);
                const float *part = packed + i * 2 * p.vectors * W;
                const Target target{out + first * s.templates + column, s.templates,  bias ? bias + column : nullptr, 0,
                                    s.group_templates - p.first,        i == 0};
                if (p.vectors == 2) {
                    panel<Order, special, weighted, 2>(order, rows + i, count, part, k, target);
                } else {
                    panel<Order, special, weighted, 1>(order, rows + i, count, part, k, target);
                }
            }
            packed += 2 * p.vectors * W * s.k;
        }
    }

    template <class Order>
    void run(Order order, int threads) const {
        auto body = [this, order](int64_t task, int worker) {
            float *gathered = scratch + worker * scratch_size();
            const int64_t group = task / tasks_per_group, begin = task % tasks_per_group * blocks_per_task;
            for (int64_t b = begin; b < least(blocks, begin + blocks_per_task); ++b) {
                const int64_t first = b * block, count = least(block, s.rows - first);
                const bool finite = gather(s, x, reach, group, first, count, tile_rows, gathered);
                if (!finite || !templates_finite) {
                    rows<Order, true, true>(order, gathered, group, first, count);
                } else if (weighted || !Order::unweighted) {
                    rows<Order, false, true>(order, gathered, group, first, count);
                } else {
                    rows<Order, false, !Order::unweighted>(order, gathered, group, first, count);
                }
            }
        };
        parallel(s.groups * tasks_per_group, threads, body);
    }
};

}  // namespace
}  // namespace SIMROOT_ISA
