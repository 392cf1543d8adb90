#include "front_end.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace littlefoot {

namespace {

constexpr long kFewest = 8, kMost = 32;  // frames of a task: fewer compute more twice, more leave the cache

long up16(long n) { return (n + 15) / 16 * 16; }

// Rows of each product out of so many: nearly as many each time, as a product of a few reads all weights too.
long even_rows(long rows, const Blocks& blocks) {
    const long products = (rows + blocks.product_rows - 1) / blocks.product_rows;
    return ((rows + products - 1) / products + blocks.row_step - 1) / blocks.row_step * blocks.row_step;
}

}  // namespace

void FrontEnd::add(FrontEndLayer layer) {
    const std::lock_guard lock(pool_->turn);
    layers_.push_back(std::move(layer));
}

size_t FrontEnd::bytes() const {
    size_t sum = 0;
    for (const FrontEndLayer& layer : layers_) {
        sum += layer.kernel.size() * sizeof(float);
        for (const Matrix& each : layer.weights.matrices()) sum += littlefoot::bytes(each);
    }
    return sum;
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
    const long taps = layer.taps;
    const bool over_time = layer.norm.over == Over::time;
    if (!over_time && kernel_) return;  // it is the same every time
    std::vector<float> kernel(layer.kernel.size());
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
        const float* weight = layer.kernel.data() + o * taps;
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
        for (long i = 0; i < taps; ++i) kernel[static_cast<size_t>(o * taps + i)] = static_cast<float>(factor * weight[i]);
    }
    kernel_.emplace(kernels_, reinterpret_cast<const uint8_t*>(kernel.data()), layer.outputs, taps, 32);
}

// Frames first ... first + count of the output.
void FrontEnd::slice(const float* waveform, long first, long count, Worker& worker, float* out) const {
    std::vector<Range>& ranges = worker.ranges;
    ranges.resize(layers_.size());
    ranges.back() = {first, count};
    for (size_t i = layers_.size() - 1; i > 0; --i)
        ranges[i - 1] = {ranges[i].first * layers_[i].stride,
                         (ranges[i].count - 1) * layers_[i].stride + layers_[i].taps};
    size_t inputs = 0, rows = 0;
    long frames = 0;
    for (size_t i = 0; i < layers_.size(); ++i) {
        if (i + 1 < layers_.size())
            inputs = std::max(inputs, static_cast<size_t>(ranges[i].count * layers_[i].outputs) *
                                          layers_[i + 1].weights.input_bytes());
        rows = std::max(rows, static_cast<size_t>(kernels_.blocks.product_rows * up16(layers_[i].outputs)));
        frames = std::max(frames, ranges[i].count);
    }
    worker.rows.reserve(rows * sizeof(float));
    for (int set = 0; set < 2; ++set) {
        worker.inputs[set].reserve(inputs);
        worker.sums[set].resize(std::max(worker.sums[set].size(), static_cast<size_t>(frames)));
    }
    listen(waveform, ranges[0], worker, out);
    for (size_t i = 1; i < layers_.size(); ++i) convolve(i, ranges[i], worker, out);
}

void FrontEnd::listen(const float* waveform, const Range& range, Worker& worker, float* out) const {
    const FrontEndLayer& layer = layers_.front();
    const Activation activation = layer.norm.over == Over::channels ? Activation::none : layer.activation;
    const long each = even_rows(range.count, kernels_.blocks);
    for (long row = 0; row < range.count; row += each) {
        const long count = std::min(each, range.count - row);
        kernel_->multiply(waveform + (range.first + row) * layer.stride, layer.stride, count, worker.scratch,
                          [&](const Sums<float>& sums) {
                              kernels_.complete(sums, bias_.data(), activation,
                                                {worker.rows.floats(), up16(layer.outputs)});
                          });
        deliver(0, range, row, count, worker, out);
    }
}

void FrontEnd::convolve(size_t number, const Range& range, Worker& worker, float* out) const {
    const FrontEndLayer& layer = layers_[number];
    const Weights& weights = layer.weights;
    const long apart = layer.stride * weights.channels();
    const uint8_t* const inputs = worker.inputs[(number - 1) % 2].data();
    const int32_t* const sums = worker.sums[(number - 1) % 2].data();
    const long each = even_rows(range.count, kernels_.blocks);
    for (long row = 0; row < range.count; row += each) {
        const long count = std::min(each, range.count - row);
        weights.multiply(0, inputs + static_cast<size_t>(row * apart) * weights.input_bytes(), apart, count,
                         sums + row * layer.stride, layer.stride, worker.scratch,
                         {worker.rows.floats(), up16(layer.outputs)});
        deliver(number, range, row, count, worker, out);
    }
}

// The norm and, behind it, the activation of rows; then the next layer takes them, or they are the output.
void FrontEnd::deliver(size_t number, const Range& range, long row, long count, Worker& worker, float* out) const {
    const FrontEndLayer& layer = layers_[number];
    const long outputs = layer.outputs;
    for (long r = 0; r < count; ++r) {
        float* const x = worker.rows.floats() + r * up16(outputs);
        if (layer.norm.over == Over::channels)
            kernels_.layer_norm(x, outputs, layer.norm.weight.data(), layer.norm.bias.data(), layer.norm.eps,
                                layer.activation, x);
        if (number + 1 == layers_.size()) {
            std::memcpy(out + (range.first + row + r) * outputs, x, static_cast<size_t>(outputs) * sizeof(float));
            continue;
        }
        const Weights& next = layers_[number + 1].weights;
        worker.sums[number % 2][static_cast<size_t>(row + r)] =
            next.take(x, 0, outputs, worker.inputs[number % 2].data() +
                                         static_cast<size_t>((row + r) * outputs) * next.input_bytes());
    }
}

}  // namespace littlefoot
