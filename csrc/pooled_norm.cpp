// Batch normalisation, an activation and pooling over windows of 2 x 2 pixels, whose values are never in memory; and the
// pooling by itself.
//
// Two rows of pixels give one row of windows; height is even, so that those of all images follow each other. Backward all
// values of a window are computed again: twice, for the sums over the batch and for the gradient of x.

#include "batch_norm.hpp"

namespace SIMROOT_ISA {
namespace {

struct Maximum {
    SIMROOT_METHOD static Vec of(const Vec *v) { return max(max(v[0], v[1]), max(v[2], v[3])); }
    // As PyTorch has it: the first of the largest has the gradient.
    SIMROOT_METHOD static void gradients(const Vec *v, Vec grad, Vec *found) {
        const Vec largest = of(v);
        SIMROOT_EACH(4) {
            const Mask taken = v[i] == largest;
            found[i] = keep(taken, grad);
            grad = drop(taken, grad);
        }
    }
};

struct Mean {
    SIMROOT_METHOD static Vec of(const Vec *v) { return ((v[0] + v[1]) + (v[2] + v[3])) * set1(0.25f); }
    SIMROOT_METHOD static void gradients(const Vec *, Vec grad, Vec *found) {
        SIMROOT_EACH(4) found[i] = grad * set1(0.25f);
    }
};

template <typename Arguments>
struct Windows {
    const Arguments &a;
    // Rows of windows, floats of a row of pixels, rows of windows of a chunk, and how far ahead of the reading the memory
    // is asked for: where another window of these columns is.
    const int64_t rows, row_floats, chunk, ahead;

    explicit Windows(const Arguments &a)
        : a(a), rows(a.images * a.height / 2), row_floats(a.width * a.channels),
          chunk(most(1, chunk_floats / (2 * row_floats))), ahead(parts(floats_ahead, 2 * row_floats) * 2 * row_floats) {}

    int64_t chunks() const { return parts(rows, chunk); }

    // body(place of the first pixel, place of the window, channel, lanes, v) for the windows of a chunk; v counts the
    // vectors that are together, of whose channels there are so many from `first` on.
    template <int together, typename Body>
    SIMROOT_METHOD void each(int64_t index, int64_t first, const Body &body) const {
        for (int64_t row = index * chunk; row < least(rows, (index + 1) * chunk); ++row) {
            for (int64_t j = 0; j < a.width / 2; ++j) {
                const int64_t from = 2 * (row * row_floats + j * a.channels), to = row * row_floats / 2 + j * a.channels;
                SIMROOT_UNROLL
                for (int v = 0; v < together; ++v) {
                    const int64_t c = (first + v) * W;
                    body(from + c, to + c, c, static_cast<int>(least(W, a.channels - c)), v);
                }
            }
        }
    }

    int64_t vectors() const { return parts(a.channels, W); }
    int64_t floats() const { return vectors() * W; }
    int64_t pixel(int i, int64_t from) const { return from + (i / 2) * row_floats + (i % 2) * a.channels; }
    Norm norm() const { return {a.mean, a.var, a.weight, a.bias, a.eps}; }
};

template <typename Pool, typename Activation>
int forward(const simroot_pooled_norm_arguments &a, int threads) {
    const Windows<simroot_pooled_norm_arguments> w(a);
    const Memory<float> memory(3 * w.floats());
    if (!memory.data() || !statistics(Rows(4 * w.rows * (a.width / 2), a.channels), a.x, a.mean, a.var, threads)) return 1;
    const Affine f(w.norm(), a.channels, w.floats(), memory.data());
    auto task = [&](int64_t k, int) {
        each_piece<4>(w.vectors(), [&](int64_t first, auto together) {
            w.template each<decltype(together)::value>(
                k, first, [&](int64_t from, int64_t to, int64_t c, int lanes, int) {
                    const Vec mean = load(f.mean + c), scale = load(f.scale + c), bias = load(f.bias + c);
                    Vec v[4];
                    SIMROOT_EACH(4) {
                        prefetch(a.x + w.pixel(i, from) + w.ahead);
                        v[i] = Activation::value(fma(load(a.x + w.pixel(i, from), lanes) - mean, scale, bias));
                    }
                    store(a.out + to, Pool::of(v), lanes);
                });
        });
    };
    parallel(w.chunks(), threads, task);
    return 0;
}

// x - mean and the gradients before the activation, of the four pixels of a window.
template <typename Pool, typename Activation, typename Place>
struct Gradients {
    const Place &w;
    const Affine &f;

