// MEX over windows of channels-last images: lanes are channels.

#include "mex.hpp"

namespace SIMROOT_ISA {
namespace {

// Windows on images, and which beta the channels have.
struct Pooling {
    int64_t count, height, width, channels, out_height, out_width;
    int64_t kernel_height, kernel_width, stride_height, stride_width, padding_height, padding_width;
    const float *beta;
    bool beta_per_channel;

    bool has_kernel(int size) const { return kernel_height == size && kernel_width == size; }
};

// The part of a window along one axis that lies on the image.
struct Span {
    int64_t start, length;

    Span(int64_t begin, int64_t kernel, int64_t size) {
        start = begin > 0 ? begin : 0;
        length = (begin + kernel < size ? begin + kernel : size) - start;
    }
};

// What beta is in the channels, in whole vectors: its sign, the factor |beta| / ln 2, -127 / factor, ln 2 / |beta| and
// 1 / |beta|. x with the sign of beta has the MEX of |beta| with that sign.
struct Betas {
    const float *sign, *factor, *least, *inverse_factor, *inverse;

    static int64_t floats(const Pooling &p) { return 5 * (p.channels + Vec::width); }

    Betas(const Pooling &p, float *memory) {
        const int64_t size = p.channels + Vec::width;
        sign = memory;
        factor = memory + size;
        least = memory + 2 * size;
        inverse_factor = memory + 3 * size;
        inverse = memory + 4 * size;
        for (int64_t c = 0; c < p.channels; c += Vec::width) {
            const bool whole = c + Vec::width <= p.channels;
            const Vec beta = !p.beta_per_channel ? set1(*p.beta)
                             : whole             ? load(p.beta + c)
                                                 : load(p.beta + c, static_cast<int>(p.channels - c));
            const Vec scale = bounded(abs(beta)) * set1(log2_e), inverted = SIMROOT_ISA::inverse(abs(beta));
            store(memory + c, beta);
            store(memory + size + c, scale);
            store(memory + 2 * size + c, set1(-127.0f) / scale);
            store(memory + 3 * size + c, inverted * set1(ln_2));
            store(memory + 4 * size + c, inverted);
        }
    }
};

// Vectors of channels: whole; the last of several, which overlaps the one before; or fewer channels than lanes.
enum Kind { whole, overlapping, partial };

template <Kind kind>
struct Lanes {
    static constexpr Kind its_kind = kind;
    int count;  // of channels that are new

    SIMROOT_METHOD Vec get(const float *p) const { return kind == partial ? load(p, count) : load(p); }
    SIMROOT_METHOD void put(float *p, Vec a) const {
        if (kind != partial) return store(p, a);
        float lanes[Vec::width];  // masked stores take long on some processors
        store(lanes, a);
        for (int i = 0; i < Vec::width - 1; ++i) {
            if (i < count) p[i] = lanes[i];
        }
    }
    // a for the new channels, which are the last lanes, and 0 for others.
    SIMROOT_METHOD Vec fresh(Vec a) const { return kind == overlapping ? drop(below(Vec::width - count), a) : a; }
};

// log2(1 + u) / u for u in [-1/2, 0] with relative error 3e-8: minimax.
constexpr float log2_below_terms[] = {1.4426950736725028f,  -0.7213372100857556f, 0.481428178254227f,
                                      -0.35029432486162515f, 0.3889642267457048f,  0.2936252467720857f,
                                      1.814389847468365f,    2.44648700813271f,    2.079053781134462f};

// log2(1 + u) for u in [-3/4, 0]; NaN for NaN.
template <int n>
SIMROOT_INLINE void log2_of_quarters(Vec (&u)[n], Vec (&result)[n]) {
    Vec exponent[n];
    SIMROOT_EACH(n) {
        const Mask halved = u[i] < set1(-0.5f);
        exponent[i] = keep(halved, set1(-1.0f));
        u[i] = select(halved, fma(u[i], set1(2.0f), set1(1.0f)), u[i]);
    }
    polynomial(log2_below_terms, u, result);
    SIMROOT_EACH(n) result[i] = fma(u[i], result[i], exponent[i]);
}

// A window of kh x kw positions that all exist.
template <int kh, int kw, Kind kind>
struct Inner {
    static constexpr int n = kh * kw;
    Lanes<kind> lanes;
    Vec sign, factor, least;
    int64_t row_step, step;

