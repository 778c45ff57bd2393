// MEX over channels with offsets: y[n, r] = (1 / beta) log mean_c exp(beta (x[n, c] + w[r, c])).
//
// Tiles of rows: exponentials relative to each row's largest, a small matrix product with the exponentials of the
// offsets, logarithms. Sums that come out so small that terms are missing in them are computed again by themselves.
// Where beta (x + w) hardly varies for some row and output of a tile, the product is of exponentials minus 1, too.

#include "mex_dense.hpp"

namespace SIMROOT_ISA {
namespace {

void forward(const Dense &d, float *out, float *memory, int threads) {
    const int64_t most = Tile::most_rows(d.channels), size = Tile::floats(d) + d.channels;
    auto task = [&](int64_t index, int worker) {
        float *own = memory + worker * size;
        const Tile tile(d, index, own);
        const Vec scale = set1(d.inverse_beta * ln_2), limit = set1(tile.underflow());
        const Vec share = set1(1.0f / static_cast<float>(d.channels));
        bool underflows = false;
        constexpr int together = 4;
        const int64_t blocks = d.padded_outputs / W, all = tile.rows * blocks;
        for (int64_t block = 0; block < all; block += together) {
            Vec mean[together], minus_one[together], log2[together];
            int64_t m[together], r[together];
            SIMROOT_EACH(together) {
                const int64_t index = smaller(block + i, all - 1);
                m[i] = index / blocks;
                r[i] = index % blocks * W;
                const Vec sums = load(tile.sums + index * W);
                underflows |= any(sums < limit);
                mean[i] = sums * share;
                minus_one[i] = tile.small ? load(tile.excess + index * W) : mean[i] - set1(1.0f);
            }
            log2_of(mean, minus_one, log2);
            SIMROOT_EACH(together) {
                const Vec y = fma(log2[i], scale, set1(tile.references[m[i]]) + load(d.references + r[i]));
                put(out + (tile.begin + m[i]) * d.outputs + r[i], y, d.outputs - r[i]);
            }
        }
        if (!underflows) return;
        tile.each_underflow([&](int64_t m, int64_t r) {
            out[(tile.begin + m) * d.outputs + r] = Exact(tile, m, r, own + Tile::floats(d)).mex();
        });
    };
    parallel((d.rows + most - 1) / most, threads, task);
}

// The gradients of one tile.
struct Gradients {
    const Tile &tile;
    const Dense &d;
    const float *grad;  // of this tile's rows
    float *dx;          // likewise
    float *ratios;      // (rows, padded_outputs): grad / sums, 0 where they underflow
    float *dw;          // (outputs, padded_channels): this tile's part
    float *one_row;     // (channels)

    static int64_t floats(const Dense &d) {
        return Tile::most_rows(d.channels) * d.padded_outputs + d.outputs * d.padded_channels + d.padded_channels;
    }

    Gradients(const Tile &tile, const float *all_grad, float *all_dx, float *memory)
        : tile(tile), d(tile.d), grad(all_grad + tile.begin * d.outputs), dx(all_dx + tile.begin * d.channels) {
        ratios = memory;
        dw = ratios + Tile::most_rows(d.channels) * d.padded_outputs;
        one_row = dw + d.outputs * d.padded_channels;
    }

    // Returns the gradient by beta if it is needed.
    double compute(bool beta_needed) {
        const bool underflows = divide();
        multiply({ratios, d.padded_outputs, 1}, tile.rows, d.powers, d.outputs, tile.room, d.padded_channels);
        for (int64_t m = 0; m < tile.rows; ++m) {
            for (int64_t c = 0; c < d.channels; c += W) {
                const Vec product = load(tile.powers + m * d.padded_channels + c) * load(tile.room + m * d.padded_channels + c);
                put(dx + m * d.channels + c, product, d.channels - c);
            }
        }
        multiply({ratios, 1, d.padded_outputs}, d.outputs, tile.powers, tile.rows, dw, d.padded_channels);
        for (int64_t i = 0; i < d.outputs * d.padded_channels; i += W) store(dw + i, load(dw + i) * load(d.powers + i));
        double dbeta = !beta_needed ? 0 : tile.small ? by_beta_small() : by_beta();
        if (underflows) {
            tile.each_underflow([&](int64_t m, int64_t r) {
                const Exact exact(tile, m, r, one_row);
                const float weight = grad[m * d.outputs + r];
                dbeta += exact.differentiate(weight, dx + m * d.channels, dw + r * d.padded_channels);
            });
        }
        return dbeta;
    }

private:
    bool divide() {
        const Vec limit = set1(tile.underflow());
        bool underflows = false;
        for (int64_t m = 0; m < tile.rows; ++m) {
            for (int64_t r = 0; r < d.outputs; r += W) {
                const Vec sums = load(tile.sums + m * d.padded_outputs + r);
                const Vec g = get(grad + m * d.outputs + r, d.outputs - r);
                const Mask missing = sums < limit;
                underflows |= any(missing);
                store(ratios + m * d.padded_outputs + r, select(missing, zero(), g / sums));
            }
        }
        return underflows;
    }

    static constexpr float most_negative = -1e30f;

