#include "front_end.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace littlefoot {

namespace {

constexpr long kRows = 64;          // of a product at a time, in float while norms and activations see them
constexpr long kFewest = 8, kMost = 32;  // frames of a task: fewer compute more twice, more leave the cache

long up16(long n) { return (n + 15) / 16 * 16; }

}  // namespace

void FrontEnd::add(FrontEndLayer layer) {
    const std::lock_guard lock(pool_->turn);
    weight_bytes_ += layer.matrix ? layer.matrix->bytes() : layer.weight.size() * sizeof(float);
    layers_.push_back(std::move(layer));
}

long FrontEnd::frames(long samples) const {
    for (const FrontEndLayer& layer : layers_) {
        if (samples < layer.taps) return 0;
        samples = (samples - layer.taps) / layer.stride + 1;
    }
    return samples;
}

void FrontEnd::run(const float* waveform, long samples, float* out, long frames, long channels) {
    const std::lock_guard lock(pool_->turn);
    if (frames != this->frames(samples) || channels != this->channels())
        throw std::runtime_error("a layer was added to a front end while it was asked to run");
    if (frames == 0) return;
    fold(waveform, samples);
    workers_.resize(static_cast<size_t>(pool_->threads()));
    const long tasks = pool_->threads() == 1 ? 1 : 4 * pool_->threads();
    const long each = std::clamp((frames + tasks - 1) / tasks, kFewest, kMost);
    pool_->run((frames + each - 1) / each, [&](long task, int thread) {
        const long first = task * each;
        slice(waveform, first, std::min(each, frames - first), workers_[static_cast<size_t>(thread)], out);
    });
}

// The first layer's kernel as it is used; a norm over time becomes a part of it. Mean and variance of an output
// follow from those of the windows: w m and w C w, with the windows' mean m and covariance C.
void FrontEnd::fold(const float* waveform, long samples) {
    const FrontEndLayer& layer = layers_.front();
    const long taps = layer.taps, padded = up16(layer.outputs);
    const bool over_time = layer.norm.over == Over::time;
    if (!over_time && !bias_.empty()) return;  // it is the same every time
    kernel_.reserve(static_cast<size_t>(taps * padded) * sizeof(float));
    float* const kernel = reinterpret_cast<float*>(kernel_.data());
    bias_ = layer.bias;
    std::vector<double> mean(static_cast<size_t>(taps)), covariance(static_cast<size_t>(taps * taps));
    if (over_time) {
        const long windows = (samples - taps) / layer.stride + 1;
        for (long t = 0; t < windows; ++t) {
            const float* x = waveform + t * layer.stride;
            for (long i = 0; i < taps; ++i) {
                mean[static_cast<size_t>(i)] += x[i];
                double* row = covariance.data() + i * taps;
                for (long j = 0; j < taps; ++j) row[j] += static_cast<double>(x[i]) * x[j];
            }
        }
        for (double& value : mean) value /= static_cast<double>(windows);
        for (long i = 0; i < taps * taps; ++i) {
            double& value = covariance[static_cast<size_t>(i)];
            value = value / static_cast<double>(windows) - mean[static_cast<size_t>(i / taps)] * mean[static_cast<size_t>(i % taps)];
        }
    }
    for (long o = 0; o < layer.outputs; ++o) {
        const float* weight = layer.weight.data() + o * taps;
        double factor = 1;
        if (over_time) {
            double expected = 0, variance = 0;
            for (long i = 0; i < taps; ++i) {
                expected += weight[i] * mean[static_cast<size_t>(i)];
                for (long j = 0; j < taps; ++j)
                    variance += weight[i] * covariance[static_cast<size_t>(i * taps + j)] * weight[j];
            }
            const size_t c = static_cast<size_t>(o);
            factor = layer.norm.weight[c] / std::sqrt(std::max(variance, 0.0) + layer.norm.eps);
            bias_[c] = static_cast<float>(layer.norm.bias[c] - factor * expected);  // what the bias was is taken away
        }
        for (long i = 0; i < taps; ++i) kernel[i * padded + o] = static_cast<float>(factor * weight[i]);
    }
}

