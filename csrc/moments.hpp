// Means and variances over rows, in one go over the memory: each chunk of rows is summed twice while it lies in the cache,
// for its mean and for the squares of what is left of it; chunks are merged in their order, in doubles.
#pragma once

#include <cstring>

#include "channels.hpp"

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

void clear(float *p, int64_t count) { std::memset(p, 0, static_cast<size_t>(count) * sizeof(float)); }

// Mean and sum of squares around it, for each channel.
struct Moments {
    double *mean, *square;
};

inline void moments_of_chunk(const Rows &r, const float *x, int64_t count, float *memory, Moments m) {
    const int64_t size = r.floats(), channels = r.channels;
    float *shift = memory, *sums = memory + size, *squares = memory + 2 * size;
    clear(shift, size);
    for (int64_t turn = 0; turn < 2; ++turn) {
        clear(sums, 2 * size);
        each_vector(r, count, [&](int64_t place, int64_t at, auto lanes) {
            const Vec d = load(x + place, lanes) - load(shift + at, lanes);
            store(sums + at, load(sums + at, lanes) + d, lanes);
            if (turn) store(squares + at, fma(d, d, load(squares + at, lanes)), lanes);
        });
        for (int64_t c = 0; c < channels; ++c) m.mean[c] = m.square[c] = 0;
        r.add_lanes(sums, m.mean);
        r.add_lanes(squares, m.square);
        for (int64_t c = 0; c < channels; ++c) {
            const double mean = m.mean[c] / static_cast<double>(count);
            m.square[c] -= mean * m.mean[c];
            m.mean[c] = mean + shift[c];
            sums[c] = static_cast<float>(m.mean[c]);
        }
        if (turn == 0) r.repeat(sums, shift);
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
