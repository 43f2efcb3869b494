// Pages of mapped files that cannot be read any more, since their file was cut or its disk fails: to touch
// one brings a SIGBUS.
#pragma once

#include <cstddef>
#include <filesystem>

namespace depthlens::util {

/// Begins to watch for it. To be called after `watch_interrupts`, and before other threads are started. `end`
/// is called with the file on a thread of its own, may use locks, and must not return; the thread that read
/// waits. A SIGBUS for another reason ends the program as ever.
void watch_mapped_pages(void (*end)(const std::filesystem::path& file));

/// What is mapped from `address` on, and that it is not any more.
void add_mapped(const void* address, std::size_t size, const std::filesystem::path& file);
void remove_mapped(const void* address);

}  // namespace depthlens::util
