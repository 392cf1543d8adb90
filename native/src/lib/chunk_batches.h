// The chunks of a model's streams. Those that wait at the same time are computed side by side, by the thread of one of
// them, while the other threads sleep; so many threads compute at once as the model has. The busier they are, the more
// chunks a batch has, and the less often weights are read.
#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "chunk_player.h"
#include "front_end.h"

namespace littlefoot {

class ChunkBatches {
  public:
    // Throws Failure (LF_UNSUPPORTED) for networks that cannot be played in chunks.
    ChunkBatches(const Kernels& kernels, const std::vector<FrontEndLayer>& layers, std::shared_ptr<const Network> network,
                 const StreamLimits& limits, int threads);

    // A stream whose chunks have so many frames at most.
    ChunkState begin(long most) const { return players_.front()->chunks.begin(most); }
    void restart(ChunkState& state) const { players_.front()->chunks.restart(state); }
    // Whether memory for chunks of so many frames was taken; the caller takes it, by a chunk of silence, if not.
    bool prepared(long frames);

    struct Chunk {
        ChunkState& state;
        const float* samples;
        long count;                  // samples
        long fresh, silent;          // frames of them, and of silence behind the end
        std::vector<float>& logits;  // rows are appended
    };
    // Returns when the chunk is computed. A stream has one chunk at a time.
    void play(const Chunk& chunk);
    size_t most();  // chunks of a batch so far

  private:
    struct Waiting {
        const Chunk* chunk;
        std::condition_variable wake;
        bool taken = false, done = false;
        std::exception_ptr error;
    };
    struct Player {
        FrontEnd front_end;
        ChunkPlayer chunks;
        std::vector<ChunkPlayer::Part> parts;
        std::vector<Waiting*> batch;
        std::vector<float> features;  // of a chunk
    };

    static long frames(const Chunk& chunk) { return chunk.fresh + chunk.silent; }
    void take(std::vector<Waiting*>& batch);
    void wake();
    void compute(Player& player);

    std::mutex mutex_;
    std::vector<std::unique_ptr<Player>> players_;
    std::vector<Player*> free_;
    std::vector<Waiting*> waiting_;  // in their order
    long prepared_ = 0;              // frames
    size_t most_ = 0;
};

}  // namespace littlefoot
