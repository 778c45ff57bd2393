// Loops over pieces whose sizes are constants of the compiler, so that sums stay in registers.
#pragma once

#include <cstdint>
#include <type_traits>

#include "vec.hpp"

namespace SIMROOT_ISA {
namespace {

// body(begin, size) for pieces of [0, total) of nearly equal sizes, at most `largest`; the type of size tells it.
template <int largest, typename Body>
SIMROOT_METHOD void with_constant(int64_t begin, int64_t size, const Body &body) {
    if (size == largest) return body(begin, std::integral_constant<int, largest>());
    if constexpr (largest > 1) with_constant<largest - 1>(begin, size, body);
}
template <int largest, typename Body>
SIMROOT_METHOD void each_piece(int64_t total, const Body &body) {
    const int64_t pieces = (total + largest - 1) / largest;
    for (int64_t i = 0; i < pieces; ++i) {
        const int64_t begin = i * total / pieces;
        with_constant<largest>(begin, (i + 1) * total / pieces - begin, body);
    }
}

}  // namespace
}  // namespace SIMROOT_ISA