    SIMROOT_METHOD void find(int64_t from, int64_t to, int64_t c, int lanes, Vec *d, Vec *dz) const {
        const Vec mean = load(f.mean + c), scale = load(f.scale + c), bias = load(f.bias + c);
        Vec z[4], v[4];
        SIMROOT_EACH(4) {
            prefetch(w.a.x + w.pixel(i, from) + w.ahead);
            d[i] = load(w.a.x + w.pixel(i, from), lanes) - mean;
            z[i] = fma(d[i], scale, bias);
            v[i] = Activation::value(z[i]);
        }
        prefetch(w.a.grad + to + w.ahead / 4);
        Pool::gradients(v, load(w.a.grad + to, lanes), dz);
        SIMROOT_EACH(4) dz[i] = Activation::identity ? dz[i] : dz[i] * Activation::slope(z[i]);
    }
};

template <typename Pool, typename Activation>
int backward(const simroot_pooled_norm_backward_arguments &a, int threads) {
    const Windows<simroot_pooled_norm_backward_arguments> w(a);
    const int64_t size = w.floats(), channels = a.channels, chunks = w.chunks();
    const Memory<float> memory(5 * size);
    const Memory<double> partial(2 * (chunks + 1) * channels);
    if (!memory.data() || !partial.data()) return 1;
    const Norm norm = w.norm();
    const Affine f(norm, channels, size, memory.data());
    const Gradients<Pool, Activation, decltype(w)> of{w, f};
    auto reduce = [&](int64_t k, int) {
        double *total = partial.data() + 2 * (k + 1) * channels;
        each_piece<4>(w.vectors(), [&](int64_t first, auto together) {
            constexpr int n = decltype(together)::value;
            Vec sums[n], products[n];
            SIMROOT_EACH(n) sums[i] = products[i] = zero();
            w.template each<n>(k, first, [&](int64_t from, int64_t to, int64_t c, int lanes, int at) {
                Vec d[4], dz[4];
                of.find(from, to, c, lanes, d, dz);
                sums[at] = sums[at] + ((dz[0] + dz[1]) + (dz[2] + dz[3]));
                SIMROOT_EACH(4) products[at] = fma(dz[i], d[i], products[at]);
            });
            for (int v = 0; v < n; ++v) {
                float lines[2][W];
                store(lines[0], sums[v]);
                store(lines[1], products[v]);
                const int64_t c = (first + v) * W;
                for (int64_t i = 0; i < least(W, channels - c); ++i) {
                    total[c + i] = lines[0][i];
                    total[channels + c + i] = lines[1][i];
                }
            }
        });
    };
    parallel(chunks, threads, reduce);
    const Centred centred(
        partial.data(), chunks, norm, 4 * w.rows * (a.width / 2), channels, size, memory.data() + 3 * size);
    NormGradients{nullptr, nullptr, a.dweight, a.dbias}.set(norm, channels, partial.data(), partial.data() + channels);
    if (!a.dx) return 0;
    auto finish = [&](int64_t k, int) {
        each_piece<4>(w.vectors(), [&](int64_t first, auto together) {
            w.template each<decltype(together)::value>(
                k, first, [&](int64_t from, int64_t to, int64_t c, int lanes, int) {
                    Vec d[4], dz[4];
                    of.find(from, to, c, lanes, d, dz);
                    SIMROOT_EACH(4) {
                        prefetch(a.dx + w.pixel(i, from) + w.ahead);
                        store(a.dx + w.pixel(i, from), centred.gradient(c, d[i], load(f.scale + c), dz[i]), lanes);
                    }
                });
        });
    };
    parallel(chunks, threads, finish);
    return 0;
}

// The values of a window as they are.
template <typename Place>
SIMROOT_METHOD void load_window(const Place &w, int64_t from, int lanes, Vec *v) {
    SIMROOT_EACH(4) {
        prefetch(w.a.x + w.pixel(i, from) + w.ahead);
        v[i] = load(w.a.x + w.pixel(i, from), lanes);
    }
}

// body(place of the first pixel, place of the window, lanes, values) for all windows.
template <typename Place, typename Body>
void each_window(const Place &w, int threads, const Body &body) {
    auto task = [&](int64_t k, int) {
        each_piece<4>(w.vectors(), [&](int64_t first, auto together) {
            w.template each<decltype(together)::value>(k, first, [&](int64_t from, int64_t to, int64_t, int lanes, int) {
                Vec v[4];
                load_window(w, from, lanes, v);
                body(from, to, lanes, v);
            });
        });
    };
    parallel(w.chunks(), threads, task);
}

// body(a pooling, an activation) for the arguments' numbers.
template <typename Arguments, typename Body>
int chosen(const Arguments &a, const Body &body) {
    return with_activation(a.activation, [&](auto activation) {
        return a.maximum ? body(Maximum(), activation) : body(Mean(), activation);
    });
}

}  // namespace
}  // namespace SIMROOT_ISA

SIMROOT_KERNEL(pooled_norm) {
    using namespace SIMROOT_ISA;
    return chosen(a, [&](auto pool, auto activation) { return forward<decltype(pool), decltype(activation)>(a, threads); });
}

SIMROOT_KERNEL(pooled_norm_backward) {
    using namespace SIMROOT_ISA;
    return chosen(a, [&](auto pool, auto activation) { return backward<decltype(pool), decltype(activation)>(a, threads); });
}

SIMROOT_KERNEL(window_pool) {
    using namespace SIMROOT_ISA;
    const Windows<simroot_window_pool_arguments> w(a);
    each_window(w, threads, [&](int64_t, int64_t to, int lanes, const Vec *v) {
        if (!a.maximum) return store(a.out + to, Mean::of(v), lanes);
        // A missing value makes the sum one, and is the largest.
        const Vec sum = (v[0] + v[1]) + (v[2] + v[3]);
        const Mask missing = is_nan(v[0]) | is_nan(v[1]) | is_nan(v[2]) | is_nan(v[3]);
        store(a.out + to, select(missing, sum, Maximum::of(v)), lanes);
    });
    return 0;
}

SIMROOT_KERNEL(window_pool_backward) {
    using namespace SIMROOT_ISA;
    const Windows<simroot_window_pool_backward_arguments> w(a);
    each_window(w, threads, [&](int64_t from, int64_t to, int lanes, const Vec *v) {
        Vec dx[4];
        const Vec grad = load(a.grad + to, lanes);
        a.maximum ? Maximum::gradients(v, grad, dx) : Mean::gradients(v, grad, dx);
        SIMROOT_EACH(4) {
            prefetch(a.dx + w.pixel(i, from) + w.ahead);
            store(a.dx + w.pixel(i, from), dx[i], lanes);
        }
    });
    return 0;
}
