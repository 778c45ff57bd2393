// A convolution in filter groups, with square kernels and few channels a group, and its gradients.
//
// Lanes are pixels. A band of rows of a few groups is copied into planes. A tile of filters x vectors of pixels (the
// output) or filters x taps (the gradient of the filters) stays in registers while it is summed.

#include "grouped_conv.hpp"
#include "pieces.hpp"

namespace SIMROOT_ISA {
namespace {

// Filters of a tile at most, and its sums: what registers hold beside the values that are multiplied.
constexpr int tile_filters = 4, tile_sums = registers == 32 ? 24 : 12;

constexpr int tile_width(int filters) { return tile_sums / filters < 8 ? tile_sums / filters : 8; }

// sums[o][j] += row(o) column(j). The fewer of the two stay in registers beside the sums.
template <int rows, int columns, typename Row, typename Column>
SIMROOT_METHOD void add_outer_product(const Row &row, const Column &column, Vec (&sums)[rows][columns]) {
    if constexpr (rows < columns) {
        Vec left[rows];
        SIMROOT_EACH(rows) left[i] = row(i);
        SIMROOT_UNROLL
        for (int j = 0; j < columns; ++j) {
            const Vec right = column(j);
            SIMROOT_EACH(rows) sums[i][j] = fma(left[i], right, sums[i][j]);
        }
    } else {
        Vec right[columns];
        SIMROOT_EACH(columns) right[i] = column(i);
        SIMROOT_UNROLL
        for (int o = 0; o < rows; ++o) {
            const Vec left = row(o);
            SIMROOT_EACH(columns) sums[o][i] = fma(left, right[i], sums[o][i]);
        }
    }
}

// out[o][at[v]] = bias[o] + sum_k weights[o][k] planes[taps[k] + at[v]]
template <int filters, int vectors>
void sum_pixels(
    const float *planes, const int64_t *taps, int64_t count, const float *weights, const float *bias, const int64_t *at,
    float *out, int64_t out_plane) {
    Vec sums[filters][vectors];
    int64_t place[vectors];
    SIMROOT_EACH(vectors) place[i] = at[i];
    SIMROOT_UNROLL
    for (int o = 0; o < filters; ++o) {
        SIMROOT_EACH(vectors) sums[o][i] = set1(bias ? bias[o] : 0.0f);
    }
    for (int64_t k = 0; k < count; ++k) {
        const float *x = planes + taps[k], *weight = weights + k;
        add_outer_product(
            [&](int o) { return set1(weight[o * count]); }, [&](int i) { return load(x + place[i]); }, sums);
    }
    SIMROOT_UNROLL
    for (int o = 0; o < filters; ++o) {
        SIMROOT_EACH(vectors) store(out + o * out_plane + place[i], sums[o][i]);
    }
}

bool convolve(const Convolution &c, const float *x, const float *weights, const float *bias, float *out, int threads) {
    const Layout l(c, 1024);
    const Tables tables(c, l);
    const int64_t planes_size = l.floats(l.together * c.inputs), own = planes_size + l.together * c.filters * l.out_plane;
    const Memory<float> memory(threads * own);
    if (!tables.vectors() || !memory.data()) return false;
    const int64_t blocks = parts(c.groups, l.together), count = c.taps();
    auto task = [&](int64_t index, int worker) {
        const int64_t band = index / blocks % l.bands, image = index / blocks / l.bands;
        const int64_t first = index % blocks * l.together, groups = least(l.together, c.groups - first);
        float *planes = memory.data() + worker * own, *out_planes = planes + planes_size;
        fill(
            c, l, x + image * c.in_size(), c.groups * c.inputs, first * c.inputs, groups * c.inputs, band, planes);
        for (int64_t g = 0; g < groups; ++g) {
            each_piece<tile_filters>(c.filters, [&](int64_t o, auto piece) {
                constexpr int filters = decltype(piece)::value;
                const int64_t filter = (first + g) * c.filters + o;
                each_piece<tile_width(filters)>(l.vectors, [&](int64_t v, auto several) {
                    sum_pixels<filters, decltype(several)::value>(
                        planes + g * c.inputs * l.channel, tables.taps(), count, weights + filter * count,
                        bias ? bias + filter : nullptr, tables.vectors() + v,
                        out_planes + (g * c.filters + o) * l.out_plane, l.out_plane);
                });
            });
        }
        write(c, l, out_planes, first * c.filters, groups * c.filters, band, out + image * c.out_size());
    };
    parallel(c.images * blocks * l.bands, threads, task);
    return true;
}

// The filters of the transposed convolution, (groups * inputs, filters, kernel, kernel): turned by half a turn.
void turn(const Convolution &c, const float *weights, float *result) {
    const int64_t field = c.kernel * c.kernel;
    const int64_t step = c.filters_last ? c.inputs : 1, channel_step = c.filters_last ? 1 : field;
    for (int64_t channel = 0; channel < c.groups * c.inputs; ++channel) {
        const int64_t g = channel / c.inputs, i = channel % c.inputs;
        for (int64_t o = 0; o < c.filters; ++o) {
            const float *from = weights + (g * c.filters + o) * c.taps() + i * channel_step;
            for (int64_t k = field; k-- > 0;) *result++ = from[k * step];
        }
    }
}

// ---- The gradient of the filters. Bands of several images lie in memory at once, so far apart as the steps say.

struct Bands {
    const float *grad, *planes;
    int64_t images, grad_step, planes_step;
};

// sums[o][k] += sum over images and pixels of grad[o] planes[taps[k]]; each is a vector, whose lanes are summed later.
template <int filters, int taps>
void sum_products(
    const Bands &b, const Layout &l, const int64_t *vectors, const int64_t *offsets, float *sums, int64_t step) {
    Vec total[filters][taps];
    int64_t offset[taps];
    SIMROOT_EACH(taps) offset[i] = offsets[i];
    SIMROOT_UNROLL
    for (int o = 0; o < filters; ++o) {
        SIMROOT_EACH(taps) total[o][i] = load(sums + (o * step + i) * W);
    }
    for (int64_t image = 0; image < b.images; ++image) {
        const float *planes = b.planes + image * b.planes_step, *grad = b.grad + image * b.grad_step;
        for (int64_t v = 0; v < l.vectors; ++v) {
            const float *g = grad + vectors[v], *x = planes + vectors[v];
            add_outer_product(
                [&](int o) { return load(g + o * l.out_plane); }, [&](int i) { return load(x + offset[i]); }, total);
        }
    }
    SIMROOT_UNROLL
    for (int o = 0; o < filters; ++o) {
        SIMROOT_EACH(taps) store(sums + (o * step + i) * W, total[o][i]);
    }
}

// The same for all filters and taps of a group; the last column of sums is the gradient of the bias.
void add_products(const Bands &b, const Convolution &c, const Layout &l, const Tables &tables, float *sums) {
    const int64_t count = c.taps(), step = count + 1;
    each_piece<tile_filters>(c.filters, [&](int64_t o, auto piece) {
        constexpr int filters = decltype(piece)::value;
        const Bands own{b.grad + o * l.out_plane, b.planes, b.images, b.grad_step, b.planes_step};
        each_piece<tile_width(filters)>(count, [&](int64_t k, auto several) {
            sum_products<filters, decltype(several)::value>(
                own, l, tables.vectors(), tables.taps() + k, sums + (o * step + k) * W, step);
        });
    });
    for (int64_t o = 0; o < c.filters; ++o) {
        Vec total = load(sums + (o * step + count) * W);
        for (int64_t image = 0; image < b.images; ++image) {
            const float *grad = b.grad + image * b.grad_step + o * l.out_plane;
            for (int64_t v = 0; v < l.vectors; ++v) total = total + load(grad + tables.vectors()[v]);
        }
        store(sums + (o * step + count) * W, total);
    }
}

// Images of a chunk, whose sums are floats, and of those in memory at once: they depend on the shapes alone.
constexpr int64_t chunk_pixels = 8192, pixels_at_once = 512;

bool differentiate(
    const Convolution &c, const float *grad, const float *x, float *dweights, float *dbias, int threads) {
    const Layout l(c, pixels_at_once);
    const Tables tables(c, l);
    // The output's gradient as an image that is copied into planes like those of the output.
    const Convolution output{c.images, c.groups, c.filters, c.filters, c.out_height(), c.out_width(), 1, 1, 0,
                             c.channels_last, false};
    Layout out_layout = l;
    out_layout.in_rows = l.rows;
    out_layout.plane = out_layout.channel = l.out_plane;
    const int64_t step = c.taps() + 1, size = c.filters * step, blocks = parts(c.groups, l.together);
    const int64_t chunk = 1 + chunk_pixels / (l.bands * l.vectors * W), chunks = parts(c.images, chunk);
    const int64_t at_once = l.bands > 1 ? 1 : least(chunk, parts(pixels_at_once, l.vectors * W));
    const int64_t planes_size = l.floats(l.together * c.inputs), grad_size = l.together * c.filters * l.out_plane;
    const int64_t own = at_once * (planes_size + grad_size) + l.together * size * W;
    const Memory<float> memory(threads * own);
    const Memory<double> partial(chunks * c.groups * size);
    if (!tables.vectors() || !memory.data() || !partial.data()) return false;
    auto task = [&](int64_t index, int worker) {
        const int64_t first = index % blocks * l.together, groups = least(l.together, c.groups - first);
        const int64_t begin = index / blocks * chunk, end = least(begin + chunk, c.images);
        float *planes = memory.data() + worker * own, *grads = planes + at_once * planes_size;
        float *sums = grads + at_once * grad_size;
        clear(planes, own);
        for (int64_t image = begin; image < end; image += at_once) {
            const int64_t images = least(at_once, end - image);
            for (int64_t band = 0; band < l.bands; ++band) {
                for (int64_t i = 0; i < images; ++i) {
                    fill(
                        c, l, x + (image + i) * c.in_size(), c.groups * c.inputs, first * c.inputs, groups * c.inputs,
                        band, planes + i * planes_size);
                    fill(
                        output, out_layout, grad + (image + i) * c.out_size(), c.groups * c.filters, first * c.filters,
                        groups * c.filters, band, grads + i * grad_size);
                }
                for (int64_t g = 0; g < groups; ++g) {
                    const Bands bands{grads + g * c.filters * l.out_plane, planes + g * c.inputs * l.channel, images,
                                      grad_size, planes_size};
                    add_products(bands, c, l, tables, sums + g * size * W);
                }
            }
        }
        double *result = partial.data() + (index / blocks * c.groups + first) * size;
        for (int64_t i = 0; i < groups * size; ++i) result[i] = sum(load(sums + i * W));
    };
    parallel(chunks * blocks, threads, task);
    for (int64_t filter = 0; filter < c.groups * c.filters; ++filter) {
        for (int64_t tap = 0; tap < step; ++tap) {
            double total = 0;
            for (int64_t k = 0; k < chunks; ++k) total += partial.data()[k * c.groups * size + filter * step + tap];
            (tap < c.taps() ? dweights[filter * c.taps() + tap] : dbias[filter]) = static_cast<float>(total);
        }
    }
    return true;
}

template <typename Arguments>
Convolution convolution(const Arguments &a) {
    return {a.images, a.groups, a.inputs, a.filters, a.height, a.width,
            a.kernel, a.stride, a.padding, a.channels_last != 0, a.filters_last != 0};
}

}  // namespace
}  // namespace SIMROOT_ISA

SIMROOT_KERNEL(grouped_conv) {
    using namespace SIMROOT_ISA;
    return !convolve(convolution(a), a.x, a.weights, a.bias, a.out, threads);
}

// For stride 1 and padding below the kernel's size.
SIMROOT_KERNEL(grouped_conv_input) {
    using namespace SIMROOT_ISA;
    const Convolution c = convolution(a);
    const Memory<float> turned(c.groups * c.filters * c.taps());
    if (!turned.data()) return 1;
    turn(c, a.weights, turned.data());
    return !convolve(c.transposed(), a.grad, turned.data(), nullptr, a.dx, threads);
}

SIMROOT_KERNEL(grouped_conv_filters) {
    using namespace SIMROOT_ISA;
    return !differentiate(convolution(a), a.grad, a.x, a.dweights, a.dbias, threads);
}
