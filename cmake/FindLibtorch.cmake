# Finds libtorch as an unpacked archive or inside Python's torch wheel, for CPU and CUDA builds alike.
#
# TorchConfig.cmake serves only as a marker of the place: including it stops on machines that have a CUDA wheel but no
# CUDA toolkit, and nothing it defines matters to a program that uses ATen. Looked for, in this order: Libtorch_ROOT,
# Torch_DIR, CMAKE_PREFIX_PATH, the project's own .venv, the `torch` that python3 would import (without importing it).
#
# Defines the target Libtorch::Libtorch, Libtorch_ROOT, Libtorch_VERSION and Libtorch_FILES, the names of the libraries.

# A wheel of depthlens is built for the torch of the Python that builds it, whatever else is about.
set(_python python3)
if(SKBUILD)
  set(_python ${Python_EXECUTABLE})
endif()
set(_find_spec "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')")

# The last for the prefix that PyTorch tells, torch.utils.cmake_prefix_path.
set(_suffixes share/cmake/Torch lib/python3/site-packages/torch/share/cmake/Torch Torch)
set(_hints)
if(Libtorch_ROOT)
  list(APPEND _hints ${Libtorch_ROOT}/share/cmake/Torch)
endif()
if(Torch_DIR)
  list(APPEND _hints ${Torch_DIR})
endif()
file(GLOB _venv ${CMAKE_CURRENT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch/share/cmake/Torch)
if(SKBUILD AND NOT Libtorch_MARKER)
  execute_process(COMMAND ${_python} -c "${_find_spec}" OUTPUT_VARIABLE _python_torch OUTPUT_STRIP_TRAILING_WHITESPACE)
  find_path(Libtorch_MARKER TorchConfig.cmake PATHS ${_python_torch}/share/cmake/Torch NO_DEFAULT_PATH)
endif()
find_path(Libtorch_MARKER TorchConfig.cmake HINTS ${_hints} PATH_SUFFIXES ${_suffixes} NO_CMAKE_SYSTEM_PATH)
if(NOT Libtorch_MARKER)
  find_path(Libtorch_MARKER TorchConfig.cmake PATHS ${_venv} NO_DEFAULT_PATH)
endif()
if(NOT Libtorch_MARKER)
  execute_process(
    COMMAND ${_python} -c "${_find_spec}"
    OUTPUT_VARIABLE _python_torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(_python_torch)
    find_path(Libtorch_MARKER TorchConfig.cmake PATHS ${_python_torch}/share/cmake/Torch NO_DEFAULT_PATH)
  endif()
endif()
if(NOT Libtorch_MARKER AND Libtorch_FALLBACK)  # where an installed depthlens was built with one
  find_path(Libtorch_MARKER TorchConfig.cmake PATHS ${Libtorch_FALLBACK} NO_DEFAULT_PATH)
endif()
mark_as_advanced(Libtorch_MARKER)

if(Libtorch_MARKER)
  get_filename_component(Libtorch_ROOT ${Libtorch_MARKER}/../../.. ABSOLUTE)
  # The header is the same in every distribution; a wheel has no file that names its version elsewhere.
  set(_version_header ${Libtorch_ROOT}/include/torch/headeronly/version.h)
  if(NOT EXISTS ${_version_header})
    set(_version_header ${Libtorch_ROOT}/include/torch/csrc/api/include/torch/version.h)
  endif()
  if(EXISTS ${_version_header})
    file(STRINGS ${_version_header} _parts REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" _parts "${_parts}")
    list(JOIN _parts "." Libtorch_VERSION)
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_MARKER Libtorch_ROOT
  VERSION_VAR Libtorch_VERSION
  REASON_FAILURE_MESSAGE "Install it with 'pip install torch==2.13.0' or give its folder by -DCMAKE_PREFIX_PATH=…")

if(Libtorch_FOUND AND NOT TARGET Libtorch::Libtorch)
  set(_libraries)
  set(Libtorch_FILES)
  foreach(_name torch torch_cpu c10 torch_cuda c10_cuda)
    set(_file ${Libtorch_ROOT}/lib/lib${_name}.so)
    if(EXISTS ${_file})
      list(APPEND _libraries ${_file})
      list(APPEND Libtorch_FILES lib${_name}.so)
    elseif(NOT _name MATCHES cuda)
      message(FATAL_ERROR "libtorch at ${Libtorch_ROOT} lacks lib/lib${_name}.so")
    endif()
  endforeach()
  add_library(Libtorch::Libtorch INTERFACE IMPORTED)
  target_include_directories(Libtorch::Libtorch SYSTEM INTERFACE
    ${Libtorch_ROOT}/include ${Libtorch_ROOT}/include/torch/csrc/api/include)
  # Nothing of ours refers to libtorch_cuda by name: without --no-as-needed the linker drops it, and the program
  # would silently be CPU only.
  # The C++ library comes first: some builds of libtorch hold a part of another one and export it (std::filesystem of
  # torch 2.11's CUDA wheel calls through a null pointer in a program of ours), and the first definition counts.
  list(JOIN _libraries " " _joined)
  target_link_libraries(Libtorch::Libtorch INTERFACE
    -Wl,--push-state,--no-as-needed -lstdc++ ${_libraries} -Wl,--pop-state)
  # A CUDA build needs cuBLAS, cuDNN and others, which come in packages of their own and are found by the loader through
  # libtorch's own run path: the linker, which does not follow that path everywhere, need not see them.
  if(EXISTS ${Libtorch_ROOT}/lib/libtorch_cuda.so)
    target_link_options(Libtorch::Libtorch INTERFACE -Wl,--allow-shlib-undefined)
  endif()
  # at::parallel_for is a template with an OpenMP pragma: compiled without OpenMP it runs on one thread, in silence.
  # libtorch's own libgomp and the system's have one name, so that a program loads only one of them; by flags, since
  # the target would name the system's file, which the run path may hide.
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  separate_arguments(_openmp NATIVE_COMMAND ${OpenMP_CXX_FLAGS})
  target_compile_options(Libtorch::Libtorch INTERFACE ${_openmp})
  target_link_options(Libtorch::Libtorch INTERFACE ${_openmp})

  file(WRITE ${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_check.cpp
    "#include <c10/core/ScalarType.h>\nint main() { return c10::elementSize(c10::ScalarType::Float) == 4 ? 0 : 1; }\n")
  if(NOT DEFINED Libtorch_LINKS)
    try_compile(Libtorch_LINKS ${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_check
      ${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_check.cpp
      CXX_STANDARD 20
      LINK_LIBRARIES Libtorch::Libtorch
      OUTPUT_VARIABLE _words)
    if(NOT Libtorch_LINKS)
      unset(Libtorch_LINKS CACHE)
      message(FATAL_ERROR "A program with libtorch at ${Libtorch_ROOT} does not link:\n${_words}")
    endif()
  endif()
endif()
