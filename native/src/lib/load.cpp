#include "load.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

#include "crc32.h"
#include "model.h"

namespace littlefoot {

static_assert(std::endian::native == std::endian::little, "model files are little-endian");

namespace {

constexpr uint8_t kMagic[8] = {0x89, 'L', 'F', 'M', '\r', '\n', 0x1A, '\n'};
constexpr size_t kPrefix = 64;  // magic, version, checksum and size of the description, size of the file, zeros, its CRC
constexpr uint64_t kAlignment = 64;  // of tensors
constexpr uint32_t kNone = 0xFFFFFFFF;
constexpr long kMostStride = kSampleRate, kLeastStride = 16, kMostField = 1 << 18;  // samples
constexpr long kMostFrames = 1 << 12;       // of a chunk and its context
constexpr long kMostTaps = 1 << 12;
constexpr double kLongest = 20;             // seconds of a window (recording.cpp)
constexpr double kMostSlice = 1 << 26;      // numbers that a slice of the front end has between two layers
constexpr long kSliceFrames = 32;           // of the front end's output (front_end.cpp)
constexpr double kExpansion = 8, kSpare = 64e6;  // packed matrices are so much larger than their file, and that, at most

uint32_t u32(const uint8_t* at) {
    uint32_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

uint64_t u64(const uint8_t* at) {
    uint64_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

// The description's bytes, once the prefix, its own checksum and the file's size are right.
std::span<const uint8_t> description_of(std::span<const uint8_t> file) {
    if (file.size() < sizeof kMagic || std::memcmp(file.data(), kMagic, sizeof kMagic) != 0)
        throw Failure(LF_NOT_A_MODEL, "the file is not a model of littlefoot: write one with "
                                      "littlefoot export MODEL -o model.lf --to file");
    if (file.size() < kPrefix) damaged("it ends within its first 64 bytes");
    const uint8_t* const data = file.data();
    if (u32(data + kPrefix - 4) != crc32(data, kPrefix - 4)) damaged("the checksum of its first bytes is wrong");
    if (const uint32_t version = u32(data + 8); version != LF_FORMAT_VERSION)
        throw Failure(LF_WRONG_VERSION, "the model has version " + std::to_string(version) +
                                            " of the format, and this library reads version " +
                                            std::to_string(LF_FORMAT_VERSION) +
                                            ": export it again, or install the library that belongs to it");
    const uint64_t description = u64(data + 16), whole = u64(data + 24);
    if (whole != file.size())
        damaged("it has " + std::to_string(file.size()) + " bytes, not " + std::to_string(whole));
    if (description > file.size() - kPrefix) damaged("its description reaches beyond its end");
    const std::span<const uint8_t> found = file.subspan(kPrefix, static_cast<size_t>(description));
    if (crc32(found.data(), found.size()) != u32(data + 12)) damaged("the checksum of its description is wrong");
    return found;
}

}  // namespace

Loader::Loader(std::span<const uint8_t> file, const Kernels& kernels)
    : file_(file), kernels_(kernels), reader_(description_of(file)) {}

std::string Loader::description() { return reader_.text("the description"); }

bool Loader::normalize() {
    const long rate = reader_.whole("the sample rate", 1, 1 << 20);
    if (rate != kSampleRate) damaged("its sample rate is " + std::to_string(rate));
    return reader_.whole("the normalisation", 0, 1) == 1;
}

StreamLimits Loader::limits() {
    limits_.chunk = reader_.whole("the chunk", 0, kMostFrames);
    limits_.left = reader_.whole("the left context", 0, kMostFrames);
    limits_.right = reader_.whole("the right context", 0, kMostFrames);
    return limits_;
}

Vocabulary Loader::vocabulary() {
    Vocabulary made;
    const long count = reader_.count("the vocabulary", 4);
    if (count < 1 || count > kMostColumns) damaged("a vocabulary of " + std::to_string(count) + " tokens");
    for (long token = 0; token < count; ++token) made.written.push_back(reader_.text("a token"));
    made.blank = static_cast<int>(reader_.whole("the blank", 0, count - 1));
    if (const uint32_t delimiter = reader_.u32(); delimiter != kNone) {
        if (delimiter >= static_cast<uint32_t>(count)) damaged("the word delimiter is outside of the vocabulary");
        made.delimiter = static_cast<int>(delimiter);
    }
    made.separator = reader_.text("the separator");
    for (long left = reader_.count("the cleaned texts", 4); left > 0; --left) {
        made.cleaned.push_back(reader_.text("a cleaned text"));
        if (made.cleaned.back().find_first_not_of(' ') == std::string::npos) damaged("a cleaned text is empty");
    }
    return made;
}

// Tensors are one behind the other, with zeros up to the next multiple of 64, and end with the file.
void Loader::tensors() {
    uint64_t end = kPrefix + u64(file_.data() + 16);
    const auto skip_zeros = [&](uint64_t to) {
        if (to < end || to - end >= kAlignment) damaged("a tensor is not in its place");
        for (; end < to; ++end)
            if (file_[static_cast<size_t>(end)]) damaged("there are bytes between its tensors");
    };
    for (long left = reader_.count("the tensors", 24); left > 0; --left) {
        const bool floats = reader_.whole("a tensor's type", 0, 1) == 1;
        const uint32_t checksum = reader_.u32();
        const uint64_t offset = reader_.u64(), size = reader_.u64();
        if (offset > file_.size() || size > file_.size() - offset) damaged("a tensor reaches beyond its end");
        if (offset % kAlignment || (floats && size % sizeof(float))) damaged("a tensor is not aligned");
        skip_zeros(offset);
        end = offset + size;
        const std::span<const uint8_t> bytes = file_.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
        if (crc32(bytes.data(), bytes.size()) != checksum)
            damaged("the checksum of tensor " + std::to_string(tensors_.size()) + " is wrong");
        if (floats)
            for (size_t i = 0; i < bytes.size(); i += sizeof(float)) {
                float number;
                std::memcpy(&number, bytes.data() + i, sizeof number);
                if (!std::isfinite(number)) damaged("a number in it is not finite");
            }
        tensors_.push_back({floats, bytes});
    }
    skip_zeros(file_.size());
}

void Loader::matrices() {
    double expanded = 0;
    for (long left = reader_.count("the matrices", 24); left > 0; --left) {
        const long number = reader_.whole("a tensor", 0, static_cast<long>(tensors_.size()) - 1);
        const long rows = reader_.whole("rows", 1, kMostColumns), columns = reader_.whole("columns", 1, kMostColumns);
        const int bits = static_cast<int>(reader_.whole("bits", 1, 8));
        const int input_bits = static_cast<int>(reader_.whole("bits of inputs", 1, 8));
        std::vector<int> levels;
        for (long level = reader_.whole("levels", 0, 16); level > 0; --level)
            levels.push_back(static_cast<int32_t>(reader_.u32()));
        const Tensor& tensor = tensors_[static_cast<size_t>(number)];
        const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(rows);
        if (tensor.floats || row_bytes * static_cast<size_t>(rows) != tensor.bytes.size())
            damaged("a matrix does not fit its tensor");
        expanded += static_cast<double>((rows + 63) / 64 * 64) * static_cast<double>((columns + 63) / 64 * 64) * bits / 8;
        if (expanded > kExpansion * static_cast<double>(file_.size()) + kSpare)
            damaged("its matrices are larger than the file");
        try {
            matrices_.push_back(std::make_shared<PackedMatrix>(kernels_, tensor.bytes.data(),
                                                               static_cast<long>(row_bytes), rows, columns, bits,
                                                               levels, input_bits, "auto"));
        } catch (const std::invalid_argument& error) {
            damaged(error.what());
        }
    }
}

std::vector<FrontEndLayer> Loader::front_end(long& stride, long& receptive_field) {
    std::vector<FrontEndLayer> layers;
    const long count = reader_.count("the front end's layers", 32);
    if (count < 1 || count > 64) damaged("a front end of " + std::to_string(count) + " layers");
    stride = receptive_field = 1;
    long channels = 1;
    for (long number = 0; number < count; ++number) {
        FrontEndLayer layer;
        layer.taps = reader_.whole("taps", 1, kMostTaps);
        layer.stride = reader_.whole("a stride", 1, kMostStride);
        receptive_field += (layer.taps - 1) * stride;
        stride *= layer.stride;
        if (stride > kMostStride || receptive_field > kMostField) damaged("its front end reads too much at once");
        layer.norm.over = static_cast<Over>(reader_.whole("a norm", 0, 2));
        if (layer.norm.over == Over::time && number > 0) damaged("a norm over time behind the first layer");
        layer.activation = activation();
        const bool normed = layer.norm.over == Over::channels;  // then the activation follows the norm
        if (number == 0) {
            layer.outputs = reader_.whole("outputs", 1, kMostColumns);
            layer.weight = copy("the first layer", static_cast<size_t>(layer.outputs * layer.taps));
            layer.bias = copy_or("the first layer's bias", static_cast<size_t>(layer.outputs), 0.0f);
        } else {
            layer.matrix = matrix("a convolution");
            layer.outputs = layer.matrix->outputs();
            if (layer.matrix->inputs() != layer.taps * channels) damaged("a convolution does not fit its input");
            layer.rounding = rounding(channels, layer.matrix->row_sums(), layer.matrix->activation_bits());
            layer.rounding.activation = normed ? Activation::none : layer.activation;
        }
        channels = layer.outputs;
        if (layer.norm.over != Over::none) {
            layer.norm.weight = copy_or("a norm's weight", static_cast<size_t>(channels), 1.0f);
            layer.norm.bias = copy_or("a norm's bias", static_cast<size_t>(channels), 0.0f);
            layer.norm.eps = positive("a norm's epsilon");
        }
        layers.push_back(std::move(layer));
    }
    if (stride < kLeastStride) damaged("its front end makes too many frames");
    stride_ = stride;
    if (receptive_field < stride) damaged("its frames leave samples out");
    long frames = kSliceFrames;
    for (size_t i = layers.size(); i-- > 0;) {
        if (static_cast<double>(frames) * static_cast<double>(layers[i].outputs) > kMostSlice)
            damaged("its front end is too large");
        frames = (frames - 1) * layers[i].stride + layers[i].taps;
    }
    return layers;
}

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
    enum Kind { kPackedLinear = 1, kPackedConvolution, kFloatLinear, kNorm, kAdd, kAddVector, kActivate, kAttention };
    const auto made = [&](long width, Step step) {
        network.widths.push_back(width);
        return step;
    };
    switch (reader_.whole("the kind of a step", kPackedLinear, kAttention)) {
        case kPackedLinear: {
            Step step = packed_linear(network);
            const long width = std::get<PackedLinear>(step).matrix->outputs();
            return made(width, std::move(step));
        }
        case kPackedConvolution: {
            Step step = packed_convolution(network);
            const auto& convolution = std::get<PackedConvolution>(step);
            const long width = static_cast<long>(convolution.groups.size()) * convolution.groups[0]->outputs();
            return made(width, std::move(step));
        }
        case kFloatLinear: {
            Step step = float_linear(network);
            const long width = std::get<FloatLinear>(step).outputs;
            return made(width, std::move(step));
        }
        case kNorm: {
            Step step = layer_norm(network);
            const long width = network.widths[static_cast<size_t>(std::get<LayerNorm>(step).source)];
            return made(width, std::move(step));
        }
        case kAdd: {
            const int source = value("a summand", network), other = value("a summand", network);
            const long width = network.widths[static_cast<size_t>(source)];
            if (network.widths[static_cast<size_t>(other)] != width) damaged("summands of different sizes");
            return made(width, Add{source, other, {}, 0});
        }
        case kAddVector: {
            const int source = value("a summand", network);
            const long width = network.widths[static_cast<size_t>(source)];
            return made(width, Add{source, -1, copy("a vector", static_cast<size_t>(width)), 0});
        }
        case kActivate: {
            const int source = value("an input", network);
            return made(network.widths[static_cast<size_t>(source)], Activate{source, activation(), 0});
        }
        default: {
            Step step = attention(network, masked);
            const auto& found = std::get<Attention>(step);
            const long width = found.heads * found.head_dim;
            return made(width, std::move(step));
        }
    }
}

Step Loader::packed_linear(const Network& network) {
    PackedLinear step;
    step.source = value("an input", network);
    const std::shared_ptr<PackedMatrix> found = matrix("a linear layer");
    if (found->inputs() != network.widths[static_cast<size_t>(step.source)])
        damaged("a linear layer does not fit its input");
    step.rounding = rounding(found->inputs(), found->row_sums(), found->activation_bits());
    step.rounding.activation = activation();
    step.residual = residual(network, found->outputs());
    step.matrix = found;
    step.target = 0;
    return step;
}

Step Loader::packed_convolution(const Network& network) {
    PackedConvolution step;
    step.source = value("an input", network);
    step.taps = reader_.whole("taps", 1, kMostTaps);
    step.behind = reader_.whole("taps behind", 0, step.taps - 1);
    const long groups = reader_.whole("groups", 1, kMostColumns), width = network.widths[static_cast<size_t>(step.source)];
    std::vector<int32_t> row_sums;
    for (long g = 0; g < groups; ++g) {
        step.groups.push_back(matrix("a convolution"));
        const PackedMatrix &last = *step.groups.back(), &first = *step.groups.front();
        if (last.outputs() != first.outputs() || last.activation_bits() != first.activation_bits() ||
            1LL * last.inputs() * groups != 1LL * width * step.taps || width % groups)
            damaged("a convolution does not fit its input");
        row_sums.insert(row_sums.end(), last.row_sums().begin(), last.row_sums().end());
    }
    step.rounding = rounding(width, row_sums, step.groups.front()->activation_bits());
    step.rounding.activation = activation();
    step.residual = residual(network, static_cast<long>(row_sums.size()));
    step.target = 0;
    return step;
}

Step Loader::float_linear(const Network& network) {
    FloatLinear step;
    step.source = value("an input", network);
    step.outputs = reader_.whole("outputs", 1, kMostColumns);
    step.inputs = network.widths[static_cast<size_t>(step.source)];
    const Floats weight = floats("a linear layer", uint64_t{1} * step.inputs * step.outputs);
    step.bias = copy_or("a bias", static_cast<size_t>(step.outputs), 0.0f);
    step.activation = activation();
    step.residual = residual(network, step.outputs);
    step.target = 0;
    const long padded = (step.outputs + 15) / 16 * 16;
    step.weight = Bytes(static_cast<size_t>(step.inputs * padded) * sizeof(float));
    float* const out = reinterpret_cast<float*>(step.weight.data());
    for (long o = 0; o < step.outputs; ++o)
        for (long i = 0; i < step.inputs; ++i) out[i * padded + o] = weight[static_cast<size_t>(o * step.inputs + i)];
    return step;
}

Step Loader::layer_norm(const Network& network) {
    LayerNorm step;
    step.source = value("an input", network);
    const size_t width = static_cast<size_t>(network.widths[static_cast<size_t>(step.source)]);
    step.weight = copy_or("a norm's weight", width, 1.0f);
    step.bias = copy_or("a norm's bias", width, 0.0f);
    step.eps = positive("a norm's epsilon");
    step.target = 0;
    return step;
}

Step Loader::attention(const Network& network, bool& masked) {
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

// A tensor of so many numbers, by its number in the description.
Loader::Floats Loader::floats(const char* what, uint64_t count) {
    const long number = reader_.whole(what, 0, static_cast<long>(tensors_.size()) - 1);
    const Tensor& tensor = tensors_[static_cast<size_t>(number)];
    if (!tensor.floats || tensor.bytes.size() / sizeof(float) != count)
        damaged(std::string(what) + " must have " + std::to_string(count) + " numbers");
    return {reinterpret_cast<const float*>(tensor.bytes.data()), static_cast<size_t>(count)};
}

std::vector<float> Loader::copy(const char* what, size_t count) {
    const Floats found = floats(what, count);
    return {found.begin(), found.end()};
}

// Where there is no tensor, so many times the same number.
std::vector<float> Loader::copy_or(const char* what, size_t count, float otherwise) {
    if (reader_.whole("whether a tensor is there", 0, 1) == 0) return std::vector<float>(count, otherwise);
    return copy(what, count);
}

Activation Loader::activation() { return static_cast<Activation>(reader_.whole("an activation", 0, 2)); }

float Loader::positive(const char* what) {
    const float found = reader_.f32();
    if (!(found > 0) || !std::isfinite(found)) damaged(std::string(what) + " must be above 0");
    return found;
}

std::shared_ptr<PackedMatrix> Loader::matrix(const char* what) {
    return matrices_[static_cast<size_t>(reader_.whole(what, 0, static_cast<long>(matrices_.size()) - 1))];
}

// ``columns`` of the input; ``row_sums`` of each output.
Rounding Loader::rounding(long columns, const std::vector<int32_t>& row_sums, int input_bits) {
    Rounding made;
    const float scale = positive("the scale of an input");
    made.input_factor = 1.0f / scale;
    made.zero_point = static_cast<int>(reader_.whole("a zero point", 0, (1L << input_bits) - 1));
    made.scale = copy("the scale of a weight", row_sums.size());
    for (float& each : made.scale) each *= scale;
    const bool smoothed = reader_.whole("whether an input is smoothed", 0, 1) == 1;
    if (smoothed) made.factors = copy("smoothing", static_cast<size_t>(columns));
    const bool shifted = reader_.whole("whether an input is shifted", 0, 1) == 1;
    if (shifted) made.shift = copy("a shift", static_cast<size_t>(columns));
    if (smoothed || shifted) {
        made.factors.resize(static_cast<size_t>(columns), 1.0f);
        made.shift.resize(static_cast<size_t>(columns), 0.0f);
    }
    for (float& factor : made.factors) factor *= made.input_factor;
    for (float& part : made.shift) part *= made.input_factor;
    made.offset = copy_or("a bias", row_sums.size(), 0.0f);
    for (const int32_t sum : row_sums) made.correction.push_back(made.zero_point * sum);
    return made;
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
