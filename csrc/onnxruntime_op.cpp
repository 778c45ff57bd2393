// The l_p similarity as an operator of ONNX Runtime, for orders that standard operators compute slowly: domain
// "simroot", LpSimilarity(x, templates, weights, bias), attributes order, stride and groups.
//
// ONNX Runtime finds it through RegisterCustomOps, given this library's path. What follows declares of its C interface
// no more than is used here, by the places in its table of functions, which never change once released (the last one
// used belongs to version 17 of the interface, ONNX Runtime 1.17).

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "lp_planes.hpp"
#include "simroot.h"

#ifdef _WIN32
#define ORT_CALL __stdcall
#else
#define ORT_CALL
#endif

namespace {

constexpr uint32_t interface_version = 17;
// A later version of the operator's table would have fields that are not declared below.
constexpr uint32_t operator_version = 16;

// Objects of the engine, seen as pointers only.
struct Status;
struct Options;
struct Domain;
struct Info;
struct Context;
struct Value;
struct Shape;

using Function = void(ORT_CALL *)();

struct Api {
    Function functions[275];

    template <class Result, class... Arguments>
    Result call(std::size_t place, Arguments... arguments) const {
        return reinterpret_cast<Result(ORT_CALL *)(Arguments...)>(functions[place])(arguments...);
    }

