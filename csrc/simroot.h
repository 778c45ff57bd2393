/* The plain C interface of simroot's native kernels: no Python, no PyTorch, one library for every version of both.
 *
 * Every kernel is compiled for several instruction sets. simroot_kernel() gives the address of a kernel for one of
 * them, SIMROOT_PROTOTYPE how to call it. Tensors are float, channels-last (N, H, W, C) and contiguous; those of
 * grouped_conv may also be (N, C, H, W).
 */
#ifndef SIMROOT_H
#define SIMROOT_H

#include <stdint.h>

#ifdef _WIN32
#define SIMROOT_EXPORT __declspec(dllexport)
#else
#define SIMROOT_EXPORT __attribute__((visibility("default")))
#endif

/* Kernels: each is compiled for every instruction set as simroot_NAME_ISA. */
#define SIMROOT_KERNELS(X) \
    X(lp_forward) X(lp_backward) X(lp_limit) \
    X(mex_dense_forward) X(mex_dense_backward) X(mex_pool_forward) X(mex_pool_backward) \
    X(grouped_conv) X(grouped_conv_input) X(grouped_conv_filters) \
    X(batch_norm_act) X(batch_norm_act_backward) X(norm_pool) X(norm_pool_backward) \
    X(pooled_norm) X(pooled_norm_backward) X(window_pool) X(window_pool_backward) \
    X(pointwise_conv) X(pointwise_conv_backward) X(gated_conv) X(gated_conv_backward) \
    X(depthwise_conv) X(depthwise_conv_backward) X(root_module) X(root_module_backward)

/* The arguments of each kernel, F(type, name) for one: here and nowhere else. From these lines come the structs below,
 * the prototypes, and what simroot_fields() tells callers in other languages. Pointers may be null where it says so. */

/* x (images, height, width, channels), padded already; templates and weights (templates, channels / groups,
 * kernel_height, kernel_width). weights and bias may be null, and so may the gradients that nobody needs. */
#define SIMROOT_LP_SIZES(F) \
    F(int64_t, images) F(int64_t, height) F(int64_t, width) F(int64_t, channels) F(int64_t, templates) \
    F(int64_t, kernel_height) F(int64_t, kernel_width) F(int64_t, step_down) F(int64_t, step_right) \
    F(int64_t, groups) F(double, order)
#define SIMROOT_FIELDS_lp_forward(F) \
    F(const float *, x) F(const float *, z) F(const float *, u) F(const float *, bias) F(float *, out) \
    SIMROOT_LP_SIZES(F)
#define SIMROOT_FIELDS_lp_backward(F) \
    F(const float *, grad) F(const float *, x) F(const float *, z) F(const float *, u) \
    F(float *, dx) F(float *, dz) F(float *, du) F(float *, dbias) F(double *, dorder) SIMROOT_LP_SIZES(F)
/* The arithmetic of p = 1 alone; `coordinates` is how many it went over. */
#define SIMROOT_FIELDS_lp_limit(F) F(int64_t, repeats) F(int64_t *, coordinates)

/* x (rows, channels), offsets (outputs, channels), beta of one element, out (rows, outputs). dbeta may be null. */
#define SIMROOT_FIELDS_mex_dense_forward(F) \
    F(const float *, x) F(const float *, offsets) F(const float *, beta) F(float *, out) \
    F(int64_t, rows) F(int64_t, channels) F(int64_t, outputs)
#define SIMROOT_FIELDS_mex_dense_backward(F) \
    F(const float *, grad) F(const float *, x) F(const float *, offsets) F(const float *, beta) \
    F(float *, dx) F(float *, doffsets) F(float *, dbeta) F(int64_t, rows) F(int64_t, channels) F(int64_t, outputs)

