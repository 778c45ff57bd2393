// The normalisation before an activation: z = (x - mean) scale + bias for each channel, y = f(z).
#pragma once

#include <cmath>

#include "activation.hpp"

namespace SIMROOT_ISA {
namespace {

// Vectors of channels; weight and bias may be null. Without a mean there is nothing to be done.
struct Norm {
    const float *mean, *var, *weight, *bias;
    double eps;

    double gain(int64_t c) const { return weight ? weight[c] : 1; }
    double variance(int64_t c) const { return static_cast<double>(var[c]) + eps; }
};

// Its numbers for every lane of a line of floats, over which the channels repeat.
struct Affine {
    const float *mean, *scale, *bias;

    // Memory for three lines.
    Affine(const Norm &n, int64_t channels, int64_t floats, float *memory)
        : mean(memory), scale(memory + floats), bias(memory + 2 * floats) {
        for (int64_t i = 0; n.mean && i < floats; ++i) {
            const int64_t c = i % channels;
            memory[i] = n.mean[c];
            memory[floats + i] = static_cast<float>(n.gain(c) / std::sqrt(n.variance(c)));
            memory[2 * floats + i] = n.bias ? n.bias[c] : 0;
        }
    }
};

// Gradients by what the normalisation is made of; any may be null.
struct NormGradients {
    float *mean, *var, *weight, *bias;

    // From the sums over all rows of dz, and of dz (x - mean).
    void set(const Norm &n, int64_t channels, const double *sums, const double *products) const {
        for (int64_t c = 0; c < channels; ++c) {
            const double inverse = 1 / std::sqrt(n.variance(c));
            if (mean) mean[c] = static_cast<float>(-n.gain(c) * inverse * sums[c]);
            if (var) var[c] = static_cast<float>(-0.5 * n.gain(c) * inverse / n.variance(c) * products[c]);
            if (weight) weight[c] = static_cast<float>(inverse * products[c]);
            if (bias) bias[c] = static_cast<float>(sums[c]);
        }
    }
};

// The whole gradient by an output whose mean and variance have gradients, too: grad + first + second (out - mean), in lanes.
struct Correction {
    const float *mean, *first, *second;

    // Memory for three lines.
    Correction(
        const float *out_mean, const float *grad_mean, const float *grad_var, int64_t rows, int64_t channels, int64_t floats,
        float *memory)
        : mean(memory), first(memory + floats), second(memory + 2 * floats) {
        const double n = static_cast<double>(rows);
        for (int64_t i = 0; out_mean && i < floats; ++i) {
            const int64_t c = i % channels;
            memory[i] = out_mean[c];
            memory[floats + i] = grad_mean ? static_cast<float>(grad_mean[c] / n) : 0;
            memory[2 * floats + i] = grad_var ? static_cast<float>(2 * grad_var[c] / n) : 0;
        }
    }
};

}  // namespace
}  // namespace SIMROOT_ISA
