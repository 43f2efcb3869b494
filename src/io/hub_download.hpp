// Contents from the hub into the cache, several at once.
#pragma once

#include <string>
#include <vector>

#include "depthlens/io/hub_cache.hpp"
#include "depthlens/io/hub_client.hpp"

namespace depthlens::io {

/// Fetches the blobs of `files` that the cache does not have, and returns how many bytes these are. Each is
/// checked against its hash before it gets its name. Where `shows_progress`, stderr tells how far it is.
/// Throws what HubClient throws; output errors, before the first byte where the disk has no room for all; and
/// a format error where the hub gives another content than it has announced.
std::uint64_t fetch_blobs(const CachedRepository& cached, const std::vector<HubFile>& files,
                          const HubClientSettings& settings, bool shows_progress);

}  // namespace depthlens::io
