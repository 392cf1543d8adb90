// The shapes of AMX's eight tiles.

namespace littlefoot {
namespace {

constexpr long kTile = 16;  // rows of a tile at most, of 64 bytes

struct Shape {
    long rows, bytes;
};

inline void shape_tiles(const Shape (&tiles)[8]) {
    struct alignas(64) {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
    } shapes;
    for (int tile = 0; tile < 8; ++tile) {
        shapes.bytes[tile] = static_cast<uint16_t>(tiles[tile].bytes);
        shapes.rows[tile] = static_cast<uint8_t>(tiles[tile].rows);
    }
    _tile_loadconfig(&shapes);
}

// Compilers do not know that tiles are loaded from memory: what was written before is there.
inline void written() { asm volatile("" ::: "memory"); }

}  // namespace
}  // namespace littlefoot
