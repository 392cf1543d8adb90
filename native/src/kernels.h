// What an instruction set offers. One file each fills a table of these functions; the rest of the package is
// written once on top of it.
//
// A product of integers: activations a (u8, 0 ... 255) with weights w = alpha * u - beta, where u >= 0 are
// the codes that are stored. The kernels sum u * a; alpha, beta and the zero points follow in ``finish``.
#pragma once

#include <cstddef>
#include <cstdint>

namespace littlefoot {

enum class Activation : int { none = 0, gelu = 1, relu = 2 };

// A product's sums of some rows, for a range of columns.
template <typename Number>
struct Sums {
    const Number* at;  // (rows, columns), rows ``stride`` apart
    long stride;
    long row, rows;        // the first, and how many
    long column, columns;  // likewise
};

// Where rows of outputs go: activation(...) + residual, which may be null.
struct Output {
    float* out;
    long stride;
    const float* residual = nullptr;
    long residual_stride = 0;
};

// What turns integer sums into outputs, of all columns:
// y = scale * (alpha * sum - row_term - correction) + offset, the activation, the residual.
struct Finish {
    const float* scale;
    const int32_t* correction;
    const float* offset;
    int32_t alpha;
    Activation activation;
};

// Sizes, strides and tensors of one head's share of attention over a range of query rows.
struct AttentionRows {
    const float* query;  // (rows, width), this head's columns
    long query_stride;
    long rows;
    long head_dim;
    long frames;       // keys and values
    const void* keys;  // as ``pack_keys`` leaves them
    const void* values;
    float scale;
    float query_scale, key_scale;  // of 8-bit products, or 0
    const float* bias;  // (rows, frames) added to the scores, or null
    long bias_stride;
    float* out;  // (rows, width), this head's columns
    long out_stride;
    void* scratch;  // ``attention_scratch`` bytes
    // The map, for layers that share it: its weights and their sums are kept here, unless this is null, or taken from
    // here, if they are known. Then ``query`` and ``keys`` are not read.
    void* map = nullptr;  // (rows, map_row)
    float* sums = nullptr;  // (rows,)
    bool known = false;
};

// How work is divided, for the caches.
struct Blocks {
    long product_rows = 64;      // of a product of the front end at most,
    long row_step = 1;           // and of how many it has a multiple
    long tile_bytes = 64 << 10;  // of codes of 8 bits, which processors fetch ahead of a long tile's use
    long code_bytes = 16 << 10;  // of expanded codes, so that they stay in the first cache
    long table_rows = 1 << 20;   // of products at most for which tables are faster than dot products at all
};

struct Kernels {
    const char* name;

    // Products by tables. The codes' bits are the digits of an index; ``group`` consecutive columns of a bit
    // plane make one, which selects a sum of ``group`` activations from a table of 1 << group bytes.
    int table_columns;  // outputs of a block, one byte lane each
    int table_group;    // inputs of an index
    int table_step;     // inputs of a unit of packed indices: table_columns * table_step / 8 bytes
    int table_limit;    // weight bits times digits up to which tables are faster than dot products
    // Bits of one plane, (table_columns, table_step) bytes of 0 and 1 -> a unit.
    void (*pack_indices)(const uint8_t* bits, uint8_t* unit);
    // Digits 0 ... 15 (inputs,), a multiple of table_step -> tables (inputs / group, 1 << group).
    void (*build_tables)(const uint8_t* digits, long inputs, uint8_t* tables);
    // sums (rows, table_columns) = (add ? sums : 0) + what the units' indices select; rows <= 8.
    // ``largest``: of the digits.
    void (*look_up)(const uint8_t* tables, long table_stride, int rows, const uint8_t* units, long steps,
                    int largest, bool add, uint16_t* sums, long sum_stride);

    // Dot products: blocks of ``dot_columns`` outputs, four inputs of a column side by side.
    int dot_columns;
    // Codes (dot_columns, 4) bytes in a row, in this order, for each four inputs.
    // Expand ``bytes`` codes, a multiple of 512, from their packed form (see packed.cpp).
    void (*expand)(const uint8_t* packed, long bytes, int bits, int8_t* codes);
    // sums (rows, dot_columns) += a (rows, inputs) * codes of so many bits; inputs is a multiple of 32.
    void (*dot)(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits,
                int32_t* sums, long sum_stride);

    // Row by row.
    // round(x * factor - shift) + zero_point, half to even, to 0 ... largest; returns their sum.
    // ``factors`` and ``shift`` (count,) are both null or neither; ``factor`` counts where they are null.
    int32_t (*quantize)(const float* x, long count, const float* factors, const float* shift, float factor,
                        int zero_point, int largest, uint8_t* out);
    // 4-bit digits of bytes.
    void (*split)(const uint8_t* a, long count, uint8_t* low, uint8_t* high);
    // total = (add ? total : 0) + sums * 2^shift
    void (*combine)(const uint16_t* sums, long count, int shift, bool add, int32_t* total);
    // out = alpha * sums - row_term
    void (*restore)(const int32_t* sums, long count, int32_t alpha, int32_t row_term, int32_t* out);
    // ``row_terms``: of the output's rows, or null where all are 0.
    void (*finish)(const Finish& finish, const Sums<int32_t>& sums, const int32_t* row_terms, const Output& to);
    // ``out`` may be ``x``.
    void (*layer_norm)(const float* x, long count, const float* weight, const float* bias, float eps,
                       Activation activation, float* out);
    void (*add)(const float* a, const float* b, long count, float* out);
    void (*activate)(const float* x, long count, Activation activation, float* out);

    // Products in floating point: tiles of ``float_columns`` outputs.
    int float_columns;
    // Numbers of half precision -> float; ``count`` is a multiple of 8, and none is infinite.
    void (*expand_halves)(const uint16_t* halves, long count, float* out);
    // sums (rows, float_columns) += x (rows, inputs) * tile (inputs, float_columns). A row's sums do not depend on
    // the others.
    void (*float_product)(const float* x, long x_stride, long rows, const float* tile, long inputs, float* sums,
                          long sum_stride);
    // activation(sums + bias) + residual; ``bias``: of all columns
    void (*complete)(const Sums<float>& sums, const float* bias, Activation activation, const Output& to);

    // Attention. Keys and values of a head are packed in tiles of 16 frames, all heads' tiles side by side.
    bool bfloat16;
    size_t (*packed_bytes)(long frames, long head_dim);  // of a head's keys or values
    size_t (*attention_scratch)(long frames, long head_dim);
    size_t (*map_row)(long frames);  // bytes of a row's weights
    // Rows first ... first + rows of one head; ``first`` is a multiple of 16. Rows up to the next multiple of
    // 16 are set to zero. With scales above 0 queries and keys may be rounded to 8 bits by them.
    void (*pack_keys)(const float* x, long stride, long first, long rows, long frames, long head_dim, float scale,
                      void* packed);
    void (*pack_values)(const float* x, long stride, long first, long rows, long head_dim, void* packed);
    void (*attend)(const AttentionRows& rows);

    Blocks blocks = {};
};

constexpr int kMaxRows = 8;  // of one call of look_up

// Null where this build or this processor does not have it.
const Kernels* scalar_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512bf16_kernels();  // its attention is in bfloat16, all else as in avx512
const Kernels* amx_kernels();         // its products of 8 bits are of tiles, all else as in avx512bf16
const Kernels* neon_kernels();
const Kernels* wasm_kernels();

}  // namespace littlefoot
