#include "program.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <tuple>

namespace littlefoot {

namespace {

constexpr long kBlock = 64;  // rows of a task at most: enough to reuse a tile of weights, few enough for the cache

// Bytes of attention maps that are kept for other layers; larger ones are computed anew. 30 s of 16 heads are 74 MB.
constexpr double kMostMapBytes = 96 << 20;

long up16(long n) { return (n + 15) / 16 * 16; }

using Values = std::vector<int>;

// What a step reads of its own rows; what is packed of all rows before is not among it.
Values sources(const Step& step) {
    return std::visit(For{
                          [](const Linear& s) { return Values{s.source, s.residual}; },
                          [](const Convolution& s) { return Values{s.residual}; },
                          [](const LayerNorm& s) { return Values{s.source}; },
                          [](const Add& s) { return Values{s.source, s.other}; },
                          [](const Activate& s) { return Values{s.source}; },
                          [](const Attention& s) { return Values{s.query.value}; },
                      },
                      step);
}

// What is packed of all rows in the stage before.
Values seen(const Step& step) {
    return std::visit(For{
                          [](const Attention& s) { return Values{s.key.value, s.value.value}; },
                          [](const Convolution& s) { return Values{s.source}; },
                          [](const auto&) { return Values{}; },
                      },
                      step);
}

// True if both attend with the same weights.
bool same_map(const Attention& a, const Attention& b) {
    const auto of = [](const Attention& s) {
        return std::tuple(s.query.value, s.query.offset, s.key.value, s.key.offset, s.heads, s.head_dim, s.scale,
                          s.query_scale, s.key_scale, s.bias);
    };
    return of(a) == of(b);
}

int target(const Step& step) {
    return std::visit([](const auto& s) { return s.target; }, step);
}

}  // namespace

Program::Program(const Kernels& kernels, int threads, long inputs)
    : kernels_(kernels), pool_(std::make_shared<Pool>(threads)), widths_{inputs} {}

int Program::add_value(long width) {
    const std::lock_guard lock(pool_->turn);
    widths_.push_back(width);
    return static_cast<int>(widths_.size()) - 1;
}

long Program::width(int value) const {
    if (value < 0 || value >= static_cast<int>(widths_.size())) throw std::invalid_argument("there is no such value");
    return widths_[static_cast<size_t>(value)];
}

void Program::add(Step step) {
    const std::lock_guard lock(pool_->turn);
    steps_.push_back(std::move(step));
    planned_ = false;
}

size_t Program::bytes() const {
    std::map<const void*, size_t> found;
    for (const Step& step : steps_)
        std::visit(For{
                       [&](const auto& s) requires requires { s.weights; } {
                           for (const Matrix& each : s.weights.matrices()) found[identity(each)] = littlefoot::bytes(each);
                       },
                       [](const auto&) {},
                   },
                   step);
    size_t sum = 0;
    for (const auto& [matrix, bytes] : found) sum += bytes;
    return sum;
}

long Program::output_width() const { return steps_.empty() ? widths_[0] : width(target(steps_.back())); }

void Program::check_biases(const std::vector<Bias>& biases) const {
    for (const Step& step : steps_)
        if (const auto* attention = std::get_if<Attention>(&step)) {
            if (attention->bias < 0) continue;
            if (attention->bias >= static_cast<int>(biases.size()))
                throw std::invalid_argument("an attention's bias is missing");
            const long heads = biases[static_cast<size_t>(attention->bias)].heads;
            if (heads != 1 && heads != attention->heads)
                throw std::invalid_argument("a bias of the attention is not of one head or all heads");
        }
}

// Cuts the steps into stages and gives every value a buffer: of a thread's rows if one stage uses it, of all rows
// otherwise. A buffer is free again after the last step that reads its value.
void Program::plan() {
    stages_ = {0};
    for (size_t s = 0; s < steps_.size(); ++s)
        if (!seen(steps_[s]).empty()) stages_.push_back(s);
    stages_.push_back(steps_.size());

    const size_t values = widths_.size();
    std::vector<size_t> first(values, 0), last(values, 0);
    std::vector<bool> crosses(values, false);
    std::vector<size_t> made_in(values, 0);
    const auto use = [&](int value, size_t step, size_t stage) {
        if (value < 0) return;
        last[static_cast<size_t>(value)] = step;
        if (made_in[static_cast<size_t>(value)] != stage) crosses[static_cast<size_t>(value)] = true;
    };
    size_t stage = 0;
    for (size_t s = 0; s < steps_.size(); ++s) {
        for (const int value : seen(steps_[s])) use(value, s, stage);
        if (!seen(steps_[s]).empty()) ++stage;
        for (const int value : sources(steps_[s])) use(value, s, stage);
        const size_t made = static_cast<size_t>(target(steps_[s]));
        first[made] = last[made] = s;
        made_in[made] = stage;
    }
    crosses[0] = true;  // the input and the output are of all rows
    last[static_cast<size_t>(steps_.empty() ? 0 : target(steps_.back()))] = steps_.size();
    crosses[static_cast<size_t>(steps_.empty() ? 0 : target(steps_.back()))] = true;

    buffers_.assign(values, {false, 0});
    local_widths_.clear();
    global_widths_.clear();
    std::vector<size_t> local_free, global_free;  // by slot: the step after which it is free
    for (size_t v = 0; v < values; ++v) {
        std::vector<long>& widths = crosses[v] ? global_widths_ : local_widths_;
        std::vector<size_t>& free = crosses[v] ? global_free : local_free;
        // Another row may be a stage behind, but only this row's buffers are touched in between.
        size_t slot = 0;
        while (slot < widths.size() && !(widths[slot] == widths_[v] && free[slot] < first[v])) ++slot;
        if (slot == widths.size()) {
            widths.push_back(widths_[v]);
            free.push_back(0);
        }
        free[slot] = last[v];
        buffers_[v] = {!crosses[v], static_cast<long>(slot)};
    }
    globals_.clear();
    globals_.resize(global_widths_.size());
    workers_.clear();
    workers_.resize(static_cast<size_t>(pool_->threads()));
    for (Worker& worker : workers_) worker.slots.resize(local_widths_.size());
    plan_maps();
    planned_ = true;
}

// Finds the attentions that share a map, and gives every such map a slot. It is free again after the last of them.
void Program::plan_maps() {
    step_maps_.assign(steps_.size(), {});
    std::vector<size_t> free;  // by slot: the step after which it is free
    for (size_t s = 0; s < steps_.size(); ++s) {
        const auto* first = std::get_if<Attention>(&steps_[s]);
        if (!first || step_maps_[s].known) continue;
        size_t last = s;
        for (size_t t = s + 1; t < steps_.size(); ++t) {
            const auto* other = std::get_if<Attention>(&steps_[t]);
            if (!other || !same_map(*first, *other)) continue;
            step_maps_[t].known = true;
            last = t;
        }
        if (last == s) continue;
        size_t slot = 0;
        while (slot < free.size() && free[slot] >= s) ++slot;
        if (slot == free.size()) free.push_back(0);
        free[slot] = last;
        for (size_t t = s; t <= last; ++t) {
            const auto* other = std::get_if<Attention>(&steps_[t]);
            if (other && same_map(*first, *other)) step_maps_[t].slot = static_cast<int>(slot);
        }
    }
    maps_.clear();
    maps_.resize(free.size());
}

// The map that an attention shares, or null where it shares none, or one that is too large.
Program::KeptMap* Program::kept_map(size_t number, long frames) {
    const int slot = step_maps_[number].slot;
    if (slot < 0) return nullptr;
    const Attention& step = std::get<Attention>(steps_[number]);
    const double bytes = static_cast<double>(step.heads * frames) * static_cast<double>(kernels_.map_row(frames));
    return bytes * static_cast<double>(maps_.size()) <= kMostMapBytes ? &maps_[static_cast<size_t>(slot)] : nullptr;
}

long Program::stride(int value) const { return up16(widths_[static_cast<size_t>(value)]); }

float* Program::at(int value, const Rows& rows) {
    const Buffer& buffer = buffers_[static_cast<size_t>(value)];
    const size_t slot = static_cast<size_t>(buffer.slot);
    if (buffer.local) return rows.worker.slots[slot].floats();
    return globals_[slot].floats() + rows.first * stride(value);
}

void Program::run(const float* x, long frames, const std::vector<Bias>& biases, float* out, long outputs) {
    const std::lock_guard lock(pool_->turn);
    check_biases(biases);
    if (outputs != output_width()) throw std::runtime_error("a step was added to a program while it was asked to run");
    if (frames == 0) return;
    if (!planned_) plan();
    for (size_t slot = 0; slot < globals_.size(); ++slot)
        globals_[slot].reserve(static_cast<size_t>(frames * up16(global_widths_[slot])) * sizeof(float));
    const long share = up16((frames + 4 * pool_->threads() - 1) / (4 * pool_->threads()));
    const long block = std::min(kBlock, std::max(16L, share));
    for (Worker& worker : workers_)
        for (size_t slot = 0; slot < local_widths_.size(); ++slot)
            worker.slots[slot].reserve(static_cast<size_t>(kBlock * up16(local_widths_[slot])) * sizeof(float));
    for (size_t s = 0; s < steps_.size(); ++s) reserve(s, frames);

    const long inputs = widths_[0];
    float* input = globals_[static_cast<size_t>(buffers_[0].slot)].floats();
    for (long r = 0; r < frames; ++r)
        std::memcpy(input + r * stride(0), x + r * inputs, static_cast<size_t>(inputs) * sizeof(float));
    const long tasks = (frames + block - 1) / block;
    for (size_t stage = 0; stage + 1 < stages_.size(); ++stage)
        pool_->run(tasks, [&](long task, int thread) {
            const long first = task * block;
            run_rows(stage, {first, std::min(block, frames - first), workers_[static_cast<size_t>(thread)]}, frames,
                     biases);
        });
    const int last = steps_.empty() ? 0 : target(steps_.back());
    const float* result = globals_[static_cast<size_t>(buffers_[static_cast<size_t>(last)].slot)].floats();
    for (long r = 0; r < frames; ++r)
        std::memcpy(out + r * outputs, result + r * stride(last), static_cast<size_t>(outputs) * sizeof(float));
}

// Room for what a step packs or keeps of all rows.
void Program::reserve(size_t number, long frames) {
    std::visit(For{
                   [&](const Convolution& s) {
                       const size_t padded = static_cast<size_t>(frames + s.weights.taps() - 1);
                       const size_t sums = padded * static_cast<size_t>(s.weights.groups());
                       for (int set = 0; set < 2; ++set) {
                           windows_[set].reserve(padded * static_cast<size_t>(width(s.source)) * s.weights.input_bytes());
                           if (sums_[set].size() < sums) sums_[set].resize(sums);
                       }
                   },
                   [&](const Attention& s) {
                       const size_t bytes = kernels_.packed_bytes(frames, s.head_dim) * static_cast<size_t>(s.heads);
                       for (int set = 0; set < 2; ++set) {
                           keys_[set].reserve(bytes);
                           values_[set].reserve(bytes);
                       }
                       for (Worker& worker : workers_)
                           worker.attention.reserve(kernels_.attention_scratch(frames, s.head_dim));
                       if (KeptMap* const map = kept_map(number, frames)) {
                           const size_t rows = static_cast<size_t>(s.heads * frames);
                           map->weights.reserve(rows * kernels_.map_row(frames));
                           if (map->sums.size() < rows) map->sums.resize(rows);
                       }
                   },
                   [](const auto&) {},
               },
               steps_[number]);
}

void Program::run_rows(size_t stage, const Rows& rows, long frames, const std::vector<Bias>& biases) {
    const int set = static_cast<int>(stage % 2);  // where goes what the next stage sees of all rows
    for (size_t s = stages_[stage]; s < stages_[stage + 1]; ++s)
        std::visit(For{
                       [&](const Attention&) { attend(s, rows, frames, biases, 1 - set); },
                       [&](const Convolution& step) { run(step, rows, frames, 1 - set); },
                       [&](const auto& step) { run(step, rows); },
                   },
                   steps_[s]);
    if (stages_[stage + 1] == steps_.size()) return;
    std::visit(For{
                   [&](const Attention&) { pack(stages_[stage + 1], rows, frames, set); },
                   [&](const Convolution& next) { pack(next, rows, frames, set); },
                   [](const auto&) {},  // only those begin a stage
               },
               steps_[stages_[stage + 1]]);
}

Output Program::output(int target, int residual, const Rows& rows) {
    if (residual < 0) return {at(target, rows), stride(target)};
    return {at(target, rows), stride(target), at(residual, rows), stride(residual)};
}

void Program::run(const Linear& step, const Rows& rows) {
    step.weights.apply(at(step.source, rows), stride(step.source), rows.count, rows.worker.scratch,
                       output(step.target, step.residual, rows));
}

// A row's window is a row of the matrix product: taps of consecutive frames lie one behind the other.
void Program::run(const Convolution& step, const Rows& rows, long frames, int set) {
    const Weights& weights = step.weights;
    const long padded = frames + weights.taps() - 1, channels = weights.channels();
    for (long g = 0; g < weights.groups(); ++g) {
        const long begin = g * padded + rows.first;
        weights.multiply(g, windows_[set].data() + static_cast<size_t>(begin * channels) * weights.input_bytes(),
                         channels, rows.count, sums_[set].data() + begin, 1, rows.worker.scratch,
                         output(step.target, step.residual, rows));
    }
}

void Program::pack(const Convolution& step, const Rows& rows, long frames, int set) {
    const Weights& weights = step.weights;
    const long padded = frames + weights.taps() - 1, channels = weights.channels();
    const float* const source = at(step.source, rows);
    for (long g = 0; g < weights.groups(); ++g) {
        int32_t* const sums = sums_[set].data() + g * padded;
        const auto window = [&](long place) {
            return windows_[set].data() + static_cast<size_t>((g * padded + place) * channels) * weights.input_bytes();
        };
        const long begin = step.behind + rows.first;
        for (long r = 0; r < rows.count; ++r)
            sums[begin + r] = weights.take(source + r * stride(step.source), g * channels, channels, window(begin + r));
        const auto silence = [&](long from, long to) {
            for (long place = from; place < to; ++place) sums[place] = weights.take_zeros(channels, window(place));
        };
        if (rows.first == 0) silence(0, step.behind);
        if (rows.first + rows.count == frames) silence(step.behind + frames, padded);
    }
}

void Program::run(const LayerNorm& step, const Rows& rows) {
    for (long r = 0; r < rows.count; ++r)
        kernels_.layer_norm(at(step.source, rows) + r * stride(step.source), width(step.source), step.weight.data(),
                            step.bias.data(), step.eps, Activation::none,
                            at(step.target, rows) + r * stride(step.target));
}

void Program::run(const Add& step, const Rows& rows) {
    for (long r = 0; r < rows.count; ++r)
        kernels_.add(at(step.source, rows) + r * stride(step.source),
                     step.other < 0 ? step.vector.data() : at(step.other, rows) + r * stride(step.other),
                     width(step.target), at(step.target, rows) + r * stride(step.target));
}

void Program::run(const Activate& step, const Rows& rows) {
    for (long r = 0; r < rows.count; ++r)
        kernels_.activate(at(step.source, rows) + r * stride(step.source), width(step.target), step.activation,
                          at(step.target, rows) + r * stride(step.target));
}

void Program::pack(size_t number, const Rows& rows, long frames, int set) {
    const Attention& step = std::get<Attention>(steps_[number]);
    const bool known = step_maps_[number].known && kept_map(number, frames);
    const size_t bytes = kernels_.packed_bytes(frames, step.head_dim);
    for (long h = 0; h < step.heads; ++h) {
        const long column = h * step.head_dim;
        if (!known)
            kernels_.pack_keys(at(step.key.value, rows) + step.key.offset + column, stride(step.key.value),
                               rows.first, rows.count, frames, step.head_dim, step.key_scale,
                               keys_[set].data() + static_cast<size_t>(h) * bytes);
        kernels_.pack_values(at(step.value.value, rows) + step.value.offset + column, stride(step.value.value),
                             rows.first, rows.count, step.head_dim,
                             values_[set].data() + static_cast<size_t>(h) * bytes);
    }
}

void Program::attend(size_t number, const Rows& rows, long frames, const std::vector<Bias>& biases, int set) {
    const Attention& step = std::get<Attention>(steps_[number]);
    KeptMap* const kept = kept_map(number, frames);
    const size_t bytes = kernels_.packed_bytes(frames, step.head_dim);
    AttentionRows a;
    a.query_stride = stride(step.query.value);
    a.rows = rows.count;
    a.head_dim = step.head_dim;
    a.frames = frames;
    a.scale = step.scale;
    a.query_scale = step.query_scale;
    a.key_scale = step.key_scale;
    a.bias_stride = frames;
    a.out_stride = stride(step.target);
    a.scratch = rows.worker.attention.data();
    for (long h = 0; h < step.heads; ++h) {
        a.query = at(step.query.value, rows) + step.query.offset + h * step.head_dim;
        a.keys = keys_[set].data() + static_cast<size_t>(h) * bytes;
        a.values = values_[set].data() + static_cast<size_t>(h) * bytes;
        a.bias = nullptr;
        if (step.bias >= 0) {
            const Bias& bias = biases[static_cast<size_t>(step.bias)];
            a.bias = bias.data + ((bias.heads == 1 ? 0 : h) * frames + rows.first) * frames;
        }
        a.out = at(step.target, rows) + h * step.head_dim;
        if (kept) {
            const size_t row = static_cast<size_t>(h * frames + rows.first);
            a.map = kept->weights.data() + row * kernels_.map_row(frames);
            a.sums = kept->sums.data() + row;
            a.known = step_maps_[number].known;
        }
        kernels_.attend(a);
    }
}

}  // namespace littlefoot
