#include "program.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace littlefoot {

namespace {

constexpr long kBlock = 64;  // rows of a task at most: enough to reuse a tile of weights, few enough for the cache

long up16(long n) { return (n + 15) / 16 * 16; }

using Values = std::vector<int>;

// What a step reads of its own rows; what is packed of all rows before is not among it.
Values sources(const Step& step) {
    return std::visit(For{
                          [](const PackedLinear& s) { return Values{s.source, s.residual}; },
                          [](const PackedConvolution& s) { return Values{s.residual}; },
                          [](const FloatLinear& s) { return Values{s.source, s.residual}; },
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
                          [](const PackedConvolution& s) { return Values{s.source}; },
                          [](const auto&) { return Values{}; },
                      },
                      step);
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

bool Program::has(const PackedMatrix& matrix) const {
    return std::any_of(steps_.begin(), steps_.end(), [&](const Step& step) {
        const auto* linear = std::get_if<PackedLinear>(&step);
        return linear && linear->matrix.get() == &matrix;
    });
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
    planned_ = true;
}

long Program::stride(int value) const { return up16(widths_[static_cast<size_t>(value)]); }

float* Program::at(int value, const Rows& rows) {
    const Buffer& buffer = buffers_[static_cast<size_t>(value)];
    const size_t slot = static_cast<size_t>(buffer.slot);
    if (buffer.local) return reinterpret_cast<float*>(rows.worker.slots[slot].data());
    return reinterpret_cast<float*>(globals_[slot].data()) + rows.first * stride(value);
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
    for (const Step& step : steps_) reserve(step, frames);

    const long inputs = widths_[0];
    float* input = reinterpret_cast<float*>(globals_[static_cast<size_t>(buffers_[0].slot)].data());
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
    const float* result =
        reinterpret_cast<const float*>(globals_[static_cast<size_t>(buffers_[static_cast<size_t>(last)].slot)].data());
    for (long r = 0; r < frames; ++r)
        std::memcpy(out + r * outputs, result + r * stride(last), static_cast<size_t>(outputs) * sizeof(float));
}

// Room for what a step packs of all rows.
void Program::reserve(const Step& step, long frames) {
    std::visit(For{
                   [&](const PackedConvolution& s) {
                       const size_t padded = static_cast<size_t>(frames + s.taps - 1);
                       for (int set = 0; set < 2; ++set) {
                           windows_[set].reserve(padded * static_cast<size_t>(width(s.source)));
                           if (sums_[set].size() < padded * s.groups.size()) sums_[set].resize(padded * s.groups.size());
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
                   },
                   [](const auto&) {},
               },
               step);
}

void Program::run_rows(size_t stage, const Rows& rows, long frames, const std::vector<Bias>& biases) {
    const int set = static_cast<int>(stage % 2);  // where goes what the next stage sees of all rows
    for (size_t s = stages_[stage]; s < stages_[stage + 1]; ++s)
        std::visit(For{
                       [&](const Attention& step) { attend(step, rows, frames, biases, 1 - set); },
                       [&](const PackedConvolution& step) { run(step, rows, frames, 1 - set); },
                       [&](const auto& step) { run(step, rows); },
                   },
                   steps_[s]);
    if (stages_[stage + 1] == steps_.size()) return;
    std::visit(For{
                   [&](const Attention& next) { pack(next, rows, frames, set); },
                   [&](const PackedConvolution& next) { pack(next, rows, frames, set); },
                   [](const auto&) {},  // only those begin a stage
               },
               steps_[stages_[stage + 1]]);
}

void Program::run(const PackedLinear& step, const Rows& rows) {
    const PackedMatrix& matrix = *step.matrix;
    const Rounding& rounding = step.rounding;
    Worker& worker = rows.worker;
    const long padded = matrix.padded_inputs();
    worker.quantized.reserve(static_cast<size_t>(kBlock * padded));
    worker.sums.resize(static_cast<size_t>(kBlock));
    uint8_t* const quantized = worker.quantized.data();
    const float* source = at(step.source, rows);
    for (long r = 0; r < rows.count; ++r) {
        uint8_t* row = quantized + r * padded;
        worker.sums[static_cast<size_t>(r)] =
            quantize(kernels_, rounding, source + r * stride(step.source), 0, matrix.inputs(),
                     matrix.activation_bits(), row);
        std::memset(row + matrix.inputs(), 0, static_cast<size_t>(padded - matrix.inputs()));
    }
    const Finish finish = finishing(rounding, matrix);
    float* const out = at(step.target, rows);
    const float* const residual = step.residual < 0 ? nullptr : at(step.residual, rows);
    matrix.multiply(quantized, padded, rows.count, worker.scratch,
                    [&](long r, long first, long count, const int32_t* sums) {
                        kernels_.finish(finish, sums, first, count,
                                        matrix.beta() * worker.sums[static_cast<size_t>(r)],
                                        residual ? residual + r * stride(step.residual) + first : nullptr,
                                        out + r * stride(step.target) + first);
                    });
}

// A row's window is a row of the matrix product: taps of consecutive frames lie one behind the other.
void Program::run(const PackedConvolution& step, const Rows& rows, long frames, int set) {
    const long padded = frames + step.taps - 1;
    float* const out = at(step.target, rows);
    const float* const residual = step.residual < 0 ? nullptr : at(step.residual, rows);
    std::vector<int32_t>& window_sums = rows.worker.sums;
    window_sums.assign(static_cast<size_t>(kBlock), 0);
    for (size_t g = 0; g < step.groups.size(); ++g) {
        const PackedMatrix& matrix = *step.groups[g];
        const long channels = matrix.inputs() / step.taps, outputs = matrix.outputs();
        const long begin = static_cast<long>(g) * padded + rows.first;
        if (matrix.beta())
            for (long r = 0; r < rows.count; ++r) {
                const int32_t* of_frames = sums_[set].data() + begin + r;
                window_sums[static_cast<size_t>(r)] = std::accumulate(of_frames, of_frames + step.taps, 0);
            }
        const Finish finish = finishing(step.rounding, matrix);
        matrix.multiply(windows_[set].data() + begin * channels, channels, rows.count, rows.worker.scratch,
                        [&](long r, long first, long count, const int32_t* sums) {
                            const long column = static_cast<long>(g) * outputs + first;
                            kernels_.finish(finish, sums, column, count,
                                            matrix.beta() * window_sums[static_cast<size_t>(r)],
                                            residual ? residual + r * stride(step.residual) + column : nullptr,
                                            out + r * stride(step.target) + column);
                        });
    }
}

void Program::pack(const PackedConvolution& step, const Rows& rows, long frames, int set) {
    const long padded = frames + step.taps - 1;
    const float* const source = at(step.source, rows);
    const int zero = step.rounding.zero_point;
    for (size_t g = 0; g < step.groups.size(); ++g) {
        const PackedMatrix& matrix = *step.groups[g];
        const long channels = matrix.inputs() / step.taps;
        uint8_t* const window = windows_[set].data() + static_cast<long>(g) * padded * channels;
        int32_t* const sums = sums_[set].data() + static_cast<long>(g) * padded;
        for (long r = 0; r < rows.count; ++r) {
            const long place = step.behind + rows.first + r;
            sums[place] = quantize(kernels_, step.rounding, source + r * stride(step.source),
                                   static_cast<long>(g) * channels, channels, matrix.activation_bits(),
                                   window + place * channels);
        }
        const auto silence = [&](long from, long to) {
            std::memset(window + from * channels, zero, static_cast<size_t>((to - from) * channels));
            std::fill(sums + from, sums + to, zero * static_cast<int32_t>(channels));
        };
        if (rows.first == 0) silence(0, step.behind);
        if (rows.first + rows.count == frames) silence(step.behind + frames, padded);
    }
}

void Program::run(const FloatLinear& step, const Rows& rows) {
    for (long r = 0; r < rows.count; ++r)
        kernels_.linear(at(step.source, rows) + r * stride(step.source), step.inputs,
                        reinterpret_cast<const float*>(step.weight.data()),
                        step.bias.empty() ? nullptr : step.bias.data(), step.outputs, step.activation,
                        step.residual < 0 ? nullptr : at(step.residual, rows) + r * stride(step.residual),
                        at(step.target, rows) + r * stride(step.target));
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

void Program::pack(const Attention& step, const Rows& rows, long frames, int set) {
    const size_t bytes = kernels_.packed_bytes(frames, step.head_dim);
    for (long h = 0; h < step.heads; ++h) {
        const long column = h * step.head_dim;
        kernels_.pack_keys(at(step.key.value, rows) + step.key.offset + column, stride(step.key.value), rows.first,
                           rows.count, frames, step.head_dim, step.key_scale,
                           keys_[set].data() + static_cast<size_t>(h) * bytes);
        kernels_.pack_values(at(step.value.value, rows) + step.value.offset + column, stride(step.value.value),
                             rows.first, rows.count, step.head_dim,
                             values_[set].data() + static_cast<size_t>(h) * bytes);
    }
}

void Program::attend(const Attention& step, const Rows& rows, long frames, const std::vector<Bias>& biases,
                     int set) {
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
        kernels_.attend(a);
    }
}

}  // namespace littlefoot
