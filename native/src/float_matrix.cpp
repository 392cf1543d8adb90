#include "float_matrix.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace littlefoot {

namespace {

constexpr long kTileBytes = 16 << 10;  // of a tile in float, so that it stays in the first cache

}  // namespace

FloatMatrix::FloatMatrix(const Kernels& kernels, const uint8_t* rows, long outputs, long inputs, int bits)
    : kernels_(kernels), outputs_(outputs), inputs_(inputs), bits_(bits) {
    if (outputs < 1 || inputs < 1) throw std::invalid_argument("a matrix needs rows and columns");
    blocks_ = (outputs + kernels.float_columns - 1) / kernels.float_columns;
    if (bits == 16)
        pack<uint16_t>(rows);
    else if (bits == 32)
        pack<uint32_t>(rows);
    else
        throw std::invalid_argument("numbers in floating point have 16 or 32 bits, not " + std::to_string(bits));
}

template <typename Number>
void FloatMatrix::pack(const uint8_t* rows) {
    constexpr long kSize = sizeof(Number), kPiece = 32;  // of a row, so that what is written stays in the cache
    const long columns = kernels_.float_columns;
    data_ = Bytes(static_cast<size_t>(blocks_ * inputs_ * columns) * sizeof(Number));
    Number* out = reinterpret_cast<Number*>(data_.data());
    for (long b = 0; b < blocks_; ++b, out += inputs_ * columns) {
        const uint8_t* const first = rows + b * columns * inputs_ * kSize;
        for (long k = 0; k < inputs_; k += kPiece)
            for (long c = 0; c < std::min(columns, outputs_ - b * columns); ++c)
                for (long i = k; i < std::min(inputs_, k + kPiece); ++i)
                    std::memcpy(out + i * columns + c, first + (c * inputs_ + i) * kSize, sizeof(Number));
    }
}

void FloatMatrix::multiply(const float* x, long stride, long rows, Scratch& scratch, const Emit& emit) const {
    if (rows == 0) return;
    const long columns = kernels_.float_columns, chunk = kTileBytes / (columns * static_cast<long>(sizeof(float)));
    scratch.codes.reserve(kTileBytes);
    scratch.total.reserve(static_cast<size_t>(std::max(rows, Scratch::kRows) * columns) * sizeof(float));
    float* const sums = scratch.total.floats();  // (rows, columns)
    for (long b = 0; b < blocks_; ++b) {
        std::memset(sums, 0, static_cast<size_t>(rows * columns) * sizeof(float));
        for (long k = 0; k < inputs_; k += chunk) {
            const long part = std::min(chunk, inputs_ - k), begin = (b * inputs_ + k) * columns;
            const float* tile = data_.floats() + begin;
            if (bits_ == 16) {
                kernels_.expand_halves(reinterpret_cast<const uint16_t*>(data_.data()) + begin, part * columns,
                                       scratch.codes.floats());
                tile = scratch.codes.floats();
            }
            kernels_.float_product(x + k, stride, rows, tile, part, sums, columns);
        }
        emit({sums, columns, 0, rows, b * columns, std::min(columns, outputs_ - b * columns)});
    }
}

}  // namespace littlefoot
