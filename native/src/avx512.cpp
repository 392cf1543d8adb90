// AVX-512 with VBMI and VNNI: Ice Lake, Zen 4 and later.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LITTLEFOOT_FLOATS 16
#define LITTLEFOOT_TILE {12, 2}
#include "rows.inl"
#include "rows_avx512.inl"
#include "floats.inl"
#include "attention_f32.inl"

namespace littlefoot {

// attention_bf16.cpp
size_t bf16_packed_bytes(long frames, long head_dim);
size_t bf16_map_row(long frames);
size_t bf16_scratch(long frames, long head_dim);
void bf16_pack_keys(const float* x, long stride, long first, long rows, long frames, long head_dim, float scale,
                    void* packed);
void bf16_pack_values(const float* x, long stride, long first, long rows, long head_dim, void* packed);
void bf16_attend(const AttentionRows& a);

namespace {

constexpr int kColumns = 64, kGroup = 6, kStep = 24;

// vpermb selects among 64 bytes, so six columns of a bit plane make an index. A unit has the indices of four
// groups in three vectors: the low six bits of a vector are a group's, the top two bits of all three
// the fourth's. Even lanes hold the first 32 outputs, odd lanes the others, as ``look_up`` adds them up.
void pack_indices(const uint8_t* bits, uint8_t* unit) {
    for (int lane = 0; lane < 64; ++lane) {
        const uint8_t* row = bits + (lane / 2 + lane % 2 * 32) * kStep;
        int index[4] = {};
        for (int k = 0; k < kStep; ++k) index[k / kGroup] |= row[k] << (k % kGroup);
        for (int v = 0; v < 3; ++v)
            unit[v * 64 + lane] = static_cast<uint8_t>(index[v] | (index[3] >> (2 * v) & 3) << 6);
    }
}

// A table is the sum of three of four entries, one for each pair of inputs: 0, a, b, a + b.
void build_tables(const uint8_t* digits, long inputs, uint8_t* tables) {
    alignas(64) static const uint8_t kQuarters[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    const __m512i second = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(kQuarters)));
    const __m512i third = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_inserti128_si256(_mm256_setzero_si256(), _mm_set1_epi8(1), 1)),
        _mm256_inserti128_si256(_mm256_set1_epi8(2), _mm_set1_epi8(3), 1), 1);
    const __m512i high = _mm512_set1_epi32(0xFF00);
    alignas(64) uint32_t pairs[kStep / 2 * 4 + 16];
    for (long first = 0; first < inputs; first += 4 * kStep) {
        const long count = inputs - first < 4 * kStep ? inputs - first : 4 * kStep;
        for (long k = 0; k < count; k += 32) {  // the tail reads the padding behind the digits
            const __m512i pair = _mm512_cvtepu16_epi32(
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(digits + first + k)));
            __m512i entry = _mm512_or_si512(_mm512_slli_epi32(pair, 8),
                                            _mm512_slli_epi32(_mm512_and_si512(pair, high), 16));
            entry = _mm512_add_epi32(entry, _mm512_slli_epi32(pair, 24));
            _mm512_storeu_si512(pairs + k / 2, entry);
        }
        for (long g = 0; g < count / kGroup; ++g) {
            const uint32_t* pair = pairs + 3 * g;
            __m512i table = _mm512_set1_epi32(static_cast<int>(pair[0]));
            table = _mm512_add_epi8(
                table, _mm512_shuffle_epi8(_mm512_set1_epi32(static_cast<int>(pair[1])), second));
            table = _mm512_add_epi8(
                table, _mm512_shuffle_epi8(_mm512_set1_epi32(static_cast<int>(pair[2])), third));
            _mm512_storeu_si512(tables + (first / kGroup + g) * 64, table);
        }
    }
}

