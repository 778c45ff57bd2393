// Windows of MEX on images, and the MEX of one of them in several channels.
#pragma once

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

}  // namespace
}  // namespace SIMROOT_ISA
