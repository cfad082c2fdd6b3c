# Warnings are errors; the release is hardened. One interface target, linked privately by everything we compile.
add_library(heapcore_flags INTERFACE)
target_compile_options(heapcore_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -fno-omit-frame-pointer -fstack-protector-strong)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 warns of overlapping copies inside std::string's own operator+ (GCC bug 105651).
  target_compile_options(heapcore_flags INTERFACE -Wno-restrict)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT HEAPCORE_SANITIZE)
  target_compile_definitions(heapcore_flags INTERFACE _FORTIFY_SOURCE=2)
endif()
target_link_options(heapcore_flags INTERFACE -Wl,-z,relro,-z,now)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported(LANGUAGES CXX)
if(HEAPCORE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(HEAPCORE_SANITIZE)
  add_compile_options(-fsanitize=${HEAPCORE_SANITIZE} -fno-sanitize-recover=all)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Instrumented, std::regex looks to g++ 12 as if it used what it has not set.
    target_compile_options(heapcore_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
  add_link_options(-fsanitize=${HEAPCORE_SANITIZE})
endif()
