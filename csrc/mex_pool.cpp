// MEX over windows of channels-last images: lanes are channels.

#include "mex_pool.hpp"

namespace SIMROOT_ISA {
namespace {

// Calls body(lanes, channel) for the channels from `begin` to `end`.
template <typename Body>
SIMROOT_METHOD void each_lanes(int64_t begin, int64_t end, const Body &body) {
    int64_t c = begin;
    for (; c + Vec::width <= end; c += Vec::width) body(Lanes<whole>{Vec::width}, c);
    const int rest = static_cast<int>(end - c);
    if (rest && end > Vec::width)
        body(Lanes<overlapping>{rest}, end - Vec::width);
    else if (rest)
        body(Lanes<partial>{rest}, c);
}

// Calls body(from, to, height, width, inner) for the windows of an output row: where they lie in x and in the output,
// their size, and whether all of their kh x kw positions exist.
template <int kh, int kw, typename Body>
SIMROOT_METHOD void each_window(const Pooling &p, int64_t row, const Body &body) {
    const int64_t image = row / p.out_height, i = row % p.out_height;
    const Span rows(i * p.stride_height - p.padding_height, p.kernel_height, p.height);
    const int64_t base = (image * p.height + rows.start) * p.width;
    for (int64_t j = 0; j < p.out_width; ++j) {
        const Span columns(j * p.stride_width - p.padding_width, p.kernel_width, p.width);
        const bool inner = kh && rows.length == kh && columns.length == kw;
        const int64_t from = (base + columns.start) * p.channels, to = (row * p.out_width + j) * p.channels;
        body(from, to, rows.length, columns.length, inner);
    }
}

template <int kh, int kw, int vectors, Kind kind>
SIMROOT_METHOD void forward_inner(
    const Pooling &p, const Betas &betas, Lanes<kind> lanes, int64_t channel, const float *x, float *out) {
    Vec mean[vectors], minus_one[vectors], reference[vectors], log2[vectors];
    SIMROOT_EACH(vectors) {
        const int64_t c = channel + i * Vec::width;
        Inner<kh, kw, kind>(p, betas, lanes, c).sum_up(x + c, reference[i], mean[i], minus_one[i]);
    }
    if (kh * kw == 4)
        log2_of_quarters(minus_one, log2);
    else
        log2_of(mean, minus_one, log2);
    SIMROOT_EACH(vectors) {
        const int64_t c = channel + i * Vec::width;
        const Vec y = fma(log2[i], load(betas.inverse_factor + c), reference[i]);
        lanes.put(out + c, xor_sign(y, load(betas.sign + c)));
    }
}

template <int kh, int kw>
void forward_row(const Pooling &p, const Betas &betas, const float *x, int64_t row, float *out) {
    constexpr int together = 4;
    each_window<kh, kw>(p, row, [&](int64_t from, int64_t to, int64_t height, int64_t width, bool inner) {
        int64_t done = 0;
        if constexpr (kh > 0) {
            if (inner) {
                for (; done + together * Vec::width <= p.channels; done += together * Vec::width)
                    forward_inner<kh, kw, together>(p, betas, Lanes<whole>{Vec::width}, done, x + from, out + to);
                each_lanes(done, p.channels, [&](auto lanes, int64_t c) {
                    forward_inner<kh, kw, 1>(p, betas, lanes, c, x + from, out + to);
                });
                return;
            }
        }
        each_lanes(0, p.channels, [&](auto lanes, int64_t c) {
            const Window window(p, betas, lanes, c, x + from + c, height, width, nullptr);
            const Vec y = fma(window.log2_mean(), load(betas.inverse_factor + c), window.reference);
            lanes.put(out + to + c, xor_sign(y, window.sign));
        });
    });
}

void forward(const Pooling &p, const Betas &betas, const float *x, float *out, int threads) {
    const auto one_row = p.has_kernel(2) ? forward_row<2, 2> : p.has_kernel(3) ? forward_row<3, 3> : forward_row<0, 0>;
    const int64_t rows = p.count * p.out_height;
    const int64_t row_size = p.out_width * p.channels * p.kernel_height * p.kernel_width;
    const int64_t rows_per_task = 1 + (1 << 15) / (row_size + 1);
    auto task = [&](int64_t index, int) {
        const int64_t end = (index + 1) * rows_per_task < rows ? (index + 1) * rows_per_task : rows;
        for (int64_t row = index * rows_per_task; row < end; ++row) one_row(p, betas, x, row, out);
    };
    parallel((rows + rows_per_task - 1) / rows_per_task, threads, task);
}

// The gradients of a call, and memory for each thread.
struct Gradients {
    const float *grad, *x;
    float *dx;
    double *dbeta;  // (count, channels), or null where it is not needed
    float *memory;

