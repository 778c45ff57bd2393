// Exponentials and logarithms of vectors.
//
// The functions below work on n vectors at once, step by step: a processor that must wait for each step of one
// vector is busy with the others meanwhile.
#pragma once

#include "vec.hpp"

namespace SIMROOT_ISA {

// c[0] + c[1] f + c[2] f^2 + ...
template <int terms, int n>
SIMROOT_INLINE void polynomial(const float (&c)[terms], const Vec (&f)[n], Vec (&y)[n]) {
    SIMROOT_EACH(n) y[i] = set1(c[terms - 1]);
    SIMROOT_UNROLL
    for (int k = terms - 2; k >= 0; --k) {
        SIMROOT_EACH(n) y[i] = fma(y[i], f[i], set1(c[k]));
    }
}

// Minimax: 2^f for |f| <= 1/2 with relative error 2e-9; log2(1 + f) / f for 1 + f in [sqrt(1/2), sqrt(2)] with 3e-8.
constexpr float exp2_terms[] = {1.0f,
                                0.6931472030062553f,
                                0.2402264793165929f,
                                0.05550332157907662f,
                                0.009618435262484785f,
                                0.0013398987455131687f,
                                0.0001535399112086155f};
constexpr float log2_terms[] = {1.442695003681552f,    -0.7213473459132913f, 0.4809106421989972f,
                                -0.36070375063909454f, 0.28791625575221086f, -0.2389435640109287f,
                                0.21571470097686612f,  -0.20727685945319138f, 0.12584674569352433f};

// Adding it rounds to an integer k and leaves k + 127 in the last bits of the sum.
constexpr float rounding = 12582912.0f + 127.0f;

// 2^x to one unit in the last place; 0 below about -126.5, inf above about 127.5, NaN for NaN.
template <int n>
SIMROOT_INLINE void exp2(Vec (&x)[n]) {
    Vec shifted[n], power[n];
    SIMROOT_EACH(n) x[i] = max(set1(-127.0f), min(set1(128.0f), x[i]));
    SIMROOT_EACH(n) shifted[i] = x[i] + set1(rounding);
    SIMROOT_EACH(n) x[i] = x[i] - (shifted[i] - set1(rounding));
    polynomial(exp2_terms, x, power);
    SIMROOT_EACH(n) x[i] = power[i] * shifted_to_exponent(shifted[i]);
}

// e^x to two units in the last place, with the same limits.
template <int n>
SIMROOT_INLINE void exp(Vec (&x)[n]) {
    Vec shifted[n], power[n];
    SIMROOT_EACH(n) x[i] = max(set1(-88.02969f), min(set1(88.72284f), x[i]));
    SIMROOT_EACH(n) shifted[i] = fma(x[i], set1(1.44269504f), set1(rounding));
    SIMROOT_EACH(n) {
        // ln 2 in two parts, the first short enough for an exact product.
        const Vec k = shifted[i] - set1(rounding);
        x[i] = fnma(k, set1(-2.12194440e-4f), fnma(k, set1(0.693359375f), x[i])) * set1(1.44269504f);
    }
    polynomial(exp2_terms, x, power);
    SIMROOT_EACH(n) x[i] = power[i] * shifted_to_exponent(shifted[i]);
}

// log2 of normal, finite x > 0 to two units in the last place; some finite number for any other x.
template <int n>
SIMROOT_INLINE void log2_normal(Vec (&x)[n]) {
    Vec fraction[n], exponent[n], quotient[n];
    SIMROOT_EACH(n) split_at_root(x[i], fraction[i], exponent[i]);
    SIMROOT_EACH(n) fraction[i] = fraction[i] - set1(1.0f);
    polynomial(log2_terms, fraction, quotient);
    SIMROOT_EACH(n) x[i] = fma(fraction[i], quotient[i], exponent[i]);
}

// log2 x; -inf for 0, negative and subnormal x, inf for inf, NaN for NaN.
template <int n>
SIMROOT_INLINE void log2(Vec (&x)[n]) {
    Vec y[n];
    SIMROOT_EACH(n) y[i] = x[i];
    log2_normal(y);
    SIMROOT_EACH(n) {
        y[i] = select(x[i] < set1(HUGE_VALF), y[i], x[i]);
        x[i] = select(x[i] < set1(1.17549435e-38f), set1(-HUGE_VALF), y[i]);
    }
}

SIMROOT_INLINE Vec exp2(Vec x) {
    Vec y[1] = {x};
    exp2(y);
    return y[0];
}
SIMROOT_INLINE Vec exp(Vec x) {
    Vec y[1] = {x};
    exp(y);
    return y[0];
}
SIMROOT_INLINE Vec log2(Vec x) {
    Vec y[1] = {x};
    log2(y);
    return y[0];
}
SIMROOT_INLINE Vec log(Vec x) { return log2(x) * set1(0.693147181f); }

}  // namespace SIMROOT_ISA
