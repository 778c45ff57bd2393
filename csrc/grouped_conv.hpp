// Images of a grouped convolution as planes: one for each channel, with a border of zeros, for stride 2 four, of even and
// odd rows and columns. A tap of the filters is then one offset, the same for all pixels, and the output has planes with
// rows of the same length, whose ends are not used.
#pragma once

#include <cstring>

#include "kernel.hpp"
#include "vec.hpp"

namespace SIMROOT_ISA {
namespace {

constexpr int W = Vec::width;

int64_t parts(int64_t total, int64_t size) { return (total + size - 1) / size; }
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

struct Convolution {
    int64_t images, groups, inputs, filters;  // channels and filters of one group
    int64_t height, width, kernel, stride, padding;
    bool channels_last, filters_last;         // channels are the last dimension in memory: of images, of filters

    int64_t out_height() const { return (height + 2 * padding - kernel) / stride + 1; }
    int64_t out_width() const { return (width + 2 * padding - kernel) / stride + 1; }
    int64_t taps() const { return inputs * kernel * kernel; }
    int64_t in_size() const { return groups * inputs * height * width; }
    int64_t out_size() const { return groups * filters * out_height() * out_width(); }

    // With stride 1, the gradient of x is this convolution of the output's gradient with the transposed filters.
    Convolution transposed() const {
        return {images, groups, filters, inputs, out_height(), out_width(), kernel, 1, kernel - 1 - padding,
                channels_last, false};
    }
};

// The places of pixels in planes. Bands are alike: rows below the image are zeros, and their results are not used.
struct Layout {
    int64_t bands, rows, in_rows;            // rows of output and of padded input in a band
    int64_t row, plane, channel, out_plane;  // lengths of a row, of a plane, of a channel's planes, of the output's
    int64_t vectors, per_row;                // of output pixels; per_row is 0 if they run on over the ends of rows
    int64_t together;                        // groups that share cache lines, if images are channels-last

    Layout(const Convolution &c, int64_t pixels) {
        const int64_t height = c.out_height(), width = c.out_width(), channels = least(c.inputs, c.filters);
        row = parts(c.width + 2 * c.padding, c.stride);
        bands = parts(row * height, pixels);
        rows = parts(height, bands);
        bands = parts(height, rows);
        in_rows = (rows - 1) * c.stride + c.kernel;
        vectors = parts((rows - 1) * row + width, W);
        per_row = parts(width, W);
        if (per_row * rows <= vectors) {
            vectors = per_row * rows;
            row = most(row, per_row * W);
        } else {
            per_row = 0;
        }
        plane = row * parts(in_rows, c.stride);
        channel = plane * c.stride * c.stride;
        out_plane = rows * row + W;
        together = c.channels_last ? least(c.groups, parts(16, channels)) : 1;
    }