/* beta has one element, or one for each channel. dbeta may be null. */
#define SIMROOT_POOL_SIZES(F) \
    F(int64_t, beta_per_channel) F(int64_t, images) F(int64_t, height) F(int64_t, width) F(int64_t, channels) \
    F(int64_t, out_height) F(int64_t, out_width) F(int64_t, kernel_height) F(int64_t, kernel_width) \
    F(int64_t, stride_height) F(int64_t, stride_width) F(int64_t, padding_height) F(int64_t, padding_width)
#define SIMROOT_FIELDS_mex_pool_forward(F) \
    F(const float *, x) F(const float *, beta) F(float *, out) SIMROOT_POOL_SIZES(F)
#define SIMROOT_FIELDS_mex_pool_backward(F) \
    F(const float *, grad) F(const float *, x) F(const float *, beta) F(float *, dx) F(float *, dbeta) \
    SIMROOT_POOL_SIZES(F)

/* `inputs` and `filters` are channels and filters of one group; the last two tell whether channels are the last
 * dimension in memory, of images and of filters. bias may be null. The gradient of x is for stride 1. */
#define SIMROOT_GROUPED_SIZES(F) \
    F(int64_t, images) F(int64_t, groups) F(int64_t, inputs) F(int64_t, filters) F(int64_t, height) \
    F(int64_t, width) F(int64_t, kernel) F(int64_t, stride) F(int64_t, padding) F(int64_t, channels_last) \
    F(int64_t, filters_last)
#define SIMROOT_FIELDS_grouped_conv(F) \
    F(const float *, x) F(const float *, weights) F(const float *, bias) F(float *, out) SIMROOT_GROUPED_SIZES(F)
#define SIMROOT_FIELDS_grouped_conv_input(F) \
    F(const float *, grad) F(const float *, weights) F(float *, dx) SIMROOT_GROUPED_SIZES(F)
#define SIMROOT_FIELDS_grouped_conv_filters(F) \
    F(const float *, grad) F(const float *, x) F(float *, dweights) F(float *, dbias) SIMROOT_GROUPED_SIZES(F)

/* Images as rows (rows, channels); `activation` is the number in activation.hpp. weight, bias, residual and gradients may
 * be null; with a residual the backward pass needs dresidual. mean and var (biased) are those of the batch. */
#define SIMROOT_NORM_SIZES(F) F(int64_t, rows) F(int64_t, channels) F(int64_t, activation) F(double, eps)
#define SIMROOT_FIELDS_batch_norm_act(F) \
    F(const float *, x) F(const float *, weight) F(const float *, bias) F(const float *, residual) F(float *, out) \
    F(float *, mean) F(float *, var) SIMROOT_NORM_SIZES(F)
#define SIMROOT_FIELDS_batch_norm_act_backward(F) \
    F(const float *, grad) F(const float *, x) F(const float *, weight) F(const float *, bias) \
    F(const float *, residual) F(const float *, mean) F(const float *, var) \
    F(float *, dx) F(float *, dweight) F(float *, dbias) F(float *, dresidual) SIMROOT_NORM_SIZES(F)

/* Windows of 2 x 2 pixels of f(norm(x)): their means, or if `maximum` is not 0 their maxima. Height and width are even. */
#define SIMROOT_POOLED_SIZES(F) \
    F(int64_t, images) F(int64_t, height) F(int64_t, width) F(int64_t, channels) F(int64_t, maximum) \
    F(int64_t, activation) F(double, eps)
#define SIMROOT_FIELDS_pooled_norm(F) \
    F(const float *, x) F(const float *, weight) F(const float *, bias) F(float *, out) F(float *, mean) F(float *, var) \
    SIMROOT_POOLED_SIZES(F)
#define SIMROOT_FIELDS_pooled_norm_backward(F) \
    F(const float *, grad) F(const float *, x) F(const float *, weight) F(const float *, bias) F(const float *, mean) \
    F(const float *, var) F(float *, dx) F(float *, dweight) F(float *, dbias) SIMROOT_POOLED_SIZES(F)

