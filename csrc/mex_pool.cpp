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
};

// The part of a window along one axis that lies on the image.
struct Span {
    int64_t start, length;

    Span(int64_t begin, int64_t kernel, int64_t size) {
        start = begin > 0 ? begin : 0;
        length = (begin + kernel < size ? begin + kernel : size) - start;
    }
};

// A vector of channels, whole or its first `count` lanes, and their beta.
template <bool whole>
struct Lanes {
    int count;
    Vec inverse_beta, factor, inverse_factor;  // factor: beta / ln 2
    bool negative;                             // whether any beta is

    SIMROOT_METHOD Lanes(const Pooling &p, int64_t channel, int count) : count(count) {
        const Vec beta = p.beta_per_channel ? get(p.beta + channel) : set1(*p.beta);
        inverse_beta = inverse(beta);
        factor = bounded(beta) * set1(log2_e);
        inverse_factor = inverse_beta * set1(ln_2);
        negative = any(factor < zero());
    }
    SIMROOT_METHOD Vec get(const float *p) const { return whole ? load(p) : load(p, count); }
    SIMROOT_METHOD void put(float *p, Vec a) const {
        if (whole)
            store(p, a);
        else
            store(p, a, count);
    }
};

// A window on a vector of channels, and what its MEX and gradient are made of: the element with the largest beta x, and
// sums over the positions of 2^t and of 2^t - 1.
template <bool whole>
struct Window {
    const Lanes<whole> &lanes;
    const float *x;
    int64_t height, width, row_step, step;
    Vec reference, total, excess;

    SIMROOT_METHOD Vec value(int64_t row, int64_t column) const { return lanes.get(x + row * row_step + column * step); }
    SIMROOT_METHOD Vec share() const { return set1(1.0f / static_cast<float>(height * width)); }

    SIMROOT_METHOD Vec log2_mean() const { return log2_of(total * share(), excess * share()); }

    // The sums of kh x kw positions; their terms 2^t are stored unless `terms` is null.
    template <int kh, int kw>
    SIMROOT_METHOD void add_up_fixed(float *terms) {
        constexpr int n = kh * kw, together = n > 4 ? kw : n;
        reference = value(0, 0);
        SIMROOT_EACH(n) reference = max(value(i / kw, i % kw), reference);
        if (lanes.negative) {
            Vec lowest = value(0, 0);
            SIMROOT_EACH(n) lowest = min(value(i / kw, i % kw), lowest);
            reference = select(lanes.factor < zero(), lowest, reference);
        }
        Vec scales = zero(), fractions = zero();
        SIMROOT_UNROLL
        for (int first = 0; first < n; first += together) {
            Vec t[together];
            SIMROOT_EACH(together) t[i] = value((first + i) / kw, (first + i) % kw);
            add_powers(t, scales, fractions, terms, first);
        }
        total = scales + fractions;
        excess = (scales - set1(n)) + fractions;
    }

    // The same for any number of positions.
    void add_up(float *terms) {
        Vec highest = value(0, 0), lowest = highest;
        for (int64_t row = 0; row < height; ++row) {
            for (int64_t column = 0; column < width; ++column) {
                highest = max(value(row, column), highest);
                lowest = min(value(row, column), lowest);
            }
        }
        reference = select(lanes.factor < zero(), lowest, highest);
        // The sum of a window that does not vary much is nearer to 1 around the mean, where its logarithm is small.
        const Mask near = abs((highest - lowest) * lanes.factor) < set1(16.0f);
        if (any(near)) reference = select(near, mean(), reference);
        Vec scales = zero(), fractions = zero();
        for (int64_t row = 0; row < height; ++row) {
            Vec row_scales = zero(), row_fractions = zero();
            int64_t column = 0;
            for (; column + 4 <= width; column += 4) add_positions<4>(row, column, row_scales, row_fractions, terms);
            for (; column < width; ++column) add_positions<1>(row, column, row_scales, row_fractions, terms);
            scales = scales + row_scales;
            fractions = fractions + row_fractions;
        }
        total = scales + fractions;
        excess = (scales - set1(static_cast<float>(height * width))) + fractions;
    }

    // dx = (or, where windows overlap, +=) grad times the probabilities.
    template <bool add>
    SIMROOT_METHOD void differentiate(Vec grad, const float *terms, float *dx) const {
        const Vec scaled = grad / total;
        for (int64_t row = 0; row < height; ++row) {
            for (int64_t column = 0; column < width; ++column) {
                float *place = dx + row * row_step + column * step;
                const Vec gradient = load(terms + (row * width + column) * Vec::width) * scaled;
                lanes.put(place, add ? lanes.get(place) + gradient : gradient);
            }
        }
    }

