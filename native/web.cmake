# The library for browsers (littlefoot/web/static/engine.js calls it), with the toolchain of wasm.cmake:
# littlefoot.wasm for those with vectors, littlefoot-relaxed.wasm for those with relaxed vectors too.
# scripts/build_wasm.py configures and builds them.
set(exports malloc free lf_version lf_open_memory lf_close lf_description lf_kernels lf_token_count lf_frame_seconds
    lf_is_streaming lf_transcribe lf_text lf_words lf_logits lf_free lf_stream_open lf_stream_feed lf_stream_finish
    lf_stream_latency lf_stream_close)
list(TRANSFORM exports PREPEND --export=)

list(REMOVE_ITEM sources src/wasm.cpp)
add_library(web_objects OBJECT src/web.cpp ${lib_sources} ${sources})
configure_target(web_objects)
target_include_directories(web_objects PRIVATE include src/lib)
target_compile_definitions(web_objects PRIVATE LITTLEFOOT_VERSION="${PROJECT_VERSION}")

foreach(name littlefoot littlefoot-relaxed)
  add_executable(${name} src/wasm.cpp $<TARGET_OBJECTS:web_objects>)
  configure_target(${name})
  target_link_options(${name} PRIVATE ${libraries}/crt1_reactor.o --entry=_initialize ${exports})
endforeach()
target_compile_options(littlefoot-relaxed PRIVATE -mrelaxed-simd)
