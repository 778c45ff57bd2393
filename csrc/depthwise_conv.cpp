// A depthwise convolution, one square filter for each channel: out = f(norm(x)) * weights, with the moments of the result,
// and its gradients.
//
// Lanes are channels. A few vectors of an image's channels are normalised into planes with a border of zeros, one plane
// for each vector, which stay in the second cache: the convolution, its gradients and the moments are all found there.
// Sums over an image are floats, those over the images of a piece too, over the pieces doubles.

#include "affine.hpp"
#include "moments.hpp"

namespace SIMROOT_ISA {
namespace {

// Pixels of a tile: as many sums as hide the time that one addition takes.
constexpr int tile_pixels = 8;
// Images are read in steps of all their channels, which processors do not foresee: they are told so many pixels ahead.
constexpr int64_t largest_kernel = 7, most_pieces = 64, plane_floats = 32768, pixels_ahead = 64;

struct Convolution {
    int64_t images, height, width, channels, kernel, stride, padding;

    int64_t out_height() const { return (height + 2 * padding - kernel) / stride + 1; }
    int64_t out_width() const { return (width + 2 * padding - kernel) / stride + 1; }
    int64_t pixels() const { return height * width; }
    int64_t out_pixels() const { return out_height() * out_width(); }
    int64_t taps() const { return kernel * kernel; }
    int64_t vectors() const { return parts(channels, W); }
    int lanes(int64_t vector) const { return static_cast<int>(least(W, channels - vector * W)); }
    // Asks for a vector of a pixel that will be read or written, which may lie across two lines of the cache.
    SIMROOT_METHOD void ask(const float *p) const {
        prefetch(p + pixels_ahead * channels);
        if (channels % W) prefetch(p + pixels_ahead * channels + W - 1);
    }
};

// An image's pixels in one vector of channels, with zeros around them.
struct Plane {
    int64_t height, width, before, line, floats;

