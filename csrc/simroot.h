/* The plain C interface of simroot's native kernels: no Python, no PyTorch, one library for every version of both.
 *
 * Every kernel is compiled for several instruction sets. simroot_kernel() gives the address of a kernel for one of
 * them; the prototypes below say how to call it. Tensors are float, channels-last (N, H, W, C) and contiguous; those of
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
    X(grouped_conv) X(grouped_conv_input) X(grouped_conv_filters)

#ifdef __cplusplus
extern "C" {
#endif

/* Changes with every change of a kernel's arguments: whoever calls kernels compares it with what he was written for. */
#define SIMROOT_INTERFACE 2
SIMROOT_EXPORT int simroot_interface(void);

/* Instruction sets that this library holds and this processor has, best first, separated by commas. */
SIMROOT_EXPORT const char *simroot_instruction_sets(void);

/* The address of a kernel for an instruction set (NULL: the best); NULL if there is none or the processor lacks it. */
SIMROOT_EXPORT void *simroot_kernel(const char *name, const char *instruction_set);

/* Let kernels run on an OpenMP runtime that the process has loaded already, given its GOMP_parallel, so that its
 * threads and ours do not compete for the cores. NULL, and the beginning, is a pool of our own. */
SIMROOT_EXPORT void simroot_use_openmp(void *gomp_parallel);

#ifdef __cplusplus
}
#endif
#endif
