// Tiles of rows of MEX over channels with offsets, and the sums that they need; see mex_dense.cpp.
#pragma once

#include "mex.hpp"

namespace SIMROOT_ISA {
namespace {

constexpr int W = Vec::width;

// Exponents hardly vary if none is further from the largest: |beta x| <= 1/2.
constexpr float small_spread = 0.5f * log2_e;

int64_t whole_vectors(int64_t n) { return (n + W - 1) / W * W; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The first n lanes, 0 in the others.
SIMROOT_INLINE Vec first(int n, Vec a) { return n < W ? keep(below(n), a) : a; }

// Stores up to n lanes, of which there are mostly more than a vector has: masked stores take long on some processors.
SIMROOT_INLINE void put(float *p, Vec a, int64_t n) {
    if (n >= W) return store(p, a);
    float lanes[W];
    store(lanes, a);
    for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

SIMROOT_INLINE Vec get(const float *p, int64_t n) { return n >= W ? load(p) : load(p, static_cast<int>(n)); }

float lane(Vec a, int index = 0) {
    float lanes[W];
    store(lanes, a);
    return lanes[index];
}

// Matrix products of small matrices: out[m, n] = sum_k a[m, k] b[k, n], n in whole vectors.

struct Factor {
    const float *values;
    int64_t row_step, column_step;
};

template <int rows, int vectors>
void multiply_block(Factor a, const float *b, int64_t b_step, int64_t depth, float *out, int64_t out_step) {
    Vec sums[rows * vectors], right[vectors];
    SIMROOT_EACH(rows * vectors) sums[i] = zero();
    for (int64_t k = 0; k < depth; ++k) {
        SIMROOT_EACH(vectors) right[i] = load(b + k * b_step + i * W);
        SIMROOT_EACH(rows * vectors) {
            const Vec left = set1(a.values[i / vectors * a.row_step + k * a.column_step]);
            sums[i] = fma(left, right[i % vectors], sums[i]);
        }
    }
    SIMROOT_EACH(rows * vectors) store(out + i / vectors * out_step + i % vectors * W, sums[i]);
}

template <int rows>
void multiply_rows(Factor a, const float *b, int64_t b_step, int64_t depth, float *out, int64_t columns) {
    int64_t n = 0;
    for (; n + 2 * W <= columns; n += 2 * W) multiply_block<rows, 2>(a, b + n, b_step, depth, out + n, columns);
    if (n < columns) multiply_block<rows, 1>(a, b + n, b_step, depth, out + n, columns);
}

void multiply(Factor a, int64_t rows, const float *b, int64_t depth, float *out, int64_t columns) {
    int64_t m = 0;
    const auto part = [&] { return Factor{a.values + m * a.row_step, a.row_step, a.column_step}; };
    for (; m + 6 <= rows; m += 6) multiply_rows<6>(part(), b, columns, depth, out + m * columns, columns);
    switch (rows - m) {
        case 5: return multiply_rows<5>(part(), b, columns, depth, out + m * columns, columns);
        case 4: return multiply_rows<4>(part(), b, columns, depth, out + m * columns, columns);
        case 3: return multiply_rows<3>(part(), b, columns, depth, out + m * columns, columns);
        case 2: return multiply_rows<2>(part(), b, columns, depth, out + m * columns, columns);
        case 1: return multiply_rows<1>(part(), b, columns, depth, out + m * columns, columns);
    }
}

// The call: sizes, beta, and the offsets in the forms that tiles need.
struct Dense {
    const float *x, *offsets;
    int64_t rows, channels, outputs, padded_channels, padded_outputs;
    float factor, inverse_beta;  // factor: beta / ln 2
    float least_spread;          // of the exponents of an output's offsets
    // (outputs, padded_channels): exponents t and 2^t, 0 where padded. (channels, padded_outputs): 2^t, or 2^t - 1 if
    // offsets hardly vary, with 1 where padded. For each output: its reference, and the mean of 2^t - 1.
    float *exponents, *powers, *transposed, *transposed_minus_one, *references, *means;

    static int64_t floats(int64_t channels, int64_t outputs) {
        return 2 * outputs * whole_vectors(channels) + 2 * (channels + 1) * whole_vectors(outputs);
    }

    Dense(const float *x, const float *offsets, float beta, int64_t rows, int64_t channels, int64_t outputs, float *memory)
        : x(x), offsets(offsets), rows(rows), channels(channels), outputs(outputs),
          padded_channels(whole_vectors(channels)), padded_outputs(whole_vectors(outputs)), least_spread(HUGE_VALF) {
        factor = lane(bounded(set1(beta))) * log2_e;
        inverse_beta = lane(inverse(set1(beta)));
        exponents = memory;
        powers = exponents + outputs * padded_channels;
        transposed = powers + outputs * padded_channels;
        transposed_minus_one = transposed + channels * padded_outputs;
        references = transposed_minus_one + channels * padded_outputs;
        means = references + padded_outputs;
        for (int64_t i = 0; i < channels * padded_outputs; ++i) transposed[i] = transposed_minus_one[i] = 1.0f;
        for (int64_t r = 0; r < padded_outputs; ++r) references[r] = means[r] = 0.0f;
        for (int64_t r = 0; r < outputs; ++r) prepare(r);
    }

    // The element of a row for which beta x is largest.
    float reference(const float *row) const {
        const Vec sign = set1(factor);
        Vec best = set1(-HUGE_VALF);
        int64_t c = 0;
        for (; c + W <= channels; c += W) best = max(xor_sign(load(row + c), sign), best);
        if (c < channels) {
            const int n = static_cast<int>(channels - c);
            best = max(select(below(n), xor_sign(load(row + c, n), sign), best), best);
        }
        return factor < 0 ? -largest(best) : largest(best);
    }

    // Calls body(c, t, n) with the exponents of n channels from c on.
    template <typename Body>
    SIMROOT_METHOD void each_exponent(const float *row, float reference, const Body &body) const {
        const Vec origin = set1(reference), scale = set1(factor);
        int64_t c = 0;
        for (; c + W <= channels; c += W) body(c, (load(row + c) - origin) * scale, W);
        if (c < channels) {
            const int n = static_cast<int>(channels - c);
            body(c, (select(below(n), load(row + c, n), origin) - origin) * scale, n);
        }
    }

    // 2^t of a row, 0 where padded; returns its lowest exponents.
    SIMROOT_METHOD Vec row_of_powers(const float *row, float reference, float *out) const {
        constexpr int together = 4;
        const Vec origin = set1(reference), scale = set1(factor);
        Vec lowest = zero(), t[together], powers[together];
        int64_t c = 0;
        for (; c + together * W <= channels; c += together * W) {
            SIMROOT_EACH(together) t[i] = (load(row + c + i * W) - origin) * scale;
            SIMROOT_EACH(together) lowest = min(t[i], lowest);
            short_power_of_2(t, powers);
            SIMROOT_EACH(together) store(out + c + i * W, powers[i]);
        }
        for (; c < channels; c += W) {
            const int n = static_cast<int>(smaller(W, channels - c));
            const Vec x = n < W ? select(below(n), load(row + c, n), origin) : load(row + c);
            const Vec one = (x - origin) * scale;
            lowest = min(one, lowest);
            store(out + c, first(n, power(one).value()));
        }
        return lowest;
    }

private:
    void prepare(int64_t r) {
        const float *row = offsets + r * channels;
        references[r] = reference(row);
        float minus_one[W], lowest = 0;
        double sum = 0;
        each_exponent(row, references[r], [&](int64_t c, Vec t, int n) {
            float *t_place = exponents + r * padded_channels + c, *place = powers + r * padded_channels + c;
            const Power found = power(t);
            store(t_place, first(n, max(set1(-1e30f), t)));
            store(place, first(n, found.value()));
            store(minus_one, found.minus_one());
            for (int lane = 0; lane < n; ++lane) {
                transposed[(c + lane) * padded_outputs + r] = place[lane];
                transposed_minus_one[(c + lane) * padded_outputs + r] = minus_one[lane];
                if (!(t_place[lane] >= lowest)) lowest = t_place[lane];
                sum += minus_one[lane];
            }
        });
        means[r] = static_cast<float>(sum / static_cast<double>(channels));
        if (-lowest < least_spread) least_spread = -lowest;
    }
};

// A tile of rows: exponentials and their products with those of the offsets.
struct Tile {
    const Dense &d;
    int64_t begin, rows;
    bool small;  // whether exponents hardly vary for some row and output
    // (rows, padded_channels): 2^t, and room. (rows, padded_outputs): sums over channels of 2^(t + t of offsets), and
    // if some are small the means of 2^(t + t of offsets) - 1. (rows): the largest elements.
    float *powers, *room, *sums, *excess, *references;

    static int64_t most_rows(int64_t channels) {
        const int64_t fitting = 24576 / whole_vectors(channels) / 6 * 6;
        return fitting < 6 ? 6 : smaller(fitting, 96);
    }
    static int64_t floats(const Dense &d) {
        return most_rows(d.channels) * (2 * d.padded_channels + 2 * d.padded_outputs + 1);
    }

    Tile(const Dense &d, int64_t index, float *memory) : d(d) {
        const int64_t most = most_rows(d.channels);
        begin = index * most;
        rows = smaller(most, d.rows - begin);
        powers = memory;
        room = powers + most * d.padded_channels;
        sums = room + most * d.padded_channels;
        excess = sums + most * d.padded_outputs;
        references = excess + most * d.padded_outputs;
        float least_spread = HUGE_VALF;
        for (int64_t m = 0; m < rows; ++m) {
            references[m] = d.reference(x(m));
            const Vec lowest = d.row_of_powers(x(m), references[m], powers + m * d.padded_channels);
            const float spread = largest(zero() - lowest);
            if (spread < least_spread) least_spread = spread;
        }
        multiply({powers, d.padded_channels, 1}, rows, d.transposed, d.channels, sums, d.padded_outputs);
        small = d.least_spread + least_spread <= small_spread;
        if (small) multiply_minus_one();
    }

    const float *x(int64_t m) const { return d.x + (begin + m) * d.channels; }

    // The logarithm to base 2 of the mean, for outputs from r on.
    Vec log2_mean(int64_t m, int64_t r) const {
        const Vec mean = load(sums + m * d.padded_outputs + r) * set1(1.0f / static_cast<float>(d.channels));
        return log2_of(mean, small ? load(excess + m * d.padded_outputs + r) : mean - set1(1.0f));
    }

    // In sums below it, terms may be missing that were too small for a float.
    float underflow() const { return 1e-30f * static_cast<float>(d.channels); }

    // Calls body(m, r) for each of these sums.
    template <typename Body>
    void each_underflow(Body body) const {
        for (int64_t m = 0; m < rows; ++m)
            for (int64_t r = 0; r < d.outputs; ++r)
                if (sums[m * d.padded_outputs + r] < underflow()) body(m, r);
    }

private:
    // 2^(s + t) - 1 = (2^s - 1) + (2^t - 1) + (2^s - 1) (2^t - 1).
    void multiply_minus_one() {
        const float share = 1.0f / static_cast<float>(d.channels);
        for (int64_t m = 0; m < rows; ++m) {
            d.each_exponent(x(m), references[m], [&](int64_t c, Vec t, int n) {
                store(room + m * d.padded_channels + c, first(n, power(t).minus_one()));
            });
        }
        multiply({room, d.padded_channels, 1}, rows, d.transposed_minus_one, d.channels, excess, d.padded_outputs);
        for (int64_t m = 0; m < rows; ++m) {
            Vec sum_of_row = zero();
            for (int64_t c = 0; c < d.channels; c += W) sum_of_row = sum_of_row + load(room + m * d.padded_channels + c);
            const Vec mean = set1(sum(sum_of_row) * share);
            for (int64_t r = 0; r < d.outputs; r += W) {
                float *place = excess + m * d.padded_outputs + r;
                store(place, fma(load(place), set1(share), mean + load(d.means + r)));
            }
        }
    }
};

// The sum of one row and output by itself.
struct Exact {
    const Dense &d;
    const float *sums;  // x + w
    float reference;
    Vec total, log2_mean;

    Exact(const Tile &tile, int64_t m, int64_t r, float *memory) : d(tile.d), sums(memory) {
        const float *x = tile.x(m), *w = d.offsets + r * d.channels;
        for (int64_t c = 0; c < d.channels; ++c) memory[c] = x[c] + w[c];
        reference = d.reference(sums);
        Vec terms = zero();
        d.each_exponent(sums, reference, [&](int64_t, Vec t, int n) { terms = terms + first(n, power(t).value()); });
        total = set1(sum(terms));
        const Vec mean = total * set1(1.0f / static_cast<float>(d.channels));
        log2_mean = log2_of(mean, mean - set1(1.0f));
    }

    float mex() const { return reference + lane(log2_mean) * (d.inverse_beta * ln_2); }

    // Adds the gradients of grad times it by x and w, and returns that by beta.
    float differentiate(float grad, float *dx, float *dw) const {
        const Vec inverse_beta = set1(d.inverse_beta), channels = set1(static_cast<float>(d.channels));
        Vec divergences = zero();
        d.each_exponent(sums, reference, [&](int64_t c, Vec t, int n) {
            const Vec p = power(t).value() / total, q = (max(set1(-1e30f), t) - log2_mean) * set1(ln_2);
            divergences = divergences + first(n, divergence(q, p * channels, inverse_beta));
            const Vec weighted = set1(grad) * p;
            put(dx + c, get(dx + c, n) + weighted, n);
            put(dw + c, get(dw + c, n) + weighted, n);
        });
        return grad * sum(divergences) / static_cast<float>(d.channels);
    }
};

}  // namespace
}  // namespace SIMROOT_ISA