    static int64_t floats(const Pooling &p) {
        return p.kernel_height * p.kernel_width * Vec::width + p.channels + Vec::width;
    }
};

// The gradients of the channels from `begin` to `end` of an image.
template <int kh, int kw, bool add, bool learned>
void backward_image(
    const Pooling &p, const Betas &betas, const Gradients &g, int64_t image, int64_t begin, int64_t end,
    float *memory) {
    float *sums = memory, *terms = memory + p.channels + Vec::width;
    for (int64_t c = 0; c < p.channels + Vec::width; ++c) sums[c] = 0;
    for (int64_t row = image * p.out_height; row < (image + 1) * p.out_height; ++row) {
        each_window<kh, kw>(p, row, [&](int64_t from, int64_t to, int64_t height, int64_t width, bool inner) {
            each_lanes(begin, end, [&](auto lanes, int64_t c) {
                const Vec grad = lanes.get(g.grad + to + c), inverse_beta = load(betas.inverse + c);
                const float *x = g.x + from + c;
                float *dx = g.dx + from + c, *dbeta = sums + c;
                if constexpr (kh > 0) {
                    if (inner) {
                        const Inner<kh, kw, lanes.its_kind> window(p, betas, lanes, c);
                        return window.template differentiate<add, learned>(x, grad, dx, inverse_beta, dbeta);
                    }
                }
                const Window window(p, betas, lanes, c, x, height, width, terms);
                window.template differentiate<add, learned>(grad, terms, dx, inverse_beta, dbeta);
            });
        });
        if (!learned) continue;
        for (int64_t c = begin; c < end; ++c) {
            g.dbeta[image * p.channels + c] += sums[c];
            sums[c] = 0;
        }
    }
}

template <int kh, int kw>
void backward(const Pooling &p, const Betas &betas, const Gradients &g, int threads) {
    const bool disjoint = p.stride_height >= p.kernel_height && p.stride_width >= p.kernel_width;
    const bool covered = p.stride_height == p.kernel_height && p.stride_width == p.kernel_width &&
                         p.padding_height == 0 && p.padding_width == 0 &&
                         p.out_height * p.kernel_height >= p.height && p.out_width * p.kernel_width >= p.width;
    const auto fixed = disjoint ? backward_image<kh, kw, false, false> : backward_image<kh, kw, true, false>;
    const auto learned = disjoint ? backward_image<kh, kw, false, true> : backward_image<kh, kw, true, true>;
    const auto one_image = g.dbeta ? learned : fixed;
    // Few images are divided among the threads by channels, in a way that depends on nothing but their number.
    constexpr int64_t part = 32;
    const int64_t parts = p.count < 16 && p.channels > part ? p.channels / part : 1;
    auto task = [&](int64_t index, int worker) {
        const int64_t image = index / parts, begin = index % parts * part;
        const int64_t end = index % parts == parts - 1 ? p.channels : begin + part;
        if (!covered) {
            for (int64_t i = image * p.height * p.width; i < (image + 1) * p.height * p.width; ++i)
                std::memset(g.dx + i * p.channels + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
        }
        one_image(p, betas, g, image, begin, end, g.memory + worker * Gradients::floats(p));
    };
    parallel(p.count * parts, threads, task);
}

template <typename Arguments>
Pooling pooling(const Arguments &a) {
    return {a.images, a.height, a.width, a.channels, a.out_height, a.out_width, a.kernel_height, a.kernel_width,
            a.stride_height, a.stride_width, a.padding_height, a.padding_width, a.beta, a.beta_per_channel != 0};
}

}  // namespace
}  // namespace SIMROOT_ISA

SIMROOT_KERNEL(mex_pool_forward) {
    using namespace SIMROOT_ISA;
    const Pooling p = pooling(a);
    const Memory<float> memory(Betas::floats(p));
    if (!memory.data()) return 1;
    forward(p, Betas(p, memory.data()), a.x, a.out, threads);
    return 0;
}

SIMROOT_KERNEL(mex_pool_backward) {
    using namespace SIMROOT_ISA;
    const Pooling p = pooling(a);
    const Memory<float> memory(Betas::floats(p) + threads * Gradients::floats(p));
    const Memory<double> partial(a.dbeta ? p.count * p.channels : 0);
    if (!memory.data() || !partial.data()) return 1;
    for (int64_t i = 0; a.dbeta && i < p.count * p.channels; ++i) partial.data()[i] = 0;
    const Betas betas(p, memory.data());
    const Gradients gradients{a.grad, a.x, a.dx, a.dbeta ? partial.data() : nullptr, memory.data() + Betas::floats(p)};
    if (p.has_kernel(2))
        backward<2, 2>(p, betas, gradients, threads);
    else if (p.has_kernel(3))
        backward<3, 3>(p, betas, gradients, threads);
    else
        backward<0, 0>(p, betas, gradients, threads);
    if (!a.dbeta) return 0;
    const int64_t betas_learned = p.beta_per_channel ? p.channels : 1;
    for (int64_t b = 0; b < betas_learned; ++b) {
        double sum = 0;
        for (int64_t i = b; i < p.count * p.channels; i += betas_learned) sum += partial.data()[i];
        a.dbeta[b] = static_cast<float>(sum);
    }
    return 0;
}
