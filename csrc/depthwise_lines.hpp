// A depthwise 3 x 3 convolution of one image and its two gradients, stride 1, with as many zeros around as keep the size.
//
// A row of pixels is a line of floats over which the channels repeat, and so are the filters: no lane is empty, whatever
// the number of channels. Vectors of one column are summed from the top of the image to its bottom.
#pragma once

#include "channels.hpp"

namespace SIMROOT_ISA {
namespace {

constexpr int taps = 9;

SIMROOT_METHOD void copy(const float *from, float *to, int lanes) {
    lanes == W ? store(to, load(from)) : store(to, load(from, lanes), lanes);
}

struct Lines {
    int64_t height, width, channels;
    int64_t row, line;  // floats of a row of pixels, and of one with zeros on both sides
    int64_t period;     // floats after which channels and vectors begin together

    Lines(int64_t height, int64_t width, int64_t channels)
        : height(height), width(width), channels(channels), row(width * channels), line(row + 2 * channels), period(channels) {
        while (period % W) period += channels;
    }

    // Of an image with zeros around, and a vector that is read behind its end.
    int64_t floats() const { return (height + 2) * line + W; }
    int64_t at(int64_t y) const { return (y + 1) * line + channels; }
    int64_t filter_floats() const { return taps * period; }

    void fill(const float *image, float *to) const {
        for (int64_t y = 0; y < height; ++y) {
            const float *from = image + y * row;
            for (int64_t column = 0; column < row; column += W) {
                prefetch(from + column + floats_ahead);
                copy(from + column, to + at(y) + column, static_cast<int>(least(W, row - column)));
            }
        }
    }

    // Filters (channels, 9) as lines of `period` floats, one for each tap; turned by half a turn if asked.
    void repeat(const float *filters, bool turned, float *to) const {
        for (int64_t tap = 0; tap < taps; ++tap) {
            for (int64_t i = 0; i < period; ++i) {
                to[tap * period + i] = filters[i % channels * taps + (turned ? taps - 1 - tap : tap)];
            }
        }
    }

    // out = x * filters, plus what is added if that is not null; out and added are without zeros around.
    void convolve(const float *x, const float *filters, const float *added, float *out) const {
        for (int64_t column = 0; column < row; column += W) {
            const int lanes = static_cast<int>(least(W, row - column));
            Vec weights[taps];
            SIMROOT_EACH(taps) weights[i] = load(filters + i * period + column % period);
            // What rows have met of this one and of the one above it so far.
            Vec one = zero(), two = zero();
            for (int64_t y = 0; y < height + 2; ++y) {
                const float *from = x + y * line + column;
                const Vec v[3] = {load(from), load(from + channels), load(from + 2 * channels)};
                if (y >= 2) {
                    const int64_t place = (y - 2) * row + column;
                    prefetch(out + place + height * row);
                    Vec sum = fma(v[2], weights[8], fma(v[1], weights[7], fma(v[0], weights[6], two)));
                    if (added) sum = sum + (lanes == W ? load(added + place) : load(added + place, lanes));
                    lanes == W ? store(out + place, sum) : store(out + place, sum, lanes);
                }
                two = fma(v[2], weights[5], fma(v[1], weights[4], fma(v[0], weights[3], one)));
                one = fma(v[2], weights[2], fma(v[1], weights[1], v[0] * weights[0]));
            }
        }
    }

    // sums[tap][i % period] += sum over the rows of grad[i] x[i, shifted by the tap]
    void add_filters(const float *x, const float *grad, float *sums) const {
        for (int64_t column = 0; column < row; column += W) {
            const int lanes = static_cast<int>(least(W, row - column));
            Vec total[taps];
            SIMROOT_EACH(taps) total[i] = zero();
            for (int64_t y = 0; y < height; ++y) {
                const Vec g = load(grad + at(y) + column);
                const float *from = x + y * line + column;
                SIMROOT_EACH(taps) total[i] = fma(load(from + i / 3 * line + i % 3 * channels), g, total[i]);
            }
            SIMROOT_EACH(taps) {
                float *to = sums + i * period + column % period;
                store(to, load(to) + total[i], lanes);
            }
        }
    }

    // The sums of one tap over the places of a channel.
    double filter(const float *sums, int64_t channel, int64_t tap) const {
        double total = 0;
        for (int64_t i = channel; i < period; i += channels) total += sums[tap * period + i];
        return total;
    }
};

}  // namespace
}  // namespace SIMROOT_ISA
