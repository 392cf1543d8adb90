// A few threads that share rows. The calling thread works too, so one thread means none are started.
//
// Threads do not survive a fork of the process: a pool in the child starts new ones. A fork waits for computations
// that are under way (``Running``), so that no lock of theirs is held in the child for ever.
#pragma once

#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "function_ref.h"

namespace littlefoot {

class Running {
  public:
    Running();
    ~Running();
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
};

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    int threads() const { return threads_; }
    // Calls work(task, thread) for every task; returns when all are done. Throws what a task threw.
    using Work = FunctionRef<void(long, int)>;
    void run(long tasks, const Work& work);
    // Held while one of those that share the threads computes, or changes: they take turns.
    std::mutex turn;

  private:
    struct Shared;  // between the threads
    void start();
    void abandon();
    static void loop(Shared& shared, int thread);

    int threads_;
    unsigned long forks_ = 0;  // of the process, when the threads were started
    std::unique_ptr<Shared> shared_;
    std::vector<std::thread> workers_;
};

}  // namespace littlefoot
