// A grouped convolution with stride 1 and an odd kernel, float32, NCHW: pixels of a row are the lanes of a vector.
//
// For each image and group the input is copied into planes with a border of zeros. A tile of `outputs` filters times
// `vectors` vectors of 8 pixels stays in registers while all taps of all input channels are added. The last vector of a
// row overlaps the one before it where 8 does not divide the width, so that nothing outside the image is written.
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

struct Shape {
    int inputs, filters, height, width, kernel; // channels and filters of one group
    int row() const { return width + kernel - 1; }
    int plane() const { return row() * (height + kernel - 1); }
};

void pad(const float *image, float *planes, const Shape &s) {
    const int border = s.kernel / 2;
    for (int c = 0; c < s.inputs; ++c)
        for (int y = 0; y < s.height; ++y)
            std::memcpy(planes + c * s.plane() + (y + border) * s.row() + border,
                        image + (c * s.height + y) * s.width, sizeof(float) * s.width);
}

// from[v]: first padded pixel under the first tap; to[v]: first output pixel.
template <int outputs, int vectors>
void tile(const float *planes, const float *weights, float *result, const int *from, const int *to, const Shape &s) {
    __m256 sum[outputs][vectors];
    for (auto &row : sum)
        for (auto &value : row)
            value = _mm256_setzero_ps();
    const int taps = s.kernel * s.kernel;
    for (int c = 0; c < s.inputs; ++c)
        for (int ky = 0; ky < s.kernel; ++ky)
            for (int kx = 0; kx < s.kernel; ++kx) {
                const float *x = planes + c * s.plane() + ky * s.row() + kx;
                const float *w = weights + c * taps + ky * s.kernel + kx;
                __m256 pixels[vectors];
                for (int v = 0; v < vectors; ++v)
                    pixels[v] = _mm256_loadu_ps(x + from[v]);
                for (int o = 0; o < outputs; ++o) {
                    const __m256 weight = _mm256_broadcast_ss(w + o * s.inputs * taps);
                    for (int v = 0; v < vectors; ++v)
                        sum[o][v] = _mm256_fmadd_ps(pixels[v], weight, sum[o][v]);
                }
            }
    for (int o = 0; o < outputs; ++o)
        for (int v = 0; v < vectors; ++v)
            _mm256_storeu_ps(result + o * s.height * s.width + to[v], sum[o][v]);
}

template <int outputs, int vectors>
void group(const float *planes, const float *weights, float *result, const Shape &s, std::vector<int> from,
           std::vector<int> to) {
    while (from.size() % vectors) { // the last tile repeats its last vector
        from.push_back(from.back());
        to.push_back(to.back());
    }
    for (int o = 0; o < s.filters; o += outputs)
        for (size_t v = 0; v < from.size(); v += vectors)
            tile<outputs, vectors>(planes, weights + o * s.inputs * s.kernel * s.kernel,
                                   result + o * s.height * s.width, &from[v], &to[v], s);
}

} // namespace

// x (images, groups * inputs, height, width), weights (groups * filters, inputs, kernel, kernel); width of at least 8.
extern "C" void grouped_convolution(const float *x, const float *weights, float *result, int images, int groups,
                                    int inputs, int filters, int height, int width, int kernel) {
    const Shape s{inputs, filters, height, width, kernel};
    std::vector<int> from, to;
    for (int y = 0; y < height; ++y)
        for (int column = 0; column < width; column += 8) {
            const int start = std::min(column, width - 8);
            from.push_back(y * s.row() + start);
            to.push_back(y * width + start);
        }
    std::vector<float> planes(inputs * s.plane(), 0.0f);
    for (int image = 0; image < images; ++image)
        for (int g = 0; g < groups; ++g) {
            const size_t number = size_t(image) * groups + g;
            pad(x + number * inputs * height * width, planes.data(), s);
            const float *own = weights + size_t(g) * filters * inputs * kernel * kernel;
            float *y = result + number * filters * height * width;
            if (filters % 4 == 0)
                group<4, 3>(planes.data(), own, y, s, from, to);
            else
                group<2, 6>(planes.data(), own, y, s, from, to);
        }
}
