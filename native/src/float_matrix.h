// A matrix in floating point in the layout of one instruction set, and its products.
#pragma once

#include "bytes.h"
#include "function_ref.h"
#include "kernels.h"

namespace littlefoot {

class FloatMatrix {
  public:
    // ``rows``: (outputs, inputs) of 32 bits each, or of 16, which stay 16 in memory: a tile is expanded in the cache,
    // for all rows that it is multiplied with. Throws for sizes below 1.
    FloatMatrix(const Kernels& kernels, const uint8_t* rows, long outputs, long inputs, int bits);

    const Kernels& kernels() const { return kernels_; }
    long outputs() const { return outputs_; }
    long inputs() const { return inputs_; }
    size_t bytes() const { return data_.size(); }

    // Products of rows of numbers, given to ``emit`` range by range. A row's do not depend on the others.
    using Emit = FunctionRef<void(const Sums<float>&)>;
    void multiply(const float* x, long stride, long rows, Scratch& scratch, const Emit& emit) const;

  private:
    template <typename Number>
    void pack(const uint8_t* rows);

    const Kernels& kernels_;
    long outputs_, inputs_, blocks_;
    int bits_;
    Bytes data_;  // blocks of outputs: (inputs, float_columns)
};

}  // namespace littlefoot
