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
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>

#include "front_end.h"
#include "module_products.h"
#include "program.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace littlefoot;

namespace {

using Cube = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

const Kernels* find(const std::string& name) {
    if (name == "scalar") return scalar_kernels();
    if (name == "avx2") return avx2_kernels();
    if (name == "avx512") return avx512_kernels();
    if (name == "amx") return amx_kernels();
    if (name == "avx512bf16") return avx512bf16_kernels();
    if (name == "neon") return neon_kernels();
    throw std::invalid_argument("kernels '" + name +
                                "' are unknown: use auto, amx, avx512bf16, avx512, avx2, neon or scalar");
}

std::vector<std::string> available() {
    std::vector<std::string> names;
    for (const char* name : {"amx", "avx512bf16", "avx512", "avx2", "neon", "scalar"})
        if (find(name)) names.emplace_back(name);
    return names;
}

void check(const Program& program, int value, long width, const char* what) {
    if (program.width(value) != width)
        throw std::invalid_argument(std::string(what) + " has " + std::to_string(program.width(value)) +
                                    " columns, not " + std::to_string(width));
}

template <typename Made>
int add_product(Program& program, Made step) {
    if (step.residual >= 0) check(program, step.residual, step.weights.outputs(), "the residual");
    const int target = step.target = program.add_value(step.weights.outputs());
    program.add(std::move(step));
    return target;
}

int linear(Program& program, int source, const Product& matrix, nb::object rounding, std::optional<Floats> bias,
           const std::string& kind, int residual) {
    return add_product(program, Linear{source, make_weights(program.kernels(), {&matrix}, program.width(source), 1,
                                                            rounding, bias, kind), residual, 0});
}

int convolution(Program& program, int source, const std::vector<const Product*>& matrices, long taps, long behind,
                nb::object rounding, std::optional<Floats> bias, const std::string& kind, int residual) {
    Weights weights =
        make_weights(program.kernels(), matrices, program.width(source), taps, rounding, bias, kind);
    if (behind < 0 || behind >= taps)
        throw std::invalid_argument("a convolution needs its own frame among its taps");
    return add_product(program, Convolution{source, std::move(weights), behind, residual, 0});
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
void waveform_layer(FrontEnd& front_end, Numbers weight, long stride, const std::optional<Floats>& bias,
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
    layer.kernel.assign(weight.data(), weight.data() + weight.size());
    layer.bias = copy(bias, layer.outputs, "the bias");
    if (layer.bias.empty()) layer.bias.resize(static_cast<size_t>(layer.outputs), 0.0f);
    layer.norm = norm(behind, layer.outputs);
    layer.activation = activation(behind.activation);
    front_end.add(std::move(layer));
}

void window_layer(FrontEnd& front_end, const Product& matrix, long taps, long stride, nb::handle rounding,
                  const std::optional<Floats>& bias, const Behind& behind) {
    if (front_end.empty()) throw std::invalid_argument("the first layer hears the waveform: make a waveform_layer");
    if (behind.norm == "time") throw std::invalid_argument("only the first layer may have a norm over time");
    FrontEndLayer layer;
    layer.taps = taps;
    layer.stride = stride;
    layer.activation = activation(behind.activation);
    const bool normed = behind.norm == "channels";  // the activation follows the norm
    layer.weights = make_weights(front_end.kernels(), {&matrix}, front_end.channels(), taps, rounding, bias,
                                 normed ? "none" : behind.activation);
    layer.outputs = layer.weights.outputs();
    check_window(taps, stride, layer.outputs);
    layer.norm = norm(behind, layer.outputs);
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

nb::ndarray<nb::numpy, float> run(Program& program, Numbers x, const std::vector<Cube>& biases) {
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

using Vector = std::optional<Floats>;
using Text = const std::string&;

NB_MODULE(_core, m) {
    add_streams(m);
    add_products(m);
    m.def("available", &available, "The sets of kernels that this processor can run, the fastest first.");
    m.def("has_bfloat16", [](const std::string& name) { return select(name).bfloat16; }, "kernels"_a);

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
             [](FrontEnd& front_end, Numbers weight, long stride, Vector bias, Text norm, Vector norm_weight,
                Vector norm_bias, float eps, Text kind) {
                 waveform_layer(front_end, weight, stride, bias, {norm, norm_weight, norm_bias, eps, kind});
             },
             "weight"_a.noconvert(), "stride"_a, "bias"_a.none().noconvert(),
             "norm"_a, "norm_weight"_a.none().noconvert(), "norm_bias"_a.none().noconvert(), "eps"_a, "activation"_a)
        .def("window_layer",
             [](FrontEnd& front_end, const Product& matrix, long taps, long stride, nb::object rounding, Vector bias,
                Text norm, Vector norm_weight, Vector norm_bias, float eps, Text kind) {
                 window_layer(front_end, matrix, taps, stride, rounding, bias,
                              {norm, norm_weight, norm_bias, eps, kind});
             },
             "matrix"_a, "taps"_a, "stride"_a, "rounding"_a.none(), "bias"_a.none().noconvert(), "norm"_a,
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
        .def("linear", &linear, "source"_a, "matrix"_a, "rounding"_a.none(), "bias"_a.none().noconvert(),
             "activation"_a = "none", "residual"_a = -1)
        .def("convolution", &convolution, "source"_a, "matrices"_a, "taps"_a, "behind"_a, "rounding"_a.none(),
             "bias"_a.none().noconvert(), "activation"_a = "none", "residual"_a = -1)
        .def("layer_norm", &layer_norm, "source"_a, "weight"_a.none().noconvert(), "bias"_a.none().noconvert(), "eps"_a)
        .def("add", &add, "source"_a, "other"_a)
        .def("activate", &activate, "source"_a, "activation"_a)
        .def("add_vector", &add_vector, "source"_a, "vector"_a)
        .def("attention", &attention, "query"_a, "key"_a, "value"_a, "heads"_a, "head_dim"_a, "scale"_a,
             "query_scale"_a = 0.0f, "key_scale"_a = 0.0f, "bias"_a = -1)
        .def("run", &run, "x"_a.noconvert(), "biases"_a.noconvert() = std::vector<Cube>());
}
