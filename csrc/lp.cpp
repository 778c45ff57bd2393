// The l_p similarity  out[row, r] = bias[r] - sum_k u[r, k] |x[row, k] - z[r, k]|^p  and its gradients. A row is a
// receptive field of the image, k runs over its coordinates (vertical, horizontal, channel). NaN in x is a missing
// coordinate: it contributes nothing.
//
// Forward: tiles of rows x templates, templates as lanes. Backward: tiles of rows x coordinates, coordinates as lanes,
// a loop over the templates; sums over some hundred rows are floats, those over a chunk of the rows doubles. Chunks
// depend on the shapes alone and are added in their order, so that results do not depend on the threads.

#include <cstdlib>
#include <type_traits>

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

// ---- Orders. n vectors of d = x - z become |d|^p, or scale x sign(d) |d|^(p-1), which is 0 at a tie. `special`: d may
// be infinite or NaN.

struct Order1 {
    static constexpr float scale = 2;
    static constexpr int together = 1;
    static constexpr bool unweighted = true;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = abs(d[i]); }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = twice_sign(d[i]); }
};

struct Order2 {
    static constexpr float scale = 1;
    static constexpr int together = 1;
    static constexpr bool unweighted = true;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = d[i] * d[i]; }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&)[n]) const {}
};

struct Order3 {
    static constexpr float scale = 1;
    static constexpr int together = 1;
    static constexpr bool unweighted = false;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = abs(d[i]) * (d[i] * d[i]); }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = abs(d[i]) * d[i]; }
};

// Below it the slope of p < 1 would overflow: as good as a tie.
constexpr float smallest_normal = 1.17549435e-38f;

struct OrderHalf {
    static constexpr float scale = 1;
    static constexpr int together = 1;
    static constexpr bool unweighted = false;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = sqrt(abs(d[i])); }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const {
        SIMROOT_EACH(n) d[i] = xor_sign(drop(abs(d[i]) < set1(smallest_normal), set1(1.0f) / sqrt(abs(d[i]))), d[i]);
    }
};

struct Order3Halves {
    static constexpr float scale = 1;
    static constexpr int together = 1;
    static constexpr bool unweighted = false;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = abs(d[i]) * sqrt(abs(d[i])); }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = xor_sign(sqrt(abs(d[i])), d[i]); }
};

// exp2(p log2 |d|). Unless `special`, |d| is finite and so small that neither power nor slope overflows, which spares
// a third of the work; below `tie` the result would underflow and is taken for 0.
struct AnyOrder {
    static constexpr float scale = 1;
    static constexpr int together = tile_rows;
    static constexpr bool unweighted = false;
    Vec power_exponent, slope_exponent, power_tie, slope_tie;

    explicit AnyOrder(float p)
        : power_exponent(set1(p)),
          slope_exponent(set1(p - 1.0f)),
          power_tie(set1(tie_of(p))),
          slope_tie(set1(tie_of(p - 1.0f))) {}

    // The largest |x| and |z| that are not special.
    static float largest(float p) {
        const float steepest = p > 0.5f ? p : 1.0f - p;
        return 0.5f * ::exp2f(125.0f / (steepest > 1.0f ? steepest : 1.0f));
    }

    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const {
        Vec logarithm[n];
        SIMROOT_EACH(n) d[i] = abs(d[i]);
        raise<special>(d, power_exponent, power_tie, logarithm);
    }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const {
        Vec logarithm[n];
        slope<special>(d, logarithm);
    }
    // Gives log2 |d| as well, a finite number at a tie.
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n], Vec (&logarithm)[n]) const {
        Vec raised[n];
        SIMROOT_EACH(n) raised[i] = abs(d[i]);
        raise<special>(raised, slope_exponent, slope_tie, logarithm);
        SIMROOT_EACH(n) d[i] = xor_sign(raised[i], d[i]);
    }

