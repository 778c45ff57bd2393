// What every file of kernels begins with. Such a file is compiled once for each instruction set, named by SIMROOT_ISA;
// all that it defines lies in that namespace, so that nothing compiled for one set is ever linked into another.
#pragma once

#include <cstdint>
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

// Memory that is freed at the end of a scope; null if there is none left. It begins where a line of the caches does: vectors
// that lie across two lines take twice as long.
template <typename T>
class Memory {
public:
    explicit Memory(int64_t count) : all_(std::malloc(static_cast<size_t>(count + 1) * sizeof(T) + line)), data_(nullptr) {
        const uintptr_t past = reinterpret_cast<uintptr_t>(all_) % line;
        if (all_) data_ = reinterpret_cast<T *>(static_cast<char *>(all_) + (line - past) % line);
    }
    Memory(const Memory &) = delete;
    ~Memory() { std::free(all_); }
    T *data() const { return data_; }

private:
    static constexpr size_t line = 64;
    void *all_;
    T *data_;
};

}  // namespace SIMROOT_ISA