    SIMROOT_METHOD Inner(const Pooling &p, const Betas &betas, Lanes<kind> lanes, int64_t channel)
        : lanes(lanes), sign(load(betas.sign + channel)), factor(load(betas.factor + channel)),
          least(load(betas.least + channel)), row_step(p.width * p.channels), step(p.channels) {}

    SIMROOT_METHOD int64_t offset(int i) const { return i / kw * row_step + i % kw * step; }

    // The largest element, and the means of 2^t and of 2^t - 1.
    SIMROOT_METHOD void sum_up(const float *x, Vec &reference, Vec &mean, Vec &minus_one) const {
        Vec t[n];
        SIMROOT_EACH(n) t[i] = xor_sign(lanes.get(x + offset(i)), sign);
        if (n == 4) {
            // The largest comes last: its term is 1. NaN is kept: max and min of it and a number are these two.
            order(t[0], t[1]);
            order(t[2], t[3]);
            order(t[1], t[3]);
            reference = t[3];
        } else {
            reference = t[0];
            SIMROOT_EACH(n) reference = max(t[i], reference);
        }
        constexpr int others = n == 4 ? 3 : n, together = n == 4 ? 3 : kw;
        Vec scales = zero(), fractions = zero();
        SIMROOT_UNROLL
        for (int first = 0; first < others; first += together) {
            Vec part[together], scale[together], fraction[together];
            SIMROOT_EACH(together) part[i] = t[first + i] - reference;
            power_of_2(part, factor, least, scale, fraction);
            SIMROOT_EACH(together) scales = scales + scale[i];
            SIMROOT_EACH(together) fractions = fma(scale[i], fraction[i], fractions);
        }
        mean = (scales + fractions) * set1(1.0f / n);
        minus_one = ((scales - set1(others)) + fractions) * set1(1.0f / n);
    }

    // dx = (or, where windows overlap, +=) grad times the probabilities. If beta is learned, adds grad times the
    // derivative by it to dbeta.
    template <bool add, bool learned>
    SIMROOT_METHOD void differentiate(const float *x, Vec grad, float *dx, Vec inverse_beta, float *dbeta) const {
        constexpr int together = n == 4 ? 4 : kw;
        Vec d[n], e[n], reference, total = zero(), scales = zero(), fractions = zero();
        SIMROOT_EACH(n) d[i] = xor_sign(lanes.get(x + offset(i)), sign);
        reference = d[0];
        SIMROOT_EACH(n) reference = max(d[i], reference);
        SIMROOT_UNROLL
        for (int first = 0; first < n; first += together) {
            Vec part[together], scale[together], fraction[together];
            SIMROOT_EACH(together) part[i] = d[first + i] - reference;
            if (learned) {
                power_of_2(part, factor, least, scale, fraction);
                SIMROOT_EACH(together) e[first + i] = fma(scale[i], fraction[i], scale[i]);
                SIMROOT_EACH(together) scales = scales + scale[i];
                SIMROOT_EACH(together) fractions = fma(scale[i], fraction[i], fractions);
            } else {
                SIMROOT_EACH(together) part[i] = part[i] * factor;
                short_power_of_2(part, scale);
                SIMROOT_EACH(together) e[first + i] = scale[i];
            }
            SIMROOT_EACH(together) total = total + e[first + i];
        }
        const Vec scaled = grad / total;
        SIMROOT_EACH(n) {
            float *place = dx + offset(i);
            lanes.put(place, add ? fma(e[i], lanes.fresh(scaled), lanes.get(place)) : e[i] * scaled);
        }
        if (!learned) return;
        const Vec share = set1(1.0f / n), log2 = log2_of(total * share, ((scales - set1(n)) + fractions) * share);
        SIMROOT_EACH(n) d[i] = max(least, d[i] - reference) * factor;
        store(dbeta, fma(lanes.fresh(grad), by_beta(d, e, total, log2, inverse_beta), load(dbeta)));
    }

private:
    // The divergence of the probabilities from even ones; where that nearly vanishes, term by term. e: 2^t.
    SIMROOT_METHOD Vec by_beta(const Vec (&t)[n], const Vec (&e)[n], Vec total, Vec log2, Vec inverse_beta) const {
        Vec lowest = t[0], sum = zero();
        SIMROOT_EACH(n) lowest = min(t[i], lowest);
        if (any((lowest < zero()) & (set1(-0.125f) < lowest))) {
            const Vec inverse_mean = set1(n) / total;
            SIMROOT_EACH(n) sum = sum + divergence((t[i] - log2) * set1(ln_2), e[i] * inverse_mean, inverse_beta);
            return sum * set1(1.0f / n);
        }
        SIMROOT_EACH(n) sum = fma(e[i], t[i], sum);
        return (sum / total - log2) * set1(ln_2) * inverse_beta * inverse_beta;
    }
    static SIMROOT_METHOD void order(Vec &a, Vec &b) {
        const Vec higher = max(a, b);
        a = min(b, a);
        b = higher;
    }
};

// Any window: the element with the largest x, and sums over the positions of 2^t and of 2^t - 1.
template <Kind kind>
struct Window {
    Lanes<kind> lanes;
    Vec sign, factor, least;
    int64_t row_step, step, height, width;
    const float *x;
    Vec reference, total, excess;

