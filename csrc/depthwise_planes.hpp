// A depthwise convolution and its two gradients on planes: an image's pixels in one vector of channels, with zeros around.
#pragma once

#include "channels.hpp"

namespace SIMROOT_ISA {
namespace {

// Pixels of a tile: as many sums as hide the time that one addition takes.
constexpr int tile_pixels = 8;
// Images are read in steps of all their channels, which processors do not foresee: they are told so many pixels ahead.
constexpr int64_t largest_kernel = 7, pixels_ahead = 64;

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

}  // namespace
}  // namespace SIMROOT_ISA