// The largest entry is 6 * largest: bytes hold so many of them, and are then added to words. ``kSteps``: units
// between; 0 means half a unit.
template <int kRows, int kSteps>
void look_up_rows(const uint8_t* tables, long table_stride, const uint8_t* units, long steps, bool add,
                  uint16_t* sums, long sum_stride) {
    const __m512i low2 = _mm512_set1_epi8(3), low4 = _mm512_set1_epi8(15);
    __m512i all[kRows], odd[kRows];  // words: all = even + 256 * odd, modulo 65536
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) all[r] = odd[r] = _mm512_setzero_si512();
    constexpr int kUnits = kSteps ? kSteps : 1;
    for (long s = 0; s < steps; s += kUnits) {
        __m512i bytes[kRows];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) bytes[r] = _mm512_setzero_si512();
        const long end = steps < s + kUnits ? steps : s + kUnits;
        for (long t = s; t < end; ++t) {
            const __m512i i0 = _mm512_loadu_si512(units + t * 192);
            const __m512i i1 = _mm512_loadu_si512(units + t * 192 + 64);
            const __m512i i2 = _mm512_loadu_si512(units + t * 192 + 128);
            // Bits 0-1 of the top of i0, 2-3 of i1, 4-5 of i2; vpermb reads six bits and no more.
            __m512i i3 = _mm512_ternarylogic_epi64(low2, _mm512_srli_epi16(i0, 6), _mm512_srli_epi16(i1, 4), 0xCA);
            i3 = _mm512_ternarylogic_epi64(low4, i3, _mm512_srli_epi16(i2, 2), 0xCA);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                const uint8_t* table = tables + r * table_stride + t * 256;
                const __m512i p0 = _mm512_permutexvar_epi8(i0, _mm512_loadu_si512(table));
                const __m512i p1 = _mm512_permutexvar_epi8(i1, _mm512_loadu_si512(table + 64));
                const __m512i p2 = _mm512_permutexvar_epi8(i2, _mm512_loadu_si512(table + 128));
                const __m512i p3 = _mm512_permutexvar_epi8(i3, _mm512_loadu_si512(table + 192));
                const __m512i a = _mm512_add_epi8(p0, p1), b = _mm512_add_epi8(p2, p3);
                if (kSteps) {
                    bytes[r] = _mm512_add_epi8(bytes[r], _mm512_add_epi8(a, b));
                } else {
                    all[r] = _mm512_add_epi16(all[r], _mm512_add_epi16(a, b));
                    odd[r] = _mm512_add_epi16(
                        odd[r], _mm512_add_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8)));
                }
            }
        }
        if (kSteps) {
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                all[r] = _mm512_add_epi16(all[r], bytes[r]);
                odd[r] = _mm512_add_epi16(odd[r], _mm512_srli_epi16(bytes[r], 8));
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
        uint16_t* out = sums + r * sum_stride;
        const __m512i even = _mm512_sub_epi16(all[r], _mm512_slli_epi16(odd[r], 8));
        _mm512_storeu_si512(out, add ? _mm512_add_epi16(_mm512_loadu_si512(out), even) : even);
        _mm512_storeu_si512(out + 32, add ? _mm512_add_epi16(_mm512_loadu_si512(out + 32), odd[r]) : odd[r]);
    }
}

template <int kSteps>
void look_up_as(const uint8_t* tables, long table_stride, int rows, const uint8_t* units, long steps,
                bool add, uint16_t* sums, long sum_stride) {
    while (rows > 0) {
        int done = 1;
        if (rows >= 8) {
            look_up_rows<8, kSteps>(tables, table_stride, units, steps, add, sums, sum_stride);
            done = 8;
        } else if (rows >= 4) {
            look_up_rows<4, kSteps>(tables, table_stride, units, steps, add, sums, sum_stride);
            done = 4;
        } else if (rows >= 2) {
            look_up_rows<2, kSteps>(tables, table_stride, units, steps, add, sums, sum_stride);
            done = 2;
        } else {
            look_up_rows<1, kSteps>(tables, table_stride, units, steps, add, sums, sum_stride);
        }
        tables += done * table_stride;
        sums += done * sum_stride;
        rows -= done;
    }
}

void look_up(const uint8_t* tables, long table_stride, int rows, const uint8_t* units, long steps, int largest,
             bool add, uint16_t* sums, long sum_stride) {
    if (largest <= 1) return look_up_as<10>(tables, table_stride, rows, units, steps, add, sums, sum_stride);
    if (largest <= 3) return look_up_as<3>(tables, table_stride, rows, units, steps, add, sums, sum_stride);
    if (largest <= 7) return look_up_as<1>(tables, table_stride, rows, units, steps, add, sums, sum_stride);
    return look_up_as<0>(tables, table_stride, rows, units, steps, add, sums, sum_stride);
}

