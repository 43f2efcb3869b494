# What `cmake --install` puts where. Two components: `program` (with the demo data, the manual page and completions) and
# `development` (the rooms as libraries, headers, the CMake package).
include(CMakePackageConfigHelpers)

string(REGEX MATCH "^[0-9]+\\.[0-9]+" DEPTHLENS_LIBTORCH_MINOR "${Libtorch_VERSION}")
string(REPLACE "." "\\\\." DEPTHLENS_LIBTORCH_MINOR_PATTERN "${DEPTHLENS_LIBTORCH_MINOR}")

# Where the installed program looks for libraries: beside itself, and in libtorch's folder. The order is the loader's.
set(DEPTHLENS_LIBTORCH_RUNPATH "${Libtorch_ROOT}/lib" CACHE STRING
  "Folder of libtorch in the run path of the installed program; may begin with $ORIGIN")
set_target_properties(depthlens PROPERTIES INSTALL_RPATH "$ORIGIN/../lib;${DEPTHLENS_LIBTORCH_RUNPATH}")

# In a wheel the prefix is the Python package, and what the shells read goes to the environment's share/.
if(SKBUILD)
  set(CMAKE_INSTALL_MANDIR ${SKBUILD_DATA_DIR}/share/man)
  set(_shell_data ${SKBUILD_DATA_DIR}/share)
  configure_file(python/_built.py.in ${PROJECT_BINARY_DIR}/_built.py @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/_built.py DESTINATION . COMPONENT program)
else()
  set(_shell_data ${CMAKE_INSTALL_DATADIR})
endif()

install(TARGETS depthlens RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
# The program finds them at ../share/depthlens.
install(DIRECTORY data/demo data/corpora data/tasks DESTINATION ${CMAKE_INSTALL_DATADIR}/depthlens COMPONENT program)
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)

# The program writes them from its own flags.
set(_shell_files
  man:${CMAKE_INSTALL_MANDIR}/man1/depthlens.1
  bash:${_shell_data}/bash-completion/completions/depthlens
  zsh:${_shell_data}/zsh/site-functions/_depthlens
  fish:${_shell_data}/fish/vendor_completions.d/depthlens.fish)
foreach(_file ${_shell_files})
  string(REGEX MATCH "^[a-z]+" _kind ${_file})
  string(REGEX REPLACE "^[a-z]+:" "" _place ${_file})
  install(CODE "
    set(_made \"${PROJECT_BINARY_DIR}/shell/${_kind}\")
    file(MAKE_DIRECTORY \"${PROJECT_BINARY_DIR}/shell\")
    execute_process(COMMAND \"$<TARGET_FILE:depthlens>\" --generate ${_kind} OUTPUT_FILE \"\${_made}\"
      COMMAND_ERROR_IS_FATAL ANY)
    get_filename_component(_place \"${_place}\" ABSOLUTE BASE_DIR \"\${CMAKE_INSTALL_PREFIX}\")
    get_filename_component(_folder \"\${_place}\" DIRECTORY)
    get_filename_component(_name \"\${_place}\" NAME)
    file(INSTALL DESTINATION \"\${_folder}\" TYPE FILE RENAME \"\${_name}\" FILES \"\${_made}\")"
    COMPONENT program)
endforeach()

option(DEPTHLENS_BUNDLE_LIBRARIES "Install the shared libraries that not every system has, with their licences" OFF)
if(DEPTHLENS_BUNDLE_LIBRARIES)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  set(_headers)
  foreach(_header nlohmann/json.hpp CLI/CLI.hpp spdlog/spdlog.h fmt/core.h toml++/toml.h)
    find_file(_found_header ${_header} REQUIRED NO_CACHE)
    list(APPEND _headers --header ${_found_header})
    unset(_found_header)
  endforeach()
  list(JOIN _headers "\" \"" _headers)
  install(CODE "execute_process(COMMAND \"${Python3_EXECUTABLE}\" \"${PROJECT_SOURCE_DIR}/tools/scripts/bundle_libraries.py\"
      --program \"$<TARGET_FILE:depthlens>\" --into \"\${CMAKE_INSTALL_PREFIX}\" --libtorch \"${Libtorch_ROOT}/lib\"
      \"${_headers}\" COMMAND_ERROR_IS_FATAL ANY)"
    COMPONENT program)
endif()

set(_package ${CMAKE_INSTALL_LIBDIR}/cmake/depthlens)
install(DIRECTORY include/ ${PROJECT_BINARY_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
  FILES_MATCHING PATTERN "*.hpp")
install(EXPORT depthlens NAMESPACE depthlens:: FILE depthlensTargets.cmake DESTINATION ${_package}
  COMPONENT development)
configure_package_config_file(cmake/depthlensConfig.cmake.in ${PROJECT_BINARY_DIR}/depthlensConfig.cmake
  INSTALL_DESTINATION ${_package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/depthlensConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/depthlensConfig.cmake ${PROJECT_BINARY_DIR}/depthlensConfigVersion.cmake
    cmake/dependencies.cmake cmake/FindLibtorch.cmake
  DESTINATION ${_package} COMPONENT development)
