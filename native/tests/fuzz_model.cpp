// The libFuzzer target for model files: build with -DFUZZ=ON and Clang, run with a folder of exported models.
#include "model_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::vector<uint8_t> file(data, data + size);
    littlefoot::reseal(file);
    littlefoot::try_model(file, size % 2 ? "scalar" : nullptr, size % 16 < 2, 0.01);
    return 0;
}
