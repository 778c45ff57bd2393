// Activations of vectors and their slopes, as PyTorch has them where they bend. NaN stays NaN.
#pragma once

#include "vec_math.hpp"

namespace SIMROOT_ISA {
namespace {

struct Identity {
    static constexpr bool identity = true;
    SIMROOT_METHOD static Vec value(Vec z) { return z; }
    SIMROOT_METHOD static Vec slope(Vec) { return set1(1.0f); }
};

struct Relu {
    static constexpr bool identity = false;
    SIMROOT_METHOD static Vec value(Vec z) { return max(zero(), z); }
    SIMROOT_METHOD static Vec slope(Vec z) { return keep(z > zero(), set1(1.0f)); }
};

struct Relu6 {
    static constexpr bool identity = false;
    SIMROOT_METHOD static Vec value(Vec z) { return min(set1(6.0f), max(zero(), z)); }
    SIMROOT_METHOD static Vec slope(Vec z) { return keep((z > zero()) & (z < set1(6.0f)), set1(1.0f)); }
};

struct Hardswish {
    static constexpr bool identity = false;
    SIMROOT_METHOD static Vec value(Vec z) {
        return z * min(set1(6.0f), max(zero(), z + set1(3.0f))) * set1(1.0f / 6.0f);
    }
    SIMROOT_METHOD static Vec slope(Vec z) {
        const Vec inside = select(z < set1(3.0f), fma(z, set1(1.0f / 3.0f), set1(0.5f)), set1(1.0f));
        return keep(z > set1(-3.0f), inside);
    }
};

struct Silu {
    static constexpr bool identity = false;
    SIMROOT_METHOD static Vec gate(Vec z) { return set1(1.0f) / (set1(1.0f) + exp(zero() - z)); }
    SIMROOT_METHOD static Vec value(Vec z) { return z * gate(z); }
    SIMROOT_METHOD static Vec slope(Vec z) {
        const Vec g = gate(z);
        return g * fma(z, set1(1.0f) - g, set1(1.0f));
    }
};

// Calls body(an activation) for its number: none, ReLU, ReLU6, hardswish, SiLU.
template <typename Body>
auto with_activation(int64_t number, const Body &body) {
    switch (number) {
        case 1: return body(Relu());
        case 2: return body(Relu6());
        case 3: return body(Hardswish());
        case 4: return body(Silu());
        default: return body(Identity());
    }
}

}  // namespace
}  // namespace SIMROOT_ISA
