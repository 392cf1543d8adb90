// The Python module. Everything that could be wrong with an argument is checked here or in Python before it
// reaches a kernel.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>

#include "front_end.h"
#include "module.h"
#include "program.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace littlefoot;

namespace {

using Weights = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<nb::numpy, int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Cube = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

const Kernels* find(const std::string& name) {
    if (name == "scalar") return scalar_kernels();
    if (name == "avx2") return avx2_kernels();
    if (name == "avx512") return avx512_kernels();
    if (name == "avx512bf16") return avx512bf16_kernels();
    if (name == "neon") return neon_kernels();
    throw std::invalid_argument("kernels '" + name +
                                "' are unknown: use auto, avx512bf16, avx512, avx2, neon or scalar");
}

std::vector<std::string> available() {
    std::vector<std::string> names;
    for (const char* name : {"avx512bf16", "avx512", "avx2", "neon", "scalar"})
        if (find(name)) names.emplace_back(name);
    return names;
}

std::vector<float> copy(const Floats& array, long count, const char* what) {
    aligned(array, what);
    if (static_cast<long>(array.shape(0)) != count)
        throw std::invalid_argument(std::string(what) + " must have " + std::to_string(count) + " numbers, not " +
                                    std::to_string(array.shape(0)));
    return {array.data(), array.data() + count};
}

std::vector<float> copy(const std::optional<Floats>& array, long count, const char* what) {
    return array ? copy(*array, count, what) : std::vector<float>();
}

Activation activation(const std::string& name) {
    if (name == "none") return Activation::none;
    if (name == "gelu") return Activation::gelu;
    if (name == "relu") return Activation::relu;
    throw std::invalid_argument("activation '" + name + "' is unknown: use none, gelu or relu");
}

void check(const Program& program, int value, long width, const char* what) {
    if (program.width(value) != width)
        throw std::invalid_argument(std::string(what) + " has " + std::to_string(program.width(value)) +
                                    " columns, not " + std::to_string(width));
}

template <typename T>
nb::ndarray<nb::numpy, T> array(std::vector<size_t> shape, T*& data) {
    size_t count = 1;
    for (const size_t size : shape) count *= size;
    data = new T[count]();
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return {data, shape.size(), shape.data(), owner};
}

// A matrix that is packed once: for linear steps, and on its own for tests and benchmarks.
struct Product {
    const Kernels& kernels;
    std::shared_ptr<PackedMatrix> matrix;

