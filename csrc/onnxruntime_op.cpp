// The l_p similarity as an operator of ONNX Runtime, for orders that standard operators compute slowly: domain
// "simroot", LpSimilarity(x, templates, weights, bias), attributes order, stride and groups.
//
// ONNX Runtime finds it through RegisterCustomOps, given this library's path. Its C interface comes from its own header;
// nothing is linked. What is used has been there since version 17 of the interface, ONNX Runtime 1.17.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "lp_planes.hpp"
#include "simroot.h"
#include "vendor/onnxruntime/onnxruntime_c_api.h"

namespace {

constexpr uint32_t interface_version = 17;
// A later version of the operator's table has functions that are not set below.
constexpr uint32_t operator_version = 16;

struct Kernel {
    const OrtApi *api;
    float order;
    int64_t stride, groups;
};

OrtStatus *error(const OrtApi &api, const char *message) { return api.CreateStatus(ORT_FAIL, message); }

OrtStatus *ORT_API_CALL create(const OrtCustomOp *, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    Kernel kernel{api, 0, 0, 0};
    if (OrtStatus *status = api->KernelInfoGetAttribute_float(info, "order", &kernel.order)) return status;
    if (OrtStatus *status = api->KernelInfoGetAttribute_int64(info, "stride", &kernel.stride)) return status;
    if (OrtStatus *status = api->KernelInfoGetAttribute_int64(info, "groups", &kernel.groups)) return status;
    *out = new (std::nothrow) Kernel(kernel);
    return *out ? nullptr : error(*api, "no memory left for an LpSimilarity");
}

// A tensor of `rank` lengths, or an error.
OrtStatus *read(const OrtApi &api, const OrtKernelContext *context, std::size_t index, std::size_t rank,
                int64_t *lengths, const float **values) {
    const OrtValue *value = nullptr;
    if (OrtStatus *status = api.KernelContext_GetInput(context, index, &value)) return status;
    OrtTensorTypeAndShapeInfo *shape = nullptr;
    if (OrtStatus *status = api.GetTensorTypeAndShape(value, &shape)) return status;
    std::size_t found = 0;
    OrtStatus *status = api.GetDimensionsCount(shape, &found);
    if (!status && found != rank) status = error(api, "an input of LpSimilarity has a wrong number of dimensions");
    if (!status) status = api.GetDimensions(shape, lengths, rank);
    api.ReleaseTensorTypeAndShapeInfo(shape);
    void *data = nullptr;
    if (!status) status = api.GetTensorMutableData(const_cast<OrtValue *>(value), &data);
    *values = static_cast<const float *>(data);
    return status;
}

struct Work {
    simroot::LpPlanes planes;
    std::atomic<bool> done;
};

OrtStatus *ORT_API_CALL compute(void *opaque, OrtKernelContext *context) {
    const Kernel &kernel = *static_cast<const Kernel *>(opaque);
    const OrtApi &api = *kernel.api;
    int64_t x[4], z[4], u[4], b[1];
    Work work{{}, {true}};
    simroot::LpPlanes &p = work.planes;
    if (OrtStatus *status = read(api, context, 0, 4, x, &p.x)) return status;
    if (OrtStatus *status = read(api, context, 1, 4, z, &p.templates)) return status;
    if (OrtStatus *status = read(api, context, 2, 4, u, &p.weights)) return status;
    if (OrtStatus *status = read(api, context, 3, 1, b, &p.bias)) return status;
    p.images = x[0], p.channels = x[1], p.height = x[2], p.width = x[3];
    p.units = z[0], p.kernel_height = z[2], p.kernel_width = z[3];
    p.step = kernel.stride, p.groups = kernel.groups, p.order = kernel.order;
    bool fits = p.valid() && z[1] * p.groups == p.channels && b[0] == p.units;
    for (int i = 0; i < 4; ++i) fits = fits && u[i] == z[i];
    if (!fits) return error(api, "the inputs and attributes of LpSimilarity do not fit together");
    const int64_t lengths[4] = {p.images, p.units, p.out_height(), p.out_width()};
    OrtValue *out = nullptr;
    void *data = nullptr;
    if (OrtStatus *status = api.KernelContext_GetOutput(context, 0, lengths, 4, &out)) return status;
    if (OrtStatus *status = api.GetTensorMutableData(out, &data)) return status;
    p.out = static_cast<float *>(data);
    const auto body = [](void *opaque_work, std::size_t task) {
        Work &one = *static_cast<Work *>(opaque_work);
        if (!one.planes.run(static_cast<int64_t>(task))) one.done = false;
    };
    // On the engine's own threads: others would compete with them.
    const auto tasks = static_cast<std::size_t>(p.tasks());
    if (OrtStatus *status = api.KernelContext_ParallelFor(context, body, tasks, 0, &work)) return status;
    return work.done ? nullptr : error(api, "no memory left for an LpSimilarity");
}

OrtCustomOp make_operator() {
    constexpr auto one_tensor = [](const OrtCustomOp *, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
    constexpr auto floats = [](const OrtCustomOp *, std::size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
    constexpr auto none = [](const OrtCustomOp *) { return 0; };
    OrtCustomOp op{};
    op.version = operator_version;
    op.GetName = [](const OrtCustomOp *) -> const char * { return "LpSimilarity"; };
    op.GetExecutionProviderType = [](const OrtCustomOp *) -> const char * { return nullptr; };
    op.GetInputType = op.GetOutputType = floats;
    op.GetInputTypeCount = [](const OrtCustomOp *) -> std::size_t { return 4; };
    op.GetOutputTypeCount = [](const OrtCustomOp *) -> std::size_t { return 1; };
    op.KernelDestroy = [](void *kernel) { delete static_cast<Kernel *>(kernel); };
    op.GetInputCharacteristic = op.GetOutputCharacteristic = one_tensor;
    op.GetInputMemoryType = [](const OrtCustomOp *, std::size_t) { return OrtMemTypeDefault; };
    op.GetVariadicInputMinArity = op.GetVariadicInputHomogeneity = none;
    op.GetVariadicOutputMinArity = op.GetVariadicOutputHomogeneity = none;
    op.CreateKernelV2 = create;
    op.KernelComputeV2 = compute;
    return op;
}

}  // namespace

extern "C" SIMROOT_EXPORT OrtStatus *ORT_API_CALL RegisterCustomOps(OrtSessionOptions *options,
                                                                     const OrtApiBase *base) {
    static const OrtCustomOp op = make_operator();
    const OrtApi *api = base->GetApi(interface_version);
    if (!api) {
        // Every version of the interface has the place for errors.
        return error(*base->GetApi(1), "the operators of simroot need ONNX Runtime 1.17 or newer");
    }
    // As the operator itself, for as long as the process lives: any session may use it.
    OrtCustomOpDomain *domain = nullptr;
    if (OrtStatus *status = api->CreateCustomOpDomain("simroot", &domain)) return status;
    if (OrtStatus *status = api->CustomOpDomain_Add(domain, &op)) return status;
    return api->AddCustomOpDomain(options, domain);
}