/* The same windows of x itself. */
#define SIMROOT_WINDOW_SIZES(F) \
    F(int64_t, images) F(int64_t, height) F(int64_t, width) F(int64_t, channels) F(int64_t, maximum)
#define SIMROOT_FIELDS_window_pool(F) F(const float *, x) F(float *, out) SIMROOT_WINDOW_SIZES(F)
#define SIMROOT_FIELDS_window_pool_backward(F) \
    F(const float *, grad) F(const float *, x) F(float *, dx) SIMROOT_WINDOW_SIZES(F)

/* Means of f(norm(x)) over the pixels of each image, pooled (images, channels), and the gradient by x of what has one by
 * f(norm(x)), grad, and one by the means, grad_pooled. weight, bias, grad_pooled and all gradients but dx may be null. */
#define SIMROOT_NORM_POOL_TENSORS(F) \
    F(const float *, x) F(const float *, mean) F(const float *, var) F(const float *, weight) F(const float *, bias)
#define SIMROOT_NORM_POOL_SIZES(F) \
    F(int64_t, images) F(int64_t, pixels) F(int64_t, channels) F(int64_t, activation) F(double, eps)
#define SIMROOT_FIELDS_norm_pool(F) SIMROOT_NORM_POOL_TENSORS(F) F(float *, pooled) SIMROOT_NORM_POOL_SIZES(F)
#define SIMROOT_FIELDS_norm_pool_backward(F) \
    SIMROOT_NORM_POOL_TENSORS(F) F(const float *, grad) F(const float *, grad_pooled) F(float *, dx) F(float *, dmean) \
    F(float *, dvar) F(float *, dweight) F(float *, dbias) SIMROOT_NORM_POOL_SIZES(F)

/* Convolutions out = f(norm(x)) * weights, where norm has the given mean, var, weight and bias, weight and bias may be
 * null, and without a mean x is taken as it is. out_mean and out_var are the moments of the result, or null. Backward they
 * may have gradients grad_mean and grad_var, which need out and out_mean; gradients that nobody needs are null, but those
 * of what is before the filters come together with dx. */
#define SIMROOT_CONV_TENSORS(F) \
    F(const float *, x) F(const float *, mean) F(const float *, var) F(const float *, weight) F(const float *, bias) \
    F(const float *, weights)
#define SIMROOT_CONV_RESULTS(F) F(float *, out) F(float *, out_mean) F(float *, out_var)
#define SIMROOT_CONV_GRADIENTS(F) \
    F(const float *, grad) F(const float *, grad_mean) F(const float *, grad_var) F(const float *, out) \
    F(const float *, out_mean) F(float *, dx) F(float *, dmean) F(float *, dvar) F(float *, dweight) \
    F(float *, dbias) F(float *, dweights)
#define SIMROOT_POINTWISE_SIZES(F) \
    F(int64_t, rows) F(int64_t, inputs) F(int64_t, outputs) F(int64_t, activation) F(double, eps)
#define SIMROOT_FIELDS_pointwise_conv(F) SIMROOT_CONV_TENSORS(F) SIMROOT_CONV_RESULTS(F) SIMROOT_POINTWISE_SIZES(F)
#define SIMROOT_FIELDS_pointwise_conv_backward(F) \
    SIMROOT_CONV_TENSORS(F) SIMROOT_CONV_GRADIENTS(F) SIMROOT_POINTWISE_SIZES(F)
/* The filters meet f(norm(x)) gate, with a gate (images, inputs), of images of so many pixels. Backward dx is the gradient
 * by f(norm(x)), and those of what is before it are not found. */
#define SIMROOT_FIELDS_gated_conv(F) \
    SIMROOT_FIELDS_pointwise_conv(F) F(const float *, gate) F(int64_t, pixels)
#define SIMROOT_FIELDS_gated_conv_backward(F) \
    SIMROOT_FIELDS_pointwise_conv_backward(F) F(const float *, gate) F(float *, dgate) F(int64_t, pixels)
