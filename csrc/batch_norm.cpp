// Batch normalisation, an optional addition and an activation: y = f((x - mean) weight / sqrt(var + eps) + bias + r).
//
// Forward: a pass for the moments, another that normalises. Backward: a pass for the two sums over the rows, another for
// the gradient of x; both compute the activation's argument again.

#include <type_traits>

#include "batch_norm.hpp"

namespace SIMROOT_ISA {
namespace {

template <typename Activation, bool adds>
void normalise(const Rows &r, const Affine &f, const float *x, const float *residual, int64_t count, float *out) {
    each_vector(r, count, [&](int64_t place, int64_t at, auto lanes) {
        prefetch(x + place + floats_ahead);
        Vec z = fma(load(x + place, lanes) - load(f.mean + at), load(f.scale + at), load(f.bias + at));
        if (adds) z = z + load(residual + place, lanes);
        store(out + place, Activation::value(z), lanes);
    });
}

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
        store(p.dx + place, centred.gradient(at, d, scale, dz), lanes);
    });
}

template <typename Activation, bool adds>
int backward(const simroot_batch_norm_act_backward_arguments &a, int threads) {
    const Rows r(a.rows, a.channels);
    const int64_t channels = r.channels, chunks = r.chunks(), size = r.floats();
    const Memory<float> memory((5 + 2 * threads) * size);
    const Memory<double> partial(2 * (chunks + 1) * channels);
    if (!memory.data() || !partial.data()) return 1;
    const Norm norm{a.mean, a.var, a.weight, a.bias, a.eps};
    const Affine f(norm, channels, size, memory.data());
    const Pass pass{a.grad, a.x, a.residual, a.dresidual, a.dx};
    auto reduce = [&](int64_t k, int worker) {
        float *sums = memory.data() + (5 + 2 * worker) * size;
        double *total = partial.data() + 2 * (k + 1) * channels;
        sum_gradients<Activation, adds>(r, f, pass.at(r.begin(k) * channels), r.count(k), sums);
        for (int64_t i = 0; i < 2 * channels; ++i) total[i] = 0;
        r.add_lanes(sums, total);
        r.add_lanes(sums + size, total + channels);
    };
    parallel(chunks, threads, reduce);
    const Centred centred(partial.data(), chunks, norm, a.rows, channels, size, memory.data() + 3 * size);
    NormGradients{nullptr, nullptr, a.dweight, a.dbias}.set(norm, channels, partial.data(), partial.data() + channels);
    if (!a.dx) return 0;
    auto finish = [&](int64_t k, int) {
        Pass own = pass.at(r.begin(k) * channels);
        if (adds) own.grad = own.dresidual;
        differentiate<std::conditional_t<adds, Identity, Activation>>(r, f, centred, own, r.count(k));
    };
    parallel(chunks, threads, finish);
    return 0;
}

}  // namespace
}  // namespace SIMROOT_ISA

SIMROOT_KERNEL(batch_norm_act) {
    using namespace SIMROOT_ISA;
    if (!a.rows) return 0;
    const Rows r(a.rows, a.channels);
    const Memory<float> memory(3 * r.floats());
    if (!memory.data() || !statistics(r, a.x, a.mean, a.var, threads)) return 1;
    const Affine f({a.mean, a.var, a.weight, a.bias, a.eps}, r.channels, r.floats(), memory.data());
    with_activation(a.activation, [&](auto activation) {
        using Activation = decltype(activation);
        auto task = [&](int64_t k, int) {
            const int64_t place = r.begin(k) * r.channels;
            if (a.residual) {
                normalise<Activation, true>(r, f, a.x + place, a.residual + place, r.count(k), a.out + place);
            } else {
                normalise<Activation, false>(r, f, a.x + place, nullptr, r.count(k), a.out + place);
            }
        };
        parallel(r.chunks(), threads, task);
    });
    return 0;
}

SIMROOT_KERNEL(batch_norm_act_backward) {
    using namespace SIMROOT_ISA;
    return with_activation(a.activation, [&](auto activation) {
        using Activation = decltype(activation);
        return a.residual ? backward<Activation, true>(a, threads) : backward<Activation, false>(a, threads);
    });
}
