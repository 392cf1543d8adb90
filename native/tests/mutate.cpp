// Opens a model file that was changed at random, again and again:
//
//     mutate MODEL COUNT SEED
//
// One in three is as it was changed, and must be refused; the others get right checksums first.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "model_input.h"

using namespace littlefoot;

namespace {

std::mt19937 generator;

size_t below(size_t end) { return std::uniform_int_distribution<size_t>(0, end - 1)(generator); }

// ``in_place``: the file keeps its size, as it must for what lies behind the first checks to be reached.
void mutate(std::vector<uint8_t>& file, size_t description, bool in_place) {
    constexpr uint32_t kNumbers[] = {0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000};
    for (size_t left = 1 + below(3); left > 0; --left) {
        // Most of a file is weights, most of what can go wrong is before them.
        const size_t end = below(10) ? std::min(file.size(), kPrefixBytes + description) : file.size();
        const size_t at = below(end);
        switch (below(in_place ? 4 : 6)) {
            case 0: file[at] ^= static_cast<uint8_t>(1u << below(8)); break;
            case 1: file[at] = static_cast<uint8_t>(below(256)); break;
            case 2: {
                const size_t from = below(end), count = std::min({size_t{4}, file.size() - at, file.size() - from});
                std::memmove(file.data() + at, file.data() + from, count);
                break;
            }
            case 4: file.resize(std::max<size_t>(1, at)); break;
            case 5: file.insert(file.begin() + static_cast<long>(at), static_cast<uint8_t>(below(256))); break;
            default: {
                const size_t place = at / 4 * 4;  // where the numbers of a description are, by and large
                const uint32_t number = kNumbers[below(std::size(kNumbers))];
                if (place + 4 <= file.size()) std::memcpy(file.data() + place, &number, sizeof number);
            }
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) return 2;
    std::ifstream input(arguments[1], std::ios::binary);
    const std::vector<uint8_t> original((std::istreambuf_iterator<char>(input)), {});
    if (!try_model(original, "scalar", true)) return 3;
    uint64_t description;
    std::memcpy(&description, original.data() + 16, sizeof description);
    generator.seed(static_cast<unsigned>(std::stoul(arguments[3])));
    const long mutations = std::stol(arguments[2]);
    long opened = 0;
    for (long i = 0; i < mutations; ++i) {
        std::vector<uint8_t> changed = original;
        const bool sealed = i % 3 == 0;
        mutate(changed, static_cast<size_t>(description), !sealed);
        if (!sealed) reseal(changed);
        const bool opens = try_model(changed, "scalar", i % 500 == 1);
        if (sealed && opens && changed != original) {
            std::printf("mutation %ld was not noticed\n", i);
            return 1;
        }
        opened += opens;
    }
    std::printf("%ld mutations, %ld opened\n", mutations, opened);
    return 0;
}