template <int kBits>
void expand_as(const uint8_t* packed, long bytes, int8_t* codes) {
    const __m512i mask = _mm512_set1_epi8((1 << kBits) - 1);
    for (long done = 0; done < bytes; packed += 64) {
        const __m512i all = _mm512_loadu_si512(packed);
#pragma GCC unroll 8
        for (int j = 0; j < 8 / kBits; ++j, done += 64)
            _mm512_storeu_si512(codes + done, _mm512_and_si512(_mm512_srli_epi16(all, kBits * j), mask));
    }
}

void expand(const uint8_t* packed, long bytes, int bits, int8_t* codes) {
    if (bits == 1) return expand_as<1>(packed, bytes, codes);
    if (bits == 2) return expand_as<2>(packed, bytes, codes);
    return expand_as<4>(packed, bytes, codes);
}

template <int kRows>
void dot_rows(const uint8_t* a, long a_stride, const int8_t* codes, long inputs, int32_t* sums, long sum_stride) {
    __m512i sum[kRows][4];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) sum[r][v] = _mm512_loadu_si512(sums + r * sum_stride + v * 16);
    for (long k = 0; k < inputs; k += 4) {
        const int8_t* code = codes + k * kColumns;
        const __m512i w0 = _mm512_loadu_si512(code), w1 = _mm512_loadu_si512(code + 64);
        const __m512i w2 = _mm512_loadu_si512(code + 128), w3 = _mm512_loadu_si512(code + 192);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            int32_t four;
            __builtin_memcpy(&four, a + r * a_stride + k, 4);
            const __m512i x = _mm512_set1_epi32(four);
            sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], x, w0);
            sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], x, w1);
            sum[r][2] = _mm512_dpbusd_epi32(sum[r][2], x, w2);
            sum[r][3] = _mm512_dpbusd_epi32(sum[r][3], x, w3);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) _mm512_storeu_si512(sums + r * sum_stride + v * 16, sum[r][v]);
}

void dot(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits, int32_t* sums,
         long sum_stride) {
    (void)bits;
    const auto advance = [&]<int kRows>() {
        dot_rows<kRows>(a, a_stride, codes, inputs, sums, sum_stride);
        a += kRows * a_stride;
        sums += kRows * sum_stride;
        rows -= kRows;
    };
    while (rows > 0) {
        const long calls = (rows + 5) / 6;
        switch ((rows + calls - 1) / calls) {  // nearly as many rows each time: few of them wait for codes
            case 6: advance.template operator()<6>(); break;
            case 5: advance.template operator()<5>(); break;
            case 4: advance.template operator()<4>(); break;
            case 3: advance.template operator()<3>(); break;
            case 2: advance.template operator()<2>(); break;
            default: advance.template operator()<1>();
        }
    }
}

void halves(const uint16_t* from, long count, float* out) {
    for (long i = 0; i < count; i += 16)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
}

Kernels kernels(bool bfloat16) {
    Kernels k = {
        "avx512",      kColumns,      kGroup,     kStep,         3,   pack_indices, build_tables,
        look_up,       kColumns,      expand,     dot,           quantize, split,   combine, restore,
        finish,        layer_norm,    add,        activate_row,
        kFloatColumns, halves, float_product, complete,
        false,         f32_packed_bytes, f32_scratch, f32_map_row, f32_pack_keys, f32_pack_values, f32_attend,
    };
    if (bfloat16) {
        k.name = "avx512bf16";
        k.bfloat16 = true;
        k.packed_bytes = bf16_packed_bytes;
        k.attention_scratch = bf16_scratch;
        k.map_row = bf16_map_row;
        k.pack_keys = bf16_pack_keys;
        k.pack_values = bf16_pack_values;
        k.attend = bf16_attend;
    }
    return k;
}

bool has_instructions() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Kernels* avx512_kernels() {
    if (!has_instructions()) return nullptr;
    static const Kernels found = kernels(false);
    return &found;
}

const Kernels* avx512bf16_kernels() {
    if (!has_instructions() || !__builtin_cpu_supports("avx512bf16")) return nullptr;
    static const Kernels found = kernels(true);
    return &found;
}

}  // namespace littlefoot

#else

namespace littlefoot {
const Kernels* avx512_kernels() { return nullptr; }
const Kernels* avx512bf16_kernels() { return nullptr; }
}  // namespace littlefoot

#endif
