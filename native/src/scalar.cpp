// The portable reference: plain loops, no intrinsics. Every other file must give its integers.
#include "kernels.h"
#define LITTLEFOOT_FLOATS 4
#define LITTLEFOOT_TILE {4, 2}
#include "rows.inl"
#include "rows_plain.inl"
#include "floats.inl"
#include "attention_f32.inl"

namespace littlefoot {
namespace {

constexpr int kColumns = 16, kGroup = 4, kStep = 8;

// Byte c of a unit: index of columns 0-3 of the step in the low half, of 4-7 in the high half, of output c.
void pack_indices(const uint8_t* bits, uint8_t* unit) {
    for (int c = 0; c < kColumns; ++c) unit[c] = bits_of(bits + c * kStep);
}

void build_tables(const uint8_t* digits, long inputs, uint8_t* tables) {
    for (long g = 0; g < inputs / kGroup; ++g)
        for (int index = 0; index < 16; ++index) {
            uint8_t sum = 0;
            for (int k = 0; k < kGroup; ++k)
                if (index >> k & 1) sum = static_cast<uint8_t>(sum + digits[g * kGroup + k]);
            tables[g * 16 + index] = sum;
        }
}

void look_up(const uint8_t* tables, long table_stride, int rows, const uint8_t* units, long steps, int largest,
             bool add, uint16_t* sums, long sum_stride) {
    (void)largest;
    for (int r = 0; r < rows; ++r) {
        if (!add)
            for (int c = 0; c < kColumns; ++c) sums[r * sum_stride + c] = 0;
        for (long s = 0; s < steps; ++s) {
            const uint8_t* table = tables + r * table_stride + s * 32;
            for (int c = 0; c < kColumns; ++c) {
                const uint8_t index = units[s * kColumns + c];
                sums[r * sum_stride + c] =
                    static_cast<uint16_t>(sums[r * sum_stride + c] + table[index & 15] + table[16 + (index >> 4)]);
            }
        }
    }
}

void expand(const uint8_t* packed, long bytes, int bits, int8_t* codes) {
    const int each = 8 / bits, mask = (1 << bits) - 1;
    for (long i = 0; i < bytes; ++i) {
        const long vector = i / 64;
        codes[i] = static_cast<int8_t>(packed[vector / each * 64 + i % 64] >> (bits * (vector % each)) & mask);
    }
}

void dot(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits, int32_t* sums,
         long sum_stride) {
    (void)bits;
    for (long r = 0; r < rows; ++r)
        for (long k = 0; k < inputs; k += 4)
            for (int c = 0; c < kColumns; ++c)
                for (int j = 0; j < 4; ++j)
                    sums[r * sum_stride + c] += a[r * a_stride + k + j] * codes[k * kColumns + c * 4 + j];
}

const Kernels kKernels = {
    "scalar",      kColumns,      kGroup,     kStep,         3,   pack_indices, build_tables,
    look_up,       kColumns,      expand,     dot,           quantize, split,   combine, restore,
    finish,        layer_norm,    add,        activate_row,
    kFloatColumns, expand_halves, float_product, complete,
    false,         f32_packed_bytes, f32_scratch, f32_map_row, f32_pack_keys, f32_pack_values, f32_attend,
};

}  // namespace

const Kernels* scalar_kernels() { return &kKernels; }

}  // namespace littlefoot