    Integers multiply(Weights a, std::optional<Integers> into) const {
        if (static_cast<long>(a.shape(1)) != matrix->inputs())
            throw std::invalid_argument("the inputs have " + std::to_string(a.shape(1)) + " columns, not " +
                                        std::to_string(matrix->inputs()));
        const long rows = static_cast<long>(a.shape(0)), outputs = matrix->outputs();
        const int largest = (1 << matrix->activation_bits()) - 1;
        const size_t count = a.shape(0) * a.shape(1);
        uint8_t bits = 0;  // any bit that is set in an input
        for (size_t i = 0; i < count; ++i) bits |= a.data()[i];
        if (bits > largest)
            throw std::invalid_argument("an input is above " + std::to_string(largest) + ", the largest of " +
                                        std::to_string(matrix->activation_bits()) + " bits");
        if (into) aligned(*into, "the result");
        if (into && (into->shape(0) != a.shape(0) || static_cast<long>(into->shape(1)) != outputs))
            throw std::invalid_argument("the result must be of shape (" + std::to_string(rows) + ", " +
                                        std::to_string(outputs) + ")");
        int32_t* out;
        Integers result = into ? *into : Integers(array<int32_t>({a.shape(0), static_cast<size_t>(outputs)}, out));
        out = result.data();
        const nb::gil_scoped_release release;
        const Running running;
        Scratch scratch;
        const long padded = matrix->padded_inputs(), inputs = matrix->inputs();
        const int32_t alpha = matrix->alpha(), beta = matrix->beta();
        Bytes input(static_cast<size_t>(std::max(1L, rows) * padded));
        std::vector<int32_t> sums(static_cast<size_t>(rows), 0);
        for (long r = 0; r < rows; ++r) {
            std::memcpy(input.data() + r * padded, a.data() + r * matrix->inputs(),
                        static_cast<size_t>(matrix->inputs()));
            sums[static_cast<size_t>(r)] = std::accumulate(a.data() + r * inputs, a.data() + (r + 1) * inputs, 0);
        }
        for (long first = 0; first < rows; first += 64)
            matrix->multiply(input.data() + first * padded, padded, std::min(64L, rows - first), scratch,
                             [&](long r, long column, long n, const int32_t* totals) {
                                 kernels.restore(totals, n, alpha, beta * sums[static_cast<size_t>(first + r)],
                                                 out + (first + r) * outputs + column);
                             });
        return result;
    }
};

// How the inputs of a quantized layer become integers, and their sums outputs.
struct Quantization {
    Floats weight_scale;
    float input_scale;
    int zero_point, input_bits;
    const std::optional<Floats>&smoothing, &shift, &bias;
    const std::string& activation;
};

// ``columns`` of the input; the correction is that of ``row_sums``, of each output.
Rounding rounding(long columns, const std::vector<int32_t>& row_sums, const Quantization& of) {
    const int largest = (1 << of.input_bits) - 1;
    if (!(of.input_scale > 0) || !std::isfinite(of.input_scale) || of.zero_point < 0 || of.zero_point > largest)
        throw std::invalid_argument("the input's scale must be above 0, and its zero point 0 to " +
                                    std::to_string(largest));
    const long outputs = static_cast<long>(row_sums.size());
    Rounding made;
    made.input_factor = 1.0f / of.input_scale;
    made.zero_point = of.zero_point;
    made.factors = copy(of.smoothing, columns, "smoothing");
    made.shift = copy(of.shift, columns, "the shift");
    if (of.smoothing && !of.shift) made.shift.resize(static_cast<size_t>(columns), 0.0f);
    if (of.shift && !of.smoothing) made.factors.resize(static_cast<size_t>(columns), 1.0f);
    for (float& factor : made.factors) factor *= made.input_factor;
    for (float& part : made.shift) part *= made.input_factor;
    made.scale = copy(of.weight_scale, outputs, "the weight's scale");
    made.offset = copy(of.bias, outputs, "the bias");
    if (made.offset.empty()) made.offset.resize(static_cast<size_t>(outputs), 0.0f);
    for (float& scale : made.scale) scale *= of.input_scale;
    for (const int32_t sum : row_sums) made.correction.push_back(of.zero_point * sum);
    made.activation = activation(of.activation);
    return made;
}

int packed_linear(Program& program, int source, const Product& product, const Quantization& of, int residual) {
    if (&product.kernels != &program.kernels())
        throw std::invalid_argument(std::string("the matrix is packed for the kernels ") + product.kernels.name +
                                    ", not " + program.kernels().name);
    const long columns = product.matrix->inputs(), rows = product.matrix->outputs();
    check(program, source, columns, "the input");
    PackedLinear step;
    step.source = source;
    step.matrix = product.matrix;
    step.rounding = rounding(columns, step.matrix->row_sums(), of);
    if (residual >= 0) check(program, residual, rows, "the residual");
    step.residual = residual;
    step.target = program.add_value(rows);
    const int target = step.target;
    if (!program.has(*step.matrix)) program.count(step.matrix->bytes());
    program.add(std::move(step));
    return target;
}

// The weight of a convolution: an output's taps in their order, a tap's channels side by side.
struct Kernel {
    Weights weights;
    long taps;
    int bits;
    const std::vector<int>& levels;

    long outputs() const { return static_cast<long>(weights.shape(0)); }

