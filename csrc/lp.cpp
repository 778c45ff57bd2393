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

template <typename Arguments>
static Shape shape_of(const Arguments &a) {
    Shape s{a.images, a.height, a.width, a.channels, a.templates, a.kernel_height, a.kernel_width, a.step_down,
            a.step_right, a.groups};
    s.derive();
    return s;
}

SIMROOT_KERNEL(lp_forward) {
    Forward f{};
    f.s = shape_of(a);
    if (f.s.rows == 0) return 0;
    f.block = block_of(f.s);
    f.blocks = parts(f.s.rows, f.block);
    // Tasks of some ten microseconds, at least several for each thread.
    const int64_t work = f.block * f.s.k * f.s.group_templates;
    f.blocks_per_task = most(1, least((1 << 20) / work, f.blocks * a.groups / (8 * threads)));
    f.tasks_per_group = parts(f.blocks, f.blocks_per_task);
    threads = static_cast<int>(least(threads, f.tasks_per_group * a.groups));
    const Floats panels(a.groups * parts(f.s.group_templates, W) * W * 2 * f.s.k), scratch(threads * f.scratch_size());
    if (!panels.get() || !scratch.get()) return 1;
    pack_panels(f.s, a.z, a.u, panels.get());
    f.x = a.x;
    f.panels = panels.get();
    f.bias = a.bias;
    f.out = a.out;
    f.scratch = scratch.get();
    f.weighted = a.u != nullptr;
    return with_order(static_cast<float>(a.order), [&](auto order) {
        f.reach = reach_of(order, static_cast<float>(a.order));
        f.templates_finite = all_finite(a.z, a.templates * f.s.k, f.reach);
        f.run(order, threads);
        return 0;
    });
}

SIMROOT_KERNEL(lp_backward) {
    Backward b{};
    b.s = shape_of(a);
    b.d = Gradients{a.dx, a.dz, a.du, a.dbias, a.dorder};
    b.p = static_cast<float>(a.order);
    b.grad = a.grad;
    b.x = a.x;
    const auto run = [&](auto order) {
        b.weighted = a.u || a.dorder || !order.unweighted;
        b.reach = reach_of(order, b.p);
        b.templates_finite = all_finite(a.z, a.templates * b.s.k, b.reach);
        b.divide();
        threads = static_cast<int>(most(1, least(threads, b.chunks * a.groups)));
        const int64_t panels_count = a.groups * b.panels_of_group();
        const Floats panels(panels_count * b.s.group_templates * 2 * W), scratch(threads * b.scratch_size()),
            partial(2 * b.chunks * a.groups * b.sums_size()), order_parts(2 * panels_count);
        if (!panels.get() || !scratch.get() || !partial.get() || !order_parts.get()) return 1;
        pack_lanes(b.s, a.z, a.u, panels.get());
        b.panels = panels.get();
        b.scratch = scratch.get();
        b.partial = reinterpret_cast<double *>(partial.get());
        b.order_parts = reinterpret_cast<double *>(order_parts.get());
        b.run(order, threads);
        return 0;
    };
    return a.dorder ? run(AnyOrder(b.p)) : with_order(b.p, run);
}

// The arithmetic of p = 1 alone, subtract, absolute value, multiply and add, as fast as the processor does it: what the
// kernel is measured against.
SIMROOT_KERNEL(lp_limit) {
    constexpr int rows = 3, vectors = 2, period = 16;  // of the values of x
    float values[period * W];
    for (int i = 0; i < period * W; ++i) values[i] = 0.01f * static_cast<float>(i);
    const Vec z[vectors] = {load(values + W), load(values + 2 * W)}, u = load(values + 3 * W);
    Vec total[rows * vectors];
    SIMROOT_EACH(rows * vectors) total[i] = zero();
    for (int64_t k = 0; k < a.repeats; ++k) {
        const float *x = values + (k & 7) * W;
        SIMROOT_EACH(rows * vectors) total[i] = fnma(u, abs(load(x + i / vectors * W) - z[i % vectors]), total[i]);
    }
    SIMROOT_EACH(rows * vectors) store(values + i * W, total[i]);
    volatile float sink = values[a.repeats % W];
    static_cast<void>(sink), static_cast<void>(threads);
    *a.coordinates = a.repeats * rows * vectors * W;
    return 0;
}
