// What the files of the Python module share.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels.h"

namespace littlefoot {

// The kernels of a name, or for auto the fastest. Throws where the processor does not have them.
const Kernels& select(const std::string& name);

// The kernels read whole numbers at once, as arrays of numpy need not allow.
template <typename Array>
void aligned(const Array& array, const char* what) {
    using Number = std::remove_pointer_t<decltype(array.data())>;
    if (reinterpret_cast<uintptr_t>(array.data()) % alignof(Number))
        throw std::invalid_argument(std::string(what) + " must be aligned: give a copy of it");
}

void add_streams(nanobind::module_& m);

}  // namespace littlefoot
