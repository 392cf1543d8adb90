// The matrices of the Python module, and the layers' weights that it makes of them.
#pragma once

#include <nanobind/ndarray.h>

#include <optional>
#include <string>
#include <vector>

#include "module.h"
#include "weights.h"

namespace littlefoot {

using Rows = nanobind::ndarray<const uint8_t, nanobind::ndim<2>, nanobind::c_contig, nanobind::device::cpu>;
using Floats = nanobind::ndarray<const float, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
using Numbers = nanobind::ndarray<const float, nanobind::ndim<2>, nanobind::c_contig, nanobind::device::cpu>;
using Integers = nanobind::ndarray<nanobind::numpy, int32_t, nanobind::ndim<2>, nanobind::c_contig, nanobind::device::cpu>;

template <typename T>
nanobind::ndarray<nanobind::numpy, T> array(std::vector<size_t> shape, T*& data) {
    size_t count = 1;
    for (const size_t size : shape) count *= size;
    data = new T[count]();
    nanobind::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return {data, shape.size(), shape.data(), owner};
}

// So many numbers, or none where there is no array. Throws for another count.
std::vector<float> copy(const Floats& array, long count, const char* what);
std::vector<float> copy(const std::optional<Floats>& array, long count, const char* what);

Activation activation(const std::string& name);

// A matrix that is packed once: for layers, and on its own for tests and benchmarks.
struct Product {
    const Kernels& kernels;
    Matrix matrix;

    const PackedMatrix& packed() const;  // throws for one in floating point
    nanobind::ndarray<nanobind::numpy, float> multiply_floats(Numbers x) const;
    Integers multiply(Rows a, std::optional<Integers> into) const;
};

// ``rounding``: an object with the fields of littlefoot.runtime.native.layers.Scales, or None.
Weights make_weights(const Kernels& kernels, const std::vector<const Product*>& matrices, long columns, long taps,
                     nanobind::handle rounding, const std::optional<Floats>& bias, const std::string& kind);

void add_products(nanobind::module_& m);

}  // namespace littlefoot