private:
    static float tie_of(float exponent) {
        return exponent <= 1.0f ? smallest_normal : ::exp2f(-125.0f / exponent);
    }

    template <bool special, int n>
    SIMROOT_METHOD static void raise(Vec (&distance)[n], Vec exponent, Vec tie, Vec (&logarithm)[n]) {
        // log2(3/2 + f) for |f| <= 1/2 with error 4e-7, 2^f likewise with relative error 9e-8: near-minimax.
        constexpr float log2_short[] = {0.5849627591044444f,   0.9617965401665365f,  -0.3206318784567618f,
                                        0.1425080240329688f,   -0.07059455402256631f, 0.03761046428219572f,
                                        -0.0251101409525063f, 0.014440352491874364f};
        constexpr float exp2_short[] = {1.0f,
                                        0.6931469778263613f,
                                        0.24022242048077835f,
                                        0.055507335377017124f,
                                        0.009671514401567776f,
                                        0.0013264774866074767f};
        constexpr float to_integer = 12582912.0f;
        Vec f[n], y[n], k[n];
        if constexpr (special) {
            SIMROOT_EACH(n) y[i] = distance[i];
            log2(y);
            SIMROOT_EACH(n) logarithm[i] = max(set1(-127.0f), y[i]);
            SIMROOT_EACH(n) y[i] = y[i] * exponent;
            exp2(y);
        } else {
            SIMROOT_EACH(n) split_at_one(distance[i], f[i], k[i]);
            SIMROOT_EACH(n) f[i] = f[i] - set1(1.5f);
            polynomial(log2_short, f, y);
            SIMROOT_EACH(n) logarithm[i] = k[i] + y[i];
            SIMROOT_EACH(n) f[i] = logarithm[i] * exponent;
            SIMROOT_EACH(n) k[i] = f[i] + set1(to_integer);
            SIMROOT_EACH(n) f[i] = f[i] - (k[i] - set1(to_integer));
            polynomial(exp2_short, f, y);
            SIMROOT_EACH(n) y[i] = add_to_exponent(y[i], k[i]);
        }
        SIMROOT_EACH(n) distance[i] = drop(distance[i] < (special ? set1(smallest_normal) : tie), y[i]);
    }
};

// x - z, and a tie where x is missing.
template <bool special>
SIMROOT_INLINE Vec difference(Vec x, Vec z) {
    return special ? keep(x == x, x - z) : x - z;
}

// ---- Geometry

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

// ---- Forward

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

// run(order) with the type that fits p.
template <typename Run>
int with_order(float p, const Run &run) {
    if (p == 1.0f) return run(Order1{});
    if (p == 2.0f) return run(Order2{});
    if (p == 3.0f) return run(Order3{});
    if (p == 0.5f) return run(OrderHalf{});
    if (p == 1.5f) return run(Order3Halves{});
    return run(AnyOrder(p));
}

// A factor by which numbers become infinite that are too large for the fast form of the order.
template <class Order>
float reach_of(Order, float) { return 1.0f; }
float reach_of(const AnyOrder &, float p) { return 3.40282347e38f / AnyOrder::largest(p); }

// Rows that are gathered at once: few enough that they stay in the nearest cache, but more where the templates do not,
// and have to be fetched anew for each block. Fewer where rows are long.
int64_t block_of(const Shape &s) {
    const int64_t rows = s.group_templates * s.padded_k <= 8192 ? 32 : 128;
    return most(tile_rows, least(rows, 65536 / s.padded_k / tile_rows * tile_rows));
}

// ---- Backward

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

using namespace SIMROOT_ISA;

// All tensors are contiguous: images channels-last, padded already; templates and weights (R, C / groups, kh, kw). u
// and bias may be null, and so may gradients that nobody needs. Returns 0, or 1 if there was not enough memory.

