// Compares a set of kernels with the portable ones, on random matrices and a small program:
//
//     compare avx2|avx512|avx512bf16|amx|neon|wasm
//
// Integers must be the same, floating point within a tolerance. For processors that Python does not run on here,
// and for sanitizers and valgrind. Exit code 77: this processor does not have the instructions.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "front_end.h"
#include "program.h"

using namespace littlefoot;

namespace {

#ifdef __EMSCRIPTEN__
constexpr int kThreads = 1;  // all that a page has
#else
constexpr int kThreads = 3;
#endif

std::mt19937 generator(1);
int failures = 0;

int uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

std::vector<float> normal(size_t count) {
    std::normal_distribution<float> distribution;
    std::vector<float> values(count);
    for (float& value : values) value = distribution(generator);
    return values;
}

void expect(bool right, const std::string& what) {
    if (right) return;
    ++failures;
    std::printf("wrong: %s\n", what.c_str());
}

std::vector<int> levels_of(int bits) {
    std::vector<int> levels;
    if (bits == 1) return {-1, 1};
    for (int code = 0; bits < 8 && code < 1 << bits; ++code)
        levels.push_back(code < 1 << (bits - 1) ? code : code - (1 << bits));
    return levels;
}

std::vector<int32_t> product(const PackedMatrix& matrix, const std::vector<uint8_t>& a, long rows) {
    const long padded = matrix.padded_inputs();
    Bytes input(static_cast<size_t>((rows + 1) * padded));
    for (long r = 0; r < rows; ++r)
        std::memcpy(input.data() + r * padded, a.data() + r * matrix.inputs(), static_cast<size_t>(matrix.inputs()));
    std::vector<int32_t> result(static_cast<size_t>(rows * matrix.outputs()));
    Scratch scratch;
    matrix.multiply(input.data(), padded, rows, scratch, [&](const Sums<int32_t>& sums) {
        for (long r = 0; r < sums.rows; ++r)
            std::copy_n(sums.at + r * sums.stride, sums.columns,
                        result.data() + (sums.row + r) * matrix.outputs() + sums.column);
    });
    return result;
}

void compare_products(const Kernels& kernels) {
    for (const int bits : {1, 2, 3, 4, 8})
        for (const int activation_bits : {1, 2, 3, 4, 8})
            for (const char* method : {"tables", "dot"}) {
                if (bits == 8 && method[0] == 't') continue;
                for (int trial = 0; trial < 4; ++trial) {
                    const long rows = trial == 1 ? uniform(20, 80) : uniform(0, 19);
                    const long columns = trial == 3 ? 5000 : 8 * uniform(1, 40);
                    const long outputs = uniform(1, 150);
                    const long row_bytes = columns * bits / 8;
                    std::vector<uint8_t> weights(static_cast<size_t>(outputs * row_bytes));
                    for (uint8_t& byte : weights) byte = static_cast<uint8_t>(uniform(0, 255));
                    std::vector<uint8_t> a(static_cast<size_t>(rows * columns));
                    const int largest = (1 << activation_bits) - 1;
                    for (uint8_t& x : a) x = static_cast<uint8_t>(trial == 2 ? largest : uniform(0, largest));
                    const auto make = [&](const Kernels& of) {
                        return PackedMatrix(of, weights.data(), row_bytes, outputs, columns, bits, levels_of(bits),
                                            activation_bits, method);
                    };
                    expect(product(make(kernels), a, rows) == product(make(*scalar_kernels()), a, rows),
                           "weights of " + std::to_string(bits) + " bits, inputs of " +
                               std::to_string(activation_bits) + ", " + method + ", " + std::to_string(rows) + " x " +
                               std::to_string(columns) + " x " + std::to_string(outputs));
                }
            }
}

// Bytes of random codes, or of random numbers where there are 16 or 32 bits.
std::vector<uint8_t> random_rows(long count, int bits) {
    std::vector<uint8_t> bytes(static_cast<size_t>(count * bits / 8));
    for (long i = 0; bits == 32 && i < count; ++i) {
        const float number = std::normal_distribution<float>()(generator);
        std::memcpy(bytes.data() + 4 * i, &number, 4);
    }
    for (long i = 0; bits == 16 && i < count; ++i) {  // of sizes from 2^-14, and smaller ones, to 2
        const uint16_t number = static_cast<uint16_t>(uniform(0, 0x3FFF) | uniform(0, 1) << 15);
        std::memcpy(bytes.data() + 2 * i, &number, 2);
    }
    if (bits <= 8)
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(uniform(0, 255));
    return bytes;
}

void compare_float_products(const Kernels& kernels) {
    for (const int bits : {16, 32})
        for (int trial = 0; trial < 12; ++trial) {
            const long rows = uniform(0, 70), columns = trial == 3 ? 5000 : uniform(1, 300), outputs = uniform(1, 150);
            const std::vector<uint8_t> weights = random_rows(outputs * columns, bits);
            const std::vector<float> x = normal(static_cast<size_t>(rows * columns));
            const auto multiplied = [&](const Kernels& of) {
                const FloatMatrix matrix(of, weights.data(), outputs, columns, bits);
                std::vector<float> result(static_cast<size_t>(rows * outputs));
                Scratch scratch;
                matrix.multiply(x.data(), columns, rows, scratch, [&](const Sums<float>& sums) {
                    for (long r = 0; r < sums.rows; ++r)
                        std::copy_n(sums.at + r * sums.stride, sums.columns,
                                    result.data() + (sums.row + r) * outputs + sums.column);
                });
                return result;
            };
            const std::vector<float> found = multiplied(kernels), expected = multiplied(*scalar_kernels());
            double off = 0;
            for (size_t i = 0; i < found.size(); ++i) off = std::max(off, std::abs(1.0 * found[i] - expected[i]));
            expect(off <= 1e-6 * static_cast<double>(columns + 10),
                   "floats of " + std::to_string(bits) + " bits, " + std::to_string(rows) + " x " +
                       std::to_string(columns) + " x " + std::to_string(outputs) + ": off by " + std::to_string(off));
        }
}

// Random weights of so many bits; those in floating point are scaled to the outputs of the others.
Weights random_weights(const Kernels& kernels, long columns, long taps, long outputs, long groups, int bits,
                       int activation_bits, Activation kind) {
    const long inputs = columns / groups * taps;
    std::vector<Matrix> matrices;
    for (long g = 0; g < groups; ++g) {
        std::vector<uint8_t> rows = random_rows(outputs / groups * inputs, bits);
        if (bits > 8)
            matrices.push_back(std::make_shared<const FloatMatrix>(kernels, rows.data(), outputs / groups, inputs, bits));
        else
            matrices.push_back(std::make_shared<const PackedMatrix>(kernels, rows.data(), inputs * bits / 8,
                                                                    outputs / groups, inputs, bits, levels_of(bits),
                                                                    activation_bits, "auto"));
    }
    std::optional<Rounding> rounding;
    if (bits <= 8) {
        rounding.emplace();
        rounding->scale = 6.0f / static_cast<float>((1 << activation_bits) - 1);
        rounding->zero_point = 1 << (activation_bits - 1);
        rounding->weight_scale.assign(static_cast<size_t>(outputs), 0.02f);
    }
    return {std::move(matrices), columns, taps, std::move(rounding), normal(static_cast<size_t>(outputs)), kind};
}

std::vector<float> run(const Kernels& kernels, int threads, long frames, bool scores8) {
    generator.seed(2);
    const long width = 48, inner = 104, heads = 3;
    Program program(kernels, threads, width);
    const auto linear = [&](int source, long inputs, long outputs, int bits, int activation_bits, Activation kind,
                            int residual) {
        const int target = program.add_value(outputs);
        program.add(Linear{source, random_weights(kernels, inputs, 1, outputs, 1, bits, activation_bits, kind),
                           residual, target});
        return target;
    };
    const auto norm = [&](int source) {
        const int target = program.add_value(width);
        program.add(LayerNorm{source, normal(width), normal(width), 1e-5f, target});
        return target;
    };
    const auto convolution = [&](int source, long groups, long taps, int bits) {
        const int target = program.add_value(width);
        program.add(Convolution{source, random_weights(kernels, width, taps, width, groups, bits, 8, Activation::gelu),
                                taps / 2, source, target});
        return target;
    };
    int x = norm(convolution(norm(convolution(norm(convolution(0, 3, 10, 8)), 2, 6, 2)), 4, 7, 16));
    for (int layer = 0; layer < 3; ++layer) {
        const int made = linear(x, width, 3 * width, 1 + layer, layer ? 8 : 4, Activation::none, -1);
        const int mixed = program.add_value(width);
        program.add(Attention{{made, 0}, {made, width}, {made, 2 * width}, heads, width / heads, 0.25f,
                              scores8 ? 0.05f : 0.0f, scores8 ? 0.05f : 0.0f, layer == 1 ? 0 : -1, mixed});
        x = norm(linear(mixed, width, width, layer == 2 ? 32 : 2, 4, Activation::none, x));
        int wide = linear(x, width, inner, layer == 1 ? 16 : 1, 8, layer ? Activation::gelu : Activation::none, -1);
        if (layer == 0) {
            const int activated = program.add_value(inner);
            program.add(Activate{wide, Activation::gelu, activated});
            wide = activated;
        }
        x = norm(linear(wide, inner, width, 4, 8, Activation::relu, x));
    }
    const std::vector<float> bias = normal(static_cast<size_t>(frames * frames));
    const std::vector<float> input = normal(static_cast<size_t>(frames * width));
    std::vector<float> out(static_cast<size_t>(frames * width));
    program.run(input.data(), frames, {{bias.data(), 1}}, out.data(), width);
    return out;
}

std::vector<float> listen(const Kernels& kernels, int threads, const std::vector<float>& waveform, Over over) {
    generator.seed(3);
    FrontEnd front_end(kernels, threads);
    long channels = 1;
    for (const auto& [outputs, taps, stride, bits] :
         {std::array<long, 4>{40, 10, 5, 32}, {56, 3, 2, 8}, {32, 3, 2, 16}, {33, 3, 2, 4}, {48, 2, 2, 8}}) {
        FrontEndLayer layer;
        layer.outputs = outputs;
        layer.taps = taps;
        layer.stride = stride;
        layer.activation = Activation::gelu;
        layer.norm = {channels > 1 && over == Over::time ? Over::none : over, normal(static_cast<size_t>(outputs)),
                      normal(static_cast<size_t>(outputs)), 1e-5f};
        const bool normed = layer.norm.over == Over::channels;
        if (channels == 1) {
            layer.kernel = normal(static_cast<size_t>(outputs * taps));
            layer.bias = normal(static_cast<size_t>(outputs));
        } else {
            layer.weights = random_weights(kernels, channels, taps, outputs, 1, static_cast<int>(bits), 8,
                                           normed ? Activation::none : Activation::gelu);
        }
        front_end.add(std::move(layer));
        channels = outputs;
    }
    const long samples = static_cast<long>(waveform.size());
    const long frames = front_end.frames(samples);
    std::vector<float> out(static_cast<size_t>(frames * channels));
    front_end.run(waveform.data(), samples, out.data(), frames, channels);
    return out;
}

// Relative to the numbers' size. An input on the border between two levels may fall on either side, so not every number
// is close.
double difference(const std::vector<float>& found, const std::vector<float>& expected) {
    double squares = 0, spread = 0;
    for (size_t i = 0; i < found.size(); ++i) {
        squares += (found[i] - expected[i]) * (found[i] - expected[i]);
        spread += expected[i] * expected[i];
    }
    return found.empty() ? 0 : std::sqrt(squares / spread);
}

void compare_front_ends(const Kernels& kernels) {
    for (const long samples : {0L, 30L, 90L, 1000L, 20000L})
        for (const Over over : {Over::none, Over::channels, Over::time}) {
            const std::vector<float> waveform = normal(static_cast<size_t>(samples));
            const std::vector<float> expected = listen(*scalar_kernels(), 1, waveform, over);
            const double off = difference(listen(kernels, kThreads, waveform, over), expected);
            expect(off <= 0.02, "a front end with " + std::to_string(samples) + " samples: off by " + std::to_string(off));
        }
}

void compare_programs(const Kernels& kernels) {
    for (const long frames : {0L, 1L, 15L, 16L, 67L, 130L})
        for (const bool scores8 : {false, true}) {
            const std::vector<float> expected = run(*scalar_kernels(), 1, frames, false);
            const std::vector<float> found = run(kernels, kThreads, frames, scores8);
            const double off = difference(found, expected);
            expect(off <= (kernels.bfloat16 ? 0.1 : 0.03),
                   "a program with " + std::to_string(frames) + " frames: off by " + std::to_string(off));
        }
}

}  // namespace

int main(int count, char** arguments) {
    const std::string name = count > 1 ? arguments[1] : "scalar";
    const Kernels* kernels = name == "amx"          ? amx_kernels()
                             : name == "avx512bf16" ? avx512bf16_kernels()
                             : name == "avx512"   ? avx512_kernels()
                             : name == "avx2"     ? avx2_kernels()
                             : name == "neon"     ? neon_kernels()
                             : name == "wasm"     ? wasm_kernels()
                                                  : scalar_kernels();
    if (!kernels) return 77;
    compare_products(*kernels);
    compare_float_products(*kernels);
    compare_front_ends(*kernels);
    compare_programs(*kernels);
    std::printf("%s: %d wrong\n", name.c_str(), failures);
    return failures != 0;
}
