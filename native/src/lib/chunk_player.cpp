#include "chunk_player.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "failure.h"

namespace littlefoot {

namespace {

long up16(long n) { return (n + 15) / 16 * 16; }

[[noreturn]] void unsupported(const std::string& what) {
    throw Failure(LF_UNSUPPORTED, "the model cannot be streamed: " + what);
}

// Every value that a step reads.
std::vector<int> sources(const Step& step) {
    if (const auto* s = std::get_if<PackedLinear>(&step)) return {s->source, s->residual};
    if (const auto* s = std::get_if<PackedConvolution>(&step)) return {s->source, s->residual};
    if (const auto* s = std::get_if<FloatLinear>(&step)) return {s->source, s->residual};
    if (const auto* s = std::get_if<LayerNorm>(&step)) return {s->source};
    if (const auto* s = std::get_if<Add>(&step)) return {s->source, s->other};
    if (const auto* s = std::get_if<Activate>(&step)) return {s->source};
    const Attention& s = std::get<Attention>(step);
    return {s.query.value, s.key.value, s.value.value};
}

size_t floats(long rows, long width) { return static_cast<size_t>(rows * up16(width)) * sizeof(float); }

}  // namespace

ChunkPlayer::ChunkPlayer(const Kernels& kernels, std::shared_ptr<const Network> network, const StreamLimits& limits,
                         long most)
    : kernels_(kernels), network_(std::move(network)), limits_(limits), most_(most) {
    const std::vector<Step>& steps = network_->steps;
    const auto found = std::find_if(steps.begin(), steps.end(), [](const Step& step) {
        return std::holds_alternative<PackedConvolution>(step);
    });
    convolution_ = static_cast<size_t>(found - steps.begin());
    check();

    // A value's memory is free for others after the last step that reads it.
    const std::vector<long>& widths = network_->widths;
    std::vector<size_t> last(widths.size(), 0);
    for (size_t s = 0; s < steps.size(); ++s)
        for (const int value : sources(steps[s]))
            if (value >= 0) last[static_cast<size_t>(value)] = s + 1;
    last.back() = steps.size() + 1;
    std::vector<size_t> free;  // by slot
    slots_.resize(widths.size());
    std::vector<long> slot_widths;
    for (size_t v = 0; v < widths.size(); ++v) {  // step v - 1 makes value v
        size_t slot = 0;
        while (slot < free.size() && !(slot_widths[slot] == widths[v] && free[slot] < v)) ++slot;
        if (slot == free.size()) {
            free.push_back(0);
            slot_widths.push_back(widths[v]);
            values_.emplace_back(floats(most_, widths[v]));
        }
        free[slot] = std::max(last[v], v);
        slots_[v] = static_cast<int>(slot);
    }

    histories_.resize(steps.size());
    size_t quantized = 0;
    for (size_t s = 0; s < steps.size(); ++s) {
        if (const auto* linear = std::get_if<PackedLinear>(&steps[s]))
            quantized = std::max(quantized, static_cast<size_t>(most_ * linear->matrix->padded_inputs()));
        if (const auto* attention = std::get_if<Attention>(&steps[s])) {
            History& history = histories_[s];
            history.width = attention->heads * attention->head_dim;
            history.keys.reserve(floats(limits_.left + most_, history.width));
            history.values.reserve(floats(limits_.left + most_, history.width));
            const long frames = limits_.left + most_;
            packed_keys_.reserve(kernels_.packed_bytes(frames, attention->head_dim));
            packed_values_.reserve(kernels_.packed_bytes(frames, attention->head_dim));
            attention_.reserve(kernels_.attention_scratch(frames, attention->head_dim));
        }
    }
    quantized_.reserve(quantized);
    sums_.resize(static_cast<size_t>(most_));
    const auto& step = std::get<PackedConvolution>(steps[convolution_]);
    const long held = step.taps - 1 + most_;
    windows_.reserve(static_cast<size_t>(held * widths[static_cast<size_t>(step.source)]));
    window_sums_.resize(static_cast<size_t>(held) * step.groups.size());
    if (step.residual >= 0)
        delayed_.reserve(floats(limits_.right + most_, widths[static_cast<size_t>(step.residual)]));
    reset();
}

void ChunkPlayer::check() const {
    const std::vector<Step>& steps = network_->steps;
    if (convolution_ == steps.size()) unsupported("it has no positional convolution");
    const auto& step = std::get<PackedConvolution>(steps[convolution_]);
    if (step.taps - 1 - step.behind != limits_.right)
        unsupported("its positional convolution looks further ahead than its right context");
    const int boundary = static_cast<int>(convolution_);  // values up to here are not delayed
    for (size_t s = 0; s < steps.size(); ++s) {
        const bool behind = s > convolution_;
        if (behind && std::holds_alternative<PackedConvolution>(steps[s])) unsupported("it has several convolutions");
        if (!behind && std::holds_alternative<Attention>(steps[s])) unsupported("attention comes before positions");
        if (!behind) continue;
        for (const int value : sources(steps[s]))
            if (value >= 0 && value <= boundary) unsupported("a step reads a value from before the positions");
    }
}

void ChunkPlayer::reset() {
    const auto& step = std::get<PackedConvolution>(network_->steps[convolution_]);
    const long held = step.taps - 1 + most_;
    const long channels = network_->widths[static_cast<size_t>(step.source)] / static_cast<long>(step.groups.size());
    const int zero = step.rounding.zero_point;
    filled_ = step.behind;
    for (size_t g = 0; g < step.groups.size(); ++g) {
        std::memset(windows_.data() + static_cast<long>(g) * held * channels, zero,
                    static_cast<size_t>(filled_ * channels));
        std::fill_n(window_sums_.begin() + static_cast<long>(g) * held, filled_, zero * static_cast<int32_t>(channels));
    }
    waiting_ = seen_ = 0;
}

long ChunkPlayer::stride(int value) const { return up16(network_->widths[static_cast<size_t>(value)]); }

float* ChunkPlayer::at(int value) {
    const size_t slot = static_cast<size_t>(slots_[static_cast<size_t>(value)]);
    return reinterpret_cast<float*>(values_[slot].data());
}

long ChunkPlayer::rows(int value) const { return value <= static_cast<int>(convolution_) ? fresh_ : decided_; }

const float* ChunkPlayer::logits() { return at(static_cast<int>(network_->widths.size()) - 1); }

long ChunkPlayer::stride() const { return stride(static_cast<int>(network_->widths.size()) - 1); }

long ChunkPlayer::play(const float* features, long fresh, long silent) {
    const auto& convolution = std::get<PackedConvolution>(network_->steps[convolution_]);
    fresh_ = fresh;
    decided_ = std::max(0L, filled_ + fresh + silent - (convolution.taps - 1));
    const long inputs = network_->widths[0];
    for (long r = 0; r < fresh; ++r)
        std::memcpy(at(0) + r * stride(0), features + r * inputs, static_cast<size_t>(inputs) * sizeof(float));
    for (size_t s = 0; s < network_->steps.size(); ++s) {
        if (s == convolution_) push(convolution, fresh, silent);
        std::visit([this](const auto& step) { run(step); }, network_->steps[s]);
    }
    seen_ = std::min(limits_.left, seen_ + decided_);
    return decided_;
}

void ChunkPlayer::run(const PackedLinear& step) {
    const PackedMatrix& matrix = *step.matrix;
    const long padded = matrix.padded_inputs(), count = rows(step.target);
    for (long r = 0; r < count; ++r) {
        uint8_t* const row = quantized_.data() + r * padded;
        sums_[static_cast<size_t>(r)] = quantize(kernels_, step.rounding, at(step.source) + r * stride(step.source), 0,
                                                 matrix.inputs(), matrix.activation_bits(), row);
        std::memset(row + matrix.inputs(), 0, static_cast<size_t>(padded - matrix.inputs()));
    }
    const Finish finish = finishing(step.rounding, matrix);
    float* const out = at(step.target);
    const float* const residual = step.residual < 0 ? nullptr : at(step.residual);
    matrix.multiply(quantized_.data(), padded, count, scratch_,
                    [&](long r, long first, long columns, const int32_t* sums) {
                        kernels_.finish(finish, sums, first, columns, matrix.beta() * sums_[static_cast<size_t>(r)],
                                        residual ? residual + r * stride(step.residual) + first : nullptr,
                                        out + r * stride(step.target) + first);
                    });
}

// Rounded inputs behind those that are there, and the residual's rows behind those that wait.
void ChunkPlayer::push(const PackedConvolution& step, long fresh, long silent) {
    const long held = step.taps - 1 + most_;
    for (size_t g = 0; g < step.groups.size(); ++g) {
        const PackedMatrix& matrix = *step.groups[g];
        const long channels = matrix.inputs() / step.taps;
        uint8_t* const window = windows_.data() + static_cast<long>(g) * held * channels;
        int32_t* const sums = window_sums_.data() + static_cast<long>(g) * held;
        for (long r = 0; r < fresh; ++r)
            sums[filled_ + r] = quantize(kernels_, step.rounding, at(step.source) + r * stride(step.source),
                                         static_cast<long>(g) * channels, channels, matrix.activation_bits(),
                                         window + (filled_ + r) * channels);
        std::memset(window + (filled_ + fresh) * channels, step.rounding.zero_point,
                    static_cast<size_t>(silent * channels));
        std::fill_n(sums + filled_ + fresh, silent, step.rounding.zero_point * static_cast<int32_t>(channels));
    }
    filled_ += fresh + silent;
    if (step.residual < 0) return;
    float* const delayed = reinterpret_cast<float*>(delayed_.data());
    std::memcpy(delayed + waiting_ * stride(step.residual), at(step.residual),
                floats(fresh, network_->widths[static_cast<size_t>(step.residual)]));
    waiting_ += fresh;
}

void ChunkPlayer::run(const PackedConvolution& step) {
    const long held = step.taps - 1 + most_, left = filled_ - decided_;
    float* const out = at(step.target);
    float* const delayed = step.residual < 0 ? nullptr : reinterpret_cast<float*>(delayed_.data());
    for (size_t g = 0; g < step.groups.size(); ++g) {
        const PackedMatrix& matrix = *step.groups[g];
        const long channels = matrix.inputs() / step.taps, outputs = matrix.outputs();
        uint8_t* const window = windows_.data() + static_cast<long>(g) * held * channels;
        int32_t* const sums = window_sums_.data() + static_cast<long>(g) * held;
        const Finish finish = finishing(step.rounding, matrix);
        matrix.multiply(window, channels, decided_, scratch_,
                        [&](long r, long first, long columns, const int32_t* totals) {
                            const long column = static_cast<long>(g) * outputs + first;
                            const int32_t sum = std::accumulate(sums + r, sums + r + step.taps, 0);
                            kernels_.finish(finish, totals, column, columns, matrix.beta() * sum,
                                            delayed ? delayed + r * stride(step.residual) + column : nullptr,
                                            out + r * stride(step.target) + column);
                        });
        std::memmove(window, window + decided_ * channels, static_cast<size_t>(left * channels));
        std::copy_n(sums + decided_, left, sums);
    }
    filled_ = left;
    if (!delayed) return;
    waiting_ -= decided_;
    std::memmove(delayed, delayed + decided_ * stride(step.residual),
                 floats(waiting_, network_->widths[static_cast<size_t>(step.residual)]));
}

void ChunkPlayer::run(const FloatLinear& step) {
    for (long r = 0; r < rows(step.target); ++r)
        kernels_.linear(at(step.source) + r * stride(step.source), step.inputs,
                        reinterpret_cast<const float*>(step.weight.data()),
                        step.bias.empty() ? nullptr : step.bias.data(), step.outputs, step.activation,
                        step.residual < 0 ? nullptr : at(step.residual) + r * stride(step.residual),
                        at(step.target) + r * stride(step.target));
}

void ChunkPlayer::run(const LayerNorm& step) {
    for (long r = 0; r < rows(step.target); ++r)
        kernels_.layer_norm(at(step.source) + r * stride(step.source),
                            network_->widths[static_cast<size_t>(step.source)], step.weight.data(), step.bias.data(),
                            step.eps, Activation::none, at(step.target) + r * stride(step.target));
}

void ChunkPlayer::run(const Add& step) {
    for (long r = 0; r < rows(step.target); ++r)
        kernels_.add(at(step.source) + r * stride(step.source),
                     step.other < 0 ? step.vector.data() : at(step.other) + r * stride(step.other),
                     network_->widths[static_cast<size_t>(step.target)], at(step.target) + r * stride(step.target));
}

void ChunkPlayer::run(const Activate& step) {
    for (long r = 0; r < rows(step.target); ++r)
        kernels_.activate(at(step.source) + r * stride(step.source),
                          network_->widths[static_cast<size_t>(step.target)], step.activation,
                          at(step.target) + r * stride(step.target));
}

void ChunkPlayer::run(const Attention& step) {
    History& history = histories_[static_cast<size_t>(step.target) - 1];
    const long width = up16(history.width), frames = seen_ + decided_;
    float* const keys = reinterpret_cast<float*>(history.keys.data());
    float* const values = reinterpret_cast<float*>(history.values.data());
    const auto append = [&](const View& view, float* to) {
        for (long r = 0; r < decided_; ++r)
            std::memcpy(to + (seen_ + r) * width, at(view.value) + r * stride(view.value) + view.offset,
                        static_cast<size_t>(history.width) * sizeof(float));
    };
    append(step.key, keys);
    append(step.value, values);
    AttentionRows a;
    a.query_stride = stride(step.query.value);
    a.rows = decided_;
    a.head_dim = step.head_dim;
    a.frames = frames;
    a.keys = packed_keys_.data();
    a.values = packed_values_.data();
    a.scale = step.scale;
    a.query_scale = step.query_scale;
    a.key_scale = step.key_scale;
    a.bias = nullptr;
    a.bias_stride = 0;
    a.out_stride = stride(step.target);
    a.scratch = attention_.data();
    for (long h = 0; decided_ > 0 && h < step.heads; ++h) {
        const long column = h * step.head_dim;
        kernels_.pack_keys(keys + column, width, 0, frames, frames, step.head_dim, step.key_scale, packed_keys_.data());
        kernels_.pack_values(values + column, width, 0, frames, step.head_dim, packed_values_.data());
        a.query = at(step.query.value) + step.query.offset + column;
        a.out = at(step.target) + column;
        kernels_.attend(a);
    }
    const long kept = std::min(limits_.left, frames), dropped = frames - kept;
    std::memmove(keys, keys + dropped * width, static_cast<size_t>(kept * width) * sizeof(float));
    std::memmove(values, values + dropped * width, static_cast<size_t>(kept * width) * sizeof(float));
}

}  // namespace littlefoot
