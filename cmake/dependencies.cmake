# Every third-party library of the rooms, found once. Rooms link the targets they may name, and no others.
#
# The installed package reads this file too, with a depthlens_dependency of its own that reports what is missing to the
# consumer's find_package.
if(NOT COMMAND depthlens_dependency)
  macro(depthlens_dependency)
    find_package(${ARGV} REQUIRED)
  endmacro()
  macro(depthlens_pkg_config name module)
    pkg_check_modules(${name} REQUIRED IMPORTED_TARGET ${module})
  endmacro()
endif()

depthlens_dependency(Threads)
depthlens_dependency(nlohmann_json 3.10)
depthlens_dependency(spdlog)
depthlens_dependency(OpenSSL COMPONENTS Crypto)
depthlens_dependency(ZLIB)
depthlens_dependency(CURL 7.70)
depthlens_dependency(Libtorch)

depthlens_dependency(PkgConfig)
depthlens_pkg_config(sentencepiece sentencepiece)
depthlens_pkg_config(pcre2 libpcre2-8)
depthlens_pkg_config(utf8proc libutf8proc)
depthlens_pkg_config(lzma liblzma)
depthlens_pkg_config(zstd libzstd)
