// A root module of depthwise filters: z = x * spatial * embedding and out = f(norm(z)), plus x if it is added.
//
// An image is copied into lines with zeros around it. The spatial filters and their gradients are found there, and what
// comes out meets the embedding while it is in the cache: only x, z and the result are in memory. Backward, a pass over z
// gives the sums for the normalisation, another goes image by image; spatial results are computed again. Sums over the
// images of a piece are floats, those over the pieces doubles.

#include "batch_norm.hpp"
#include "depthwise_lines.hpp"
#include "pointwise_tiles.hpp"

namespace SIMROOT_ISA {
namespace {

// Pieces of the images depend on the shape alone.
constexpr int64_t most_pieces = 64;

template <typename Arguments>
Rows rows_of(const Arguments &a) {
    return {a.images * a.height * a.width, a.outputs};
}

// out = f(norm(z)), plus x if it is added.
template <typename Activation, bool adds>
void normalise(const Rows &r, const Affine &f, const float *z, const float *x, float *out, int64_t count) {
    each_vector(r, count, [&](int64_t place, int64_t at, auto lanes) {
        prefetch(z + place + floats_ahead);
        prefetch(out + place + floats_ahead);
        const Vec d = load(z + place, lanes) - load(f.mean + at);
        Vec y = Activation::value(fma(d, load(f.scale + at), load(f.bias + at)));
        if (adds) y = y + load(x + place, lanes);
        store(out + place, y, lanes);
    });
}

// Where the statistics are given, z is nowhere but in the cache.
template <typename Activation, bool adds>
int forward(const simroot_root_module_arguments &a, int threads) {
    const Lines lines(a.height, a.width, a.channels);
    const Rows r = rows_of(a);
    const int64_t pixels = a.height * a.width, size = r.floats(), kept = a.z ? 0 : pixels * a.outputs;
    const int64_t shared = 3 * size + lines.filter_floats();
    const int64_t own = lines.floats() + pixels * a.channels + most(kept, 3 * size);
    const Panels panels(a.outputs, a.channels);
    const Memory<float> memory(shared + threads * own);
    const Parts found(a.images, a.outputs);
    if (!memory.data() || !found.data()) return 1;
    if (!panels.pack([&](int64_t o, int64_t c) { return a.embedding[o * a.channels + c]; })) return 1;
    float *spatial = memory.data() + 3 * size;
    lines.repeat(a.spatial, false, spatial);
    clear(memory.data() + shared, threads * own);
    const Norm norm{a.mean, a.var, a.weight, a.bias, a.eps};
    const Affine known(a.z ? Norm{} : norm, a.outputs, size, memory.data());
    auto convolve = [&](int64_t image, int worker) {
        float *padded = memory.data() + shared + worker * own, *values = padded + lines.floats();
        float *rest = values + pixels * a.channels, *z = a.z ? a.z + image * pixels * a.outputs : rest;
        const float *x = a.x + image * pixels * a.channels;
        lines.fill(x, padded);
        lines.convolve(padded, spatial, nullptr, values);
        multiply(values, pixels, a.channels, panels, z, a.outputs);
        if (a.z) {
            moments_of_chunk(r, z, pixels, rest, found.at(image));
        } else {
            normalise<Activation, adds>(r, known, z, x, a.out + image * pixels * a.outputs, pixels);
        }
    };
    parallel(a.images, threads, convolve);
    if (!a.z) return 0;
    found.merge(a.images, a.outputs, [&](int64_t) { return pixels; }, a.mean, a.var);
    const Affine f(norm, a.outputs, size, memory.data());
    auto finish = [&](int64_t k, int) {
        const int64_t first = r.begin(k) * a.outputs;
        normalise<Activation, adds>(r, f, a.z + first, adds ? a.x + first : nullptr, a.out + first, r.count(k));
    };
    parallel(r.chunks(), threads, finish);
    return 0;
}

template <typename Activation>
int backward(const simroot_root_module_backward_arguments &a, int threads) {
    const Lines lines(a.height, a.width, a.channels);
    const Rows r = rows_of(a);
    const Products products(a.outputs, a.channels);
    const int64_t pixels = a.height * a.width, size = r.floats(), pieces = least(a.images, most_pieces);
    const int64_t shared = 5 * size + 2 * lines.filter_floats(), found = products.floats() + lines.filter_floats();
    const int64_t own = most(2 * size, 2 * lines.floats() + pixels * (a.channels + a.outputs));
    const Panels panels(a.channels, a.outputs);
    const Memory<float> memory(shared + threads * own + pieces * found);
    const Memory<double> partial(2 * (r.chunks() + 1) * a.outputs);
    if (!memory.data() || !partial.data()) return 1;
    if (!panels.pack([&](int64_t c, int64_t o) { return a.embedding[o * a.channels + c]; })) return 1;
    const Norm norm{a.mean, a.var, a.weight, a.bias, a.eps};
    const Affine f(norm, a.outputs, size, memory.data());
    float *scratch = memory.data() + shared, *results = scratch + threads * own;
    sum_gradients<Activation, false>(r, f, {a.grad, a.z, nullptr, nullptr, nullptr}, threads, scratch, partial.data());
    const Centred centred(partial.data(), r.chunks(), norm, r.rows, a.outputs, size, memory.data() + 3 * size);
    NormGradients{nullptr, nullptr, a.dweight, a.dbias}.set(norm, a.outputs, partial.data(), partial.data() + a.outputs);
    float *spatial = memory.data() + 5 * size, *turned = spatial + lines.filter_floats();
    lines.repeat(a.spatial, false, spatial);
    lines.repeat(a.spatial, true, turned);
    clear(scratch, threads * own + pieces * found);
    auto task = [&](int64_t piece, int worker) {
        float *padded = scratch + worker * own, *grads = padded + lines.floats(), *values = grads + lines.floats();
        float *dz = values + pixels * a.channels, *sums = results + piece * found;
        for (int64_t image = piece * a.images / pieces; image < (piece + 1) * a.images / pieces; ++image) {
            const int64_t inside = image * pixels * a.channels, outside = image * pixels * a.outputs;
            const float *grad = a.grad + outside;
            differentiate<Activation>(r, f, centred, {grad, a.z + outside, nullptr, nullptr, dz}, pixels);
            if (a.dspatial || a.dembedding) lines.fill(a.x + inside, padded);
            if (a.dembedding) {
                lines.convolve(padded, spatial, nullptr, values);
                products.add(dz, values, pixels, sums);
            }
            if (!a.dspatial && !a.dx) continue;
            for (int64_t y = 0; y < a.height; ++y) {
                multiply(
                    dz + y * a.width * a.outputs, a.width, a.outputs, panels, grads + lines.at(y), a.channels);
            }
            if (a.dspatial) lines.add_filters(padded, grads, sums + products.floats());
            if (a.dx) lines.convolve(grads, turned, a.adds ? grad : nullptr, a.dx + inside);
        }
    };
    parallel(pieces, threads, task);
    const auto total = [&](const auto &of_piece) {
        double sum = 0;
        for (int64_t piece = 0; piece < pieces; ++piece) sum += of_piece(results + piece * found);
        return static_cast<float>(sum);
    };
    for (int64_t o = 0; a.dembedding && o < a.outputs; ++o) {
        for (int64_t c = 0; c < a.channels; ++c) {
            a.dembedding[o * a.channels + c] = total([&](const float *sums) { return sums[products.at(o, c)]; });
        }
    }
    for (int64_t c = 0; a.dspatial && c < a.channels; ++c) {
        for (int64_t tap = 0; tap < taps; ++tap) {
            a.dspatial[c * taps + tap] =
                total([&](const float *sums) { return lines.filter(sums + products.floats(), c, tap); });
        }
    }
    return 0;
}

}  // namespace
}  // namespace SIMROOT_ISA

SIMROOT_KERNEL(root_module) {
    using namespace SIMROOT_ISA;
    if (!a.images) return 0;
    return with_activation(a.activation, [&](auto activation) {
        using Activation = decltype(activation);
        return a.adds ? forward<Activation, true>(a, threads) : forward<Activation, false>(a, threads);
    });
}

SIMROOT_KERNEL(root_module_backward) {
    using namespace SIMROOT_ISA;
    return with_activation(
        a.activation, [&](auto activation) { return backward<decltype(activation)>(a, threads); });
}
