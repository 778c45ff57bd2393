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
        prefetch(out + place + floats_ahead);
        Vec z = fma(load(x + place, lanes) - load(f.mean + at), load(f.scale + at), load(f.bias + at));
        if (adds) z = z + load(residual + place, lanes);
        store(out + place, Activation::value(z), lanes);
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
    sum_gradients<Activation, adds>(r, f, pass, threads, memory.data() + 5 * size, partial.data());
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
