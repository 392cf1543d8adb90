# WebAssembly, by Clang and the libraries of Emscripten. Emscripten's own Clang in Debian 12 writes relaxed vectors in an
# encoding that browsers no longer accept. apt-get install cmake clang-19 lld-19 emscripten
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
set(EMSCRIPTEN TRUE)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_CXX_COMPILER_TARGET wasm32-unknown-emscripten)
execute_process(COMMAND em-config CACHE OUTPUT_VARIABLE cache OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
set(CMAKE_SYSROOT ${cache}/sysroot)
# What all browsers with vectors have, and the names in Emscripten's C++ library.
set(CMAKE_CXX_FLAGS_INIT "-mcpu=mvp -mbulk-memory -mmutable-globals -mnontrapping-fptoint -msign-ext -msimd128 \
-fwasm-exceptions -D_LIBCPP_ABI_VERSION=2")
# Not by way of Clang, which would run Debian's wasm-opt: that one does not know relaxed vectors.
set(libraries ${CMAKE_SYSROOT}/lib/wasm32-emscripten)
set(CMAKE_CXX_LINK_EXECUTABLE "wasm-ld-19 <LINK_FLAGS> <OBJECTS> -o <TARGET> -L${libraries} --strip-all --import-undefined \
-z stack-size=1048576 --global-base=1024 --initial-memory=16777216 --max-memory=2147483648 -lstandalonewasm-memgrow \
-lstubs -lnoexit -lc -ldlmalloc -lcompiler_rt -lc++-except -lc++abi-except -lunwind-except")
set(CMAKE_EXECUTABLE_SUFFIX_CXX .wasm)
