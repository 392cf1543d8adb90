#include "chunk_player.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "failure.h"

namespace littlefoot {

namespace {

constexpr float kMasked = -1e9f;  // added to scores of frames that are not attended to
constexpr long kTile = 16;        // frames of a tile of packed keys and values

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

float* numbers(Bytes& bytes) { return reinterpret_cast<float*>(bytes.data()); }

}  // namespace

ChunkPlayer::ChunkPlayer(const Kernels& kernels, std::shared_ptr<const Network> network, const StreamLimits& limits)
    : kernels_(kernels), network_(std::move(network)), limits_(limits) {
    const std::vector<Step>& steps = network_->steps;
    const auto found = std::find_if(steps.begin(), steps.end(), [](const Step& step) {
        return std::holds_alternative<PackedConvolution>(step);
    });
    convolution_ = static_cast<size_t>(found - steps.begin());
    last_ = static_cast<int>(network_->widths.size()) - 1;
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
    for (size_t v = 0; v < widths.size(); ++v) {  // step v - 1 makes value v
        size_t slot = 0;
        while (slot < free.size() && !(slot_widths_[slot] == widths[v] && free[slot] < v)) ++slot;
        if (slot == free.size()) {
            free.push_back(0);
            slot_widths_.push_back(widths[v]);
        }
        free[slot] = std::max(last[v], v);
        slots_[v] = static_cast<int>(slot);
    }
    values_.resize(slot_widths_.size());
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

ChunkState ChunkPlayer::begin(long most) const {
    const std::vector<Step>& steps = network_->steps;
    ChunkState state;
    state.most_ = most;
    state.histories_.resize(steps.size());
    for (size_t s = 0; s < steps.size(); ++s)
        if (const auto* attention = std::get_if<Attention>(&steps[s])) {
            ChunkState::History& history = state.histories_[s];
            const size_t packed = kernels_.packed_bytes(ring(most), attention->head_dim);
            for (Bytes* each : {&history.keys, &history.values})
                each->reserve(packed * static_cast<size_t>(attention->heads));
            for (Bytes* each : {&history.last_keys, &history.last_values})
                each->reserve(floats(kTile, attention->heads * attention->head_dim));
        }
    const auto& step = std::get<PackedConvolution>(steps[convolution_]);
    const long held = step.taps - 1 + most;
    state.windows_.reserve(static_cast<size_t>(held * network_->widths[static_cast<size_t>(step.source)]));
    state.window_sums_.resize(static_cast<size_t>(held) * step.groups.size());
    if (step.residual >= 0)
        state.delayed_.reserve(floats(limits_.right + most, network_->widths[static_cast<size_t>(step.residual)]));
    restart(state);
    return state;
}

void ChunkPlayer::restart(ChunkState& state) const {
    const auto& step = std::get<PackedConvolution>(network_->steps[convolution_]);
    const long held = step.taps - 1 + state.most_;
    const long channels = network_->widths[static_cast<size_t>(step.source)] / static_cast<long>(step.groups.size());
    const int zero = step.rounding.zero_point;
    state.filled_ = step.behind;
    for (size_t g = 0; g < step.groups.size(); ++g) {
        std::memset(state.windows_.data() + static_cast<long>(g) * held * channels, zero,
                    static_cast<size_t>(state.filled_ * channels));
        std::fill_n(state.window_sums_.begin() + static_cast<long>(g) * held, state.filled_,
                    zero * static_cast<int32_t>(channels));
    }
    state.waiting_ = state.seen_ = state.position_ = 0;
}

long ChunkPlayer::stride(int value) const { return up16(network_->widths[static_cast<size_t>(value)]); }

float* ChunkPlayer::at(int value) {
    return numbers(values_[static_cast<size_t>(slots_[static_cast<size_t>(value)])]);
}

float* ChunkPlayer::features(long rows) {
    reserve(rows);
    return at(0);
}

void ChunkPlayer::reserve(long rows) {
    if (rows <= reserved_) return;
    for (size_t slot = 0; slot < values_.size(); ++slot) values_[slot].reserve(floats(rows, slot_widths_[slot]));
    size_t quantized = 0;
    for (const Step& step : network_->steps)
        if (const auto* linear = std::get_if<PackedLinear>(&step))
            quantized = std::max(quantized, static_cast<size_t>(rows * linear->matrix->padded_inputs()));
    quantized_.reserve(quantized);
    sums_.resize(static_cast<size_t>(rows));
    reserved_ = rows;
}

void ChunkPlayer::play(std::vector<Part>& parts) {
    parts_ = &parts;
    const auto& convolution = std::get<PackedConvolution>(network_->steps[convolution_]);
    fresh_ = decided_ = 0;
    for (Part& part : parts) {
        part.first = fresh_;
        part.first_decided = decided_;
        part.decided = std::max(0L, part.state->filled_ + part.fresh + part.silent - (convolution.taps - 1));
        fresh_ += part.fresh;
        decided_ += part.decided;
    }
    for (size_t s = 0; s < network_->steps.size(); ++s) std::visit([this](const auto& step) { run(step); }, network_->steps[s]);
    for (const Part& part : parts) {
        ChunkState& state = *part.state;
        state.seen_ = std::min(limits_.left, state.seen_ + part.decided);
        state.position_ = (state.position_ + part.decided) % ring(state.most_);
    }
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

void ChunkPlayer::run(const PackedConvolution& step) {
    for (const Part& part : *parts_) {
        push(step, part);
        convolve(step, part);
    }
}

// Rounded inputs behind those that are there, and the residual's rows behind those that wait.
void ChunkPlayer::push(const PackedConvolution& step, const Part& part) {
    ChunkState& state = *part.state;
    const long held = step.taps - 1 + state.most_;
    for (size_t g = 0; g < step.groups.size(); ++g) {
        const PackedMatrix& matrix = *step.groups[g];
        const long channels = matrix.inputs() / step.taps;
        uint8_t* const window = state.windows_.data() + static_cast<long>(g) * held * channels;
        int32_t* const sums = state.window_sums_.data() + static_cast<long>(g) * held;
        for (long r = 0; r < part.fresh; ++r)
            sums[state.filled_ + r] =
                quantize(kernels_, step.rounding, at(step.source) + (part.first + r) * stride(step.source),
                         static_cast<long>(g) * channels, channels, matrix.activation_bits(),
                         window + (state.filled_ + r) * channels);
        std::memset(window + (state.filled_ + part.fresh) * channels, step.rounding.zero_point,
                    static_cast<size_t>(part.silent * channels));
        std::fill_n(sums + state.filled_ + part.fresh, part.silent,
                    step.rounding.zero_point * static_cast<int32_t>(channels));
    }
    state.filled_ += part.fresh + part.silent;
    if (step.residual < 0) return;
    std::memcpy(numbers(state.delayed_) + state.waiting_ * stride(step.residual),
                at(step.residual) + part.first * stride(step.residual),
                floats(part.fresh, network_->widths[static_cast<size_t>(step.residual)]));
    state.waiting_ += part.fresh;
}

void ChunkPlayer::convolve(const PackedConvolution& step, const Part& part) {
    ChunkState& state = *part.state;
    const long held = step.taps - 1 + state.most_, left = state.filled_ - part.decided;
    float* const out = at(step.target) + part.first_decided * stride(step.target);
    float* const delayed = step.residual < 0 ? nullptr : numbers(state.delayed_);
    for (size_t g = 0; g < step.groups.size(); ++g) {
        const PackedMatrix& matrix = *step.groups[g];
        const long channels = matrix.inputs() / step.taps, outputs = matrix.outputs();
        uint8_t* const window = state.windows_.data() + static_cast<long>(g) * held * channels;
        int32_t* const sums = state.window_sums_.data() + static_cast<long>(g) * held;
        const Finish finish = finishing(step.rounding, matrix);
        matrix.multiply(window, channels, part.decided, scratch_,
                        [&](long r, long first, long columns, const int32_t* totals) {
                            const long column = static_cast<long>(g) * outputs + first;
                            const int32_t sum = std::accumulate(sums + r, sums + r + step.taps, 0);
                            kernels_.finish(finish, totals, column, columns, matrix.beta() * sum,
                                            delayed ? delayed + r * stride(step.residual) + column : nullptr,
                                            out + r * stride(step.target) + column);
                        });
        std::memmove(window, window + part.decided * channels, static_cast<size_t>(left * channels));
        std::copy_n(sums + part.decided, left, sums);
    }
    state.filled_ = left;
    if (!delayed) return;
    state.waiting_ -= part.decided;
    std::memmove(delayed, delayed + part.decided * stride(step.residual),
                 floats(state.waiting_, network_->widths[static_cast<size_t>(step.residual)]));
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
    for (const Part& part : *parts_) {
        if (part.decided == 0) continue;
        remember(step, part);
        attend(step, part);
    }
}

// Packs the chunk's keys and values into the ring. The tile that they begin in is packed again, with its frames of
// before; the frames that a new tile replaces are older than ``left``.
void ChunkPlayer::remember(const Attention& step, const Part& part) {
    ChunkState& state = *part.state;
    ChunkState::History& history = state.histories_[static_cast<size_t>(step.target) - 1];
    const long width = step.heads * step.head_dim, apart = up16(width), size = ring(state.most_);
    const long before = state.position_ % kTile, count = before + part.decided;
    const auto gather = [&](const View& view, const Bytes& last, Bytes& to) {
        to.reserve(floats(kTile + state.most_, width));
        std::memcpy(to.data(), last.data(), floats(before, width));
        for (long r = 0; r < part.decided; ++r)
            std::memcpy(numbers(to) + (before + r) * apart,
                        at(view.value) + (part.first_decided + r) * stride(view.value) + view.offset,
                        static_cast<size_t>(width) * sizeof(float));
    };
    gather(step.key, history.last_keys, fresh_keys_);
    gather(step.value, history.last_values, fresh_values_);
    const size_t bytes = kernels_.packed_bytes(size, step.head_dim);
    for (long done = 0; done < count;) {
        const long first = (state.position_ - before + done) % size, rows = std::min(count - done, size - first);
        for (long h = 0; h < step.heads; ++h) {
            const long at = done * apart + h * step.head_dim;
            kernels_.pack_keys(numbers(fresh_keys_) + at, apart, first, rows, size, step.head_dim, step.key_scale,
                               history.keys.data() + static_cast<size_t>(h) * bytes);
            kernels_.pack_values(numbers(fresh_values_) + at, apart, first, rows, step.head_dim,
                                 history.values.data() + static_cast<size_t>(h) * bytes);
        }
        done += rows;
    }
    const long kept = count % kTile;
    std::memcpy(history.last_keys.data(), numbers(fresh_keys_) + (count - kept) * apart, floats(kept, width));
    std::memcpy(history.last_values.data(), numbers(fresh_values_) + (count - kept) * apart, floats(kept, width));
}

void ChunkPlayer::attend(const Attention& step, const Part& part) {
    const ChunkState& state = *part.state;
    const ChunkState::History& history = state.histories_[static_cast<size_t>(step.target) - 1];
    const long size = ring(state.most_), begin = state.position_ - state.seen_ + size;
    mask_.assign(static_cast<size_t>(size), kMasked);
    for (long f = 0; f < state.seen_ + part.decided; ++f) mask_[static_cast<size_t>((begin + f) % size)] = 0;
    attention_.reserve(kernels_.attention_scratch(size, step.head_dim));
    const size_t bytes = kernels_.packed_bytes(size, step.head_dim);
    AttentionRows a;
    a.query_stride = stride(step.query.value);
    a.rows = part.decided;
    a.head_dim = step.head_dim;
    a.frames = size;
    a.scale = step.scale;
    a.query_scale = step.query_scale;
    a.key_scale = step.key_scale;
    a.bias = mask_.data();  // of all rows
    a.bias_stride = 0;
    a.out_stride = stride(step.target);
    a.scratch = attention_.data();
    for (long h = 0; h < step.heads; ++h) {
        const long column = h * step.head_dim;
        a.keys = history.keys.data() + static_cast<size_t>(h) * bytes;
        a.values = history.values.data() + static_cast<size_t>(h) * bytes;
        a.query = at(step.query.value) + part.first_decided * a.query_stride + step.query.offset + column;
        a.out = at(step.target) + part.first_decided * a.out_stride + column;
        kernels_.attend(a);
    }
}

}  // namespace littlefoot