    // Of a pixel of the padded input in the planes of its channel.
    int64_t place(const Convolution &c, int64_t y, int64_t x) const {
        return (y % c.stride * c.stride + x % c.stride) * plane + y / c.stride * row + x / c.stride;
    }
    // Of channels, and what the last vectors read beyond them.
    int64_t floats(int64_t channels) const { return channels * channel + row + W; }
};

// Where the vectors of output pixels are, and the offsets of the taps of a group's filters in their order.
class Tables {
public:
    Tables(const Convolution &c, const Layout &l) : memory_(l.vectors + c.taps()), vectors_(l.vectors) {
        int64_t *next = memory_.data();
        if (!next) return;
        for (int64_t v = 0; v < l.vectors; ++v) *next++ = l.per_row ? v / l.per_row * l.row + v % l.per_row * W : v * W;
        const int64_t field = c.kernel * c.kernel;
        for (int64_t tap = 0; tap < c.taps(); ++tap) {
            const int64_t channel = c.filters_last ? tap % c.inputs : tap / field;
            const int64_t point = c.filters_last ? tap / c.inputs : tap % field;
            *next++ = channel * l.channel + l.place(c, point / c.kernel, point % c.kernel);
        }
    }
    const int64_t *vectors() const { return memory_.data(); }
    const int64_t *taps() const { return memory_.data() + vectors_; }

private:
    Memory<int64_t> memory_;
    int64_t vectors_;
};

// to[j * to_step + i] = from[i * from_step + j] for i < rows, j < columns.
void transpose(const float *from, int64_t from_step, int64_t rows, int64_t columns, float *to, int64_t to_step) {
    int64_t j = 0;
    for (; rows >= 4 && j + 4 <= columns; j += 4) {
        // The last block may overlap the one before.
        for (int64_t i = 0; i < rows; i += 4) {
            const int64_t first = least(i, rows - 4);
            transpose4(from + first * from_step + j, from_step, to + j * to_step + first, to_step);
        }
    }
    for (; j < columns; ++j) {
        for (int64_t i = 0; i < rows; ++i) to[j * to_step + i] = from[i * from_step + j];
    }
}

void clear(float *p, int64_t count) { std::memset(p, 0, static_cast<size_t>(count) * sizeof(float)); }
void copy(const float *from, int64_t count, float *to) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

// Copies a band of the channels [first, first + count) of an image into planes.
void fill(
    const Convolution &c, const Layout &l, const float *image, int64_t channels, int64_t first, int64_t count,
    int64_t band, float *planes) {
    const int64_t pixel_step = c.channels_last ? channels : 1, channel_step = c.channels_last ? 1 : c.height * c.width;
    for (int64_t row = 0; row < l.in_rows; ++row) {
        const int64_t y = band * l.rows * c.stride + row - c.padding;
        for (int64_t phase = 0; phase < c.stride; ++phase) {
            float *to = planes + l.place(c, row, phase);
            if (y < 0 || y >= c.height) {
                for (int64_t k = 0; k < count; ++k) clear(to + k * l.channel, l.row);
                continue;
            }
            const float *from = image + first * channel_step + y * c.width * pixel_step;
            // The image's columns x, x + stride, ... lie in this plane from `begin` to `end`.
            const int64_t x = (phase + c.stride * c.padding - c.padding) % c.stride, begin = (x + c.padding) / c.stride;
            const int64_t end = begin + (x < c.width ? parts(c.width - x, c.stride) : 0);
            for (int64_t k = 0; k < count; ++k) {
                for (int64_t i = 0; i < begin; ++i) to[k * l.channel + i] = 0;
                for (int64_t i = end; i < l.row; ++i) to[k * l.channel + i] = 0;
            }
            if (c.channels_last) {
                transpose(from + x * pixel_step, c.stride * pixel_step, end - begin, count, to + begin, l.channel);
            } else if (c.stride == 1) {
                for (int64_t k = 0; k < count; ++k) copy(from + k * channel_step, c.width, to + k * l.channel + begin);
            } else {
                for (int64_t k = 0; k < count; ++k) {
                    for (int64_t i = 0; i < end - begin; ++i)
                        to[k * l.channel + begin + i] = from[k * channel_step + x + i * 2];
                }
            }
        }
    }
}

// Writes a band of the output's planes to the channels [first, first + count) of an image.
void write(
    const Convolution &c, const Layout &l, const float *planes, int64_t first, int64_t count, int64_t band,
    float *image) {
    const int64_t height = c.out_height(), width = c.out_width(), channels = c.groups * c.filters;
    for (int64_t row = 0; row < l.rows && band * l.rows + row < height; ++row) {
        const int64_t y = band * l.rows + row;
        if (c.channels_last) {
            transpose(planes + row * l.row, l.out_plane, count, width, image + y * width * channels + first, channels);
            continue;
        }
        for (int64_t k = 0; k < count; ++k)
            copy(planes + k * l.out_plane + row * l.row, width, image + ((first + k) * height + y) * width);
    }
}

}  // namespace
}  // namespace SIMROOT_ISA
