#include "lp_planes.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "simroot.h"

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#define SIMROOT_SSE
#endif

namespace simroot {
namespace {

using Forward = int (*)(const simroot_lp_forward_arguments *, int);

// Positions in a task: what is copied stays in the cache, and packing the templates is little beside the work. A single
// image is halved down to fewer, for two threads.
constexpr int64_t positions = 400, fewest = 32;

// Four rows and columns at a time, where the processor can.
void transpose_four(const float *source, int64_t from, float *target, int64_t to) {
#ifdef SIMROOT_SSE
    __m128 a = _mm_loadu_ps(source), b = _mm_loadu_ps(source + from);
    __m128 c = _mm_loadu_ps(source + 2 * from), d = _mm_loadu_ps(source + 3 * from);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(target, a), _mm_storeu_ps(target + to, b);
    _mm_storeu_ps(target + 2 * to, c), _mm_storeu_ps(target + 3 * to, d);
#else
    for (int64_t j = 0; j < 4; ++j) {
        for (int64_t i = 0; i < 4; ++i) target[j * to + i] = source[i * from + j];
    }
#endif
}

// (rows, columns) with `from` between rows -> (columns, rows) with `to` between columns.
void transpose(const float *source, int64_t rows, int64_t from, int64_t columns, float *target, int64_t to) {
    const int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
    for (int64_t j = 0; j < whole_columns; j += 4) {
        for (int64_t i = 0; i < whole_rows; i += 4) transpose_four(source + i * from + j, from, target + j * to + i, to);
    }
    for (int64_t j = 0; j < columns; ++j) {
        for (int64_t i = j < whole_columns ? whole_rows : 0; i < rows; ++i) target[j * to + i] = source[i * from + j];
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
    const int64_t all = out_height() * out_width();
    const int64_t blocks = std::max<int64_t>(parts(all, positions), images == 1 && all >= 2 * fewest ? 2 : 1);
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
    const simroot_lp_forward_arguments arguments{
        pixels.data(), templates, weights, bias, results.data(), count, seen, width, channels, units, kernel_height,
        kernel_width, step, step, groups, order};
    if (forward(&arguments, 1)) return false;
    for (int64_t n = 0; n < count; ++n) {
        transpose(results.data() + n * rows * out_width() * units, rows * out_width(), units, units,
                  out + (first + n) * units * out_plane + top * out_width(), out_plane);
    }
    return true;
}

}  // namespace simroot
