// Means over the pixels of f(norm(x)), as a squeeze-excitation takes them, without f(norm(x)) in memory.

#include "affine.hpp"
#include "moments.hpp"

namespace SIMROOT_ISA {
namespace {

template <typename Arguments>
Norm norm_of(const Arguments &a) {
    return {a.mean, a.var, a.weight, a.bias, a.eps};
}

int forward(const simroot_norm_pool_arguments &a, int threads) {
    const Rows r(a.pixels, a.channels);
    const int64_t size = r.floats();
    const Memory<float> memory((3 + threads) * size);
    const Memory<double> sums(threads * a.channels);
    if (!memory.data() || !sums.data()) return 1;
    const Affine f(norm_of(a), a.channels, size, memory.data());
    auto task = [&](int64_t image, int worker) {
        float *lanes_of_sums = memory.data() + (3 + worker) * size;
        double *total = sums.data() + worker * a.channels;
        const float *x = a.x + image * a.pixels * a.channels;
        for (int64_t c = 0; c < a.channels; ++c) total[c] = 0;
        for (int64_t k = 0; k < r.chunks(); ++k) {
            const float *first = x + r.begin(k) * a.channels;
            with_activation(a.activation, [&](auto kind) {
                each_vector_adding<1>(r, r.count(k), lanes_of_sums, [&](int64_t place, int64_t at, auto lanes, Vec *sum) {
                    const Vec d = load(first + place, lanes) - load(f.mean + at);
                    sum[0] = sum[0] + decltype(kind)::value(fma(d, load(f.scale + at), load(f.bias + at)));
                });
            });
            r.add_lanes(lanes_of_sums, total);
        }
        for (int64_t c = 0; c < a.channels; ++c) {
            a.pooled[image * a.channels + c] = static_cast<float>(total[c] / static_cast<double>(a.pixels));
        }
    };
    parallel(a.images, threads, task);
    return 0;
}

int backward(const simroot_norm_pool_backward_arguments &a, int threads) {
    const Rows r(a.pixels, a.channels);
    const int64_t size = r.floats(), channels = a.channels;
    const Memory<float> memory((3 + 3 * threads) * size);
    const Memory<double> partial(2 * (a.images + 1) * channels);
    if (!memory.data() || !partial.data()) return 1;
    const Norm norm = norm_of(a);
    const Affine f(norm, channels, size, memory.data());
    auto task = [&](int64_t image, int worker) {
        float *share = memory.data() + (3 + 3 * worker) * size, *sums = share + size, *products = sums + size;
        double *total = partial.data() + 2 * (image + 1) * channels;
        for (int64_t i = 0; i < 2 * channels; ++i) total[i] = 0;
        for (int64_t i = 0; i < size; ++i) {
            share[i] = a.grad_pooled ? a.grad_pooled[image * channels + i % channels] / static_cast<float>(a.pixels) : 0;
        }
        for (int64_t k = 0; k < r.chunks(); ++k) {
            const int64_t begin = (image * a.pixels + r.begin(k)) * channels;
            with_activation(a.activation, [&](auto kind) {
                each_vector_adding<2>(r, r.count(k), sums, [&](int64_t place, int64_t at, auto lanes, Vec *sum) {
                    const Vec d = load(a.x + begin + place, lanes) - load(f.mean + at), scale = load(f.scale + at);
                    const Vec grad = load(a.grad + begin + place, lanes) + load(share + at);
                    const Vec dz = grad * decltype(kind)::slope(fma(d, scale, load(f.bias + at)));
                    sum[0] = sum[0] + dz;
                    sum[1] = fma(dz, d, sum[1]);
                    store(a.dx + begin + place, dz * scale, lanes);
                });
            });
            r.add_lanes(sums, total);
            r.add_lanes(products, total + channels);
        }
    };
    parallel(a.images, threads, task);
    double *total = partial.data();
    for (int64_t i = 0; i < 2 * channels; ++i) {
        total[i] = 0;
        for (int64_t image = 1; image <= a.images; ++image) total[i] += total[2 * image * channels + i];
    }
    NormGradients{a.dmean, a.dvar, a.dweight, a.dbias}.set(norm, channels, total, total + channels);
    return 0;
}

}  // namespace
}  // namespace SIMROOT_ISA

SIMROOT_KERNEL(norm_pool) { return SIMROOT_ISA::forward(a, threads); }

SIMROOT_KERNEL(norm_pool_backward) { return SIMROOT_ISA::backward(a, threads); }
