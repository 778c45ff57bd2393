// Channels-last rows (rows, channels) as one line of vectors. So many rows that they fill whole vectors, and eight or
// more, are a group, and what belongs to a channel is repeated for each row of it: no lane is wasted, whatever the number
// of channels, and sums in memory are not waited for.
#pragma once

#include <type_traits>

#include "kernel.hpp"
#include "vec.hpp"

namespace SIMROOT_ISA {

// All lanes, where their number may also be a variable.
using AllLanes = std::integral_constant<int, Vec::width>;
SIMROOT_INLINE Vec load(const float *p, AllLanes) { return load(p); }
SIMROOT_INLINE void store(float *p, Vec a, AllLanes) { store(p, a); }

namespace {

constexpr int W = Vec::width;

int64_t parts(int64_t total, int64_t size) { return (total + size - 1) / size; }
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Pieces of some thousand floats stay in the nearest caches; they depend on the shape alone.
constexpr int64_t chunk_floats = 16384;
// How far ahead of the reading the memory is asked for: processors do so themselves, but stop at the end of a page.
constexpr int64_t floats_ahead = 2048;

struct Rows {
    int64_t rows, channels;
    int64_t together, vectors;  // rows of a group, and its vectors
    int64_t chunk;              // rows of a chunk, whole groups

    Rows(int64_t rows, int64_t channels) : rows(rows), channels(channels) {
        together = W;
        while (together > 1 && together / 2 * channels % W == 0 && together * channels >= 8 * W) together /= 2;
        vectors = together * channels / W;
        chunk = most(1, chunk_floats / (vectors * W)) * together;
    }

    int64_t chunks() const { return parts(rows, chunk); }
    int64_t begin(int64_t index) const { return index * chunk; }
    int64_t count(int64_t index) const { return least(chunk, rows - begin(index)); }

    // A value for each channel, repeated for the rows of a group.
    int64_t floats() const { return vectors * W; }
    void repeat(const float *values, float *to) const {
        for (int64_t i = 0; i < floats(); ++i) to[i] = values[i % channels];
    }

    // total[channel] += the sums of the lanes of a group.
    void add_lanes(const float *lanes, double *total) const {
        for (int64_t row = 0; row < together; ++row) {
            for (int64_t c = 0; c < channels; ++c) total[c] += lanes[row * channels + c];
        }
    }
};

}  // namespace
}  // namespace SIMROOT_ISA
