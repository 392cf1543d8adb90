#include "packed.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace littlefoot {

namespace {

constexpr long kTableBytes = 24 << 10;  // of the tables of a tile of rows, so that they stay in the first cache
constexpr long kWordLimit = 65535;      // of sums while they are words

long up(long n, long to) { return (n + to - 1) / to * to; }

// The codes that each byte holds where they fill bytes: 8, 4 or 2 of them, or five digits of three.
struct ByteCodes {
    int each;
    uint8_t codes[256][8];
};

// ``ascending``: the place among the levels of a code as it is stored.
ByteCodes byte_codes(int bits, bool digits_of_three, const uint8_t* ascending) {
    ByteCodes made = {digits_of_three ? 5 : 8 / bits, {}};
    const unsigned base = digits_of_three ? 3 : 1u << bits;
    for (unsigned byte = 0; byte < 256; ++byte) {
        unsigned left = byte;
        for (int i = 0; i < made.each; ++i, left /= base) made.codes[byte][i] = ascending[left % base];
    }
    return made;
}

void unpack(const uint8_t* packed, long columns, const ByteCodes& of, uint8_t* codes) {
    long c = 0;
    for (; c + 8 <= columns; c += of.each) std::memcpy(codes + c, of.codes[*packed++], 8);
    for (; c < columns; c += of.each)
        std::memcpy(codes + c, of.codes[*packed++], static_cast<size_t>(std::min<long>(of.each, columns - c)));
}

// Eight codes of 3 bits are in three bytes.
void unpack_threes(const uint8_t* packed, long columns, const uint8_t* ascending, uint8_t* codes) {
    for (long c = 0; c < columns; c += 8, packed += 3) {
        unsigned eight = packed[0] | static_cast<unsigned>(packed[1]) << 8 | static_cast<unsigned>(packed[2]) << 16;
        for (long j = c; j < c + 8; ++j, eight >>= 3) codes[j] = ascending[eight & 7];
    }
}

bool of_three(int bits, const std::vector<int>& levels) { return bits == 2 && levels.size() == 3; }

void check_bits(int bits, const char* what) {
    if (!((bits >= 1 && bits <= 4) || bits == 8))
        throw std::invalid_argument(std::string(what) + " must have 1, 2, 3, 4 or 8 bits, not " +
                                    std::to_string(bits));
}

// Whether rows of so many bytes hold so many columns of these codes.
void check_rows(long row_bytes, long columns, int bits, const std::vector<int>& levels) {
    if (columns < 1 || columns > kMostColumns)
        throw std::invalid_argument("a row must have 1 to " + std::to_string(kMostColumns) + " columns, not " +
                                    std::to_string(columns));
    const bool three = of_three(bits, levels);
    if (!three && levels.size() != (bits == 8 ? 0 : size_t{1} << bits))
        throw std::invalid_argument(std::to_string(levels.size()) + " levels do not fit " + std::to_string(bits) +
                                    " bits");
    const long expected = three ? (columns + 4) / 5 : columns * bits / 8;
    if (!three && columns * bits % 8)
        throw std::invalid_argument(std::to_string(columns) + " columns of " + std::to_string(bits) +
                                    " bits do not fill whole bytes");
    if (row_bytes != expected)
        throw std::invalid_argument("rows of " + std::to_string(columns) + " columns of " + std::to_string(bits) +
                                    " bits have " + std::to_string(expected) + " bytes, not " +
                                    std::to_string(row_bytes));
}

}  // namespace

PackedMatrix::PackedMatrix(const Kernels& kernels, const uint8_t* packed, long row_bytes, long rows, long columns,
                           int bits, const std::vector<int>& levels, int activation_bits, const std::string& method,
                           long expected_rows)
    : kernels_(kernels), outputs_(rows), inputs_(columns), bits_(bits), activation_bits_(activation_bits) {
    check_bits(bits, "weights");
    check_bits(activation_bits, "activations");
    check_rows(row_bytes, columns, bits, levels);
    const Places ascending = place_levels(levels);
    choose_method(method, expected_rows);
    padded_ = up(columns, step());
    blocks_ = up(rows, block()) / block();
    planes_ = tables_ ? bits : 1;
    pack_rows(packed, row_bytes, ascending, of_three(bits, levels));
}

