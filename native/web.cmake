# littlefoot.wasm: the library for browsers, without Emscripten's JavaScript (littlefoot/web/static/engine.js calls it).
# scripts/build_wasm.py configures and builds it.
set(exports malloc free lf_version lf_open_memory lf_close lf_description lf_kernels lf_token_count lf_frame_seconds
    lf_is_streaming lf_transcribe lf_text lf_words lf_logits lf_free lf_stream_open lf_stream_feed lf_stream_finish
    lf_stream_latency lf_stream_close)
list(TRANSFORM exports PREPEND _)
list(JOIN exports , exports)

add_executable(web src/web.cpp ${lib_sources} ${sources})
configure_target(web)
target_include_directories(web PRIVATE include src/lib)
target_compile_definitions(web PRIVATE LITTLEFOOT_VERSION="${PROJECT_VERSION}")
set_target_properties(web PROPERTIES OUTPUT_NAME littlefoot SUFFIX .wasm)
target_link_options(web PRIVATE --no-entry -sSTANDALONE_WASM -sALLOW_MEMORY_GROWTH -sMAXIMUM_MEMORY=2GB
                    -sTOTAL_STACK=1MB -sFILESYSTEM=0 -sEXPORTED_FUNCTIONS=${exports})