/* Filters (channels, kernel, kernel); kernel 3, 5 or 7, stride 1 or 2, padding below the kernel. */
#define SIMROOT_DEPTHWISE_SIZES(F) \
    F(int64_t, images) F(int64_t, height) F(int64_t, width) F(int64_t, channels) F(int64_t, kernel) \
    F(int64_t, stride) F(int64_t, padding) F(int64_t, activation) F(double, eps)
#define SIMROOT_FIELDS_depthwise_conv(F) SIMROOT_CONV_TENSORS(F) SIMROOT_CONV_RESULTS(F) SIMROOT_DEPTHWISE_SIZES(F)
#define SIMROOT_FIELDS_depthwise_conv_backward(F) \
    SIMROOT_CONV_TENSORS(F) SIMROOT_CONV_GRADIENTS(F) SIMROOT_DEPTHWISE_SIZES(F)

/* out = f(norm(z)), plus x if `adds` is not 0 (then there are as many outputs as channels), where z = x * spatial * embedding:
 * one filter of 3 x 3 for each channel with a padding of 1, and filters (outputs, channels) of 1 x 1. mean and var become
 * those of z; they are given if z is null. weight, bias and all gradients may be null. */
#define SIMROOT_MODULE_TENSORS(F) \
    F(const float *, x) F(const float *, spatial) F(const float *, embedding) F(const float *, weight) \
    F(const float *, bias)
#define SIMROOT_MODULE_SIZES(F) \
    F(int64_t, images) F(int64_t, height) F(int64_t, width) F(int64_t, channels) F(int64_t, outputs) \
    F(int64_t, activation) F(int64_t, adds) F(double, eps)
#define SIMROOT_FIELDS_root_module(F) \
    SIMROOT_MODULE_TENSORS(F) F(float *, out) F(float *, z) F(float *, mean) F(float *, var) SIMROOT_MODULE_SIZES(F)
#define SIMROOT_FIELDS_root_module_backward(F) \
    F(const float *, grad) SIMROOT_MODULE_TENSORS(F) F(const float *, z) F(const float *, mean) F(const float *, var) \
    F(float *, dx) F(float *, dspatial) F(float *, dembedding) F(float *, dweight) F(float *, dbias) \
    SIMROOT_MODULE_SIZES(F)

/* struct simroot_NAME_arguments, and the kernel's prototype: not 0 if there was no memory left. */
#define SIMROOT_FIELD(type, name) type name;
#define SIMROOT_STRUCT(name) \
    struct simroot_##name##_arguments { \
        SIMROOT_FIELDS_##name(SIMROOT_FIELD) \
    };
SIMROOT_KERNELS(SIMROOT_STRUCT)
#define SIMROOT_PROTOTYPE(name, isa) \
    int simroot_##name##_##isa(const struct simroot_##name##_arguments *arguments, int threads);

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with every change of a kernel's arguments: whoever calls kernels compares it with what he was written for. */
#define SIMROOT_INTERFACE 7
SIMROOT_EXPORT int simroot_interface(void);

/* Instruction sets that this library holds and this processor has, best first, separated by commas. */
SIMROOT_EXPORT const char *simroot_instruction_sets(void);

/* The address of a kernel for an instruction set (NULL: the best); NULL if there is none or the processor lacks it. */
SIMROOT_EXPORT void *simroot_kernel(const char *name, const char *instruction_set);

/* The arguments of a kernel in their order, as "type name;" for each; NULL if there is no such kernel. */
SIMROOT_EXPORT const char *simroot_fields(const char *name);

/* Let kernels run on an OpenMP runtime that the process has loaded already, given its GOMP_parallel, so that its
 * threads and ours do not compete for the cores. NULL, and the beginning, is a pool of our own. */
SIMROOT_EXPORT void simroot_use_openmp(void *gomp_parallel);

#ifdef __cplusplus
}
#endif
#endif
