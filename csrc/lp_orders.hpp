// The orders of the l_p similarity: n vectors of d = x - z become |d|^p, or scale x sign(d) |d|^(p-1), which is 0 at a
// tie. `special`: d may be infinite or NaN.
#pragma once

#include "lp_rows.hpp"
#include "vec_math.hpp"

namespace SIMROOT_ISA {
namespace {

struct Order1 {
    static constexpr float scale = 2;
    static constexpr int together = 1;
    static constexpr bool unweighted = true;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = abs(d[i]); }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = twice_sign(d[i]); }
};

struct Order2 {
    static constexpr float scale = 1;
    static constexpr int together = 1;
    static constexpr bool unweighted = true;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = d[i] * d[i]; }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&)[n]) const {}
};

struct Order3 {
    static constexpr float scale = 1;
    static constexpr int together = 1;
    static constexpr bool unweighted = false;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = abs(d[i]) * (d[i] * d[i]); }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = abs(d[i]) * d[i]; }
};

// Below it the slope of p < 1 would overflow: as good as a tie.
constexpr float smallest_normal = 1.17549435e-38f;

struct OrderHalf {
    static constexpr float scale = 1;
    static constexpr int together = 1;
    static constexpr bool unweighted = false;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = sqrt(abs(d[i])); }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const {
        SIMROOT_EACH(n) d[i] = xor_sign(drop(abs(d[i]) < set1(smallest_normal), set1(1.0f) / sqrt(abs(d[i]))), d[i]);
    }
};

struct Order3Halves {
    static constexpr float scale = 1;
    static constexpr int together = 1;
    static constexpr bool unweighted = false;
    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = abs(d[i]) * sqrt(abs(d[i])); }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const { SIMROOT_EACH(n) d[i] = xor_sign(sqrt(abs(d[i])), d[i]); }
};

// exp2(p log2 |d|). Unless `special`, |d| is finite and so small that neither power nor slope overflows, which spares
// a third of the work; below `tie` the result would underflow and is taken for 0.
struct AnyOrder {
    static constexpr float scale = 1;
    static constexpr int together = tile_rows;
    static constexpr bool unweighted = false;
    Vec power_exponent, slope_exponent, power_tie, slope_tie;

    explicit AnyOrder(float p)
        : power_exponent(set1(p)),
          slope_exponent(set1(p - 1.0f)),
          power_tie(set1(tie_of(p))),
          slope_tie(set1(tie_of(p - 1.0f))) {}

    // The largest |x| and |z| that are not special.
    static float largest(float p) {
        const float steepest = p > 0.5f ? p : 1.0f - p;
        return 0.5f * ::exp2f(125.0f / (steepest > 1.0f ? steepest : 1.0f));
    }

    template <bool special, int n>
    SIMROOT_METHOD void power(Vec (&d)[n]) const {
        Vec logarithm[n];
        SIMROOT_EACH(n) d[i] = abs(d[i]);
        raise<special>(d, power_exponent, power_tie, logarithm);
    }
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n]) const {
        Vec logarithm[n];
        slope<special>(d, logarithm);
    }
    // Gives log2 |d| as well, a finite number at a tie.
    template <bool special, int n>
    SIMROOT_METHOD void slope(Vec (&d)[n], Vec (&logarithm)[n]) const {
        Vec raised[n];
        SIMROOT_EACH(n) raised[i] = abs(d[i]);
        raise<special>(raised, slope_exponent, slope_tie, logarithm);
        SIMROOT_EACH(n) d[i] = xor_sign(raised[i], d[i]);
    }

private:
    static float tie_of(float exponent) {
        return exponent <= 1.0f ? smallest_normal : ::exp2f(-125.0f / exponent);
    }

    template <bool special, int n>
    SIMROOT_METHOD static void raise(Vec (&distance)[n], Vec exponent, Vec tie, Vec (&logarithm)[n]) {
        // log2(3/2 + f) for |f| <= 1/2 with error 4e-7, 2^f likewise with relative error 9e-8: near-minimax.
        constexpr float log2_short[] = {0.5849627591044444f,   0.9617965401665365f,  -0.3206318784567618f,
                                        0.1425080240329688f,   -0.07059455402256631f, 0.03761046428219572f,
                                        -0.0251101409525063f, 0.014440352491874364f};
        constexpr float exp2_short[] = {1.0f,
                                        0.6931469778263613f,
                                        0.24022242048077835f,
                                        0.055507335377017124f,
                                        0.009671514401567776f,
                                        0.0013264774866074767f};
        constexpr float to_integer = 12582912.0f;
        Vec f[n], y[n], k[n];
        if constexpr (special) {
            SIMROOT_EACH(n) y[i] = distance[i];
            log2(y);
            SIMROOT_EACH(n) logarithm[i] = max(set1(-127.0f), y[i]);
            SIMROOT_EACH(n) y[i] = y[i] * exponent;
            exp2(y);
        } else {
            SIMROOT_EACH(n) split_at_one(distance[i], f[i], k[i]);
            SIMROOT_EACH(n) f[i] = f[i] - set1(1.5f);
            polynomial(log2_short, f, y);
            SIMROOT_EACH(n) logarithm[i] = k[i] + y[i];
            SIMROOT_EACH(n) f[i] = logarithm[i] * exponent;
            SIMROOT_EACH(n) k[i] = f[i] + set1(to_integer);
            SIMROOT_EACH(n) f[i] = f[i] - (k[i] - set1(to_integer));
            polynomial(exp2_short, f, y);
            SIMROOT_EACH(n) y[i] = add_to_exponent(y[i], k[i]);
        }
        SIMROOT_EACH(n) distance[i] = drop(distance[i] < (special ? set1(smallest_normal) : tie), y[i]);
    }
};

// x - z, and a tie where x is missing.
template <bool special>
SIMROOT_INLINE Vec difference(Vec x, Vec z) {
    return special ? keep(x == x, x - z) : x - z;
}

// run(order) with the type that fits p.
template <typename Run>
int with_order(float p, const Run &run) {
    if (p == 1.0f) return run(Order1{});
    if (p == 2.0f) return run(Order2{});
    if (p == 3.0f) return run(Order3{});
    if (p == 0.5f) return run(OrderHalf{});
    if (p == 1.5f) return run(Order3Halves{});
    return run(AnyOrder(p));
}

// A factor by which numbers become infinite that are too large for the fast form of the order.
template <class Order>
float reach_of(Order, float) { return 1.0f; }
float reach_of(const AnyOrder &, float p) { return 3.40282347e38f / AnyOrder::largest(p); }

}  // namespace
}  // namespace SIMROOT_ISA