    SIMROOT_METHOD Vec share() const { return set1(1.0f / static_cast<float>(height * width)); }
    SIMROOT_METHOD Vec log2_mean() const { return log2_of(total * share(), excess * share()); }

    // The terms 2^t are stored unless `terms` is null.
    Window(
        const Pooling &p, const Betas &betas, Lanes<kind> lanes, int64_t channel, const float *x, int64_t height,
        int64_t width, float *terms)
        : lanes(lanes), sign(load(betas.sign + channel)), factor(load(betas.factor + channel)),
          least(load(betas.least + channel)), row_step(p.width * p.channels), step(p.channels), height(height),
          width(width), x(x) {
        Vec lowest = value(0, 0);
        reference = lowest;
        for (int64_t row = 0; row < height; ++row) {
            for (int64_t column = 0; column < width; ++column) {
                reference = max(value(row, column), reference);
                lowest = min(value(row, column), lowest);
            }
        }
        // The sum of a window that does not vary much is nearer to 1 around the mean, where its logarithm is small.
        const Mask near = (reference - lowest) * factor < set1(16.0f);
        if (any(near)) reference = select(near, mean(), reference);
        Vec scales = zero(), fractions = zero();
        for (int64_t row = 0; row < height; ++row) {
            Vec row_scales = zero(), row_fractions = zero();
            int64_t column = 0;
            for (; column + 4 <= width; column += 4) add_powers<4>(row, column, row_scales, row_fractions, terms);
            for (; column < width; ++column) add_powers<1>(row, column, row_scales, row_fractions, terms);
            scales = scales + row_scales;
            fractions = fractions + row_fractions;
        }
        total = scales + fractions;
        excess = (scales - set1(static_cast<float>(height * width))) + fractions;
    }

    // As in Inner.
    template <bool add, bool learned>
    void differentiate(Vec grad, const float *terms, float *dx, Vec inverse_beta, float *dbeta) const {
        const Vec scaled = grad / total;
        for (int64_t row = 0; row < height; ++row) {
            for (int64_t column = 0; column < width; ++column) {
                float *place = dx + row * row_step + column * step;
                const Vec gradient = load(terms + (row * width + column) * Vec::width) * scaled;
                lanes.put(place, add ? lanes.get(place) + lanes.fresh(gradient) : gradient);
            }
        }
        if (learned) store(dbeta, fma(lanes.fresh(grad), by_beta(terms, inverse_beta), load(dbeta)));
    }

private:
    SIMROOT_METHOD Vec value(int64_t row, int64_t column) const {
        return xor_sign(lanes.get(x + row * row_step + column * step), sign);
    }

