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

// The gradient by the activation's argument.
template <typename Activation, bool adds>
SIMROOT_METHOD Vec slope(Vec grad, Vec d, Vec added, Vec scale, Vec bias) {
    if (Activation::identity) return grad;
    Vec z = fma(d, scale, bias);
    if (adds) z = z + added;
    return grad * Activation::slope(z);
}

struct Pass {
    const float *grad, *x, *residual;
    float *dresidual, *dx;

    Pass at(int64_t place) const {
        return {grad + place, x + place, residual ? residual + place : nullptr, dresidual ? dresidual + place : nullptr,
                dx ? dx + place : nullptr};
    }
};

// The sums over a chunk of the gradient by z, and of its products with x - mean, two lines.
template <typename Activation, bool adds>
void sum_gradients(const Rows &r, const Affine &f, const Pass &p, int64_t count, float *sums) {
    each_vector_adding<2>(r, count, sums, [&](int64_t place, int64_t at, auto lanes, Vec *sum) {
        prefetch(p.x + place + floats_ahead);
        prefetch(p.grad + place + floats_ahead);
        const Vec d = load(p.x + place, lanes) - load(f.mean + at);
        const Vec added = adds ? load(p.residual + place, lanes) : zero();
        const Vec dz = slope<Activation, adds>(
            load(p.grad + place, lanes), d, added, load(f.scale + at), load(f.bias + at));
        if (adds) store(p.dresidual + place, dz, lanes);
        sum[0] = sum[0] + dz;
        sum[1] = fma(dz, d, sum[1]);
    });
}

template <typename Activation>
void differentiate(
    const Rows &r, const Affine &f, const Centred &centred, const Pass &p, int64_t count) {
    each_vector(r, count, [&](int64_t place, int64_t at, auto lanes) {
        prefetch(p.x + place + floats_ahead);
        prefetch(p.grad + place + floats_ahead);
        const Vec d = load(p.x + place, lanes) - load(f.mean + at), scale = load(f.scale + at);
        const Vec dz = slope<Activation, false>(load(p.grad + place, lanes), d, zero(), scale, load(f.bias + at));
        prefetch(p.dx + place + floats_ahead);
        store(p.dx + place, centred.gradient(at, d, scale, dz), lanes);
    });
}

// The same for each chunk of all rows: two lines of doubles, behind one for all. Memory for two lines of each thread.
template <typename Activation, bool adds>
void sum_gradients(const Rows &r, const Affine &f, const Pass &all, int threads, float *memory, double *partial) {
    auto reduce = [&](int64_t k, int worker) {
        float *sums = memory + 2 * worker * r.floats();
        double *total = partial + 2 * (k + 1) * r.channels;
        sum_gradients<Activation, adds>(r, f, all.at(r.begin(k) * r.channels), r.count(k), sums);
        for (int64_t i = 0; i < 2 * r.channels; ++i) total[i] = 0;
        r.add_lanes(sums, total);
        r.add_lanes(sums + r.floats(), total + r.channels);
    };
    parallel(r.chunks(), threads, reduce);
}

}  // namespace
}  // namespace SIMROOT_ISA
