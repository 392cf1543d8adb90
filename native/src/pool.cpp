#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <shared_mutex>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace littlefoot {

namespace {

std::shared_mutex gate;  // held by computations together, and by a fork alone
std::atomic<unsigned long> forks{0};

#if defined(__unix__) || defined(__APPLE__)
const int registered = pthread_atfork([] { gate.lock(); }, [] { gate.unlock(); },
                                      [] {
                                          new (&gate) std::shared_mutex;  // no thread of the child holds it
                                          ++forks;
                                      });
#endif

}  // namespace

Running::Running() { gate.lock_shared(); }

Running::~Running() { gate.unlock_shared(); }

struct Pool::Shared {
    std::mutex mutex;
    std::condition_variable begun, ended;
    unsigned long generation = 0;
    bool stop = false;
    const Work* work = nullptr;
    long tasks = 0;
    int busy = 0;
    std::atomic<long> next{0};
    std::exception_ptr error;

    void take(int thread) {
        try {
            for (long task = next++; task < tasks; task = next++) (*work)(task, thread);
        } catch (...) {
            const std::lock_guard lock(mutex);
            error = std::current_exception();
        }
    }
};

Pool::Pool(int threads) : threads_(threads) { start(); }

Pool::~Pool() {
    if (forks_ != forks) {
        abandon();
        return;
    }
    {
        const std::lock_guard lock(shared_->mutex);
        shared_->stop = true;
    }
    shared_->begun.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::start() {
    shared_ = std::make_unique<Shared>();
    forks_ = forks;
    for (int thread = 1; thread < threads_; ++thread) workers_.emplace_back(loop, std::ref(*shared_), thread);
}

// What is left of the parent's threads can be neither joined nor destroyed.
void Pool::abandon() {
    static_cast<void>(shared_.release());
    static_cast<void>(new std::vector<std::thread>(std::move(workers_)));
    workers_.clear();
}

void Pool::run(long tasks, const Work& work) {
    if (forks_ != forks) {
        abandon();
        start();
    }
    Shared& shared = *shared_;
    {
        const std::lock_guard lock(shared.mutex);
        shared.work = &work;
        shared.tasks = tasks;
        shared.next = 0;
        shared.error = nullptr;
        shared.busy = tasks > 1 ? static_cast<int>(workers_.size()) : 0;
        if (shared.busy) ++shared.generation;
    }
    if (shared.busy) shared.begun.notify_all();
    shared.take(0);
    std::unique_lock lock(shared.mutex);
    shared.ended.wait(lock, [&] { return shared.busy == 0; });
    if (shared.error) std::rethrow_exception(shared.error);
}

void Pool::loop(Shared& shared, int thread) {
    unsigned long seen = 0;
    std::unique_lock lock(shared.mutex);
    while (true) {
        shared.begun.wait(lock, [&] { return shared.stop || shared.generation != seen; });
        if (shared.stop) return;
        seen = shared.generation;
        lock.unlock();
        shared.take(thread);
        lock.lock();
        if (--shared.busy == 0) shared.ended.notify_one();
    }
}

}  // namespace littlefoot
