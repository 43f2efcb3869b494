# Puts text files into the program, so that it needs no data folder.
#
#   cmake -DOUTPUT=embedded.cpp -DHEADER=room/files.hpp -DNAMESPACE=a::b -DTYPE=File -DFUNCTION=files
#         -DFILES=one.html,two.css -P EmbedFiles.cmake
#
# writes a source that defines `const std::vector<TYPE>& FUNCTION()`, declared in HEADER; TYPE is an aggregate of two
# string views, name and text.
cmake_minimum_required(VERSION 3.25)

set(_delimiter "embedded~file")
set(_source "// Made by cmake/EmbedFiles.cmake.\n#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\n\n")
string(APPEND _source "const std::vector<${TYPE}>& ${FUNCTION}() {\n  static const std::vector<${TYPE}> all = {\n")
string(REPLACE "," ";" _files "${FILES}")
foreach(_file IN LISTS _files)
  file(READ "${_file}" _text)
  string(FIND "${_text}" ")${_delimiter}\"" _place)
  if(NOT _place EQUAL -1)
    message(FATAL_ERROR "${_file} holds the delimiter of its own literal: )${_delimiter}\"")
  endif()
  get_filename_component(_name "${_file}" NAME)
  string(APPEND _source "      {\"${_name}\", R\"${_delimiter}(${_text})${_delimiter}\"},\n")
endforeach()
string(APPEND _source "  };\n  return all;\n}\n\n}  // namespace ${NAMESPACE}\n")
file(WRITE "${OUTPUT}" "${_source}")