// A level is alpha * u - beta, with a place u among them.
PackedMatrix::Places PackedMatrix::place_levels(const std::vector<int>& levels) {
    Places ascending = {};
    if (bits_ == 8) return ascending;
    std::vector<int> sorted(levels);
    std::sort(sorted.begin(), sorted.end());
    if (sorted.front() < -127 || sorted.back() > 127) throw std::invalid_argument("levels must be within 127");
    if (inputs_ * 255LL * (sorted.back() - sorted.front()) > INT32_MAX)
        throw std::invalid_argument("sums of " + std::to_string(inputs_) + " columns of such levels need more "
                                    "than 32 bits");
    alpha_ = sorted[1] - sorted[0];
    beta_ = -sorted[0];
    for (size_t i = 0; i < sorted.size(); ++i)
        if (alpha_ < 1 || sorted[i] != sorted[0] + static_cast<int>(i) * alpha_)
            throw std::invalid_argument("the levels are not evenly spaced");
    for (size_t i = 0; i < levels.size(); ++i) ascending[i] = static_cast<uint8_t>((levels[i] + beta_) / alpha_);
    return ascending;
}

void PackedMatrix::choose_method(const std::string& method, long expected_rows) {
    if (method == "tables" && bits_ == 8) throw std::invalid_argument("weights of 8 bits have no tables");
    if (method != "auto" && method != "tables" && method != "dot")
        throw std::invalid_argument("method must be auto, tables or dot, not " + method);
    const int digits = activation_bits_ == 8 ? 2 : 1;
    const bool faster = bits_ * digits <= kernels_.table_limit && expected_rows <= kernels_.blocks.table_rows;
    tables_ = method == "tables" || (method == "auto" && bits_ < 8 && faster);
}

// Block by block of rows: their codes, a byte each, then in the layout of the method. The sums of rows on the way.
void PackedMatrix::pack_rows(const uint8_t* packed, long row_bytes, const Places& ascending, bool three) {
    const long block = this->block();
    const size_t block_bytes = tables_ ? static_cast<size_t>(planes_) * block * padded_ / 8
                                       : static_cast<size_t>(block) * padded_ * stored_bits() / 8;
    data_ = Bytes(block_bytes * static_cast<size_t>(blocks_));
    row_sums_.resize(static_cast<size_t>(outputs_));
    const ByteCodes of_bytes =
        bits_ == 1 || bits_ == 2 || bits_ == 4 ? byte_codes(bits_, three, ascending.data()) : ByteCodes{};
    std::vector<uint8_t> codes(static_cast<size_t>(block * padded_));
    Bytes piece(codes.size());
    for (long b = 0; b < blocks_; ++b) {
        std::fill(codes.begin(), codes.end(), uint8_t{0});
        for (long r = b * block; r < std::min(outputs_, (b + 1) * block); ++r) {
            uint8_t* row = codes.data() + (r - b * block) * padded_;
            if (bits_ == 8)
                std::memcpy(row, packed + r * row_bytes, static_cast<size_t>(inputs_));
            else if (bits_ == 3)
                unpack_threes(packed + r * row_bytes, inputs_, ascending.data(), row);
            else
                unpack(packed + r * row_bytes, inputs_, of_bytes, row);
            int32_t sum = 0;
            for (long c = 0; c < inputs_; ++c) sum += bits_ == 8 ? static_cast<int8_t>(row[c]) : row[c];
            row_sums_[static_cast<size_t>(r)] = bits_ == 8 ? sum : alpha_ * sum - beta_ * static_cast<int32_t>(inputs_);
        }
        uint8_t* const out = data_.data() + static_cast<size_t>(b) * block_bytes;
        if (tables_)
            pack_tables(codes.data(), out, piece);
        else
            pack_dot(codes.data(), out, piece);
    }
}

