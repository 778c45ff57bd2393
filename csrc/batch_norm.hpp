// Batch normalisation in training: the moments of the batch, and what they add to the gradient.
#pragma once

#include <cmath>

#include "affine.hpp"
#include "moments.hpp"

namespace SIMROOT_ISA {
namespace {

// Mean and variance of all rows; whether there was memory.
inline bool statistics(const Rows &r, const float *x, float *mean, float *var, int threads) {
    const int64_t chunks = r.chunks(), own = 3 * r.floats();
    const Memory<float> memory(threads * own);
    const Parts found(chunks, r.channels);
    if (!memory.data() || !found.data()) return false;
    auto task = [&](int64_t k, int worker) {
        moments_of_chunk(r, x + r.begin(k) * r.channels, r.count(k), memory.data() + worker * own, found.at(k));
    };
    parallel(chunks, threads, task);
    found.merge(chunks, r.channels, [&](int64_t k) { return r.count(k); }, mean, var);
    return true;
}

// dx = scale dz - first - second (x - mean), in lanes: the gradient by x, whose moments the normalisation takes.
struct Centred {
    const float *first, *second;

    // From the sums of dz and of dz (x - mean), two lines of `channels` for each of so many parts behind one for all, which
    // is set here. Memory for two lines of floats.
    Centred(
        double *sums, int64_t parts, const Norm &norm, int64_t rows, int64_t channels, int64_t floats, float *memory)
        : first(memory), second(memory + floats) {
        for (int64_t i = 0; i < 2 * channels; ++i) {
            sums[i] = 0;
            for (int64_t part = 1; part <= parts; ++part) sums[i] += sums[2 * part * channels + i];
        }
        for (int64_t i = 0; i < floats; ++i) {
            const int64_t c = i % channels;
            const double variance = norm.variance(c), n = static_cast<double>(rows);
            const double scale = norm.gain(c) / std::sqrt(variance);
            memory[i] = static_cast<float>(scale * sums[c] / n);
            memory[floats + i] = static_cast<float>(scale * sums[channels + c] / (variance * n));
        }
    }

    SIMROOT_METHOD Vec gradient(int64_t at, Vec d, Vec scale, Vec dz) const {
        return fnma(d, load(second + at), fma(scale, dz, zero() - load(first + at)));
    }
};

}  // namespace
}  // namespace SIMROOT_ISA
