#include "parallel.hpp"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <unistd.h>
#endif

#include "simroot.h"

namespace {

struct Job {
    simroot::Task task;
    void *context;
    int64_t count;
    std::atomic<int64_t> next{0};
    std::atomic<int> workers{0};
};

void work(void *data) {
    Job &job = *static_cast<Job *>(data);
    const int worker = job.workers.fetch_add(1);
    for (int64_t index; (index = job.next.fetch_add(1)) < job.count;) job.task(job.context, index, worker);
}

using GompParallel = void (*)(void (*)(void *), void *, unsigned, unsigned);
std::atomic<GompParallel> openmp{nullptr};

int process() {
#ifdef _WIN32
    return 0;
#else
    return static_cast<int>(getpid());
#endif
}

// Threads that wait for jobs. Never destroyed: threads may still wait in it when the process ends.
class Pool {
public:
    // False if another thread of the program is using the pool.
    bool run(Job &job, int threads) {
        std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn) return false;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            while (static_cast<int>(threads_) < threads - 1) {
                std::thread(&Pool::wait_for_jobs, this, ++threads_).detach();
            }
            job_ = &job;
            helpers_ = running_ = threads - 1;
            ++generation_;
        }
        start_.notify_all();
        work(&job);
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return running_ == 0; });
        return true;
    }

    const int owner = process();

private:
    void wait_for_jobs(int number) {
        std::unique_lock<std::mutex> lock(mutex_);
        for (uint64_t seen = generation_ - 1;;) {
            start_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            if (number > helpers_) continue;
            Job *job = job_;
            lock.unlock();
            work(job);
            lock.lock();
            if (--running_ == 0) done_.notify_one();
        }
    }

    std::mutex turn_, mutex_;
    std::condition_variable start_, done_;
    Job *job_ = nullptr;
    int threads_ = 0, helpers_ = 0, running_ = 0;
    uint64_t generation_ = 0;
};

Pool *pool() {
    static std::mutex mutex;
    static Pool *current = nullptr;
    std::lock_guard<std::mutex> lock(mutex);
    // A process that was forked off has none of its parent's threads.
    if (current == nullptr || current->owner != process()) current = new Pool;
    return current;
}

}  // namespace

void simroot::parallel_for(int64_t count, int threads, Task task, void *context) {
    if (threads > count) threads = static_cast<int>(count);
    Job job;
    job.task = task;
    job.context = context;
    job.count = count;
    if (threads > 1) {
        if (GompParallel borrowed = openmp.load()) {
            borrowed(work, &job, static_cast<unsigned>(threads), 0);
            return;
        }
        if (pool()->run(job, threads)) return;
    }
    work(&job);
}

void simroot_use_openmp(void *gomp_parallel) { openmp = reinterpret_cast<GompParallel>(gomp_parallel); }
