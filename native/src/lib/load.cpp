#include "load.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "crc32.h"
#include "model.h"

namespace littlefoot {

static_assert(std::endian::native == std::endian::little, "model files are little-endian");

namespace {

constexpr uint8_t kMagic[8] = {0x89, 'L', 'F', 'M', '\r', '\n', 0x1A, '\n'};
constexpr size_t kPrefix = 64;  // magic, version, checksum and size of the description, size of the file, zeros, its CRC
constexpr uint32_t kNone = 0xFFFFFFFF;
constexpr long kMostStride = kSampleRate, kLeastStride = 16, kMostField = 1 << 18;  // samples
constexpr long kMostFrames = 1 << 12;       // of a chunk and its context
constexpr double kMostSlice = 1 << 26;      // numbers that a slice of the front end has between two layers
constexpr long kSliceFrames = 32;           // of the front end's output (front_end.cpp)
constexpr double kExpansion = 8, kSpare = 64e6;  // packed matrices are so much larger than their file, and that, at most

// Whether the bits of the exponent are never all set.
template <typename Number>
bool finite(std::span<const uint8_t> bytes, Number exponent) {
    bool found = true;
    for (size_t i = 0; i < bytes.size(); i += sizeof(Number)) {
        Number number;
        std::memcpy(&number, bytes.data() + i, sizeof number);
        found &= (number & exponent) != exponent;
    }
    return found;
}

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
    if (const uint32_t version = u32(data + 8); version < 1 || version > LF_FORMAT_VERSION)
        throw Failure(LF_WRONG_VERSION, "the model has version " + std::to_string(version) +
                                            " of the format, and this library reads versions 1 to " +
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

Loader::Loader(std::span<const uint8_t> file, const Kernels& kernels, Release release)
    : file_(file), kernels_(kernels), release_(std::move(release)), reader_(description_of(file)) {}

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
        const auto type = static_cast<Type>(reader_.whole("a tensor's type", 0, 2));
        const uint32_t checksum = reader_.u32();
        const uint64_t offset = reader_.u64(), size = reader_.u64();
        if (offset > file_.size() || size > file_.size() - offset) damaged("a tensor reaches beyond its end");
        if (offset % kAlignment || size % number_bytes(type)) damaged("a tensor is not aligned");
        skip_zeros(offset);
        end = offset + size;
        const std::span<const uint8_t> bytes = file_.subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
        if (crc32(bytes.data(), bytes.size()) != checksum)
            damaged("the checksum of tensor " + std::to_string(tensors_.size()) + " is wrong");
        if ((type == Type::floats && !finite<uint32_t>(bytes, 0x7F800000)) ||
            (type == Type::halves && !finite<uint16_t>(bytes, 0x7C00)))
            damaged("a number in it is not finite");
        tensors_.push_back({type, bytes});
        if (release_) release_(bytes);
    }
    skip_zeros(file_.size());
}

void Loader::matrices() {
    for (long left = reader_.count("the matrices", 24); left > 0; --left) {
        const Tensor& tensor = this->tensor("a matrix");
        const long rows = reader_.whole("rows", 1, kMostColumns), columns = reader_.whole("columns", 1, kMostColumns);
        const int bits = static_cast<int>(reader_.whole("bits", 1, 32));
        const int input_bits = static_cast<int>(reader_.whole("bits of inputs", 0, 8));
        std::vector<int> levels;
        for (long level = reader_.whole("levels", 0, 16); level > 0; --level)
            levels.push_back(static_cast<int32_t>(reader_.u32()));
        matrices_.push_back(matrix(tensor, rows, columns, bits, input_bits, levels));
        if (release_) release_(tensor.bytes);
    }
}

// Throws before the memory of a matrix much larger than its tensor is taken: the last columns of a layout are padded.
Matrix Loader::matrix(const Tensor& tensor, long rows, long columns, int bits, int input_bits,
                      const std::vector<int>& levels) {
    const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(rows);
    const bool floats = tensor.type != Type::bytes;
    if (row_bytes * static_cast<size_t>(rows) != tensor.bytes.size() ||
        floats != (static_cast<size_t>(bits) == 8 * number_bytes(tensor.type) && bits > 8) ||
        (floats && row_bytes != static_cast<size_t>(columns) * number_bytes(tensor.type)))
        damaged("a matrix does not fit its tensor");
    const double padded = static_cast<double>((rows + 63) / 64 * 64) * static_cast<double>((columns + 63) / 64 * 64);
    if (padded * 4 > static_cast<double>(std::numeric_limits<long>::max()))  // of 32 bits on Windows and in browsers
        throw Failure(LF_UNSUPPORTED, "the model has a matrix that is too large for this system");
    expanded_ += padded * bits / 8;
    if (expanded_ > kExpansion * static_cast<double>(file_.size()) + kSpare)
        damaged("its matrices are larger than the file");
    try {
        if (floats) return std::make_shared<const FloatMatrix>(kernels_, tensor.bytes.data(), rows, columns, bits);
        return std::make_shared<const PackedMatrix>(kernels_, tensor.bytes.data(), static_cast<long>(row_bytes), rows,
                                                    columns, bits, levels, input_bits, "auto",
                                                    limits_.chunk ? limits_.chunk : kManyRows);
    } catch (const std::invalid_argument& error) {
        damaged(error.what());
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
            layer.kernel = copy("the first layer", static_cast<size_t>(layer.outputs * layer.taps));
            layer.bias = copy_or("the first layer's bias", static_cast<size_t>(layer.outputs), 0.0f);
        } else {
            layer.weights = weights({matrix("a convolution")}, channels, layer.taps,
                                    normed ? Activation::none : layer.activation);
            layer.outputs = layer.weights.outputs();
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

const Loader::Tensor& Loader::tensor(const char* what) {
    return tensors_[static_cast<size_t>(reader_.whole(what, 0, static_cast<long>(tensors_.size()) - 1))];
}

// A tensor of so many numbers, by its number in the description.
std::span<const float> Loader::floats(const char* what, uint64_t count) {
    const Tensor& tensor = this->tensor(what);
    if (tensor.type != Type::floats || tensor.bytes.size() / sizeof(float) != count)
        damaged(std::string(what) + " must have " + std::to_string(count) + " numbers");
    return {reinterpret_cast<const float*>(tensor.bytes.data()), static_cast<size_t>(count)};
}

std::vector<float> Loader::copy(const char* what, size_t count) {
    const std::span<const float> found = floats(what, count);
    std::vector<float> copied(found.begin(), found.end());
    if (release_) release_({reinterpret_cast<const uint8_t*>(found.data()), found.size_bytes()});
    return copied;
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

Matrix Loader::matrix(const char* what) {
    return matrices_[static_cast<size_t>(reader_.whole(what, 0, static_cast<long>(matrices_.size()) - 1))];
}

// ``activation``: it follows in the file where it is not known yet.
Weights Loader::weights(std::vector<Matrix> groups, long columns, long taps, std::optional<Activation> activation) {
    const uint64_t outputs = static_cast<uint64_t>(littlefoot::outputs(groups[0])) * groups.size();
    if (outputs > static_cast<uint64_t>(kMostColumns)) damaged("a layer with too many outputs");
    std::optional<Rounding> rounding;
    if (packed(groups[0])) {
        rounding.emplace();
        rounding->scale = reader_.f32();
        rounding->zero_point = static_cast<int>(reader_.whole("a zero point", 0, 255));
        rounding->weight_scale = copy("the scale of a weight", static_cast<size_t>(outputs));
        if (reader_.whole("whether an input is smoothed", 0, 1) == 1)
            rounding->smoothing = copy("smoothing", static_cast<size_t>(columns));
        if (reader_.whole("whether an input is shifted", 0, 1) == 1)
            rounding->shift = copy("a shift", static_cast<size_t>(columns));
    }
    std::vector<float> bias = copy_or("a bias", static_cast<size_t>(outputs), 0.0f);
    try {
        return {std::move(groups), columns, taps, std::move(rounding), std::move(bias),
                activation ? *activation : this->activation()};
    } catch (const std::invalid_argument& error) {
        damaged(error.what());
    }
}

}  // namespace littlefoot