    // The derivative by beta.
    SIMROOT_METHOD Vec by_beta(const float *terms) const {
        const Vec log2 = log2_mean(), inverse_mean = set1(1.0f) / (total * share());
        Vec sum = zero();
        for (int64_t row = 0; row < height; ++row) {
            for (int64_t column = 0; column < width; ++column) {
                const Vec t = max(set1(-1e30f), (value(row, column) - reference) * lanes.factor);
                const Vec exp_q = load(terms + (row * width + column) * Vec::width) * inverse_mean;
                sum = sum + divergence((t - log2) * set1(ln_2), exp_q, lanes.inverse_beta);
            }
        }
        return sum * share();
    }

private:
    // Here and in add_up, rows are summed by themselves: the rounding of large windows stays small.
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
    SIMROOT_METHOD void add_positions(int64_t row, int64_t column, Vec &scales, Vec &fractions, float *terms) {
        Vec x[n];
        SIMROOT_EACH(n) x[i] = value(row, column + i);
        add_powers(x, scales, fractions, terms, row * width + column);
    }

    template <int n>
    SIMROOT_METHOD void add_powers(Vec (&x)[n], Vec &scales, Vec &fractions, float *terms, int64_t position) {
        Vec scale[n], fraction[n];
        SIMROOT_EACH(n) x[i] = (x[i] - reference) * lanes.factor;
        power_of_2(x, scale, fraction);
        SIMROOT_EACH(n) scales = scales + scale[i];
        SIMROOT_EACH(n) fractions = fma(scale[i], fraction[i], fractions);
        if (!terms) return;
        SIMROOT_EACH(n) store(terms + (position + i) * Vec::width, fma(scale[i], fraction[i], scale[i]));
    }
};

// Calls body(window, from, to) for the windows of an output row: where their first channel lies in x and in the output.
// kh x kw is the size of the windows, or 0 for any size.
template <int kh, int kw, bool whole, typename Body>
SIMROOT_METHOD void each_window(
    const Pooling &p, const Lanes<whole> &lanes, const float *x, int64_t row, int64_t channel, float *terms,
    const Body &body) {
    const int64_t image = row / p.out_height, i = row % p.out_height;
    const Span rows(i * p.stride_height - p.padding_height, p.kernel_height, p.height);
    const int64_t base = (image * p.height + rows.start) * p.width;
    for (int64_t j = 0; j < p.out_width; ++j) {
        const Span columns(j * p.stride_width - p.padding_width, p.kernel_width, p.width);
        const int64_t from = (base + columns.start) * p.channels + channel;
        const int64_t to = (row * p.out_width + j) * p.channels + channel;
        const Vec none = zero();
        if (kh && rows.length == kh && columns.length == kw) {
            Window<whole> w{lanes, x + from, kh, kw, p.width * p.channels, p.channels, none, none, none};
            w.template add_up_fixed<kh ? kh : 1, kw ? kw : 1>(terms);
            body(w, from, to);
        } else {
            Window<whole> w{lanes, x + from, rows.length, columns.length, p.width * p.channels, p.channels, none, none, none};
            w.add_up(terms);
            body(w, from, to);
        }
    }
}

template <bool whole, typename Body>
void each_window(
    const Pooling &p, const Lanes<whole> &lanes, const float *x, int64_t row, int64_t channel, float *terms,
    const Body &body) {
    if (p.kernel_height == 2 && p.kernel_width == 2)
        each_window<2, 2>(p, lanes, x, row, channel, terms, body);
    else if (p.kernel_height == 3 && p.kernel_width == 3)
        each_window<3, 3>(p, lanes, x, row, channel, terms, body);
    else
        each_window<0, 0>(p, lanes, x, row, channel, terms, body);
}

// Calls body(lanes, channel) for the channels from `begin` to `end`.
template <typename Body>
void each_lanes(const Pooling &p, int64_t begin, int64_t end, const Body &body) {
    int64_t c = begin;
    for (; c + Vec::width <= end; c += Vec::width) body(Lanes<true>(p, c, Vec::width), c);
    if (c < end) body(Lanes<false>(p, c, static_cast<int>(end - c)), c);
}

// Takes the logarithms of several windows at once.
template <bool whole>
struct Results {
    static constexpr int most = 4;
    const Lanes<whole> &lanes;
    int count;
    Vec mean[most], minus_one[most], reference[most];
    float *place[most];

    SIMROOT_METHOD explicit Results(const Lanes<whole> &lanes) : lanes(lanes), count(0) {
        SIMROOT_EACH(most) mean[i] = minus_one[i] = reference[i] = zero();
    }
    SIMROOT_METHOD void add(const Window<whole> &w, float *out) {
        mean[count] = w.total * w.share();
        minus_one[count] = w.excess * w.share();
        reference[count] = w.reference;
        place[count] = out;
        if (++count == most) finish();
    }
    SIMROOT_METHOD void finish() {
        Vec log2[most];
        log2_of(mean, minus_one, log2);
        SIMROOT_EACH(most) log2[i] = fma(log2[i], lanes.inverse_factor, reference[i]);
        SIMROOT_EACH(most) {
            if (i < count) lanes.put(place[i], log2[i]);
        }
        count = 0;
    }
};