    // Here and above, rows are summed by themselves: the rounding of large windows stays small.
    Vec mean() const {
        Vec sum = zero();
        for (int64_t row = 0; row < height; ++row) {
            Vec sum_of_row = zero();
            for (int64_t column = 0; column < width; ++column) sum_of_row = sum_of_row + value(row, column);
            sum = sum + sum_of_row;
        }
        return sum * share();
    }

    template <int n>
    SIMROOT_METHOD void add_powers(int64_t row, int64_t column, Vec &scales, Vec &fractions, float *terms) const {
        Vec t[n], scale[n], fraction[n];
        SIMROOT_EACH(n) t[i] = value(row, column + i) - reference;
        power_of_2(t, factor, least, scale, fraction);
        SIMROOT_EACH(n) scales = scales + scale[i];
        SIMROOT_EACH(n) fractions = fma(scale[i], fraction[i], fractions);
        if (!terms) return;
        SIMROOT_EACH(n) store(terms + (row * width + column + i) * Vec::width, fma(scale[i], fraction[i], scale[i]));
    }

    Vec by_beta(const float *terms, Vec inverse_beta) const {
        const Vec log2 = log2_mean(), inverse_mean = set1(1.0f) / (total * share());
        Vec sum = zero();
        for (int64_t row = 0; row < height; ++row) {
            for (int64_t column = 0; column < width; ++column) {
                const Vec t = max(set1(-1e30f), (value(row, column) - reference) * factor);
                const Vec exp_q = load(terms + (row * width + column) * Vec::width) * inverse_mean;
                sum = sum + divergence((t - log2) * set1(ln_2), exp_q, inverse_beta);
            }
        }
        return sum * share();
    }
};

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

Pooling pooling(const int64_t *sizes, const float *beta, int beta_per_channel) {
    return {sizes[0], sizes[1], sizes[2], sizes[3],  sizes[4],  sizes[5], sizes[6],
            sizes[7], sizes[8], sizes[9], sizes[10], sizes[11], beta,     beta_per_channel != 0};
}

}  // namespace
}  // namespace SIMROOT_ISA

extern "C" int SIMROOT_FUNCTION(mex_pool_forward)(
    const float *x, const float *beta, int beta_per_channel, const int64_t *sizes, float *out, int threads) {
    using namespace SIMROOT_ISA;
    const Pooling p = pooling(sizes, beta, beta_per_channel);
    const Memory<float> memory(Betas::floats(p));
    if (!memory.data()) return 1;
    forward(p, Betas(p, memory.data()), x, out, threads);
    return 0;
}

extern "C" int SIMROOT_FUNCTION(mex_pool_backward)(
    const float *grad, const float *x, const float *beta, int beta_per_channel, const int64_t *sizes, float *dx,
    float *dbeta, int threads) {
    using namespace SIMROOT_ISA;
    const Pooling p = pooling(sizes, beta, beta_per_channel);
    const Memory<float> memory(Betas::floats(p) + threads * Gradients::floats(p));
    const Memory<double> partial(dbeta ? p.count * p.channels : 0);
    if (!memory.data() || !partial.data()) return 1;
    for (int64_t i = 0; dbeta && i < p.count * p.channels; ++i) partial.data()[i] = 0;
    const Betas betas(p, memory.data());
    const Gradients gradients{grad, x, dx, dbeta ? partial.data() : nullptr, memory.data() + Betas::floats(p)};
    if (p.has_kernel(2))
        backward<2, 2>(p, betas, gradients, threads);
    else if (p.has_kernel(3))
        backward<3, 3>(p, betas, gradients, threads);
    else
        backward<0, 0>(p, betas, gradients, threads);
    if (!dbeta) return 0;
    const int64_t betas_learned = beta_per_channel ? p.channels : 1;
    for (int64_t b = 0; b < betas_learned; ++b) {
        double sum = 0;
        for (int64_t i = b; i < p.count * p.channels; i += betas_learned) sum += partial.data()[i];
        dbeta[b] = static_cast<float>(sum);
    }
    return 0;
}
