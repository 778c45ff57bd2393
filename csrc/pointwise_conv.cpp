// A 1x1 convolution of rows of channels, out = f(norm(x)) weights^T, with the moments of the result, and its gradients.
//
// A chunk of rows is normalised into the nearest cache, multiplied by the filters, whose lanes are outputs, and the
// moments of what comes out are taken while it is still there. Backward, all gradients of a chunk are found together.
// Sums over the rows of a chunk are floats, those over the chunks of a piece too, over the pieces doubles.

#include "affine.hpp"
#include "moments.hpp"
#include "pointwise_tiles.hpp"

namespace SIMROOT_ISA {
namespace {

// Rows of a chunk divide into whole tiles, some of them, so that sums in memory are not read and written for each; pieces of
// the rows depend on the shape alone.
constexpr int64_t tile_rows = 24, most_pieces = 64, chunk_numbers = 12288;

// Rows by chunks, which lie within a unit: an image where each has a gate of its own, else all rows. Pieces are the chunks
// whose sums are found together; those of an image are in one piece.
struct Shape {
    int64_t rows, inputs, outputs, unit, chunk, chunks_of_unit, chunks, pieces, indivisible;

    template <typename Arguments>
    explicit Shape(const Arguments &a)
        : rows(a.rows), inputs(a.inputs), outputs(a.outputs), unit(a.gate ? a.pixels : a.rows) {
        chunk = most(4, least(10, chunk_numbers / (inputs + outputs) / tile_rows)) * tile_rows;
        chunks_of_unit = parts(unit, chunk);
        chunks = rows ? rows / unit * chunks_of_unit : 0;
        indivisible = a.gate ? chunks_of_unit : 1;
        pieces = least(chunks / indivisible, most_pieces);
    }
    int64_t unit_of(int64_t k) const { return k / chunks_of_unit; }
    int64_t begin(int64_t k) const { return unit_of(k) * unit + k % chunks_of_unit * chunk; }
    int64_t count(int64_t k) const { return least(chunk, unit - k % chunks_of_unit * chunk); }
    int64_t first_chunk(int64_t piece) const { return piece * (chunks / indivisible) / pieces * indivisible; }
};

// f(norm(x)) of a chunk, times the gate if there is one, in lanes.
void activate(
    int64_t activation, const Rows &r, const Affine &f, const float *gate, const float *x, int64_t count, float *to) {
    with_activation(activation, [&](auto kind) {
        const auto value = [&](int64_t place, int64_t at, auto lanes) {
            prefetch(x + place + floats_ahead);
            const Vec z = fma(load(x + place, lanes) - load(f.mean + at), load(f.scale + at), load(f.bias + at));
            return decltype(kind)::value(z);
        };
        if (gate) {
            each_vector(r, count, [&](int64_t place, int64_t at, auto lanes) {
                store(to + place, value(place, at, lanes) * load(gate + at), lanes);
            });
        } else {
            each_vector(r, count, [&](int64_t place, int64_t at, auto lanes) {
                store(to + place, value(place, at, lanes), lanes);
            });
        }
    });
}

// From the gradient by f(norm(x)) gate, in dx: that by f(norm(x)); and the sums of its products with f(norm(x)).
void apply_gate(
    int64_t activation, const Rows &r, const Affine &f, const float *gate, const float *x, int64_t count, float *dx,
    float *products) {
    with_activation(activation, [&](auto kind) {
        each_vector_adding<1>(r, count, products, [&](int64_t place, int64_t at, auto lanes, Vec *product) {
            const Vec z = fma(load(x + place, lanes) - load(f.mean + at), load(f.scale + at), load(f.bias + at));
            const Vec grad = load(dx + place, lanes);
            product[0] = fma(grad, decltype(kind)::value(z), product[0]);
            store(dx + place, grad * load(gate + at), lanes);
        });
    });
}

// From the gradient by f(norm(x)), in dx: that by x; and the sums of that by norm(x) and of its products with x - mean, two
// lines.
void differentiate(
    int64_t activation, const Rows &r, const Affine &f, const float *x, int64_t count, float *dx, float *sums) {
    with_activation(activation, [&](auto kind) {
        each_vector_adding<2>(r, count, sums, [&](int64_t place, int64_t at, auto lanes, Vec *sum) {
            const Vec d = load(x + place, lanes) - load(f.mean + at), scale = load(f.scale + at);
            const Vec dz = load(dx + place, lanes) * decltype(kind)::slope(fma(d, scale, load(f.bias + at)));
            sum[0] = sum[0] + dz;
            sum[1] = fma(dz, d, sum[1]);
            store(dx + place, dz * scale, lanes);
        });
    });
}

int forward(const simroot_gated_conv_arguments &a, int threads) {
    const Shape s(a);
    const Rows in(s.rows, s.inputs), out(s.rows, s.outputs);
    const Panels panels(s.outputs, s.inputs);
    const int64_t own = s.chunk * s.inputs + 3 * out.floats() + in.floats();
    const Memory<float> memory(3 * in.floats() + threads * own);
    const Parts found(a.out_mean ? s.chunks : 0, s.outputs);
    if (!memory.data() || !found.data()) return 1;
    if (!panels.pack([&](int64_t o, int64_t k) { return a.weights[o * s.inputs + k]; })) return 1;
    const Affine f({a.mean, a.var, a.weight, a.bias, a.eps}, s.inputs, in.floats(), memory.data());
    auto task = [&](int64_t k, int worker) {
        float *scratch = memory.data() + 3 * in.floats() + worker * own;
        const int64_t count = s.count(k);
        const float *x = a.x + s.begin(k) * s.inputs;
        float *y = a.out + s.begin(k) * s.outputs, *gate = a.gate ? scratch + own - in.floats() : nullptr;
        if (gate) in.repeat(a.gate + s.unit_of(k) * s.inputs, gate);
        if (a.mean) activate(a.activation, in, f, gate, x, count, scratch);
        multiply(a.mean ? scratch : x, count, s.inputs, panels, y, s.outputs);
        if (a.out_mean) moments_of_chunk(out, y, count, scratch + s.chunk * s.inputs, found.at(k));
    };
    parallel(s.chunks, threads, task);
    if (a.out_mean) found.merge(s.chunks, s.outputs, [&](int64_t k) { return s.count(k); }, a.out_mean, a.out_var);
    return 0;
}

int backward(const simroot_gated_conv_backward_arguments &a, int threads) {
    const Shape s(a);
    const Rows in(s.rows, s.inputs), out(s.rows, s.outputs);
    const Panels panels(s.inputs, s.outputs);
    const Products sums_of_products(s.outputs, s.inputs);
    const int64_t size = a.dweights ? sums_of_products.floats() : 0;
    const int64_t shared = 3 * (in.floats() + out.floats());
    const int64_t own = s.chunk * (s.inputs + s.outputs) + 3 * in.floats();
    const Memory<float> memory(shared + threads * own + s.pieces * size);
    const Memory<double> sums(2 * (s.pieces + 1) * s.inputs), gates(a.gate ? a.rows / a.pixels * s.inputs : 0);
    if (!memory.data() || !sums.data() || !gates.data()) return 1;
    for (int64_t i = 0; a.gate && i < a.rows / a.pixels * s.inputs; ++i) gates.data()[i] = 0;
    if (!panels.pack([&](int64_t i, int64_t o) { return a.weights[o * s.inputs + i]; })) return 1;
    const Norm norm{a.mean, a.var, a.weight, a.bias, a.eps};
    const Affine f(norm, s.inputs, in.floats(), memory.data());
    const Correction correction(
        a.out_mean, a.grad_mean, a.grad_var, s.rows, s.outputs, out.floats(), memory.data() + 3 * in.floats());
    float *products = memory.data() + shared + threads * own;
    auto task = [&](int64_t piece, int worker) {
        float *values = memory.data() + shared + worker * own, *grads = values + s.chunk * s.inputs;
        float *lanes_of_sums = grads + s.chunk * s.outputs, *gate = a.gate ? lanes_of_sums + 2 * in.floats() : nullptr;
        double *total = sums.data() + 2 * (piece + 1) * s.inputs;
        for (int64_t i = 0; i < 2 * s.inputs; ++i) total[i] = 0;
        clear(products + piece * size, size);
        for (int64_t k = s.first_chunk(piece); k < s.first_chunk(piece + 1); ++k) {
            const int64_t count = s.count(k), begin = s.begin(k);
            const float *x = a.x + begin * s.inputs, *g = a.grad + begin * s.outputs;
            if (gate) in.repeat(a.gate + s.unit_of(k) * s.inputs, gate);
            if (a.out_mean) {
                const float *y = a.out + begin * s.outputs;
                each_vector(out, count, [&](int64_t place, int64_t at, auto lanes) {
                    prefetch(y + place + floats_ahead);
                    prefetch(g + place + floats_ahead);
                    const Vec d = load(y + place, lanes) - load(correction.mean + at);
                    const Vec whole = load(g + place, lanes) + load(correction.first + at);
                    store(grads + place, fma(d, load(correction.second + at), whole), lanes);
                });
                g = grads;
            }
            if (a.dweights) {
                if (a.mean) activate(a.activation, in, f, gate, x, count, values);
                sums_of_products.add(g, a.mean ? values : x, count, products + piece * size);
            }
            if (!a.dx) continue;
            float *dx = a.dx + begin * s.inputs;
            multiply(g, count, s.outputs, panels, dx, s.inputs);
            if (!a.mean) continue;
            if (gate) {
                apply_gate(a.activation, in, f, gate, x, count, dx, lanes_of_sums);
                in.add_lanes(lanes_of_sums, gates.data() + s.unit_of(k) * s.inputs);
                continue;
            }
            differentiate(a.activation, in, f, x, count, dx, lanes_of_sums);
            in.add_lanes(lanes_of_sums, total);
            in.add_lanes(lanes_of_sums + in.floats(), total + s.inputs);
        }
    };
    parallel(s.pieces, threads, task);
    double *total = sums.data();
    for (int64_t i = 0; i < 2 * s.inputs; ++i) {
        total[i] = 0;
        for (int64_t piece = 1; piece <= s.pieces; ++piece) total[i] += total[2 * piece * s.inputs + i];
    }
    if (a.mean && !a.gate) {
        NormGradients{a.dmean, a.dvar, a.dweight, a.dbias}.set(norm, s.inputs, total, total + s.inputs);
    }
    for (int64_t i = 0; a.dgate && i < a.rows / a.pixels * s.inputs; ++i) a.dgate[i] = static_cast<float>(gates.data()[i]);
    for (int64_t o = 0; a.dweights && o < s.outputs; ++o) {
        for (int64_t i = 0; i < s.inputs; ++i) {
            double sum = 0;
            for (int64_t piece = 0; piece < s.pieces; ++piece) sum += products[piece * size + sums_of_products.at(o, i)];
            a.dweights[o * s.inputs + i] = static_cast<float>(sum);
        }
    }
    return 0;
}

}  // namespace
}  // namespace SIMROOT_ISA

// Without a gate: the same with none.
#define SIMROOT_COPY(type, name) all.name = a.name;

SIMROOT_KERNEL(pointwise_conv) {
    simroot_gated_conv_arguments all{};
    SIMROOT_FIELDS_pointwise_conv(SIMROOT_COPY)
    return SIMROOT_ISA::forward(all, threads);
}

SIMROOT_KERNEL(pointwise_conv_backward) {
    simroot_gated_conv_backward_arguments all{};
    SIMROOT_FIELDS_pointwise_conv_backward(SIMROOT_COPY)
    return SIMROOT_ISA::backward(all, threads);
}

SIMROOT_KERNEL(gated_conv) { return SIMROOT_ISA::forward(a, threads); }

SIMROOT_KERNEL(gated_conv_backward) { return SIMROOT_ISA::backward(a, threads); }
