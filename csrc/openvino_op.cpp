// The l_p similarity as an operator of OpenVINO, for orders that standard operators compute slowly: LpSimilarity(x,
// templates, weights, bias), attributes order, stride and groups, as in ONNX Runtime (onnxruntime_op.cpp).
// OpenVINO's C++ interface changes with its version: this is built where OpenVINO is installed, for that version. It runs
// on OpenVINO's own threads, those of TBB, as many as the engine was told to use.

#include <atomic>
#include <memory>
#include <vector>

#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/op/op.hpp>
#include <tbb/parallel_for.h>

#include "lp_planes.hpp"

namespace {

class LpSimilarity : public ov::op::Op {
public:
    OPENVINO_OP("LpSimilarity");

    LpSimilarity() = default;

    void validate_and_infer_types() override {
        const ov::PartialShape &x = get_input_partial_shape(0), &templates = get_input_partial_shape(1);
        NODE_VALIDATION_CHECK(this, stride_ > 0 && x.rank() == 4 && templates.rank() == 4,
                              "expected a positive stride, and inputs and templates of four dimensions");
        const auto length = [&](int axis) {
            if (x[axis].is_dynamic() || templates[axis].is_dynamic()) return ov::Dimension();
            return ov::Dimension((x[axis].get_length() - templates[axis].get_length()) / stride_ + 1);
        };
        set_output_type(0, get_input_element_type(0), {x[0], templates[0], length(2), length(3)});
    }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector &inputs) const override {
        auto copy = std::make_shared<LpSimilarity>();
        copy->order_ = order_, copy->stride_ = stride_, copy->groups_ = groups_;
        copy->set_arguments(inputs);
        copy->validate_and_infer_types();
        return copy;
    }

    bool visit_attributes(ov::AttributeVisitor &visitor) override {
        visitor.on_attribute("order", order_);
        visitor.on_attribute("stride", stride_);
        visitor.on_attribute("groups", groups_);
        return true;
    }

    bool has_evaluate() const override { return true; }

    bool evaluate(ov::TensorVector &outputs, const ov::TensorVector &inputs) const override {
        const ov::Shape x = inputs[0].get_shape(), z = inputs[1].get_shape();
        simroot::LpPlanes p{};
        p.x = inputs[0].data<const float>(), p.templates = inputs[1].data<const float>();
        p.weights = inputs[2].data<const float>(), p.bias = inputs[3].data<const float>();
        const auto length = [](std::size_t size) { return static_cast<int64_t>(size); };
        p.images = length(x[0]), p.channels = length(x[1]), p.height = length(x[2]), p.width = length(x[3]);
        p.units = length(z[0]), p.kernel_height = length(z[2]), p.kernel_width = length(z[3]);
        p.step = stride_, p.groups = groups_, p.order = order_;
        const bool fits = p.valid() && length(z[1]) * groups_ == p.channels && inputs[2].get_shape() == z &&
                          inputs[3].get_shape() == ov::Shape{z[0]};
        if (!fits) return false;
        outputs[0].set_shape(
            {x[0], z[0], static_cast<std::size_t>(p.out_height()), static_cast<std::size_t>(p.out_width())});
        p.out = outputs[0].data<float>();
        std::atomic<bool> done{true};
        tbb::parallel_for(int64_t{0}, p.tasks(), [&](int64_t task) {
            if (!p.run(task)) done = false;
        });
        return done;
    }

private:
    float order_ = 1;
    int64_t stride_ = 1, groups_ = 1;
};

}  // namespace

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>{std::make_shared<ov::OpExtension<LpSimilarity>>()});
