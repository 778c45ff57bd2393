// Work shared among threads: tasks are handed out one by one, so results must not depend on who runs which.
#pragma once

#include <cstdint>

namespace simroot {

// task(context, index, worker): index of the task; worker in [0, threads), for memory of one's own.
using Task = void (*)(void *context, int64_t index, int worker);

// Run tasks 0 .. count - 1 on at most `threads` threads and wait for them.
void parallel_for(int64_t count, int threads, Task task, void *context);

}  // namespace simroot

namespace {

// The same with any callable (index, worker) -> void, which must not throw.
template <typename Body>
void parallel(int64_t count, int threads, Body &body) {
    simroot::parallel_for(
        count, threads, [](void *context, int64_t index, int worker) { (*static_cast<Body *>(context))(index, worker); },
        &body);
}

}  // namespace
