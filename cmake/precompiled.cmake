# Headers that most files include, read by the compiler once: reading libtorch's takes three times as long as all that
# is written in a file of ours. Every file still includes what it uses, and compiles without this.
#
# Off where CMAKE_CXX_COMPILER_LAUNCHER is set: ccache keeps objects, but none that came of such headers.
if(CMAKE_CXX_COMPILER_LAUNCHER)
  set(_precompile OFF)
else()
  set(_precompile ON)
endif()
option(DEPTHLENS_PRECOMPILE "Read widely used headers once" ${_precompile})

#   depthlens_headers(NAME HEADERS <header>… LINKS target…)
#
# A set of headers for targets that are compiled with the flags of LINKS and of this folder.
function(depthlens_headers name)
  cmake_parse_arguments(ARG "" "" "HEADERS;LINKS" ${ARGN})
  if(NOT DEPTHLENS_PRECOMPILE)
    return()
  endif()
  set(_source ${CMAKE_CURRENT_BINARY_DIR}/headers_${name}.cpp)
  file(CONFIGURE OUTPUT ${_source} CONTENT "// A set of headers needs a file.\n")
  add_library(depthlens_headers_${name} OBJECT ${_source})
  target_link_libraries(depthlens_headers_${name} PRIVATE ${ARG_LINKS} depthlens_warnings)
  target_precompile_headers(depthlens_headers_${name} PRIVATE
    <algorithm> <array> <cmath> <cstdint> <filesystem> <functional> <limits> <map> <memory> <mutex> <optional> <set> <span>
    <string> <string_view> <utility> <vector> ${ARG_HEADERS})
endfunction()

#   depthlens_precompile(target PREFIX)
#
# The target takes the set of headers PREFIXtorch where it links libtorch, also through rooms, and PREFIXplain elsewhere.
# To be called when its links are known.
function(depthlens_precompile target prefix)
  get_target_property(_links ${target} LINK_LIBRARIES)
  set(_set plain)
  foreach(_link ${_links})
    if(_link STREQUAL Libtorch::Libtorch)
      set(_set torch)
    elseif(TARGET ${_link})
      get_target_property(_of_link ${_link} DEPTHLENS_HEADERS)
      if(_of_link STREQUAL torch)
        set(_set torch)
      endif()
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES DEPTHLENS_HEADERS ${_set})
  if(DEPTHLENS_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM depthlens_headers_${prefix}${_set})
  endif()
endfunction()
