// AMX: products of 8 bits in tiles of 16 rows, for processors that have AVX-512 with bfloat16 too. The weights are packed as
// for avx512.cpp: 16 fours of inputs of 16 outputs are a tile as they are, of rows 256 bytes apart.
#include "kernels.h"

#if defined(LITTLEFOOT_AMX)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tiles.inl"

namespace littlefoot {

// attention_amx.cpp
size_t amx_scratch(long frames, long head_dim);
void amx_attend(const AttentionRows& a);

namespace {
constexpr long kInputs = 64;  // of a tile
constexpr int kColumns = 64;
constexpr long kFewest = 8;  // rows: fewer are faster without tiles

// What comes behind the weights, fetched while they are multiplied: a few lines at each step.
struct Ahead {
    const int8_t* at;
    long each;
    void fetch() {
        for (long i = 0; i < each; ++i, at += 64) _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
    }
};

// Sums in tiles 0 to 3 and inputs in 4 and 5, both with so many lower rows; weights in 6 and 7.
void shape_pair(long lower) {
    const Shape whole = {kTile, 64}, part = {lower, 64};
    shape_tiles({whole, whole, part, part, whole, part, whole, whole});
}

// 17 ... 32 rows and 32 columns.
void pair_of_tiles(const uint8_t* a, long a_stride, const int8_t* codes, long inputs, int32_t* sums, long sum_stride,
                   Ahead& ahead) {
    const long bytes = sum_stride * 4;
    int32_t* const lower = sums + kTile * sum_stride;
    _tile_loadd(0, sums, bytes);
    _tile_loadd(1, sums + 16, bytes);
    _tile_loadd(2, lower, bytes);
    _tile_loadd(3, lower + 16, bytes);
    for (long k = 0; k < inputs; k += kInputs) {
        const int8_t* const code = codes + k * kColumns;
        _tile_loadd(4, a + k, a_stride);
        _tile_loadd(6, code, 4 * kColumns);
        _tile_loadd(7, code + 64, 4 * kColumns);
        _tile_loadd(5, a + kTile * a_stride + k, a_stride);
        ahead.fetch();
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_stored(0, sums, bytes);
    _tile_stored(1, sums + 16, bytes);
    _tile_stored(2, lower, bytes);
    _tile_stored(3, lower + 16, bytes);
}

// Up to 16 rows and 64 columns.
void one_tile(const uint8_t* a, long a_stride, const int8_t* codes, long inputs, int32_t* sums, long sum_stride,
              Ahead& ahead) {
    const long bytes = sum_stride * 4;
    _tile_loadd(0, sums, bytes);
    _tile_loadd(1, sums + 16, bytes);
    _tile_loadd(2, sums + 32, bytes);
    _tile_loadd(3, sums + 48, bytes);
    for (long k = 0; k < inputs; k += kInputs) {
        const int8_t* const code = codes + k * kColumns;
        _tile_loadd(4, a + k, a_stride);
        _tile_loadd(5, code, 4 * kColumns);
        _tile_loadd(6, code + 64, 4 * kColumns);
        _tile_loadd(7, code + 128, 4 * kColumns);
        ahead.fetch();
        _tile_dpbusd(0, 4, 5);
        _tile_dpbusd(1, 4, 6);
        _tile_loadd(5, code + 192, 4 * kColumns);
        _tile_dpbusd(2, 4, 7);
        _tile_dpbusd(3, 4, 5);
    }
    _tile_stored(0, sums, bytes);
    _tile_stored(1, sums + 16, bytes);
    _tile_stored(2, sums + 32, bytes);
    _tile_stored(3, sums + 48, bytes);
}

void dot(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits, int32_t* sums,
         long sum_stride) {
    static const auto without_tiles = avx512_kernels()->dot;
    const long whole = rows < kFewest ? 0 : inputs / kInputs * kInputs;
    if (whole < inputs)
        without_tiles(a + whole, a_stride, rows, codes + whole * kColumns, inputs - whole, bits, sums, sum_stride);
    if (whole == 0) return;
    written();
    const long pairs = rows / (2 * kTile), left = rows % (2 * kTile);
    // Weights of 8 bits are read from memory in their order.
    const long passes = 2 * pairs + (left > kTile ? 2 : left > 0 ? 1 : 0);
    Ahead ahead = {codes + inputs * kColumns, bits < 8 ? 0 : kColumns / passes};
    if (pairs) shape_pair(kTile);
    for (long column = 0; column < kColumns && pairs; column += 2 * kTile)
        for (long row = 0; row + 2 * kTile <= rows; row += 2 * kTile)
            pair_of_tiles(a + row * a_stride, a_stride, codes + column * 4, whole, sums + row * sum_stride + column,
                          sum_stride, ahead);
    if (left) {
        a += (rows - left) * a_stride;
        sums += (rows - left) * sum_stride;
        if (left > kTile) {
            shape_pair(left - kTile);
            for (long column = 0; column < kColumns; column += 2 * kTile)
                pair_of_tiles(a, a_stride, codes + column * 4, whole, sums + column, sum_stride, ahead);
        } else {
            const Shape part = {left, 64}, whole_tile = {kTile, 64};
            shape_tiles({part, part, part, part, part, whole_tile, whole_tile, whole_tile});
            one_tile(a, a_stride, codes, whole, sums, sum_stride, ahead);
        }
    }
    _tile_release();
}

// Whether the processor has tiles and the system lets this process use them.
bool permitted() {
    unsigned a, b, c, d;
    constexpr unsigned kTiles = 1 << 24, kBytes = 1 << 25, kBfloat16 = 1 << 22;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (kTiles | kBytes | kBfloat16)) != (kTiles | kBytes | kBfloat16))
        return false;
    constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, since Linux 5.16
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

Kernels kernels() {
    Kernels k = *avx512bf16_kernels();
    k.name = "amx";
    k.dot = dot;
    k.attention_scratch = amx_scratch;
    k.attend = amx_attend;
    k.blocks.table_rows = kTile - 1;
    k.blocks.product_rows = 128;
    k.blocks.row_step = kTile;
    k.blocks.tile_bytes = 256 << 10;
    k.blocks.code_bytes = 64 << 10;
    return k;
}

}  // namespace

const Kernels* amx_kernels() {
    static const bool usable = avx512bf16_kernels() && permitted();
    if (!usable) return nullptr;
    static const Kernels found = kernels();
    return &found;
}

}  // namespace littlefoot

#else

namespace littlefoot {
const Kernels* amx_kernels() { return nullptr; }
}  // namespace littlefoot

#endif
