// The CRC-32 of zlib and PNG (ISO 3309), eight bytes at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace littlefoot {

uint32_t crc32(const uint8_t* data, size_t size);

}  // namespace littlefoot
