// A few threads that share rows. The calling thread works too, so one thread means none are started.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace littlefoot {

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    int threads() const { return static_cast<int>(workers_.size()) + 1; }
    // Calls work(task, thread) for every task; returns when all are done. Throws what a task threw.
    using Work = std::function<void(long, int)>;
    void run(long tasks, const Work& work);

  private:
    void loop(int thread);
    void take(int thread);

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable begun_, ended_;
    unsigned long generation_ = 0;
    bool stop_ = false;
    const Work* work_ = nullptr;
    long tasks_ = 0;
    int busy_ = 0;
    std::atomic<long> next_{0};
    std::exception_ptr error_;
};

}  // namespace littlefoot
