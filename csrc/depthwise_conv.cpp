// A depthwise convolution, one square filter for each channel: out = f(norm(x)) * weights, with the moments of the result,
// and its gradients.
//
// Lanes are channels. A few vectors of an image's channels are normalised into planes with a border of zeros, one plane
// for each vector, which stay in the second cache: the convolution, its gradients and the moments are all found there.
// Sums over an image are floats, those over the images of a piece too, over the pieces doubles.

#include "affine.hpp"
#include "depthwise_planes.hpp"
#include "moments.hpp"

namespace SIMROOT_ISA {
namespace {

constexpr int64_t most_pieces = 64, plane_floats = 32768;

// Copies f(norm(x)), or x, of some vectors of channels into planes.
void fill(
    const Convolution &c, const Plane &plane, const float *image, int64_t first, int64_t count, bool normed,
    int64_t activation, const Affine &f, float *planes) {
    for (int64_t v = 0; v < count; ++v) {
        const int lanes = c.lanes(first + v);
        const float *from = image + (first + v) * W, *mean = f.mean + (first + v) * W;
        float *to = planes + v * plane.floats;
        if (!normed) {
            each_pixel(plane, [&](int64_t place, int64_t pixel) {
                const float *x = from + pixel * c.channels;
                c.ask(x);
                store(to + place, lanes == W ? load(x) : load(x, lanes));
            });
            continue;
        }
        const Vec center = load(mean), scale = load(f.scale + (first + v) * W), bias = load(f.bias + (first + v) * W);
        with_activation(activation, [&](auto kind) {
            each_pixel(plane, [&](int64_t place, int64_t pixel) {
                const float *x = from + pixel * c.channels;
                c.ask(x);
                const Vec z = fma((lanes == W ? load(x) : load(x, lanes)) - center, scale, bias);
                store(to + place, decltype(kind)::value(z));
            });
        });
    }
}

// Copies the whole gradient of the result into planes.
void fill_gradient(
    const Convolution &c, const Plane &plane, const float *grad, const float *out, int64_t first, int64_t count,
    const Correction &correction, float *planes) {
    for (int64_t v = 0; v < count; ++v) {
        const int lanes = c.lanes(first + v);
        const int64_t at = (first + v) * W;
        const Vec mean = load(correction.mean + at), one = load(correction.first + at), two = load(correction.second + at);
        each_pixel(plane, [&](int64_t place, int64_t pixel) {
            const float *y = out + pixel * c.channels + at, *g = grad + pixel * c.channels + at;
            c.ask(y);
            c.ask(g);
            const Vec value = lanes == W ? load(g) : load(g, lanes), d = (lanes == W ? load(y) : load(y, lanes)) - mean;
            store(planes + v * plane.floats + place, fma(d, two, value + one));
        });
    }
}

// The moments of one vector of an image's channels.
void moments_of_image(const float *x, int64_t pixels, int64_t channels, int lanes, double *mean, double *square) {
    Vec shift = zero();
    float sums[W], squares[W], shifts[W];
    constexpr int apart = 4;
    for (int turn = 0; turn < 2; ++turn) {
        Vec sum[apart], products[apart];
        SIMROOT_EACH(apart) sum[i] = products[i] = zero();
        int64_t j = 0;
        const auto add = [&](int64_t pixel, int i) {
            const float *p = x + pixel * channels;
            const Vec d = (lanes == W ? load(p) : load(p, lanes)) - shift;
            sum[i] = sum[i] + d;
            products[i] = fma(d, d, products[i]);
        };
        for (; j + apart <= pixels; j += apart) {
            SIMROOT_EACH(apart) add(j + i, i);
        }
        for (; j < pixels; ++j) add(j, 0);
        store(shifts, shift);
        store(sums, (sum[0] + sum[1]) + (sum[2] + sum[3]));
        store(squares, (products[0] + products[1]) + (products[2] + products[3]));
        for (int lane = 0; lane < W; ++lane) sums[lane] /= static_cast<float>(pixels);
        if (turn == 0) shift = load(sums);
    }
    for (int lane = 0; lane < lanes; ++lane) {
        mean[lane] = static_cast<double>(shifts[lane]) + sums[lane];
        square[lane] = squares[lane] - static_cast<double>(sums[lane]) * sums[lane] * static_cast<double>(pixels);
    }
}

// Vectors of channels whose planes fit into the second cache together.
int64_t block_of(const Convolution &c, int64_t floats) { return most(1, least(c.vectors(), plane_floats / floats)); }

template <typename Arguments>
Convolution convolution(const Arguments &a) {
    return {a.images, a.height, a.width, a.channels, a.kernel, a.stride, a.padding};
}

int forward(const simroot_depthwise_conv_arguments &a, int threads) {
    const Convolution c = convolution(a);
    const Plane plane(c.height, c.width, c.padding, most(c.padding, c.padding + c.stride * tile_pixels));
    const int64_t block = block_of(c, plane.floats), blocks = parts(c.vectors(), block), size = c.vectors() * W;
    const int64_t own = block * plane.floats, shared = 3 * size + c.vectors() * c.taps() * W;
    const Memory<float> memory(shared + threads * own);
    const Parts found(a.out_mean ? c.images : 0, size);
    if (!memory.data() || !found.data()) return 1;
    const Affine f({a.mean, a.var, a.weight, a.bias, a.eps}, c.channels, size, memory.data());
    float *filters = memory.data() + 3 * size, *next = filters;
    for (int64_t v = 0; v < c.vectors(); ++v) next = gather(c, a.weights, v, 0, 0, 1, false, next);
    clear(memory.data() + shared, threads * own);
    auto task = [&](int64_t index, int worker) {
        const int64_t first = index % blocks * block, count = least(block, c.vectors() - first), image = index / blocks;
        float *planes = memory.data() + shared + worker * own;
        fill(c, plane, a.x + image * c.pixels() * c.channels, first, count, a.mean, a.activation, f, planes);
        for (int64_t v = 0; v < count; ++v) {
            float *out = a.out + image * c.out_pixels() * c.channels + (first + v) * W;
            convolve(
                c, plane, planes + v * plane.floats, filters + (first + v) * c.taps() * W, out, c.lanes(first + v));
            if (!a.out_mean) continue;
            const Moments m = found.at(image);
            moments_of_image(
                out, c.out_pixels(), c.channels, c.lanes(first + v), m.mean + (first + v) * W, m.square + (first + v) * W);
        }
    };
    parallel(c.images * blocks, threads, task);
    if (a.out_mean) {
        found.merge(c.images, c.channels, [&](int64_t) { return c.out_pixels(); }, a.out_mean, a.out_var);
    }
    return 0;
}

// From the gradient by f(norm(x)) of a row of one vector of channels: that by x; adds to the sums of that by norm(x) and of
// its products with x - mean.
void differentiate(
    const Convolution &c, int64_t activation, const Affine &f, int64_t at, const float *x, int lanes, const float *grad,
    float *dx, float *sums, float *products) {
    const Vec mean = load(f.mean + at), scale = load(f.scale + at), bias = load(f.bias + at);
    Vec sum = load(sums), product = load(products);
    with_activation(activation, [&](auto kind) {
        for (int64_t j = 0; j < c.width; ++j, x += c.channels, dx += c.channels, grad += W) {
            const Vec d = (lanes == W ? load(x) : load(x, lanes)) - mean;
            const Vec dz = load(grad) * decltype(kind)::slope(fma(d, scale, bias));
            sum = sum + dz;
            product = fma(dz, d, product);
            c.ask(dx);
            if (lanes == W) {
                store(dx, dz * scale);
            } else {
                store(dx, dz * scale, lanes);
            }
        }
    });
    store(sums, sum);
    store(products, product);
}

int backward(const simroot_depthwise_conv_backward_arguments &a, int threads) {
    const Convolution c = convolution(a);
    const int64_t reach = c.kernel + tile_pixels;
    const Plane plane(c.height, c.width, c.padding, c.padding + c.stride), grads(c.out_height(), c.out_width(), c.kernel, reach);
    const int64_t block = block_of(c, plane.floats + grads.floats), blocks = parts(c.vectors(), block);
    const int64_t size = c.vectors() * W, shared = 6 * size + c.vectors() * c.taps() * W;
    const int64_t own = block * (plane.floats + grads.floats) + c.width * W, pieces = least(c.images, most_pieces);
    // Of a piece: the filters' gradient, and two sums for what was before it.
    const int64_t found = (c.taps() + 2) * size;
    const Memory<float> memory(shared + threads * own + pieces * found);
    const Memory<double> sums(2 * size);
    if (!memory.data() || !sums.data()) return 1;
    const Norm norm{a.mean, a.var, a.weight, a.bias, a.eps};
    const Affine f(norm, c.channels, size, memory.data());
    const int64_t rows = c.images * c.out_pixels();
    const Correction correction(
        a.out_mean, a.grad_mean, a.grad_var, rows, c.channels, size, memory.data() + 3 * size);
    float *filters = memory.data() + 6 * size, *next = filters;
    for (int64_t v = 0; v < c.vectors(); ++v) {
        for (int64_t r = 0; r < c.stride; ++r) {
            for (int64_t s = 0; s < c.stride; ++s) next = gather(c, a.weights, v, r, s, c.stride, true, next);
        }
    }
    clear(memory.data() + shared, threads * own + pieces * found);
    float *results = memory.data() + shared + threads * own;
    auto task = [&](int64_t index, int worker) {
        const int64_t first = index % blocks * block, count = least(block, c.vectors() - first), piece = index / blocks;
        float *planes = memory.data() + shared + worker * own, *grad_planes = planes + block * plane.floats;
        float *dz = grad_planes + block * grads.floats;
        float *result = results + piece * found;
        for (int64_t image = piece * c.images / pieces; image < (piece + 1) * c.images / pieces; ++image) {
            const float *x = a.x + image * c.pixels() * c.channels, *g = a.grad + image * c.out_pixels() * c.channels;
            if (a.out_mean) {
                const float *y = a.out + image * c.out_pixels() * c.channels;
                fill_gradient(c, grads, g, y, first, count, correction, grad_planes);
            } else {
                fill(c, grads, g, first, count, false, 0, f, grad_planes);
            }
            if (a.dweights) fill(c, plane, x, first, count, a.mean, a.activation, f, planes);
            for (int64_t v = 0; v < count; ++v) {
                const int64_t at = (first + v) * W;
                const float *grad = grad_planes + v * grads.floats;
                if (a.dweights) {
                    add_filter(c, plane, planes + v * plane.floats, grads, grad, result + (first + v) * c.taps() * W);
                }
                if (!a.dx) continue;
                const float *parity[2][2], *own_filters = filters + (first + v) * c.taps() * W;
                for (int64_t r = 0; r < c.stride; ++r) {
                    for (int64_t s = 0; s < c.stride; ++s) {
                        parity[r][s] = own_filters;
                        own_filters += parts(c.kernel - r, c.stride) * parts(c.kernel - s, c.stride) * W;
                    }
                }
                const int64_t row = c.width * c.channels;
                const int lanes = c.lanes(first + v);
                float *dx = a.dx + image * c.height * row + at, *own_sums = result + c.taps() * size + at;
                if (!a.mean) {
                    const auto to = [&](int64_t i) { return dx + i * row; };
                    convolve_back(c, grads, grad, parity, c.channels, lanes, to, [](int64_t) {});
                    continue;
                }
                const auto to = [&](int64_t) { return dz; };
                convolve_back(c, grads, grad, parity, W, W, to, [&](int64_t i) {
                    differentiate(
                        c, a.activation, f, at, x + i * row + at, lanes, dz, dx + i * row, own_sums, own_sums + size);
                });
            }
        }
    };
    parallel(pieces * blocks, threads, task);
    const auto total = [&](int64_t place) {
        double sum = 0;
        for (int64_t piece = 0; piece < pieces; ++piece) sum += results[piece * found + place];
        return sum;
    };
    for (int64_t i = 0; a.mean && i < 2 * size; ++i) sums.data()[i] = total(c.taps() * size + i);
    if (a.mean) NormGradients{a.dmean, a.dvar, a.dweight, a.dbias}.set(norm, c.channels, sums.data(), sums.data() + size);
    for (int64_t channel = 0; a.dweights && channel < c.channels; ++channel) {
        for (int64_t tap = 0; tap < c.taps(); ++tap) {
            const int64_t place = (channel / W * c.taps() + tap) * W + channel % W;
            a.dweights[channel * c.taps() + tap] = static_cast<float>(total(place));
        }
    }
    return 0;
}

}  // namespace
}  // namespace SIMROOT_ISA

SIMROOT_KERNEL(depthwise_conv) { return SIMROOT_ISA::forward(a, threads); }

SIMROOT_KERNEL(depthwise_conv_backward) { return SIMROOT_ISA::backward(a, threads); }
