# liblittlefoot, with the C header include/littlefoot.h, and the command littlefoot-run:
#
#     cmake -S native -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build && cmake --install build
include(GNUInstallDirs)
option(BUILD_SHARED_LIBS "liblittlefoot as a shared library" ON)
option(CHECKS "The programs that tests run: mutated files, counted allocations" OFF)
option(FUZZ "The libFuzzer targets for model files and for samples; needs Clang" OFF)

set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

function(configure_lib name)
  configure_target(${name})
  target_include_directories(${name} PUBLIC include)
  target_compile_definitions(${name} PRIVATE LITTLEFOOT_VERSION="${PROJECT_VERSION}" LITTLEFOOT_BUILDING)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

add_library(objects OBJECT ${lib_sources} ${sources})
configure_lib(objects)
add_library(littlefoot $<TARGET_OBJECTS:objects>)
configure_lib(littlefoot)
set_target_properties(littlefoot PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
                      LINKER_LANGUAGE CXX PUBLIC_HEADER include/littlefoot.h)
if(BUILD_SHARED_LIBS)
  target_compile_definitions(objects PRIVATE LITTLEFOOT_SHARED)
endif()

# The command contains the library, so that it is one file.
add_executable(littlefoot-run src/command/main.cpp src/command/wav.cpp $<TARGET_OBJECTS:objects>)
configure_lib(littlefoot-run)
if(MINGW)  # both contain what they need of the compiler's libraries
  target_link_options(littlefoot PRIVATE -static)
  target_link_options(littlefoot-run PRIVATE -static -municode)
endif()

if(CHECKS)
  foreach(check mutate allocations)
    add_executable(${check} tests/${check}.cpp src/command/wav.cpp $<TARGET_OBJECTS:objects>)
    configure_lib(${check})
    target_include_directories(${check} PRIVATE src/lib)
  endforeach()
endif()
if(FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "libFuzzer belongs to Clang: configure with -DCMAKE_CXX_COMPILER=clang++")
  endif()
  target_compile_options(objects PRIVATE -fsanitize=fuzzer-no-link)
  foreach(target fuzz_model fuzz_audio)
    add_executable(${target} tests/${target}.cpp src/command/wav.cpp $<TARGET_OBJECTS:objects>)
    configure_lib(${target})
    target_include_directories(${target} PRIVATE src/lib)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  endforeach()
endif()

configure_file(littlefoot.pc.in littlefoot.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/littlefoot.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(TARGETS littlefoot littlefoot-run
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
