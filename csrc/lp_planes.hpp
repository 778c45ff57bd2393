// The l_p similarity of tensors with one plane per channel (N, C, H, W), as the engines for exported networks lay them
// out, by the kernel for channels-last ones.
#pragma once

#include <cstdint>

namespace simroot {

struct LpPlanes {
    const float *x;          // (images, channels, height, width)
    const float *templates;  // (units, channels / groups, kernel_height, kernel_width)
    const float *weights;    // the same
    const float *bias;       // (units)
    float *out;              // (images, units, out_height, out_width)
    int64_t images, channels, height, width, units, kernel_height, kernel_width, step, groups;
    double order;

    int64_t out_height() const { return (height - kernel_height) / step + 1; }
    int64_t out_width() const { return (width - kernel_width) / step + 1; }

    // Whether the sizes fit together.
    bool valid() const;

    // The work is divided into so many tasks, of several images or of some rows of one, each for any thread.
    int64_t tasks() const { return parts(images, images_per_task()) * parts(out_height(), rows_per_task()); }

    // False if there is no memory left.
    bool run(int64_t task) const;

private:
    static int64_t parts(int64_t total, int64_t size) { return (total + size - 1) / size; }
    int64_t images_per_task() const;
    int64_t rows_per_task() const;
};

}  // namespace simroot