// Plane by plane of bits: the indices into tables of a block's codes (block, padded inputs).
void PackedMatrix::pack_tables(const uint8_t* codes, uint8_t* out, Bytes& piece) const {
    const long step = this->step(), block = this->block(), unit = block * step / 8;
    for (int plane = 0; plane < planes_; ++plane)
        for (long k = 0; k < padded_; k += step, out += unit) {
            for (long c = 0; c < block; ++c)
                std::memcpy(piece.data() + c * step, codes + c * padded_ + k, static_cast<size_t>(step));
            for (long i = 0; i < block * step; ++i) piece.data()[i] = piece.data()[i] >> plane & 1;
            kernels_.pack_indices(piece.data(), out);
        }
}

// Four inputs of an output side by side; codes of few bits then in vectors, several in one.
void PackedMatrix::pack_dot(const uint8_t* codes, uint8_t* out, Bytes& piece) const {
    const long block = this->block();
    const int stored = stored_bits();
    uint8_t* const fours = stored == 8 ? out : piece.data();
    for (long k = 0; k < padded_; k += 4)
        for (long c = 0; c < block; ++c) std::memcpy(fours + k * block + c * 4, codes + c * padded_ + k, 4);
    if (stored == 8) return;
    const int each = 8 / stored;  // vectors of 64 codes in one of 64 bytes
    for (long vector = 0; vector < block * padded_ / 64; ++vector)
        for (int i = 0; i < 64; ++i)
            out[vector / each * 64 + i] |= static_cast<uint8_t>(fours[vector * 64 + i] << (stored * (vector % each)));
}

void PackedMatrix::multiply(const uint8_t* a, long stride, long rows, Scratch& scratch, const Emit& emit) const {
    if (rows == 0) return;
    if (tables_)
        multiply_tables(a, stride, rows, scratch, emit);
    else
        multiply_dot(a, stride, rows, scratch, emit);
}

