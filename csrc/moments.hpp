// Means and variances over rows, in one go over the memory: each chunk of rows is summed twice while it lies in the cache,
// for its mean and for the squares of what is left of it; chunks are merged in their order, in doubles.
#pragma once

#include <cstring>

#include "channels.hpp"
#include "pieces.hpp"

namespace SIMROOT_ISA {
namespace {

// body(place of a vector in a chunk, place in its group, lanes) for all vectors of a chunk of rows, in their order; the
// lanes are W, as a constant, but for what is left of a last group.
template <typename Body>
SIMROOT_METHOD void each_vector(const Rows &r, int64_t count, const Body &body) {
    const int64_t size = r.floats(), whole = count / r.together * size, rest = count * r.channels - whole;
    for (int64_t first = 0; first < whole; first += size) {
        for (int64_t at = 0; at < size; at += W) body(first + at, at, AllLanes());
    }
    for (int64_t at = 0; at < rest; at += W) body(whole + at, at, static_cast<int>(least(W, rest - at)));
}

// The same, where each vector adds to sums: body(place in a chunk, place in its group, lanes, its vectors of sums). There are
// `kinds` lines of them, each for a group; while they are found, they stay in registers.
template <int kinds, typename Body>
SIMROOT_METHOD void each_vector_adding(const Rows &r, int64_t count, float *lines, const Body &body) {
    const int64_t size = r.floats(), whole = count / r.together * size, rest = count * r.channels - whole;
    each_piece<registers / 4 / kinds>(r.vectors, [&](int64_t begin, auto several) {
        constexpr int n = decltype(several)::value;
        Vec sums[n][kinds];
        SIMROOT_UNROLL
        for (int v = 0; v < n; ++v) {
            SIMROOT_EACH(kinds) sums[v][i] = zero();
        }
        for (int64_t first = 0; first < whole; first += size) {
            SIMROOT_UNROLL
            for (int v = 0; v < n; ++v) body(first + (begin + v) * W, (begin + v) * W, AllLanes(), sums[v]);
        }
        SIMROOT_UNROLL
        for (int v = 0; v < n; ++v) {
            SIMROOT_EACH(kinds) store(lines + i * size + (begin + v) * W, sums[v][i]);
        }
    });
    for (int64_t at = 0; at < rest; at += W) {
        const int lanes = static_cast<int>(least(W, rest - at));
        Vec sums[kinds];
        SIMROOT_EACH(kinds) sums[i] = load(lines + i * size + at);
        body(whole + at, at, lanes, sums);
        SIMROOT_EACH(kinds) store(lines + i * size + at, sums[i], lanes);
    }
}

void clear(float *p, int64_t count) { std::memset(p, 0, static_cast<size_t>(count) * sizeof(float)); }

// Mean and sum of squares around it, for each channel.
struct Moments {
    double *mean, *square;
};

inline void moments_of_chunk(const Rows &r, const float *x, int64_t count, float *memory, Moments m) {
    const int64_t size = r.floats(), channels = r.channels;
    float *shift = memory, *sums = memory + size, *squares = memory + 2 * size;
    each_vector_adding<1>(r, count, sums, [&](int64_t place, int64_t, auto lanes, Vec *sum) {
        sum[0] = sum[0] + load(x + place, lanes);
    });
    for (int64_t c = 0; c < channels; ++c) m.mean[c] = 0;
    r.add_lanes(sums, m.mean);
    for (int64_t c = 0; c < channels; ++c) sums[c] = static_cast<float>(m.mean[c] / static_cast<double>(count));
    r.repeat(sums, shift);
    each_vector_adding<2>(r, count, sums, [&](int64_t place, int64_t at, auto lanes, Vec *sum) {
        const Vec d = load(x + place, lanes) - load(shift + at, lanes);
        sum[0] = sum[0] + d;
        sum[1] = fma(d, d, sum[1]);
    });
    for (int64_t c = 0; c < channels; ++c) m.mean[c] = m.square[c] = 0;
    r.add_lanes(sums, m.mean);
    r.add_lanes(squares, m.square);
    for (int64_t c = 0; c < channels; ++c) {
        const double mean = m.mean[c] / static_cast<double>(count);
        m.square[c] -= mean * m.mean[c];
        m.mean[c] = mean + shift[c];
    }
}

// The moments of each of several parts, in one piece of memory.
class Parts {
public:
    Parts(int64_t count, int64_t channels) : memory_(2 * (count + 1) * channels), channels_(channels) {}
    const double *data() const { return memory_.data(); }
    Moments at(int64_t part) const {
        double *found = memory_.data() + 2 * part * channels_;
        return {found, found + channels_};
    }

    // Mean and variance of all, for the first channels, given how many rows the parts have.
    template <typename Count>
    void merge(int64_t parts, int64_t channels, const Count &count, float *mean, float *var) const {
        const Moments all = at(0);
        double rows = static_cast<double>(count(0));
        for (int64_t k = 1; k < parts; ++k) {
            const Moments one = at(k);
            const double added = static_cast<double>(count(k)), share = added / (rows + added);
            for (int64_t c = 0; c < channels; ++c) {
                const double step = one.mean[c] - all.mean[c];
                all.mean[c] += step * share;
                all.square[c] += one.square[c] + step * step * rows * share;
            }
            rows += added;
        }
        for (int64_t c = 0; c < channels; ++c) {
            mean[c] = static_cast<float>(all.mean[c]);
            var[c] = static_cast<float>(all.square[c] / rows);
        }
    }

private:
    Memory<double> memory_;
    int64_t channels_;
};

}  // namespace
}  // namespace SIMROOT_ISA
