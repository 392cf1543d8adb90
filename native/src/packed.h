// A matrix of few-bit weights in the layout of one instruction set, and its products with integers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "bytes.h"
#include "function_ref.h"
#include "kernels.h"

namespace littlefoot {

constexpr long kManyRows = 64;  // of a product of a recording
constexpr long kMostColumns = 1 << 16;  // of a matrix in 8 bits the sums of more may not fit 32

class PackedMatrix {
  public:
    // ``packed``: rows as littlefoot.artifact.packing leaves them, ``row_bytes`` each; bits is 1, 2, 3, 4 or 8 (then plain
    // int8). ``levels``: of the codes in their order, evenly spaced but for where it begins; empty for 8 bits.
    // Three levels are five to a byte. ``activation_bits``: 1 ... 4 or 8, of the inputs it will meet.
    // ``method``: tables, dot, or auto for the faster one, with about ``expected_rows`` in a product.
    PackedMatrix(const Kernels& kernels, const uint8_t* packed, long row_bytes, long rows, long columns, int bits,
                 const std::vector<int>& levels, int activation_bits, const std::string& method,
                 long expected_rows = kManyRows);

    const Kernels& kernels() const { return kernels_; }
    long outputs() const { return outputs_; }
    long inputs() const { return inputs_; }
    long padded_inputs() const { return padded_; }  // of a row of inputs; those behind ``inputs`` must be 0
    int activation_bits() const { return activation_bits_; }
    bool tables() const { return tables_; }
    size_t bytes() const { return data_.size(); }
    int32_t alpha() const { return alpha_; }
    int32_t beta() const { return beta_; }
    const std::vector<int32_t>& row_sums() const { return row_sums_; }  // of the levels of each output

    // Sums u * a of rows, given to ``emit`` range by range.
    using Emit = FunctionRef<void(const Sums<int32_t>&)>;
    void multiply(const uint8_t* a, long stride, long rows, Scratch& scratch, const Emit& emit) const;

  private:
    // The place among the levels of a code as it is stored, for up to 16 codes; ``alpha_`` and ``beta_`` follow too.
    using Places = std::array<uint8_t, 16>;
    Places place_levels(const std::vector<int>& levels);
    void choose_method(const std::string& method, long expected_rows);
    void pack_rows(const uint8_t* packed, long row_bytes, const Places& ascending, bool three);
    void pack_tables(const uint8_t* codes, uint8_t* out, Bytes& piece) const;
    void pack_dot(const uint8_t* codes, uint8_t* out, Bytes& piece) const;
    int stored_bits() const { return bits_ == 3 ? 4 : bits_; }  // dot products expand 1, 2 or 4 bits
    int step() const { return tables_ ? kernels_.table_step : 32; }
    int block() const { return tables_ ? kernels_.table_columns : kernels_.dot_columns; }

    void multiply_tables(const uint8_t* a, long stride, long rows, Scratch& scratch, const Emit& emit) const;
    void multiply_dot(const uint8_t* a, long stride, long rows, Scratch& scratch, const Emit& emit) const;

    const Kernels& kernels_;
    long outputs_, inputs_, padded_, blocks_;
    int bits_, activation_bits_, planes_;
    int32_t alpha_ = 1, beta_ = 0;
    bool tables_;
    Bytes data_;
    std::vector<int32_t> row_sums_;
};

}  // namespace littlefoot
