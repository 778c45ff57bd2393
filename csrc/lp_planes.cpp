#include "lp_planes.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <new>
#include <vector>

#include "parallel.hpp"
#include "simroot.h"

namespace simroot {
namespace {

using Forward = int (*)(const float *, const float *, const float *, const float *, float *, int64_t, int64_t, int64_t,
                        int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, double, int);

// Positions in a task: what is copied stays in the cache, and packing the templates is little beside the work.
constexpr int64_t positions = 400;

// (rows, columns) with `from` between rows -> (columns, rows) with `to` between columns.
void transpose(const float *source, int64_t rows, int64_t from, int64_t columns, float *target, int64_t to) {
    constexpr int64_t side = 8;
    for (int64_t i = 0; i < rows; i += side) {
        const int64_t height = std::min(side, rows - i);
        for (int64_t j = 0; j < columns; j += side) {
            const int64_t width = std::min(side, columns - j);
            const float *corner = source + i * from + j;
            float *place = target + j * to + i;
            if (height == side && width == side) {
                for (int64_t b = 0; b < side; ++b) {
                    for (int64_t a = 0; a < side; ++a) place[b * to + a] = corner[a * from + b];
                }
            } else {
                for (int64_t b = 0; b < width; ++b) {
                    for (int64_t a = 0; a < height; ++a) place[b * to + a] = corner[a * from + b];
                }
            }
        }
    }
}

}  // namespace

bool LpPlanes::valid() const {
    const bool positive = channels > 0 && units > 0 && kernel_height > 0 && kernel_width > 0 && step > 0 && groups > 0;
    return positive && images >= 0 && channels % groups == 0 && units % groups == 0 && height >= kernel_height &&
           width >= kernel_width && order > 0 && std::isfinite(order);
}

int64_t LpPlanes::images_per_task() const { return std::max<int64_t>(1, positions / (out_height() * out_width())); }

int64_t LpPlanes::rows_per_task() const {
    const int64_t blocks = parts(out_height() * out_width(), positions);
    return parts(out_height(), std::min(blocks, out_height()));
}

bool LpPlanes::run(int64_t task) const {
    static const Forward forward = reinterpret_cast<Forward>(simroot_kernel("lp_forward", nullptr));
    const int64_t blocks = parts(out_height(), rows_per_task());
    const int64_t first = task / blocks * images_per_task(), count = std::min(images_per_task(), images - first);
    const int64_t top = task % blocks * rows_per_task(), rows = std::min(rows_per_task(), out_height() - top);
    const int64_t seen = (rows - 1) * step + kernel_height;
    const int64_t plane = height * width, out_plane = out_height() * out_width();
    thread_local std::vector<float> pixels, results;
    try {
        pixels.resize(count * seen * width * channels);
        results.resize(count * rows * out_width() * units);
    } catch (const std::bad_alloc &) {
        return false;
    }
    for (int64_t n = 0; n < count; ++n) {
        transpose(x + (first + n) * channels * plane + top * step * width, channels, plane, seen * width,
                  pixels.data() + n * seen * width * channels, channels);
    }
    if (forward(pixels.data(), templates, weights, bias, results.data(), count, seen, width, channels, units, kernel_height,
                kernel_width, step, step, groups, order, 1)) {
        return false;
    }
    for (int64_t n = 0; n < count; ++n) {
        transpose(results.data() + n * rows * out_width() * units, rows * out_width(), units, units,
                  out + (first + n) * units * out_plane + top * out_width(), out_plane);
    }
    return true;
}

}  // namespace simroot

// For engines that are called from Python. 0: done, 1: no memory left, 2: the sizes do not fit together.
extern "C" SIMROOT_EXPORT int simroot_lp_planes(const float *x, const float *templates, const float *weights,
                                                const float *bias, float *out, int64_t images, int64_t channels,
                                                int64_t height, int64_t width, int64_t units, int64_t kernel_height,
                                                int64_t kernel_width, int64_t step, int64_t groups, double order,
                                                int threads) {
    const simroot::LpPlanes planes{x,      templates, weights,       bias,         out,  images, channels, height,
                                   width,  units,     kernel_height, kernel_width, step, groups, order};
    if (!planes.valid()) return 2;
    std::atomic<bool> done{true};
    auto body = [&](int64_t task, int) {
        if (!planes.run(task)) done = false;
    };
    parallel(planes.tasks(), threads, body);
    return done ? 0 : 1;
}
