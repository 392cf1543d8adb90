#include "crc32.h"

#include <array>
#include <cstring>

namespace littlefoot {

namespace {

using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
    Tables made{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
        made[0][byte] = value;
    }
    for (size_t byte = 0; byte < 256; ++byte)
        for (size_t t = 1; t < 8; ++t) made[t][byte] = made[t - 1][byte] >> 8 ^ made[0][made[t - 1][byte] & 255];
    return made;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32(const uint8_t* data, size_t size) {
    uint32_t value = ~0u;
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t low, high;
        std::memcpy(&low, data, 4);
        std::memcpy(&high, data + 4, 4);
        low ^= value;
        value = 0;
        for (size_t i = 0; i < 4; ++i)
            value ^= kTables[7 - i][low >> (8 * i) & 255] ^ kTables[3 - i][high >> (8 * i) & 255];
    }
    for (; size; ++data, --size) value = value >> 8 ^ kTables[0][(value ^ *data) & 255];
    return ~value;
}

}  // namespace littlefoot
