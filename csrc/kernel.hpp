// What every file of kernels begins with. Such a file is compiled once for each instruction set, named by SIMROOT_ISA;
// all that it defines lies in that namespace, so that nothing compiled for one set is ever linked into another.
#pragma once

#include <cstdlib>

#include "parallel.hpp"
#include "simroot.h"

#define SIMROOT_JOIN_(name, isa) simroot_##name##_##isa
#define SIMROOT_JOIN(name, isa) SIMROOT_JOIN_(name, isa)

// The C function of a kernel listed in SIMROOT_KERNELS, whose arguments are called a: SIMROOT_KERNEL(lp_forward) { ... }
#define SIMROOT_KERNEL(name) \
    extern "C" int SIMROOT_JOIN(name, SIMROOT_ISA)(const simroot_##name##_arguments *arguments, int threads); \
    static int run_##name(const simroot_##name##_arguments &a, int threads); \
    int SIMROOT_JOIN(name, SIMROOT_ISA)(const simroot_##name##_arguments *arguments, int threads) { \
        return run_##name(*arguments, threads); \
    } \
    static int run_##name(const simroot_##name##_arguments &a, int threads)

namespace SIMROOT_ISA {

// Memory that is freed at the end of a scope; null if there is none left.
template <typename T>
class Memory {
public:
    explicit Memory(int64_t count) : data_(static_cast<T *>(std::malloc(static_cast<size_t>(count + 1) * sizeof(T)))) {}
    Memory(const Memory &) = delete;
    ~Memory() { std::free(data_); }
    T *data() const { return data_; }

private:
    T *data_;
};

}  // namespace SIMROOT_ISA