    // Rows first ... first + count of it, as a matrix.
    std::shared_ptr<PackedMatrix> packed(const Kernels& kernels, long first, long count, long channels,
                                         int input_bits) const {
        const long row_bytes = static_cast<long>(weights.shape(1));
        return std::make_shared<PackedMatrix>(kernels, weights.data() + first * row_bytes, row_bytes, count,
                                              taps * channels, bits, levels, input_bits, "auto");
    }
};

int packed_convolution(Program& program, int source, const Kernel& kernel, long groups, long behind,
                       const Quantization& of, int residual) {
    const long columns = program.width(source), rows = kernel.outputs(), taps = kernel.taps;
    if (groups < 1 || columns % groups || rows % groups || rows < 1)
        throw std::invalid_argument(std::to_string(columns) + " channels, and " + std::to_string(rows) +
                                    " outputs, do not make " + std::to_string(groups) + " groups");
    if (taps < 1 || taps > 1 << 16 || behind < 0 || behind >= taps)
        throw std::invalid_argument("a convolution needs 1 to 65536 taps, its own frame among them");
    const long each = rows / groups;
    PackedConvolution step;
    step.source = source;
    step.taps = taps;
    step.behind = behind;
    std::vector<int32_t> row_sums;
    for (long g = 0; g < groups; ++g) {
        step.groups.push_back(kernel.packed(program.kernels(), g * each, each, columns / groups, of.input_bits));
        const std::vector<int32_t>& sums = step.groups.back()->row_sums();
        row_sums.insert(row_sums.end(), sums.begin(), sums.end());
        program.count(step.groups.back()->bytes());
    }
    step.rounding = rounding(columns, row_sums, of);
    if (residual >= 0) check(program, residual, rows, "the residual");
    step.residual = residual;
    step.target = program.add_value(rows);
    const int target = step.target;
    program.add(std::move(step));
    return target;
}

int float_linear(Program& program, int source, Matrix weight, std::optional<Floats> bias, const std::string& kind,
                 int residual) {
    FloatLinear step;
    step.source = source;
    step.outputs = static_cast<long>(weight.shape(0));
    step.inputs = static_cast<long>(weight.shape(1));
    aligned(weight, "the weight");
    check(program, source, step.inputs, "the input");
    const long padded = (step.outputs + 15) / 16 * 16;
    step.weight = Bytes(static_cast<size_t>(step.inputs * padded) * sizeof(float));
    float* out = reinterpret_cast<float*>(step.weight.data());
    for (long o = 0; o < step.outputs; ++o)
        for (long i = 0; i < step.inputs; ++i) out[i * padded + o] = weight.data()[o * step.inputs + i];
    step.bias = copy(bias, step.outputs, "the bias");
    step.activation = activation(kind);
    if (residual >= 0) check(program, residual, step.outputs, "the residual");
    step.residual = residual;
    step.target = program.add_value(step.outputs);
    const int target = step.target;
    program.count(step.weight.size());
    program.add(std::move(step));
    return target;
}

int layer_norm(Program& program, int source, std::optional<Floats> weight, std::optional<Floats> bias, float eps) {
    const long width = program.width(source);
    LayerNorm step = {source, copy(weight, width, "the norm's weight"), copy(bias, width, "the norm's bias"), eps, 0};
    if (step.weight.empty()) step.weight.resize(static_cast<size_t>(width), 1.0f);
    if (step.bias.empty()) step.bias.resize(static_cast<size_t>(width), 0.0f);
    step.target = program.add_value(width);
    const int target = step.target;
    program.add(std::move(step));
    return target;
}

int add(Program& program, int source, int other) {
    check(program, other, program.width(source), "the other value");
    const int target = program.add_value(program.width(source));
    program.add(Add{source, other, {}, target});
    return target;
}

int activate(Program& program, int source, const std::string& kind) {
    const int target = program.add_value(program.width(source));
    program.add(Activate{source, activation(kind), target});
    return target;
}

int add_vector(Program& program, int source, Floats vector) {
    const long width = program.width(source);
    std::vector<float> values = copy(vector, width, "the vector");
    const int target = program.add_value(width);
    program.add(Add{source, -1, std::move(values), target});
    return target;
}

int attention(Program& program, std::tuple<int, long> query, std::tuple<int, long> key, std::tuple<int, long> value,
              long heads, long head_dim, float scale, float query_scale, float key_scale, int bias) {
    if (!(query_scale > 0) != !(key_scale > 0)) throw std::invalid_argument("8-bit scores need two scales");
    if (heads < 1 || head_dim < 1 || heads > kMostColumns || head_dim > kMostColumns)
        throw std::invalid_argument("attention needs heads and channels, and at most " + std::to_string(kMostColumns));
    View views[3];
    int i = 0;
    for (const auto& [number, offset] : {query, key, value}) {
        if (offset < 0 || offset > program.width(number) - heads * head_dim)
            throw std::invalid_argument("the heads reach beyond the columns of a value");
        views[i++] = {number, offset};
    }
    const int target = program.add_value(heads * head_dim);
    program.add(Attention{views[0], views[1], views[2], heads, head_dim, scale, query_scale, key_scale, bias,
                          target});
    return target;
}

// What follows a layer of the front end.
struct Behind {
    const std::string& norm;  // over what, or none
    const std::optional<Floats>&weight, &bias;
    float eps;
    const std::string& activation;
};

FrontEndNorm norm(const Behind& of, long outputs) {
    FrontEndNorm made;
    made.over = of.norm == "channels" ? Over::channels : of.norm == "time" ? Over::time : Over::none;
    if (made.over == Over::none && of.norm != "none")
        throw std::invalid_argument("a norm over '" + of.norm + "' is unknown: use none, channels or time");
    if (made.over == Over::none) return made;
    made.weight = copy(of.weight, outputs, "the norm's weight");
    made.bias = copy(of.bias, outputs, "the norm's bias");
    if (made.weight.empty()) made.weight.resize(static_cast<size_t>(outputs), 1.0f);
    if (made.bias.empty()) made.bias.resize(static_cast<size_t>(outputs), 0.0f);
    made.eps = of.eps;
    return made;
}

void check_window(long taps, long stride, long outputs) {
    if (taps < 1 || taps > 1 << 16 || stride < 1 || stride > 1 << 16 || outputs < 1)
        throw std::invalid_argument("a convolution needs outputs, 1 to 65536 taps, and a stride of 1 to 65536");
}

// weight (outputs, taps)
void waveform_layer(FrontEnd& front_end, Matrix weight, long stride, const std::optional<Floats>& bias,
                    const Behind& behind) {
    if (!front_end.empty()) throw std::invalid_argument("only the first layer hears the waveform");
    FrontEndLayer layer;
    layer.outputs = static_cast<long>(weight.shape(0));
    layer.taps = static_cast<long>(weight.shape(1));
    layer.stride = stride;
    check_window(layer.taps, stride, layer.outputs);
    if (behind.norm == "time" && layer.taps > 1 << 12)
        throw std::invalid_argument("a norm over time needs 4096 taps at most: its memory grows by their square");
    aligned(weight, "the weight");
    layer.weight.assign(weight.data(), weight.data() + weight.size());
    layer.bias = copy(bias, layer.outputs, "the bias");
    if (layer.bias.empty()) layer.bias.resize(static_cast<size_t>(layer.outputs), 0.0f);
    layer.norm = norm(behind, layer.outputs);
    layer.activation = activation(behind.activation);
    front_end.add(std::move(layer));
}

void window_layer(FrontEnd& front_end, const Kernel& kernel, long stride, const Quantization& of,
                  const Behind& behind) {
    const long channels = front_end.channels();
    if (front_end.empty()) throw std::invalid_argument("the first layer hears the waveform: make a waveform_layer");
    if (behind.norm == "time") throw std::invalid_argument("only the first layer may have a norm over time");
    FrontEndLayer layer;
    layer.outputs = kernel.outputs();
    layer.taps = kernel.taps;
    layer.stride = stride;
    check_window(kernel.taps, stride, layer.outputs);
    layer.matrix = kernel.packed(front_end.kernels(), 0, layer.outputs, channels, of.input_bits);
    layer.norm = norm(behind, layer.outputs);
    layer.activation = activation(behind.activation);
    layer.rounding = rounding(channels, layer.matrix->row_sums(), of);
    if (layer.norm.over == Over::channels) layer.rounding.activation = Activation::none;  // it follows the norm
    front_end.add(std::move(layer));
}

nb::ndarray<nb::numpy, float> listen(FrontEnd& front_end, Floats waveform) {
    if (front_end.empty()) throw std::invalid_argument("a front end without layers");
    aligned(waveform, "the waveform");
    const long samples = static_cast<long>(waveform.shape(0));
    const long frames = front_end.frames(samples), channels = front_end.channels();
    float* out;
    auto result = array<float>({static_cast<size_t>(frames), static_cast<size_t>(channels)}, out);
    const nb::gil_scoped_release release;
    const Running running;
    front_end.run(waveform.data(), samples, out, frames, channels);
    return result;
}

nb::ndarray<nb::numpy, float> run(Program& program, Matrix x, const std::vector<Cube>& biases) {
    if (static_cast<long>(x.shape(1)) != program.width(0))
        throw std::invalid_argument("the input has " + std::to_string(x.shape(1)) + " columns, not " +
                                    std::to_string(program.width(0)));
    aligned(x, "the input");
    const long frames = static_cast<long>(x.shape(0)), outputs = program.output_width();
    std::vector<Bias> found;
    for (const Cube& bias : biases) {
        aligned(bias, "a bias of the attention");
        if (static_cast<long>(bias.shape(1)) != frames || static_cast<long>(bias.shape(2)) != frames)
            throw std::invalid_argument("a bias of the attention is not of " + std::to_string(frames) + " frames");
        found.push_back({bias.data(), static_cast<long>(bias.shape(0))});
    }
    float* out;
    auto result = array<float>({x.shape(0), static_cast<size_t>(outputs)}, out);
    const nb::gil_scoped_release release;
    const Running running;
    program.run(x.data(), frames, found, out, outputs);
    return result;
}

}  // namespace

