#include "chunk_player.h"

#include <algorithm>
#include <cstring>

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
    using Values = std::vector<int>;
    return std::visit(For{
                          [](const Linear& s) { return Values{s.source, s.residual}; },
                          [](const Convolution& s) { return Values{s.source, s.residual}; },
                          [](const LayerNorm& s) { return Values{s.source}; },
                          [](const Add& s) { return Values{s.source, s.other}; },
                          [](const Activate& s) { return Values{s.source}; },
                          [](const Attention& s) { return Values{s.query.value, s.key.value, s.value.value}; },
                      },
                      step);
}

size_t floats(long rows, long width) { return static_cast<size_t>(rows * up16(width)) * sizeof(float); }

}  // namespace

ChunkPlayer::ChunkPlayer(const Kernels& kernels, std::shared_ptr<const Network> network, const StreamLimits& limits)
    : kernels_(kernels), network_(std::move(network)), limits_(limits) {
    const std::vector<Step>& steps = network_->steps;
    const auto found = std::find_if(steps.begin(), steps.end(), [](const Step& step) {
        return std::holds_alternative<Convolution>(step);
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
    const auto& step = std::get<Convolution>(steps[convolution_]);
    if (step.weights.taps() - 1 - step.behind != limits_.right)
        unsupported("its positional convolution looks further ahead than its right context");
    const int boundary = static_cast<int>(convolution_);  // values up to here are not delayed
    for (size_t s = 0; s < steps.size(); ++s) {
        const bool behind = s > convolution_;
        if (behind && std::holds_alternative<Convolution>(steps[s])) unsupported("it has several convolutions");
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
    const auto& step = std::get<Convolution>(steps[convolution_]);
    const long held = step.weights.taps() - 1 + most;
    state.windows_.reserve(static_cast<size_t>(held * network_->widths[static_cast<size_t>(step.source)]) *
                           step.weights.input_bytes());
    state.window_sums_.resize(static_cast<size_t>(held * step.weights.groups()));
    if (step.residual >= 0)
        state.delayed_.reserve(floats(limits_.right + most, network_->widths[static_cast<size_t>(step.residual)]));
    restart(state);
    return state;
}

void ChunkPlayer::restart(ChunkState& state) const {
    const auto& step = std::get<Convolution>(network_->steps[convolution_]);
    state.filled_ = 0;
    take_zeros(step, state, step.behind);
    state.waiting_ = state.seen_ = state.position_ = 0;
}

// Frames of silence behind the inputs of the convolution that are there.
void ChunkPlayer::take_zeros(const Convolution& step, ChunkState& state, long frames) const {
    const Weights& weights = step.weights;
    const long held = weights.taps() - 1 + state.most_, channels = weights.channels();
    for (long g = 0; g < weights.groups(); ++g)
        for (long f = g * held + state.filled_; f < g * held + state.filled_ + frames; ++f)
            state.window_sums_[static_cast<size_t>(f)] = weights.take_zeros(
                channels, state.windows_.data() + static_cast<size_t>(f * channels) * weights.input_bytes());
    state.filled_ += frames;
}

long ChunkPlayer::stride(int value) const { return up16(network_->widths[static_cast<size_t>(value)]); }

float* ChunkPlayer::at(int value) {
    return values_[static_cast<size_t>(slots_[static_cast<size_t>(value)])].floats();
}

float* ChunkPlayer::features(long rows) {
    reserve(rows);
    return at(0);
}

void ChunkPlayer::reserve(long rows) {
    if (rows <= reserved_) return;
    for (size_t slot = 0; slot < values_.size(); ++slot) values_[slot].reserve(floats(rows, slot_widths_[slot]));
    reserved_ = rows;
}

void ChunkPlayer::play(std::vector<Part>& parts) {
    parts_ = &parts;
    const auto& convolution = std::get<Convolution>(network_->steps[convolution_]);
    fresh_ = decided_ = 0;
    for (Part& part : parts) {
        part.first = fresh_;
        part.first_decided = decided_;
        part.decided = std::max(0L, part.state->filled_ + part.fresh + part.silent - (convolution.weights.taps() - 1));
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

Output ChunkPlayer::output(int target, int residual) {
    if (residual < 0) return {at(target), stride(target)};
    return {at(target), stride(target), at(residual), stride(residual)};
}

void ChunkPlayer::run(const Linear& step) {
    step.weights.apply(at(step.source), stride(step.source), rows(step.target), scratch_,
                       output(step.target, step.residual));
}

void ChunkPlayer::run(const Convolution& step) {
    for (const Part& part : *parts_) {
        push(step, part);
        convolve(step, part);
    }
}

// Inputs behind those that are there, and the residual's rows behind those that wait.
void ChunkPlayer::push(const Convolution& step, const Part& part) {
    ChunkState& state = *part.state;
    const Weights& weights = step.weights;
    const long held = weights.taps() - 1 + state.most_, channels = weights.channels();
    for (long g = 0; g < weights.groups(); ++g)
        for (long r = 0; r < part.fresh; ++r) {
            const long place = g * held + state.filled_ + r;
            state.window_sums_[static_cast<size_t>(place)] = weights.take(
                at(step.source) + (part.first + r) * stride(step.source), g * channels, channels,
                state.windows_.data() + static_cast<size_t>(place * channels) * weights.input_bytes());
        }
    state.filled_ += part.fresh;
    take_zeros(step, state, part.silent);
    if (step.residual < 0) return;
    std::memcpy(state.delayed_.floats() + state.waiting_ * stride(step.residual),
                at(step.residual) + part.first * stride(step.residual),
                floats(part.fresh, network_->widths[static_cast<size_t>(step.residual)]));
    state.waiting_ += part.fresh;
}

void ChunkPlayer::convolve(const Convolution& step, const Part& part) {
    ChunkState& state = *part.state;
    const Weights& weights = step.weights;
    const long held = weights.taps() - 1 + state.most_, left = state.filled_ - part.decided;
    const size_t frame = static_cast<size_t>(weights.channels()) * weights.input_bytes();
    Output to = output(step.target, -1);
    to.out += part.first_decided * to.stride;
    if (step.residual >= 0) {
        to.residual = state.delayed_.floats();
        to.residual_stride = stride(step.residual);
    }
    for (long g = 0; g < weights.groups(); ++g) {
        uint8_t* const window = state.windows_.data() + static_cast<size_t>(g * held) * frame;
        int32_t* const sums = state.window_sums_.data() + g * held;
        weights.multiply(g, window, weights.channels(), part.decided, sums, 1, scratch_, to);
        std::memmove(window, window + static_cast<size_t>(part.decided) * frame, static_cast<size_t>(left) * frame);
        std::copy_n(sums + part.decided, left, sums);
    }
    state.filled_ = left;
    if (!to.residual) return;
    float* const delayed = state.delayed_.floats();
    state.waiting_ -= part.decided;
    std::memmove(delayed, delayed + part.decided * stride(step.residual),
                 floats(state.waiting_, network_->widths[static_cast<size_t>(step.residual)]));
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
            std::memcpy(to.floats() + (before + r) * apart,
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
            kernels_.pack_keys(fresh_keys_.floats() + at, apart, first, rows, size, step.head_dim, step.key_scale,
                               history.keys.data() + static_cast<size_t>(h) * bytes);
            kernels_.pack_values(fresh_values_.floats() + at, apart, first, rows, step.head_dim,
                                 history.values.data() + static_cast<size_t>(h) * bytes);
        }
        done += rows;
    }
    const long kept = count % kTile;
    std::memcpy(history.last_keys.data(), fresh_keys_.floats() + (count - kept) * apart, floats(kept, width));
    std::memcpy(history.last_values.data(), fresh_values_.floats() + (count - kept) * apart, floats(kept, width));
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
