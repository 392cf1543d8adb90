#include "chunk_batches.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace littlefoot {

namespace {

constexpr long kRows = 128;  // of a batch, unless a single chunk has more: enough to pay for reading the weights

}  // namespace

ChunkBatches::ChunkBatches(const Kernels& kernels, const std::vector<FrontEndLayer>& layers,
                           std::shared_ptr<const Network> network, const StreamLimits& limits, int threads) {
    for (int thread = 0; thread < threads; ++thread) {
        players_.push_back(std::make_unique<Player>(
            Player{FrontEnd(kernels, 1), ChunkPlayer(kernels, network, limits), {}, {}, {}}));
        players_.back()->batch.reserve(kRows + 1);
        for (const FrontEndLayer& layer : layers) players_.back()->front_end.add(layer);
        free_.push_back(players_.back().get());
    }
}

bool ChunkBatches::prepared(long frames) {
    const std::lock_guard lock(mutex_);
    return frames <= std::exchange(prepared_, std::max(prepared_, frames));
}

size_t ChunkBatches::most() {
    const std::lock_guard lock(mutex_);
    return most_;
}

void ChunkBatches::play(const Chunk& chunk) {
    Waiting mine{&chunk, {}, false, false, nullptr};
    std::unique_lock lock(mutex_);
    waiting_.push_back(&mine);
    while (!mine.done) {
        if (mine.taken || free_.empty()) {
            mine.wake.wait(lock);
            continue;
        }
        Player& player = *free_.back();
        free_.pop_back();
        take(player.batch);
        most_ = std::max(most_, player.batch.size());
        wake();
        std::exception_ptr error;
        lock.unlock();
        try {
            compute(player);
        } catch (...) {
            error = std::current_exception();
        }
        lock.lock();
        free_.push_back(&player);
        for (Waiting* each : player.batch) {
            each->error = error;
            each->done = true;
            if (each != &mine) each->wake.notify_one();
        }
        wake();
    }
    lock.unlock();
    if (mine.error) std::rethrow_exception(mine.error);
}

// The chunks that have waited longest, as many as a batch has rows for. The players share the work.
void ChunkBatches::take(std::vector<Waiting*>& batch) {
    const size_t share = (waiting_.size() + free_.size()) / (free_.size() + 1);
    size_t count = 0;
    for (long rows = 0; count < std::max(size_t{1}, share); ++count) {
        rows += frames(*waiting_[count]->chunk);
        if (count > 0 && rows > kRows) break;
    }
    batch.assign(waiting_.begin(), waiting_.begin() + static_cast<long>(count));
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<long>(count));
    for (Waiting* each : batch) each->taken = true;
}

// A thread that can compute the next batch, if a player is free for it.
void ChunkBatches::wake() {
    if (!waiting_.empty() && !free_.empty()) waiting_.front()->wake.notify_one();
}

void ChunkBatches::compute(Player& player) {
    player.parts.clear();
    long rows = 0;
    for (const Waiting* each : player.batch) {
        const Chunk& chunk = *each->chunk;
        player.parts.push_back({&chunk.state, chunk.fresh, chunk.silent});
        rows += frames(chunk);
    }
    FrontEnd& front_end = player.front_end;
    ChunkPlayer& chunks = player.chunks;
    float* row = chunks.features(rows);
    const size_t channels = static_cast<size_t>(front_end.channels());
    for (const Waiting* each : player.batch) {
        const Chunk& chunk = *each->chunk;
        player.features.resize(static_cast<size_t>(chunk.fresh) * channels);
        if (chunk.fresh > 0)
            front_end.run(chunk.samples, chunk.count, player.features.data(), chunk.fresh, front_end.channels());
        for (long r = 0; r < chunk.fresh; ++r, row += chunks.features_stride())
            std::memcpy(row, player.features.data() + static_cast<size_t>(r) * channels, channels * sizeof(float));
    }
    chunks.play(player.parts);
    for (size_t i = 0; i < player.batch.size(); ++i) {
        const ChunkPlayer::Part& part = player.parts[i];
        std::vector<float>& logits = player.batch[i]->chunk->logits;
        const float* decided = chunks.logits(part);
        for (long r = 0; r < part.decided; ++r, decided += chunks.stride())
            logits.insert(logits.end(), decided, decided + chunks.width());
    }
}

}  // namespace littlefoot