// Frames first ... first + count of the output.
void FrontEnd::slice(const float* waveform, long first, long count, Worker& worker, float* out) const {
    std::vector<Range>& ranges = worker.ranges;
    ranges.resize(layers_.size());
    ranges.back() = {first, count};
    for (size_t i = layers_.size() - 1; i > 0; --i)
        ranges[i - 1] = {ranges[i].first * layers_[i].stride,
                         (ranges[i].count - 1) * layers_[i].stride + layers_[i].taps};
    size_t levels = 0, rows = 0;
    long frames = 0;
    for (size_t i = 0; i < layers_.size(); ++i) {
        levels = std::max(levels, static_cast<size_t>(ranges[i].count * layers_[i].outputs));
        rows = std::max(rows, static_cast<size_t>(kRows * up16(layers_[i].outputs)));
        frames = std::max(frames, ranges[i].count);
    }
    worker.rows.reserve(rows * sizeof(float));
    for (int set = 0; set < 2; ++set) {
        worker.levels[set].reserve(levels);
        worker.sums[set].resize(std::max(worker.sums[set].size(), static_cast<size_t>(frames)));
    }
    worker.window_sums.resize(static_cast<size_t>(kRows));
    listen(waveform, ranges[0], worker, out);
    for (size_t i = 1; i < layers_.size(); ++i) convolve(i, ranges[i], worker, out);
}

void FrontEnd::listen(const float* waveform, const Range& range, Worker& worker, float* out) const {
    const FrontEndLayer& layer = layers_.front();
    const Activation activation = layer.norm.over == Over::channels ? Activation::none : layer.activation;
    float* const rows = reinterpret_cast<float*>(worker.rows.data());
    for (long row = 0; row < range.count; row += kRows) {
        const long count = std::min(kRows, range.count - row);
        for (long r = 0; r < count; ++r)
            kernels_.linear(waveform + (range.first + row + r) * layer.stride, layer.taps,
                            reinterpret_cast<const float*>(kernel_.data()), bias_.data(), layer.outputs, activation,
                            nullptr, rows + r * up16(layer.outputs));
        deliver(0, range, row, count, worker, out);
    }
}

void FrontEnd::convolve(size_t number, const Range& range, Worker& worker, float* out) const {
    const FrontEndLayer& layer = layers_[number];
    const PackedMatrix& matrix = *layer.matrix;
    const long apart = layer.stride * (matrix.inputs() / layer.taps), width = up16(layer.outputs);
    const uint8_t* const levels = worker.levels[(number - 1) % 2].data();
    const int32_t* const sums = worker.sums[(number - 1) % 2].data();
    float* const rows = reinterpret_cast<float*>(worker.rows.data());
    std::vector<int32_t>& window_sums = worker.window_sums;
    const Finish finish = finishing(layer.rounding, matrix);
    for (long row = 0; row < range.count; row += kRows) {
        const long count = std::min(kRows, range.count - row);
        std::fill(window_sums.begin(), window_sums.end(), 0);
        if (matrix.beta())
            for (long r = 0; r < count; ++r) {
                const int32_t* const of_frames = sums + (row + r) * layer.stride;
                window_sums[static_cast<size_t>(r)] = std::accumulate(of_frames, of_frames + layer.taps, 0);
            }
        matrix.multiply(levels + row * apart, apart, count, worker.scratch,
                        [&](long r, long first, long columns, const int32_t* totals) {
                            kernels_.finish(finish, totals, first, columns,
                                            matrix.beta() * window_sums[static_cast<size_t>(r)], nullptr,
                                            rows + r * width + first);
                        });
        deliver(number, range, row, count, worker, out);
    }
}

// The norm and, behind it, the activation of rows; then they are rounded for the next layer, or are the output.
void FrontEnd::deliver(size_t number, const Range& range, long row, long count, Worker& worker, float* out) const {
    const FrontEndLayer& layer = layers_[number];
    const long outputs = layer.outputs;
    for (long r = 0; r < count; ++r) {
        float* const x = reinterpret_cast<float*>(worker.rows.data()) + r * up16(outputs);
        if (layer.norm.over == Over::channels)
            kernels_.layer_norm(x, outputs, layer.norm.weight.data(), layer.norm.bias.data(), layer.norm.eps,
                                layer.activation, x);
        if (number + 1 == layers_.size()) {
            std::memcpy(out + (range.first + row + r) * outputs, x, static_cast<size_t>(outputs) * sizeof(float));
            continue;
        }
        const FrontEndLayer& next = layers_[number + 1];
        worker.sums[number % 2][static_cast<size_t>(row + r)] =
            quantize(kernels_, next.rounding, x, 0, outputs, next.matrix->activation_bits(),
                     worker.levels[number % 2].data() + (row + r) * outputs);
    }
}

}  // namespace littlefoot