    Plane(int64_t height, int64_t width, int64_t before, int64_t after) : height(height), width(width), before(before) {
        line = (before + width + after) * W;
        floats = (before + height + after) * line;
    }
    // Of a pixel, which may lie in the border.
    int64_t at(int64_t row, int64_t column) const { return (before + row) * line + (before + column) * W; }
};

// body(place in the plane, pixel) for all pixels of an image.
template <typename Body>
SIMROOT_METHOD void each_pixel(const Plane &p, const Body &body) {
    for (int64_t row = 0; row < p.height; ++row) {
        const int64_t place = p.at(row, 0), first = row * p.width;
        for (int64_t j = 0; j < p.width; ++j) body(place + j * W, first + j);
    }
}

// out[t] = sum over rows and taps of weights[row][tap] rows[row][step t + tap], for the first `valid` pixels.
template <int taps, int step, int pixels>
void sum_tile(
    const float *const *rows, int count, int64_t offset, const float *weights, float *out, int64_t out_step, int valid,
    int lanes) {
    Vec sums[pixels];
    SIMROOT_EACH(pixels) sums[i] = zero();
    for (int r = 0; r < count; ++r, weights += taps * W) {
        const float *x = rows[r] + offset;
        SIMROOT_UNROLL
        for (int s = 0; s < taps; ++s) {
            const Vec weight = load(weights + s * W);
            SIMROOT_EACH(pixels) sums[i] = fma(load(x + (step * i + s) * W), weight, sums[i]);
        }
    }
    if (valid == pixels && lanes == W) {
        SIMROOT_EACH(pixels) store(out + i * out_step, sums[i]);
    } else {
        SIMROOT_UNROLL
        for (int i = 0; i < pixels; ++i) {
            if (i < valid) store(out + i * out_step, sums[i], lanes);
        }
    }
}

// A row of pixels by tiles. Rows are those that the first pixel's first tap meets.
template <int taps, int step>
void sum_row(
    const float *const *rows, int count, const float *weights, float *out, int64_t out_step, int64_t pixels, int lanes) {
    for (int64_t done = 0; done < pixels; done += tile_pixels) {
        const int valid = static_cast<int>(least(tile_pixels, pixels - done));
        float *to = out + done * out_step;
        if (valid > tile_pixels / 2) {
            sum_tile<taps, step, tile_pixels>(rows, count, done * step * W, weights, to, out_step, valid, lanes);
        } else {
            sum_tile<taps, step, tile_pixels / 2>(rows, count, done * step * W, weights, to, out_step, valid, lanes);
        }
    }
}

void sum_row(
    int64_t taps, int64_t step, const float *const *rows, int count, const float *weights, float *out, int64_t out_step,
    int64_t pixels, int lanes) {
#define SIMROOT_ROW(n, s) \
    if (taps == n && step == s) return sum_row<n, s>(rows, count, weights, out, out_step, pixels, lanes)
    SIMROOT_ROW(1, 1);
    SIMROOT_ROW(2, 1);
    SIMROOT_ROW(3, 1);
    SIMROOT_ROW(4, 1);
    SIMROOT_ROW(5, 1);
    SIMROOT_ROW(7, 1);
    SIMROOT_ROW(3, 2);
    SIMROOT_ROW(5, 2);
    SIMROOT_ROW(7, 2);
#undef SIMROOT_ROW
}

// The filters of one vector of channels, one vector for each tap: rows r, r + step, ... and of those columns s, s + step,
// ..., turned by half a turn if asked.
float *gather(
    const Convolution &c, const float *weights, int64_t vector, int64_t r, int64_t s, int64_t step, bool turned,
    float *result) {
    const int64_t last_row = r + (c.kernel - 1 - r) / step * step, last_column = s + (c.kernel - 1 - s) / step * step;
    for (int64_t i = r; i < c.kernel; i += step) {
        for (int64_t j = s; j < c.kernel; j += step, result += W) {
            const int64_t tap = turned ? (last_row - (i - r)) * c.kernel + last_column - (j - s) : i * c.kernel + j;
            for (int lane = 0; lane < W; ++lane) {
                const int64_t channel = vector * W + lane;
                result[lane] = channel < c.channels ? weights[channel * c.taps() + tap] : 0.0f;
            }
        }
    }
    return result;
}

void convolve(
    const Convolution &c, const Plane &plane, const float *x, const float *filters, float *out, int lanes) {
    for (int64_t i = 0; i < c.out_height(); ++i) {
        const float *rows[largest_kernel];
        for (int64_t k = 0; k < c.kernel; ++k) rows[k] = x + plane.at(i * c.stride + k - c.padding, -c.padding);
        for (int64_t j = 0; j < c.out_width(); ++j) c.ask(out + (i * c.out_width() + j) * c.channels);
        sum_row(
            c.kernel, c.stride, rows, static_cast<int>(c.kernel), filters, out + i * c.out_width() * c.channels,
            c.channels, c.out_width(), lanes);
    }
}

// The gradient of an image, in rows: to(row) says where it goes, in steps of so many floats, and done(row) follows. With
// stride 2 each pixel meets every other row and column of its filter: those of its parity.
template <typename To, typename Done>
void convolve_back(
    const Convolution &c, const Plane &plane, const float *grad, const float *const (&parity)[2][2], int64_t step, int lanes,
    const To &to, const Done &done) {
    for (int64_t i = 0; i < c.height; ++i) {
        const int64_t r = (i + c.padding) % c.stride, count = parts(c.kernel - r, c.stride);
        for (int64_t column = 0; column < least(c.stride, c.width); ++column) {
            const int64_t s = (column + c.padding) % c.stride, taps = parts(c.kernel - s, c.stride);
            // Pixel and tap have one parity: the divisions have no remainder.
            const int64_t row = (i + c.padding - r) / c.stride - (count - 1);
            const int64_t offset = (column + c.padding - s) / c.stride - (taps - 1);
            const float *rows[largest_kernel];
            for (int64_t k = 0; k < count; ++k) rows[k] = grad + plane.at(row + k, offset);
            sum_row(
                taps, 1, rows, static_cast<int>(count), parity[r][s], to(i) + column * step, c.stride * step,
                parts(c.width - column, c.stride), lanes);
        }
        done(i);
    }
}

// sums[r][s] += sum over an image of grad[i][j] x[stride i + first + r - padding][stride j + s - padding].
template <int together, int taps, int step>
void add_taps(
    const Convolution &c, const Plane &plane, const float *x, const Plane &grads, const float *grad, int64_t first,
    float *sums) {
    Vec total[together][taps];
    SIMROOT_UNROLL
    for (int r = 0; r < together; ++r) {
        SIMROOT_EACH(taps) total[r][i] = zero();
    }
    for (int64_t i = 0; i < c.out_height(); ++i) {
        const float *g = grad + grads.at(i, 0), *rows[together];
        for (int r = 0; r < together; ++r) rows[r] = x + plane.at(i * step + first + r - c.padding, -c.padding);
        for (int64_t j = 0; j < c.out_width(); ++j) {
            const Vec value = load(g + j * W);
            SIMROOT_UNROLL
            for (int r = 0; r < together; ++r) {
                SIMROOT_EACH(taps) total[r][i] = fma(load(rows[r] + (step * j + i) * W), value, total[r][i]);
            }
        }
    }
    SIMROOT_UNROLL
    for (int r = 0; r < together; ++r) {
        SIMROOT_EACH(taps) {
            float *to = sums + ((first + r) * taps + i) * W;
            store(to, load(to) + total[r][i]);
        }
    }
}

template <int taps, int step>
void add_filter(
    const Convolution &c, const Plane &plane, const float *x, const Plane &grads, const float *grad, float *sums) {
    // As many rows of a filter at once as registers hold.
    constexpr int together = taps == 3 ? 3 : taps == 5 ? 2 : 1;
    int64_t tap = 0;
    for (; tap + together <= taps; tap += together) add_taps<together, taps, step>(c, plane, x, grads, grad, tap, sums);
    for (; tap < taps; ++tap) add_taps<1, taps, step>(c, plane, x, grads, grad, tap, sums);
}

void add_filter(
    const Convolution &c, const Plane &plane, const float *x, const Plane &grads, const float *grad, float *sums) {
#define SIMROOT_FILTER(n, s) \
    if (c.kernel == n && c.stride == s) return add_filter<n, s>(c, plane, x, grads, grad, sums)
    SIMROOT_FILTER(3, 1);
    SIMROOT_FILTER(5, 1);
    SIMROOT_FILTER(7, 1);
    SIMROOT_FILTER(3, 2);
    SIMROOT_FILTER(5, 2);
    SIMROOT_FILTER(7, 2);
#undef SIMROOT_FILTER
}

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