void forward(const Pooling &p, const float *x, float *out, int threads) {
    const int64_t rows = p.count * p.out_height;
    const int64_t row_size = p.out_width * p.channels * p.kernel_height * p.kernel_width;
    const int64_t rows_per_task = 1 + (1 << 15) / (row_size + 1);
    auto task = [&](int64_t index, int) {
        const int64_t end = (index + 1) * rows_per_task < rows ? (index + 1) * rows_per_task : rows;
        for (int64_t row = index * rows_per_task; row < end; ++row) {
            each_lanes(p, 0, p.channels, [&](const auto &lanes, int64_t channel) {
                Results results(lanes);
                each_window(p, lanes, x, row, channel, nullptr, [&](const auto &window, int64_t, int64_t to) {
                    results.add(window, out + to);
                });
                results.finish();
            });
        }
    };
    parallel((rows + rows_per_task - 1) / rows_per_task, threads, task);
}

// dbeta: (count, channels), or null where it is not needed.
template <bool overlapping>
void backward_image(
    const Pooling &p, const float *grad, const float *x, int64_t image, int64_t begin, int64_t end, float *dx,
    double *dbeta, float *terms) {
    for (int64_t row = image * p.out_height; row < (image + 1) * p.out_height; ++row) {
        each_lanes(p, begin, end, [&](const auto &lanes, int64_t channel) {
            Vec sum = zero();
            each_window(p, lanes, x, row, channel, terms, [&](const auto &window, int64_t from, int64_t to) {
                const Vec g = lanes.get(grad + to);
                window.template differentiate<overlapping>(g, terms, dx + from);
                if (dbeta) sum = fma(g, window.by_beta(terms), sum);
            });
            if (!dbeta) return;
            float sums[Vec::width];
            store(sums, sum);
            for (int lane = 0; lane < lanes.count; ++lane) dbeta[image * p.channels + channel + lane] += sums[lane];
        });
    }
}

// terms: memory for the positions of a window, for each thread.
void backward(const Pooling &p, const float *grad, const float *x, float *dx, double *dbeta, float *terms, int threads) {
    const bool disjoint = p.stride_height >= p.kernel_height && p.stride_width >= p.kernel_width;
    const bool covered = p.stride_height == p.kernel_height && p.stride_width == p.kernel_width &&
                         p.padding_height == 0 && p.padding_width == 0 &&
                         p.out_height * p.kernel_height >= p.height && p.out_width * p.kernel_width >= p.width;
    // Few images are divided among the threads by channels, in a way that depends on nothing but their number.
    const int64_t part = p.count < 16 ? 32 : p.channels;
    const int64_t parts = (p.channels + part - 1) / part;
    auto task = [&](int64_t index, int worker) {
        const int64_t image = index / parts, begin = index % parts * part;
        const int64_t end = begin + part < p.channels ? begin + part : p.channels;
        if (!covered) {
            for (int64_t i = image * p.height * p.width; i < (image + 1) * p.height * p.width; ++i)
                std::memset(dx + i * p.channels + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
        }
        float *own = terms + worker * p.kernel_height * p.kernel_width * Vec::width;
        if (disjoint)
            backward_image<false>(p, grad, x, image, begin, end, dx, dbeta, own);
        else
            backward_image<true>(p, grad, x, image, begin, end, dx, dbeta, own);
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
    forward(pooling(sizes, beta, beta_per_channel), x, out, threads);
    return 0;
}

extern "C" int SIMROOT_FUNCTION(mex_pool_backward)(
    const float *grad, const float *x, const float *beta, int beta_per_channel, const int64_t *sizes, float *dx,
    float *dbeta, int threads) {
    using namespace SIMROOT_ISA;
    const Pooling p = pooling(sizes, beta, beta_per_channel);
    const Memory<float> memory(threads * p.kernel_height * p.kernel_width * Vec::width);
    const Memory<double> partial(dbeta ? p.count * p.channels : 0);
    if (!memory.data() || !partial.data()) return 1;
    for (int64_t i = 0; dbeta && i < p.count * p.channels; ++i) partial.data()[i] = 0;
    backward(p, grad, x, dx, dbeta ? partial.data() : nullptr, memory.data(), threads);
    if (!dbeta) return 0;
    const int64_t betas = beta_per_channel ? p.channels : 1;
    for (int64_t b = 0; b < betas; ++b) {
        double sum = 0;
        for (int64_t i = b; i < p.count * p.channels; i += betas) sum += partial.data()[i];
        dbeta[b] = static_cast<float>(sum);
    }
    return 0;
}
