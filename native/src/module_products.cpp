#include "module_products.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace littlefoot {

namespace {

void check_columns(long found, long expected) {
    if (found != expected)
        throw std::invalid_argument("the inputs have " + std::to_string(found) + " columns, not " +
                                    std::to_string(expected));
}

Matrix make_matrix(const Kernels& kernels, const Rows& rows, long columns, int bits, const std::vector<int>& levels,
                   int activation_bits, const std::string& method) {
    const long count = static_cast<long>(rows.shape(0)), row_bytes = static_cast<long>(rows.shape(1));
    if (bits != 16 && bits != 32)
        return std::make_shared<const PackedMatrix>(kernels, rows.data(), row_bytes, count, columns, bits, levels,
                                                    activation_bits, method);
    if (columns < 1 || columns > kMostColumns || row_bytes != columns * bits / 8)
        throw std::invalid_argument("rows of " + std::to_string(columns) + " numbers of " + std::to_string(bits) +
                                    " bits, of which there are 1 to " + std::to_string(kMostColumns) + ", have not " +
                                    std::to_string(row_bytes) + " bytes");
    return std::make_shared<const FloatMatrix>(kernels, rows.data(), count, columns, bits);
}

// A number among the attributes of an object.
template <typename Number>
Number number(nb::handle of, const char* name) {
    Number found;
    if (!nb::try_cast<Number>(of.attr(name), found)) throw std::invalid_argument(std::string(name) + " is out of range");
    return found;
}

std::vector<float> copy_of_any_size(const Floats& array, const char* what) {
    if (array.size() == 0) throw std::invalid_argument(std::string(what) + " must not be empty");
    return copy(array, static_cast<long>(array.size()), what);
}

// A vector among the attributes of an object, or an empty one for None.
std::vector<float> numbers(nb::handle of, const char* name) {
    const nb::object value = of.attr(name);
    if (value.is_none()) return {};
    Floats found;
    if (!nb::try_cast<Floats>(value, found, false))
        throw std::invalid_argument(std::string(name) + " must be a vector of float32");
    return copy_of_any_size(found, name);
}

}  // namespace

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

const PackedMatrix& Product::packed() const {
    if (!littlefoot::packed(matrix)) throw std::invalid_argument("the matrix is in floating point");
    return *std::get<std::shared_ptr<const PackedMatrix>>(matrix);
}

nb::ndarray<nb::numpy, float> Product::multiply_floats(Numbers x) const {
    if (littlefoot::packed(matrix)) throw std::invalid_argument("the matrix is packed: its inputs are bytes");
    const FloatMatrix& floats = *std::get<std::shared_ptr<const FloatMatrix>>(matrix);
    aligned(x, "the inputs");
    check_columns(static_cast<long>(x.shape(1)), floats.inputs());
    const long rows = static_cast<long>(x.shape(0)), outputs = floats.outputs();
    float* out;
    auto result = array<float>({x.shape(0), static_cast<size_t>(outputs)}, out);
    const nb::gil_scoped_release release;
    const Running running;
    Scratch scratch;
    for (long first = 0; first < rows; first += 64)
        floats.multiply(x.data() + first * floats.inputs(), floats.inputs(), std::min(64L, rows - first), scratch,
                        [&](const Sums<float>& sums) {
                            for (long r = 0; r < sums.rows; ++r)
                                std::copy_n(sums.at + r * sums.stride, sums.columns,
                                            out + (first + sums.row + r) * outputs + sums.column);
                        });
    return result;
}

Integers Product::multiply(Rows a, std::optional<Integers> into) const {
    const PackedMatrix& matrix = packed();
    check_columns(static_cast<long>(a.shape(1)), matrix.inputs());
    const long rows = static_cast<long>(a.shape(0)), outputs = matrix.outputs();
    const int largest = (1 << matrix.activation_bits()) - 1;
    const size_t count = a.shape(0) * a.shape(1);
    uint8_t bits = 0;  // any bit that is set in an input
    for (size_t i = 0; i < count; ++i) bits |= a.data()[i];
    if (bits > largest)
        throw std::invalid_argument("an input is above " + std::to_string(largest) + ", the largest of " +
                                    std::to_string(matrix.activation_bits()) + " bits");
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
    const long padded = matrix.padded_inputs(), inputs = matrix.inputs();
    const int32_t alpha = matrix.alpha(), beta = matrix.beta();
    Bytes input(static_cast<size_t>(std::max(1L, rows) * padded));
    std::vector<int32_t> sums(static_cast<size_t>(rows), 0);
    for (long r = 0; r < rows; ++r) {
        std::memcpy(input.data() + r * padded, a.data() + r * inputs, static_cast<size_t>(inputs));
        sums[static_cast<size_t>(r)] = std::accumulate(a.data() + r * inputs, a.data() + (r + 1) * inputs, 0);
    }
    for (long first = 0; first < rows; first += 64)
        matrix.multiply(input.data() + first * padded, padded, std::min(64L, rows - first), scratch,
                        [&](const Sums<int32_t>& totals) {
                            for (long r = 0; r < totals.rows; ++r) {
                                const long row = first + totals.row + r;
                                kernels.restore(totals.at + r * totals.stride, totals.columns, alpha,
                                                beta * sums[static_cast<size_t>(row)],
                                                out + row * outputs + totals.column);
                            }
                        });
    return result;
}

Weights make_weights(const Kernels& kernels, const std::vector<const Product*>& matrices, long columns, long taps,
                     nb::handle rounding, const std::optional<Floats>& bias, const std::string& kind) {
    if (taps < 1 || taps > 1 << 16) throw std::invalid_argument("a convolution needs 1 to 65536 taps");
    std::vector<Matrix> groups;
    for (const Product* each : matrices) {
        if (&each->kernels != &kernels)
            throw std::invalid_argument(std::string("the matrix is packed for the kernels ") + each->kernels.name +
                                        ", not " + kernels.name);
        groups.push_back(each->matrix);
    }
    std::optional<Rounding> found;
    if (!rounding.is_none())
        found = {number<float>(rounding, "input_scale"), number<int>(rounding, "zero_point"),
                 numbers(rounding, "weight_scale"), numbers(rounding, "smoothing"), numbers(rounding, "shift")};
    std::vector<float> offset;
    if (bias) offset = copy_of_any_size(*bias, "the bias");
    return {std::move(groups), columns, taps, std::move(found), std::move(offset), activation(kind)};
}

void add_products(nb::module_& m) {
    nb::class_<Product>(m, "Product", "A matrix, packed or in floating point, times rows.")
        .def(
            "__init__",
            [](Product* self, Rows rows, long columns, int bits, const std::vector<int>& levels, int activation_bits,
               const std::string& kernels, const std::string& method) {
                const Kernels& found = select(kernels);
                Matrix matrix = make_matrix(found, rows, columns, bits, levels, activation_bits, method);
                new (self) Product{found, std::move(matrix)};
            },
            "rows"_a.noconvert(), "columns"_a, "bits"_a, "levels"_a, "activation_bits"_a, "kernels"_a = "auto",
            "method"_a = "auto",
            "``rows``: the bytes of packed codes, or of 16 or 32 bits in floating point, which have no levels.")
        .def_prop_ro("method", [](const Product& p) { return p.packed().tables() ? "tables" : "dot"; })
        .def_prop_ro("bytes", [](const Product& p) { return bytes(p.matrix); })
        .def("multiply", &Product::multiply, "a"_a.noconvert(), "out"_a.noconvert() = nb::none())
        .def("multiply", &Product::multiply_floats, "x"_a.noconvert());
}

}  // namespace littlefoot