extern "C" int SIMROOT_FUNCTION(lp_forward)(const float *x, const float *z, const float *u, const float *bias,
                                            float *out, int64_t images, int64_t height, int64_t width,
                                            int64_t channels, int64_t templates, int64_t kernel_height,
                                            int64_t kernel_width, int64_t step_down, int64_t step_right,
                                            int64_t groups, double p, int threads) {
    Forward f{};
    f.s = Shape{images, height, width, channels, templates, kernel_height, kernel_width, step_down, step_right, groups};
    f.s.derive();
    if (f.s.rows == 0) return 0;
    f.block = block_of(f.s);
    f.blocks = parts(f.s.rows, f.block);
    // Tasks of some ten microseconds, at least several for each thread.
    const int64_t work = f.block * f.s.k * f.s.group_templates;
    f.blocks_per_task = most(1, least((1 << 20) / work, f.blocks * groups / (8 * threads)));
    f.tasks_per_group = parts(f.blocks, f.blocks_per_task);
    threads = static_cast<int>(least(threads, f.tasks_per_group * groups));
    const Floats panels(groups * parts(f.s.group_templates, W) * W * 2 * f.s.k), scratch(threads * f.scratch_size());
    if (!panels.get() || !scratch.get()) return 1;
    pack_panels(f.s, z, u, panels.get());
    f.x = x;
    f.panels = panels.get();
    f.bias = bias;
    f.out = out;
    f.scratch = scratch.get();
    f.weighted = u != nullptr;
    return with_order(static_cast<float>(p), [&](auto order) {
        f.reach = reach_of(order, static_cast<float>(p));
        f.templates_finite = all_finite(z, templates * f.s.k, f.reach);
        f.run(order, threads);
        return 0;
    });
}

extern "C" int SIMROOT_FUNCTION(lp_backward)(const float *grad, const float *x, const float *z, const float *u,
                                             float *dx, float *dz, float *du, float *dbias, double *dorder,
                                             int64_t images, int64_t height, int64_t width, int64_t channels,
                                             int64_t templates, int64_t kernel_height, int64_t kernel_width,
                                             int64_t step_down, int64_t step_right, int64_t groups, double p,
                                             int threads) {
    Backward b{};
    b.s = Shape{images, height, width, channels, templates, kernel_height, kernel_width, step_down, step_right, groups};
    b.s.derive();
    b.d = Gradients{dx, dz, du, dbias, dorder};
    b.p = static_cast<float>(p);
    b.grad = grad;
    b.x = x;
    const auto run = [&](auto order) {
        b.weighted = u || dorder || !order.unweighted;
        b.reach = reach_of(order, b.p);
        b.templates_finite = all_finite(z, templates * b.s.k, b.reach);
        b.divide();
        threads = static_cast<int>(most(1, least(threads, b.chunks * groups)));
        const int64_t panels_count = groups * b.panels_of_group();
        const Floats panels(panels_count * b.s.group_templates * 2 * W), scratch(threads * b.scratch_size()),
            partial(2 * b.chunks * groups * b.sums_size()), order_parts(2 * panels_count);
        if (!panels.get() || !scratch.get() || !partial.get() || !order_parts.get()) return 1;
        pack_lanes(b.s, z, u, panels.get());
        b.panels = panels.get();
        b.scratch = scratch.get();
        b.partial = reinterpret_cast<double *>(partial.get());
        b.order_parts = reinterpret_cast<double *>(order_parts.get());
        b.run(order, threads);
        return 0;
    };
    return dorder ? run(AnyOrder(b.p)) : with_order(b.p, run);
}

// The arithmetic of p = 1 alone, subtract, absolute value, multiply and add, as fast as the processor does it: what the
// kernel is measured against. Returns how many coordinates it went over.
extern "C" int64_t SIMROOT_FUNCTION(lp_limit)(int64_t repeats) {
    constexpr int rows = 3, vectors = 2, period = 16;  // of the values of x
    float values[period * W];
    for (int i = 0; i < period * W; ++i) values[i] = 0.01f * static_cast<float>(i);
    const Vec z[vectors] = {load(values + W), load(values + 2 * W)}, u = load(values + 3 * W);
    Vec total[rows * vectors];
    SIMROOT_EACH(rows * vectors) total[i] = zero();
    for (int64_t k = 0; k < repeats; ++k) {
        const float *x = values + (k & 7) * W;
        SIMROOT_EACH(rows * vectors) total[i] = fnma(u, abs(load(x + i / vectors * W) - z[i % vectors]), total[i]);
    }
    SIMROOT_EACH(rows * vectors) store(values + i * W, total[i]);
    volatile float sink = values[repeats % W];
    static_cast<void>(sink);
    return repeats * rows * vectors * W;
}