const Kernels& littlefoot::select(const std::string& name) {
    const Kernels* found = find(name == "auto" ? available().front() : name);
    if (!found) throw std::invalid_argument("kernels '" + name + "': this processor does not have the instructions");
    return *found;
}

// Python gives the fields of these structs by name, all side by side.
using Vector = std::optional<Floats>;
using Text = const std::string&;
using Levels = const std::vector<int>&;

NB_MODULE(_core, m) {
    add_streams(m);
    m.def("available", &available, "The sets of kernels that this processor can run, the fastest first.");
    m.def("has_bfloat16", [](const std::string& name) { return select(name).bfloat16; }, "kernels"_a);

    nb::class_<Product>(m, "Product", "A matrix of few-bit weights, times integers.")
        .def(
            "__init__",
            [](Product* self, Weights weights, long columns, int bits, const std::vector<int>& levels,
               int activation_bits, const std::string& kernels, const std::string& method) {
                const Kernels& found = select(kernels);
                auto matrix = std::make_shared<PackedMatrix>(
                    found, weights.data(), static_cast<long>(weights.shape(1)), static_cast<long>(weights.shape(0)),
                    columns, bits, levels, activation_bits, method);
                new (self) Product{found, std::move(matrix)};
            },
            "weights"_a.noconvert(), "columns"_a, "bits"_a, "levels"_a, "activation_bits"_a, "kernels"_a = "auto", "method"_a = "auto")
        .def_prop_ro("method", [](const Product& p) { return p.matrix->tables() ? "tables" : "dot"; })
        .def_prop_ro("bytes", [](const Product& p) { return p.matrix->bytes(); })
        .def("multiply", &Product::multiply, "a"_a.noconvert(), "out"_a.noconvert() = nb::none());

    nb::class_<FrontEnd>(m, "FrontEnd", "Convolutions from the waveform to features, in one call.")
        .def(
            "__init__",
            [](FrontEnd* self, int threads, const std::string& kernels) {
                if (threads < 1 || threads > 1024) throw std::invalid_argument("a front end needs 1 to 1024 threads");
                new (self) FrontEnd(select(kernels), threads);
            },
            "threads"_a, "kernels"_a = "auto")
        .def_prop_ro("bytes", &FrontEnd::bytes, "Of the weights.")
        .def("waveform_layer",
             [](FrontEnd& front_end, Matrix weight, long stride, Vector bias, Text norm, Vector norm_weight,
                Vector norm_bias, float eps, Text kind) {
                 waveform_layer(front_end, weight, stride, bias, {norm, norm_weight, norm_bias, eps, kind});
             },
             "weight"_a.noconvert(), "stride"_a, "bias"_a.none().noconvert(),
             "norm"_a, "norm_weight"_a.none().noconvert(), "norm_bias"_a.none().noconvert(), "eps"_a, "activation"_a)
        .def("window_layer",
             [](FrontEnd& front_end, Weights weights, long taps, long stride, int bits, Levels levels,
                Floats weight_scale, float input_scale, int zero_point, int input_bits, Vector smoothing, Vector shift,
                Vector bias, Text norm, Vector norm_weight, Vector norm_bias, float eps, Text kind) {
                 window_layer(front_end, {weights, taps, bits, levels}, stride,
                              {weight_scale, input_scale, zero_point, input_bits, smoothing, shift, bias, kind},
                              {norm, norm_weight, norm_bias, eps, kind});
             },
             "weights"_a.noconvert(), "taps"_a, "stride"_a, "bits"_a, "levels"_a,
             "weight_scale"_a.noconvert(), "input_scale"_a, "zero_point"_a, "input_bits"_a,
             "smoothing"_a.none().noconvert(), "shift"_a.none().noconvert(), "bias"_a.none().noconvert(), "norm"_a,
             "norm_weight"_a.none().noconvert(), "norm_bias"_a.none().noconvert(), "eps"_a, "activation"_a)
        .def("run", &listen, "waveform"_a.noconvert());

    nb::class_<Program>(m, "Program", "Steps that run in one call.")
        .def(
            "__init__",
            [](Program* self, long inputs, int threads, const std::string& kernels) {
                if (inputs < 1 || inputs > kMostColumns || threads < 1 || threads > 1024)
                    throw std::invalid_argument("a program needs 1 to " + std::to_string(kMostColumns) +
                                                " input columns, and 1 to 1024 threads");
                new (self) Program(select(kernels), threads, inputs);
            },
            "inputs"_a, "threads"_a, "kernels"_a = "auto")
        .def_prop_ro("kernels", [](const Program& p) { return p.kernels().name; })
        .def_prop_ro("bytes", &Program::bytes, "Of the weights.")
        .def("front_end", [](Program& p) { return new FrontEnd(p.kernels(), p.pool()); },
             "A front end without layers that shares the program's threads: the two take turns.")
        .def("packed_linear",
             [](Program& program, int source, const Product& matrix, Floats weight_scale, float input_scale,
                int zero_point, Vector smoothing, Vector shift, Vector bias, Text kind, int residual) {
                 const int input_bits = matrix.matrix->activation_bits();
                 return packed_linear(
                     program, source, matrix,
                     {weight_scale, input_scale, zero_point, input_bits, smoothing, shift, bias, kind}, residual);
             },
             "source"_a, "matrix"_a, "weight_scale"_a.noconvert(), "input_scale"_a,
             "zero_point"_a, "smoothing"_a.none().noconvert(), "shift"_a.none().noconvert(), "bias"_a.none().noconvert(),
             "activation"_a = "none", "residual"_a = -1)
        .def("packed_convolution",
             [](Program& program, int source, Weights weights, long groups, long taps, long behind, int bits,
                Levels levels, Floats weight_scale, float input_scale, int zero_point, int input_bits,
                Vector smoothing, Vector shift, Vector bias, Text kind, int residual) {
                 return packed_convolution(
                     program, source, {weights, taps, bits, levels}, groups, behind,
                     {weight_scale, input_scale, zero_point, input_bits, smoothing, shift, bias, kind}, residual);
             },
             "source"_a, "weights"_a.noconvert(), "groups"_a, "taps"_a,
             "behind"_a, "bits"_a, "levels"_a, "weight_scale"_a.noconvert(), "input_scale"_a, "zero_point"_a,
             "input_bits"_a, "smoothing"_a.none().noconvert(), "shift"_a.none().noconvert(), "bias"_a.none().noconvert(),
             "activation"_a = "none", "residual"_a = -1)
        .def("float_linear", &float_linear, "source"_a, "weight"_a.noconvert(), "bias"_a.none().noconvert(), "activation"_a = "none",
             "residual"_a = -1)
        .def("layer_norm", &layer_norm, "source"_a, "weight"_a.none().noconvert(), "bias"_a.none().noconvert(), "eps"_a)
        .def("add", &add, "source"_a, "other"_a)
        .def("activate", &activate, "source"_a, "activation"_a)
        .def("add_vector", &add_vector, "source"_a, "vector"_a)
        .def("attention", &attention, "query"_a, "key"_a, "value"_a, "heads"_a, "head_dim"_a, "scale"_a,
             "query_scale"_a = 0.0f, "key_scale"_a = 0.0f, "bias"_a = -1)
        .def("run", &run, "x"_a.noconvert(), "biases"_a.noconvert() = std::vector<Cube>());
}
