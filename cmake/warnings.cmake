# Warnings and sanitizers of depthlens' own targets; private to them, never exported.
add_library(depthlens_warnings INTERFACE)
target_compile_options(depthlens_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
  # GCC 12 sees these in its own string library, wrongly
  -Wno-restrict -Wno-array-bounds -Wno-stringop-overflow)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # It sees one wherever a function takes a name and gives a reference into something else.
  target_compile_options(depthlens_warnings INTERFACE -Wno-dangling-reference)
endif()
if(CMAKE_UNITY_BUILD)
  # Files of a room are compiled several in one: that a name of one is also in another is no mistake.
  target_compile_options(depthlens_warnings INTERFACE -Wno-shadow -Wno-subobject-linkage)
endif()
if(DEPTHLENS_WERROR)
  target_compile_options(depthlens_warnings INTERFACE -Werror)
endif()

# Flags of the whole tree: everything that is linked together must agree on the sanitizers.
if(DEPTHLENS_SANITIZE)
  # With sanitizers GCC 12 sees this in std::regex, wrongly.
  target_compile_options(depthlens_warnings INTERFACE -Wno-maybe-uninitialized)
  add_compile_options(-fsanitize=${DEPTHLENS_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=${DEPTHLENS_SANITIZE})
endif()