    Status *error(const char *message) const { return call<Status *, int, const char *>(0, 1, message); }
    Status *create_domain(const char *name, Domain **domain) const { return call<Status *>(26, name, domain); }
    Status *add_operator(Domain *domain, const void *op) const { return call<Status *>(27, domain, op); }
    Status *add_domain(Options *options, Domain *domain) const { return call<Status *>(28, options, domain); }
    Status *data(Value *value, void **data) const { return call<Status *>(51, value, data); }
    Status *rank(const Shape *shape, std::size_t *rank) const { return call<Status *>(61, shape, rank); }
    Status *lengths(const Shape *shape, int64_t *lengths, std::size_t rank) const {
        return call<Status *>(62, shape, lengths, rank);
    }
    Status *shape(const Value *value, Shape **shape) const { return call<Status *>(65, value, shape); }
    Status *attribute(const Info *info, const char *name, float *out) const { return call<Status *>(85, info, name, out); }
    Status *attribute(const Info *info, const char *name, int64_t *out) const { return call<Status *>(86, info, name, out); }
    Status *input(const Context *context, std::size_t index, const Value **out) const {
        return call<Status *>(90, context, index, out);
    }
    Status *output(Context *context, std::size_t index, const int64_t *lengths, std::size_t rank, Value **out) const {
        return call<Status *>(91, context, index, lengths, rank, out);
    }
    void release(Shape *shape) const { call<void>(99, shape); }
    Status *parallel(const Context *context, void (*body)(void *, std::size_t), std::size_t total, std::size_t batches,
                     void *data) const {
        return call<Status *>(274, context, body, total, batches, data);
    }
};

struct ApiBase {
    const Api *(ORT_CALL *get)(uint32_t version);
    const char *(ORT_CALL *version)();
};

// What the engine asks an operator, in its order.
struct Operator {
    uint32_t version;
    void *(ORT_CALL *create)(const Operator *, const Api *, const Info *);
    const char *(ORT_CALL *name)(const Operator *);
    const char *(ORT_CALL *provider)(const Operator *);
    int (ORT_CALL *input_type)(const Operator *, std::size_t);
    std::size_t (ORT_CALL *inputs)(const Operator *);
    int (ORT_CALL *output_type)(const Operator *, std::size_t);
    std::size_t (ORT_CALL *outputs)(const Operator *);
    void (ORT_CALL *compute)(void *, Context *);
    void (ORT_CALL *destroy)(void *);
    int (ORT_CALL *input_kind)(const Operator *, std::size_t);
    int (ORT_CALL *output_kind)(const Operator *, std::size_t);
    int (ORT_CALL *input_memory)(const Operator *, std::size_t);
    int (ORT_CALL *variadic_inputs)(const Operator *);
    int (ORT_CALL *homogeneous_inputs)(const Operator *);
    int (ORT_CALL *variadic_outputs)(const Operator *);
    int (ORT_CALL *homogeneous_outputs)(const Operator *);
    Status *(ORT_CALL *create_checked)(const Operator *, const Api *, const Info *, void **);
    Status *(ORT_CALL *compute_checked)(void *, Context *);
};

struct Kernel {
    const Api *api;
    float order;
    int64_t stride, groups;
};

Status *ORT_CALL create(const Operator *, const Api *api, const Info *info, void **out) {
    Kernel kernel{api, 0, 0, 0};
    if (Status *status = api->attribute(info, "order", &kernel.order)) return status;
    if (Status *status = api->attribute(info, "stride", &kernel.stride)) return status;
    if (Status *status = api->attribute(info, "groups", &kernel.groups)) return status;
    *out = new (std::nothrow) Kernel(kernel);
    return *out ? nullptr : api->error("no memory left for an LpSimilarity");
}

// A tensor of `rank` lengths, or an error.
Status *read(const Api &api, const Context *context, std::size_t index, std::size_t rank, int64_t *lengths,
             const float **values) {
    const Value *value = nullptr;
    if (Status *status = api.input(context, index, &value)) return status;
    Shape *shape = nullptr;
    if (Status *status = api.shape(value, &shape)) return status;
    std::size_t found = 0;
    Status *status = api.rank(shape, &found);
    if (!status && found != rank) status = api.error("an input of LpSimilarity has a wrong number of dimensions");
    if (!status) status = api.lengths(shape, lengths, rank);
    api.release(shape);
    void *data = nullptr;
    if (!status) status = api.data(const_cast<Value *>(value), &data);
    *values = static_cast<const float *>(data);
    return status;
}

struct Work {
    simroot::LpPlanes planes;
    std::atomic<bool> done;
};

Status *ORT_CALL compute(void *opaque, Context *context) {
    const Kernel &kernel = *static_cast<const Kernel *>(opaque);
    const Api &api = *kernel.api;
    int64_t x[4], z[4], u[4], b[1];
    Work work{{}, {true}};
    simroot::LpPlanes &p = work.planes;
    if (Status *status = read(api, context, 0, 4, x, &p.x)) return status;
    if (Status *status = read(api, context, 1, 4, z, &p.templates)) return status;
    if (Status *status = read(api, context, 2, 4, u, &p.weights)) return status;
    if (Status *status = read(api, context, 3, 1, b, &p.bias)) return status;
    p.images = x[0], p.channels = x[1], p.height = x[2], p.width = x[3];
    p.units = z[0], p.kernel_height = z[2], p.kernel_width = z[3];
    p.step = kernel.stride, p.groups = kernel.groups, p.order = kernel.order;
    bool fits = p.valid() && z[1] * p.groups == p.channels && b[0] == p.units;
    for (int i = 0; i < 4; ++i) fits = fits && u[i] == z[i];
    if (!fits) return api.error("the inputs and attributes of LpSimilarity do not fit together");
    const int64_t lengths[4] = {p.images, p.units, p.out_height(), p.out_width()};
    Value *out = nullptr;
    void *data = nullptr;
    if (Status *status = api.output(context, 0, lengths, 4, &out)) return status;
    if (Status *status = api.data(out, &data)) return status;
    p.out = static_cast<float *>(data);
    const auto body = [](void *opaque_work, std::size_t task) {
        Work &one = *static_cast<Work *>(opaque_work);
        if (!one.planes.run(static_cast<int64_t>(task))) one.done = false;
    };
    // On the engine's own threads: others would compete with them.
    if (Status *status = api.parallel(context, body, static_cast<std::size_t>(p.tasks()), 0, &work)) return status;
    return work.done ? nullptr : api.error("no memory left for an LpSimilarity");
}

constexpr int float_tensor = 1;

Operator make_operator() {
    Operator op{};
    op.version = operator_version;
    op.name = [](const Operator *) -> const char * { return "LpSimilarity"; };
    op.provider = [](const Operator *) -> const char * { return nullptr; };
    op.input_type = op.output_type = [](const Operator *, std::size_t) { return float_tensor; };
    op.inputs = [](const Operator *) -> std::size_t { return 4; };
    op.outputs = [](const Operator *) -> std::size_t { return 1; };
    op.destroy = [](void *kernel) { delete static_cast<Kernel *>(kernel); };
    op.input_kind = op.output_kind = op.input_memory = [](const Operator *, std::size_t) { return 0; };
    op.variadic_inputs = op.variadic_outputs = op.homogeneous_inputs = op.homogeneous_outputs = [](const Operator *) {
        return 0;
    };
    op.create_checked = create;
    op.compute_checked = compute;
    return op;
}

}  // namespace

extern "C" SIMROOT_EXPORT Status *ORT_CALL RegisterCustomOps(Options *options, const ApiBase *base) {
    static const Operator op = make_operator();
    const Api *api = base->get(interface_version);
    if (!api) {
        // Every version of the interface has the place for errors.
        return base->get(1)->error("the operators of simroot need ONNX Runtime 1.17 or newer");
    }
    // As the operator itself, for as long as the process lives: any session may use it.
    Domain *domain = nullptr;
    if (Status *status = api->create_domain("simroot", &domain)) return status;
    if (Status *status = api->add_operator(domain, &op)) return status;
    return api->add_domain(options, domain);
}
