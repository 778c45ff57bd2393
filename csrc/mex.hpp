// What the kernels of MEX share. Exponents are kept in units of ln 2: a term e^(beta (x - reference)) is 2^t, t <= 0.
//
// The reference is the element with the largest beta x. Sums of 2^t and of 2^t - 1 are kept side by side: where all
// terms are near 1 the second has the digits that the first loses, so one formula is accurate for every beta.
#pragma once

#include "kernel.hpp"
#include "vec_math.hpp"

namespace SIMROOT_ISA {

constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

// Lanes below n.
SIMROOT_INLINE Mask below(int n) {
    static const float lanes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load(lanes) < set1(static_cast<float>(n));
}

// As in vec.hpp, n vectors go step by step through what takes many steps.

// 2^(factor x) = scale + scale * fraction for factor x < 127, with scale a power of 2 or, below 2^-126.5, 0; NaN for
// NaN. least: -127 / factor.
template <int n>
SIMROOT_INLINE void power_of_2(const Vec (&x)[n], Vec factor, Vec least, Vec (&scale)[n], Vec (&fraction)[n]) {
    constexpr int degree = sizeof(exp2_terms) / sizeof(*exp2_terms) - 1;
    Vec t[n];
    SIMROOT_EACH(n) t[i] = max(least, x[i]);
    SIMROOT_EACH(n) scale[i] = fma(t[i], factor, set1(rounding));
    SIMROOT_EACH(n) t[i] = fma(t[i], factor, set1(rounding) - scale[i]);
    SIMROOT_EACH(n) fraction[i] = set1(exp2_terms[degree]);
    SIMROOT_UNROLL
    for (int k = degree - 1; k > 0; --k) {
        SIMROOT_EACH(n) fraction[i] = fma(fraction[i], t[i], set1(exp2_terms[k]));
    }
    SIMROOT_EACH(n) fraction[i] = fraction[i] * t[i];
    SIMROOT_EACH(n) scale[i] = shifted_to_exponent(scale[i]);
}

// 2^f for |f| <= 1/2 with relative error 8e-8: minimax.
constexpr float short_exp2_terms[] = {1.00000007165581f, 0.6931469670515407f, 0.24022119717698562f,
                                      0.05550713291668895f, 0.009675541682170163f, 0.001327646720128705f};

// 2^t alone for t < 127, with relative error 2e-7; 0 below 2^-126.5, NaN for NaN.
template <int n>
SIMROOT_INLINE void short_power_of_2(const Vec (&exponent)[n], Vec (&result)[n]) {
    Vec t[n], scale[n];
    SIMROOT_EACH(n) t[i] = max(set1(-127.0f), exponent[i]);
    SIMROOT_EACH(n) scale[i] = t[i] + set1(rounding);
    SIMROOT_EACH(n) t[i] = t[i] - (scale[i] - set1(rounding));
    polynomial(short_exp2_terms, t, result);
    SIMROOT_EACH(n) result[i] = result[i] * shifted_to_exponent(scale[i]);
}

struct Power {
    Vec scale, fraction;

    SIMROOT_METHOD Vec value() const { return fma(scale, fraction, scale); }
    SIMROOT_METHOD Vec minus_one() const { return fma(scale, fraction, scale - set1(1.0f)); }
};

SIMROOT_INLINE Power power(Vec t) {
    Vec exponent[1] = {t}, scale[1], fraction[1];
    power_of_2(exponent, set1(1.0f), set1(-127.0f), scale, fraction);
    return {scale[0], fraction[0]};
}

// log2 of sums > 0 whose distance from 1, where it is small, is better known than the sum itself; NaN for NaN.
template <int n>
SIMROOT_INLINE void log2_of(const Vec (&sum)[n], const Vec (&minus_one)[n], Vec (&result)[n]) {
    Vec fraction[n], exponent[n];
    SIMROOT_EACH(n) split_at_root(sum[i], fraction[i], exponent[i]);
    SIMROOT_EACH(n) fraction[i] = select(exponent[i] == zero(), minus_one[i], fraction[i] - set1(1.0f));
    polynomial(log2_terms, fraction, result);
    SIMROOT_EACH(n) result[i] = select(is_nan(sum[i]), sum[i], fma(fraction[i], result[i], exponent[i]));
}

SIMROOT_INLINE Vec log2_of(Vec sum, Vec minus_one) {
    const Vec sums[1] = {sum}, excess[1] = {minus_one};
    Vec result[1];
    log2_of(sums, excess, result);
    return result[0];
}

// 1 / (k! (k + 2))
constexpr float divergence_terms[] = {1.0f / 2,    1.0f / 3,     1.0f / 8,      1.0f / 30,      1.0f / 144,     1.0f / 840,
                                      1.0f / 5760, 1.0f / 45360, 1.0f / 403200, 1.0f / 3991680, 1.0f / 43545600};

// (e^q (q - 1) + 1) / beta^2, whose mean over the elements at q = beta (x - MEX) is the derivative of MEX by beta.
// Near 0 by q^2 times a series, in which nothing cancels.
SIMROOT_INLINE Vec divergence(Vec q, Vec exp_q, Vec inverse_beta) {
    const Vec at[1] = {q}, w = q * inverse_beta;
    Vec series[1];
    polynomial(divergence_terms, at, series);
    const Vec far = fma(exp_q, q - set1(1.0f), set1(1.0f)) * inverse_beta * inverse_beta;
    return select(abs(q) < set1(1.0f), w * w * series[0], far);
}

// beta as it enters exponents: never so small that beta x is lost, nor so large that 0 beta is not 0.
SIMROOT_INLINE Vec bounded(Vec beta) { return xor_sign(min(set1(1e38f), max(set1(1e-20f), abs(beta))), beta); }

// 1 / beta; 0 for an infinite beta.
SIMROOT_INLINE Vec inverse(Vec beta) { return select(abs(beta) == set1(HUGE_VALF), zero(), set1(1.0f) / bounded(beta)); }

}  // namespace SIMROOT_ISA