    // By sum_c p_c t_c - log of the mean: <t, dx> + <t of offsets, dw> - <grad, logs>.
    double by_beta() const {
        Vec total = zero();
        for (int64_t m = 0; m < tile.rows; ++m) {
            d.each_exponent(tile.x(m), tile.references[m], [&](int64_t c, Vec t, int n) {
                total = fma(max(set1(most_negative), t), get(dx + m * d.channels + c, n), total);
            });
            for (int64_t r = 0; r < d.outputs; r += W) {
                const int64_t place = m * d.padded_outputs + r;
                total = fnma(load(ratios + place) * load(tile.sums + place), tile.log2_mean(m, r), total);
            }
        }
        for (int64_t i = 0; i < d.outputs * d.padded_channels; i += W)
            total = fma(load(d.exponents + i), load(dw + i), total);
        return static_cast<double>(sum(total) * ln_2 * d.inverse_beta) * d.inverse_beta;
    }

    // Where these nearly cancel: by the divergence of every probability.
    double by_beta_small() const {
        const Vec inverse_beta = set1(d.inverse_beta), channels = set1(static_cast<float>(d.channels));
        double total = 0;
        for (int64_t m = 0; m < tile.rows; ++m) {
            for (int64_t r = 0; r < d.outputs; ++r) {
                if (tile.sums[m * d.padded_outputs + r] < tile.underflow()) continue;
                const Vec inverse_mean = channels / set1(tile.sums[m * d.padded_outputs + r]);
                const Vec log2 = set1(lane(tile.log2_mean(m, r / W * W), static_cast<int>(r % W)));
                Vec divergences = zero();
                d.each_exponent(tile.x(m), tile.references[m], [&](int64_t c, Vec t, int n) {
                    const int64_t place = r * d.padded_channels + c;
                    const Vec q = (max(set1(most_negative), t) + load(d.exponents + place) - log2) * set1(ln_2);
                    const Vec exp_q = load(tile.powers + m * d.padded_channels + c) * load(d.powers + place) * inverse_mean;
                    divergences = divergences + first(n, divergence(q, exp_q, inverse_beta));
                });
                total += static_cast<double>(grad[m * d.outputs + r]) * sum(divergences);
            }
        }
        return total / static_cast<double>(d.channels);
    }
};

// Rows are divided into a number of blocks that depends on nothing but the sizes; gradients that are sums over rows are
// added up in each, in double, and then over the blocks.
struct Blocks {
    int64_t tiles, count, tiles_each;

    explicit Blocks(const Dense &d) {
        const int64_t each = Tile::most_rows(d.channels), fitting = (1 << 22) / (d.outputs * d.padded_channels);
        tiles = (d.rows + each - 1) / each;
        tiles_each = 1 + (tiles - 1) / (fitting < 8 ? 8 : smaller(fitting, 64));
        count = (tiles + tiles_each - 1) / tiles_each;
    }
};

void backward(
    const Dense &d, const Blocks &blocks, const float *grad, float *dx, float *doffsets, float *dbeta, float *memory,
    double *partial, int threads) {
    const int64_t size = Tile::floats(d) + Gradients::floats(d), weights = d.outputs * d.padded_channels;
    auto task = [&](int64_t block, int worker) {
        float *own = memory + worker * size;
        double *sums = partial + block * (weights + 1);
        for (int64_t i = 0; i <= weights; ++i) sums[i] = 0;
        const int64_t end = smaller(blocks.tiles, (block + 1) * blocks.tiles_each);
        for (int64_t index = block * blocks.tiles_each; index < end; ++index) {
            const Tile tile(d, index, own);
            Gradients gradients(tile, grad, dx, own + Tile::floats(d));
            sums[weights] += gradients.compute(dbeta != nullptr);
            for (int64_t i = 0; i < weights; ++i) sums[i] += gradients.dw[i];
        }
    };
    parallel(blocks.count, threads, task);
    auto add = [&](int64_t r, int) {
        for (int64_t c = 0; c < d.channels; ++c) {
            double sum = 0;
            for (int64_t b = 0; b < blocks.count; ++b) sum += partial[b * (weights + 1) + r * d.padded_channels + c];
            doffsets[r * d.channels + c] = static_cast<float>(sum);
        }
    };
    parallel(d.outputs, threads, add);
    if (!dbeta) return;
    double sum = 0;
    for (int64_t b = 0; b < blocks.count; ++b) sum += partial[b * (weights + 1) + weights];
    *dbeta = static_cast<float>(sum);
}

}  // namespace
}  // namespace SIMROOT_ISA

SIMROOT_KERNEL(mex_dense_forward) {
    using namespace SIMROOT_ISA;
    const Memory<float> packed(Dense::floats(a.channels, a.outputs));
    if (!packed.data()) return 1;
    const Dense d(a.x, a.offsets, *a.beta, a.rows, a.channels, a.outputs, packed.data());
    const Memory<float> memory(threads * (Tile::floats(d) + a.channels));
    if (!memory.data()) return 1;
    forward(d, a.out, memory.data(), threads);
    return 0;
}

SIMROOT_KERNEL(mex_dense_backward) {
    using namespace SIMROOT_ISA;
    const Memory<float> packed(Dense::floats(a.channels, a.outputs));
    if (!packed.data()) return 1;
    const Dense d(a.x, a.offsets, *a.beta, a.rows, a.channels, a.outputs, packed.data());
    const Blocks blocks(d);
    const Memory<float> memory(threads * (Tile::floats(d) + Gradients::floats(d)));
    const Memory<double> partial(blocks.count * (a.outputs * d.padded_channels + 1));
    if (!memory.data() || !partial.data()) return 1;
    backward(d, blocks, a.grad, a.dx, a.doffsets, a.dbeta, memory.data(), partial.data(), threads);
    return 0;
}