void PackedMatrix::multiply_tables(const uint8_t* a, long stride, long rows, Scratch& scratch,
                                   const Emit& emit) const {
    const int step = kernels_.table_step, columns = kernels_.table_columns;
    const int digits = activation_bits_ == 8 ? 2 : 1;
    const int largest = digits == 2 ? 15 : (1 << activation_bits_) - 1;
    const long tile = kMaxRows / digits;  // rows
    const long step_tables = (static_cast<long>(step) / kernels_.table_group) << kernels_.table_group;
    const long steps = padded_ / step;
    const long chunk = std::max(1L, std::min(steps, kTableBytes / (kMaxRows * step_tables)));  // in steps
    const long whole = kWordLimit / (static_cast<long>(largest) * step) / chunk * chunk;       // in steps
    const bool single = whole >= steps;  // all sums fit into words
    const long wide = blocks_ * columns, total_stride = single ? columns : wide;
    const long rows_apart = planes_ * wide;
    const size_t unit = static_cast<size_t>(columns) * step / 8;
    scratch.tables.reserve(static_cast<size_t>(kMaxRows * chunk * step_tables));
    scratch.partial.reserve(static_cast<size_t>(kMaxRows * rows_apart) * sizeof(uint16_t));
    scratch.total.reserve(static_cast<size_t>(tile * total_stride) * sizeof(int32_t));
    scratch.digits.reserve(static_cast<size_t>(2 * padded_));
    uint8_t* const tables = scratch.tables.data();
    uint16_t* const partial = reinterpret_cast<uint16_t*>(scratch.partial.data());  // (digit rows, planes, wide)
    int32_t* const total = reinterpret_cast<int32_t*>(scratch.total.data());        // (tile, total_stride)

    const auto build = [&](const uint8_t* rows_of_a, long count, long first_step, long part) {
        for (long r = 0; r < count; ++r) {
            const uint8_t* row = rows_of_a + r * stride + first_step * step;
            uint8_t* table = tables + r * digits * chunk * step_tables;
            if (digits == 1) {
                kernels_.build_tables(row, part * step, table);
                continue;
            }
            uint8_t* const low = scratch.digits.data();
            uint8_t* const high = low + padded_;
            kernels_.split(row, part * step, low, high);
            kernels_.build_tables(low, part * step, table);
            kernels_.build_tables(high, part * step, table + chunk * step_tables);
        }
    };
    // The words of a block's columns, while they are in the first cache, to whole numbers.
    const auto collect = [&](long first, long count, long b, bool begin, bool end) {
        int32_t* const of_block = total + (single ? 0 : b * columns);
        for (long r = 0; r < count; ++r) {
            int32_t* const sums = of_block + r * total_stride;
            for (int digit = 0; digit < digits; ++digit)
                for (int plane = 0; plane < planes_; ++plane)
                    kernels_.combine(partial + (r * digits + digit) * rows_apart + plane * wide + b * columns, columns,
                                     plane + 4 * digit, !begin || digit || plane, sums);
        }
        if (end)
            emit({of_block, total_stride, first, count, b * columns, std::min<long>(columns, outputs_ - b * columns)});
    };

    for (long first = 0; first < rows; first += tile) {
        const long count = std::min(tile, rows - first);
        for (long super = 0; super < steps; super += whole) {
            const long super_end = std::min(steps, super + whole);
            for (long s = super; s < super_end; s += chunk) {
                const long part = std::min(chunk, super_end - s);
                build(a + first * stride, count, s, part);
                for (long b = 0; b < blocks_; ++b) {
                    for (int plane = 0; plane < planes_; ++plane) {
                        const size_t at = static_cast<size_t>((b * planes_ + plane) * steps + s);
                        kernels_.look_up(tables, chunk * step_tables, static_cast<int>(count * digits),
                                         data_.data() + at * unit, part, largest, s > super,
                                         partial + plane * wide + b * columns, rows_apart);
                    }
                    if (s + part == super_end) collect(first, count, b, super == 0, super_end == steps);
                }
            }
        }
    }
}

void PackedMatrix::multiply_dot(const uint8_t* a, long stride, long rows, Scratch& scratch,
                                const Emit& emit) const {
    const int columns = kernels_.dot_columns, stored = stored_bits();
    const Blocks& blocks = kernels_.blocks;
    const long chunk = (stored < 8 ? blocks.code_bytes : blocks.tile_bytes) / columns / 64 * 64;  // inputs
    scratch.codes.reserve(static_cast<size_t>(columns * std::min(chunk, padded_)));
    scratch.total.reserve(static_cast<size_t>(std::max(rows, Scratch::kRows) * columns) * sizeof(int32_t));
    int8_t* const codes = reinterpret_cast<int8_t*>(scratch.codes.data());
    int32_t* const total = reinterpret_cast<int32_t*>(scratch.total.data());  // (rows, columns)
    const uint8_t* block = data_.data();
    for (long b = 0; b < blocks_; ++b) {
        std::memset(total, 0, static_cast<size_t>(rows * columns) * sizeof(int32_t));
        for (long k = 0; k < padded_; k += chunk) {
            const long part = std::min(chunk, padded_ - k);
            const int8_t* tile = reinterpret_cast<const int8_t*>(block);
            if (stored < 8) {
                kernels_.expand(block, part * columns, stored, codes);
                tile = codes;
            }
            kernels_.dot(a + k, stride, rows, tile, part, bits_, total, columns);
            block += part * columns * stored / 8;
        }
        emit({total, columns, 0, rows, b * columns, std::min<long>(columns, outputs_ - b * columns)});
    }
}

}  // namespace littlefoot
