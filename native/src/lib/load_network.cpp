#include <algorithm>
#include <cmath>

#include "load.h"
#include "model.h"

namespace littlefoot {

namespace {

constexpr double kLongest = 20;  // seconds of a window (recording.cpp)

}  // namespace

Network Loader::network(long inputs, size_t outputs, bool& masked) {
    const Reader begin = reader_;
    Network made;
    made.widths.push_back(inputs);
    const long count = reader_.count("the steps", 8);
    if (count < 1) damaged("it has no steps");
    for (long left = count; left > 0; --left) {
        made.steps.push_back(step(made, masked));
        std::visit([&](auto& s) { s.target = static_cast<int>(made.steps.size()); }, made.steps.back());
    }
    if (!reader_.empty()) damaged("its description is too long");
    if (made.widths.back() != static_cast<long>(outputs)) damaged("its vocabulary does not fit its outputs");
    check_window(made);
    reader_ = begin;
    return made;
}

// Where sizes have 32 bits, those of a window must fit.
void Loader::check_window(const Network& network) const {
    const double frames = kLongest * kSampleRate / static_cast<double>(stride_) + kMostTaps;
    const double widest = static_cast<double>(*std::max_element(network.widths.begin(), network.widths.end()) + kAlignment);
    if (frames * std::max(frames, widest) * sizeof(float) > static_cast<double>(SIZE_MAX / 2))
        throw Failure(LF_UNSUPPORTED, "the model needs more memory at once than this processor can address");
}

Step Loader::step(Network& network, bool& masked) {
    enum Kind { kLinear = 1, kConvolution, kFloatLinear, kNorm, kAdd, kAddVector, kActivate, kAttention };
    const auto made = [&](long width, Step step) {
        network.widths.push_back(width);
        return step;
    };
    const auto width_of = [&](int value) { return network.widths[static_cast<size_t>(value)]; };
    switch (const long kind = reader_.whole("the kind of a step", kLinear, kAttention)) {
        case kLinear:
        case kFloatLinear: {
            Linear step = kind == kLinear ? linear(network) : float_linear(network);
            const long width = step.weights.outputs();
            return made(width, std::move(step));
        }
        case kConvolution: {
            Convolution step = convolution(network);
            const long width = step.weights.outputs();
            return made(width, std::move(step));
        }
        case kNorm: {
            LayerNorm step = layer_norm(network);
            const long width = width_of(step.source);
            return made(width, std::move(step));
        }
        case kAdd: {
            const int source = value("a summand", network), other = value("a summand", network);
            if (width_of(other) != width_of(source)) damaged("summands of different sizes");
            return made(width_of(source), Add{source, other, {}, 0});
        }
        case kAddVector: {
            const int source = value("a summand", network);
            return made(width_of(source),
                        Add{source, -1, copy("a vector", static_cast<size_t>(width_of(source))), 0});
        }
        case kActivate: {
            const int source = value("an input", network);
            return made(width_of(source), Activate{source, activation(), 0});
        }
        default: {
            const Attention step = attention(network, masked);
            return made(step.heads * step.head_dim, step);
        }
    }
}

Linear Loader::linear(const Network& network) {
    const int source = value("an input", network);
    Weights made = weights({matrix("a linear layer")}, network.widths[static_cast<size_t>(source)], 1);
    const int residual = this->residual(network, made.outputs());
    return {source, std::move(made), residual, 0};
}

// As version 1 of the format has them: the weight is not among the matrices.
Linear Loader::float_linear(const Network& network) {
    const int source = value("an input", network);
    const long outputs = reader_.whole("outputs", 1, kMostColumns), inputs = network.widths[static_cast<size_t>(source)];
    const Matrix weight = matrix(tensor("a linear layer"), outputs, inputs, 32, 0, {});
    Weights made = weights({weight}, inputs, 1);
    const int residual = this->residual(network, made.outputs());
    return {source, std::move(made), residual, 0};
}

Convolution Loader::convolution(const Network& network) {
    const int source = value("an input", network);
    const long taps = reader_.whole("taps", 1, kMostTaps), behind = reader_.whole("taps behind", 0, taps - 1);
    std::vector<Matrix> groups;
    for (long left = reader_.whole("groups", 1, kMostColumns); left > 0; --left) groups.push_back(matrix("a convolution"));
    Weights made = weights(std::move(groups), network.widths[static_cast<size_t>(source)], taps);
    const int residual = this->residual(network, made.outputs());
    return {source, std::move(made), behind, residual, 0};
}

LayerNorm Loader::layer_norm(const Network& network) {
    LayerNorm step;
    step.source = value("an input", network);
    const size_t width = static_cast<size_t>(network.widths[static_cast<size_t>(step.source)]);
    step.weight = copy_or("a norm's weight", width, 1.0f);
    step.bias = copy_or("a norm's bias", width, 0.0f);
    step.eps = positive("a norm's epsilon");
    step.target = 0;
    return step;
}

Attention Loader::attention(const Network& network, bool& masked) {
    Attention step;
    step.heads = reader_.whole("heads", 1, kMostColumns);
    step.head_dim = reader_.whole("channels of a head", 1, kMostColumns);
    if (1LL * step.heads * step.head_dim > kMostColumns) damaged("attention with too many channels");
    const long width = step.heads * step.head_dim;
    step.query = view("queries", network, width);
    step.key = view("keys", network, width);
    step.value = view("values", network, width);
    step.scale = positive("the scale of attention");
    step.query_scale = reader_.f32();
    step.key_scale = reader_.f32();
    const auto scale = [](float number) { return std::isfinite(number) && number >= 0; };
    if (!scale(step.query_scale) || !scale(step.key_scale) || !(step.query_scale > 0) != !(step.key_scale > 0))
        damaged("scales of attention scores");
    step.bias = reader_.whole("a mask", 0, 1) == 1 ? 0 : -1;
    if (step.bias == 0 && limits_.chunk == 0) damaged("a mask of chunks without a chunk");
    masked = masked || step.bias == 0;
    step.target = 0;
    return step;
}

int Loader::value(const char* what, const Network& network) {
    return static_cast<int>(reader_.whole(what, 0, static_cast<long>(network.widths.size()) - 1));
}

int Loader::residual(const Network& network, long width) {
    if (reader_.whole("whether there is a residual", 0, 1) == 0) return -1;
    const int found = value("a residual", network);
    if (network.widths[static_cast<size_t>(found)] != width) damaged("a residual does not fit its layer");
    return found;
}

View Loader::view(const char* what, const Network& network, long width) {
    const int number = value(what, network);
    const long offset = reader_.whole("a column", 0, kMostColumns);
    if (offset + width > network.widths[static_cast<size_t>(number)])
        damaged("heads reach beyond the columns of a value");
    return {number, offset};
}

}  // namespace littlefoot
