#include "pool.h"

namespace littlefoot {

Pool::Pool(int threads) {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { loop(thread); });
}

Pool::~Pool() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    begun_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void Pool::run(long tasks, const Work& work) {
    {
        const std::lock_guard lock(mutex_);
        work_ = &work;
        tasks_ = tasks;
        next_ = 0;
        error_ = nullptr;
        busy_ = tasks > 1 ? static_cast<int>(workers_.size()) : 0;
        if (busy_) ++generation_;
    }
    if (busy_) begun_.notify_all();
    take(0);
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
}

void Pool::loop(int thread) {
    unsigned long seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
        begun_.wait(lock, [&] { return stop_ || generation_ != seen; });
        if (stop_) return;
        seen = generation_;
        lock.unlock();
        take(thread);
        lock.lock();
        if (--busy_ == 0) ended_.notify_one();
    }
}

void Pool::take(int thread) {
    try {
        for (long task = next_++; task < tasks_; task = next_++) (*work_)(task, thread);
    } catch (...) {
        const std::lock_guard lock(mutex_);
        error_ = std::current_exception();
    }
}

}  // namespace littlefoot
