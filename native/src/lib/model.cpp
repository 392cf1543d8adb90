#include "model.h"

#include <algorithm>
#include <cmath>

namespace littlefoot {

namespace {

constexpr float kMasked = -1e9f;  // added to scores of frames that are not attended to

// In the order of numpy: eight sums side by side for up to 128 numbers, halves of more.
float pairwise_sum(const float* x, long count) {
    if (count > 128) {
        const long half = count / 2 - count / 2 % 8;
        return pairwise_sum(x, half) + pairwise_sum(x + half, count - half);
    }
    const long whole = count < 8 ? 0 : count - count % 8;
    float sum = 0;
    if (whole) {
        float eight[8];
        std::copy_n(x, 8, eight);
        for (long i = 8; i < whole; i += 8)
            for (long j = 0; j < 8; ++j) eight[j] += x[i + j];
        sum = ((eight[0] + eight[1]) + (eight[2] + eight[3])) + ((eight[4] + eight[5]) + (eight[6] + eight[7]));
    }
    for (long i = whole; i < count; ++i) sum += x[i];
    return sum;
}

}  // namespace

Model::Model(std::span<const uint8_t> file, const Kernels& kernels, int threads, Loader::Release release)
    : kernels(kernels), threads_(threads) {
    Loader loader(file, kernels, std::move(release));
    description = loader.description();
    normalize = loader.normalize();
    limits = loader.limits();
    vocabulary = loader.vocabulary();
    loader.tensors();
    loader.matrices();
    layers_ = loader.front_end(stride, receptive_field);
    front_end_ = std::make_unique<FrontEnd>(kernels, threads);
    for (const FrontEndLayer& layer   : layers_) front_end_->add(layer);
    const long features = layers_.back().outputs;
    Network network = loader.network(features, tokens(), masked_);
    program_ = std::make_unique<Program>(kernels, threads, features);
    for (size_t i = 0; i < network.steps.size(); ++i) {
        program_->add_value(network.widths[i + 1]);
        program_->add(std::move(network.steps[i]));
    }
    if (limits.chunk) {
        if (layers_.front().norm.over == Over::time || normalize)
            damaged("it was made for streams, but normalizes whole recordings");
        chunked_ = std::make_shared<const Network>(loader.network(features, tokens(), masked_));
    }
}

ChunkBatches& Model::chunks() const {
    const std::lock_guard lock(chunks_mutex_);
    if (!chunks_) chunks_ = std::make_unique<ChunkBatches>(kernels, layers_, chunked_, limits, threads_);
    return *chunks_;
}

// Zero mean and unit variance, with the 1e-7 of transformers under the root: silence stays silence. All of it in
// float, as numpy computes it, since an input on the border between two levels depends on the last digit.
void Model::prepare(const float* samples, long count, std::vector<float>& prepared) const {
    prepared.assign(samples, samples + count);
    if (!normalize || count == 0) return;
    const float size = static_cast<float>(count), mean = pairwise_sum(samples, count) / size;
    for (float& sample : prepared) sample = (sample - mean) * (sample - mean);
    const float deviation = std::sqrt(pairwise_sum(prepared.data(), count) / size + 1e-7f);
    for (long i = 0; i < count; ++i) prepared[static_cast<size_t>(i)] = (samples[i] - mean) / deviation;
}

void Model::run(const std::vector<float>& prepared, long first, long end, std::vector<float>& logits) const {
    const std::lock_guard lock(mutex_);
    const long samples = static_cast<long>(prepared.size());
    const size_t count = static_cast<size_t>(front_end_->frames(samples));
    features_.resize(count * static_cast<size_t>(front_end_->channels()));
    front_end_->run(prepared.data(), samples, features_.data(), static_cast<long>(count), front_end_->channels());
    biases_.clear();
    if (masked_) {
        if (mask_frames_ != static_cast<long>(count)) {
            mask_.assign(count * count, kMasked);
            const size_t chunk = static_cast<size_t>(limits.chunk), left = static_cast<size_t>(limits.left);
            for (size_t f = 0; f < count; ++f) {
                const size_t begin = f / chunk * chunk;
                std::fill(mask_.begin() + static_cast<long>(f * count + begin - std::min(begin, left)),
                          mask_.begin() + static_cast<long>(f * count + std::min(count, begin + chunk)), 0.0f);
            }
            mask_frames_ = static_cast<long>(count);
        }
        biases_.push_back({mask_.data(), 1});
    }
    window_.resize(count * tokens());
    program_->run(features_.data(), static_cast<long>(count), biases_, window_.data(), static_cast<long>(tokens()));
    logits.insert(logits.end(), window_.begin() + first * static_cast<long>(tokens()),
                  window_.begin() + end * static_cast<long>(tokens()));
}

}  // namespace littlefoot
