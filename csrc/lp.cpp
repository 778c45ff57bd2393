// The l_p similarity  out[row, r] = bias[r] - sum_k u[r, k] |x[row, k] - z[r, k]|^p  and its gradients. A row is a
// receptive field of the image, k runs over its coordinates (vertical, horizontal, channel). NaN in x is a missing
// coordinate: it contributes nothing.
//
// Forward: tiles of rows x templates, templates as lanes. Backward: tiles of rows x coordinates, coordinates as lanes,
// a loop over the templates; sums over some hundred rows are floats, those over a chunk of the rows doubles. Chunks
// depend on the shapes alone and are added in their order, so that results do not depend on the threads.

#include "lp_backward.hpp"
#include "lp_forward.hpp"

using namespace SIMROOT_ISA;

// All tensors are contiguous: images channels-last, padded already; templates and weights (R, C / groups, kh, kw). u
// and bias may be null, and so may gradients that nobody needs. Returns 0, or 1 if there was not enough memory.

extern "C" int SIMROOT_FUNCTION(lp_forward)(const float *x, const float *z, const float *u, const float *bias,
                                            float *out, int64_t images, int64_t height, int64_t width,
                                            int64_t channels, int64_t templates, int64_t kernel_height,
                                            int64_t kernel_width, int64_t step_down, int64_t step_right,
                                            int64_t groups, double p, int threads) {
    Forward f{};
    f.s = Shape{images, height, width, channels, templates, kernel_height, kernel_width, step_down, step_right, groups};
    f.s.derive();
    if (f.s.rows == 0) return 0;
    f.block = block_of(f.s);
    f.blocks = parts(f.s.rows, f.block);
    // Tasks of some ten microseconds, at least several for each thread.
    const int64_t work = f.block * f.s.k * f.s.group_templates;
    f.blocks_per_task = most(1, least((1 << 20) / work, f.blocks * groups / (8 * threads)));
    f.tasks_per_group = parts(f.blocks, f.blocks_per_task);
    threads = static_cast<int>(least(threads, f.tasks_per_group * groups));
    const Floats panels(groups * parts(f.s.group_templates, W) * W * 2 * f.s.k), scratch(threads * f.scratch_size());
    if (!panels.get() || !scratch.get()) return 1;
    pack_panels(f.s, z, u, panels.get());
    f.x = x;
    f.panels = panels.get();
    f.bias = bias;
    f.out = out;
    f.scratch = scratch.get();
    f.weighted = u != nullptr;
    return with_order(static_cast<float>(p), [&](auto order) {
        f.reach = reach_of(order, static_cast<float>(p));
        f.templates_finite = all_finite(z, templates * f.s.k, f.reach);
        f.run(order, threads);
        return 0;
    });
}

extern "C" int SIMROOT_FUNCTION(lp_backward)(const float *grad, const float *x, const float *z, const float *u,
                                             float *dx, float *dz, float *du, float *dbias, double *dorder,
                                             int64_t images, int64_t height, int64_t width, int64_t channels,
                                             int64_t templates, int64_t kernel_height, int64_t kernel_width,
                                             int64_t step_down, int64_t step_right, int64_t groups, double p,
                                             int threads) {
    Backward b{};
    b.s = Shape{images, height, width, channels, templates, kernel_height, kernel_width, step_down, step_right, groups};
    b.s.derive();
    b.d = Gradients{dx, dz, du, dbias, dorder};
    b.p = static_cast<float>(p);
    b.grad = grad;
    b.x = x;
    const auto run = [&](auto order) {
        b.weighted = u || dorder || !order.unweighted;
        b.reach = reach_of(order, b.p);
        b.templates_finite = all_finite(z, templates * b.s.k, b.reach);
        b.divide();
        threads = static_cast<int>(most(1, least(threads, b.chunks * groups)));
        const int64_t panels_count = groups * b.panels_of_group();
        const Floats panels(panels_count * b.s.group_templates * 2 * W), scratch(threads * b.scratch_size()),
            partial(2 * b.chunks * groups * b.sums_size()), order_parts(2 * panels_count);
        if (!panels.get() || !scratch.get() || !partial.get() || !order_parts.get()) return 1;
        pack_lanes(b.s, z, u, panels.get());
        b.panels = panels.get();
        b.scratch = scratch.get();
        b.partial = reinterpret_cast<double *>(partial.get());
        b.order_parts = reinterpret_cast<double *>(order_parts.get());
        b.run(order, threads);
        return 0;
    };
    return dorder ? run(AnyOrder(b.p)) : with_order(b.p, run);
}

// The arithmetic of p = 1 alone, subtract, absolute value, multiply and add, as fast as the processor does it: what the
// kernel is measured against. Returns how many coordinates it went over.
extern "C" int64_t SIMROOT_FUNCTION(lp_limit)(int64_t repeats) {
    constexpr int rows = 3, vectors = 2, period = 16;  // of the values of x
    float values[period * W];
    for (int i = 0; i < period * W; ++i) values[i] = 0.01f * static_cast<float>(i);
    const Vec z[vectors] = {load(values + W), load(values + 2 * W)}, u = load(values + 3 * W);
    Vec total[rows * vectors];
    SIMROOT_EACH(rows * vectors) total[i] = zero();
    for (int64_t k = 0; k < repeats; ++k) {
        const float *x = values + (k & 7) * W;
        SIMROOT_EACH(rows * vectors) total[i] = fnma(u, abs(load(x + i / vectors * W) - z[i % vectors]), total[i]);
    }
    SIMROOT_EACH(rows * vectors) store(values + i * W, total[i]);
    volatile float sink = values[repeats % W];
    static_cast<void>(sink);
    return repeats * rows * vectors * W;
}
