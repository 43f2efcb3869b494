// The cache of Hugging Face models on this machine, in the layout that huggingface_hub and transformers use:
//   models--ORG--NAME/refs/REVISION           a commit
//   models--ORG--NAME/blobs/HASH              contents
//   models--ORG--NAME/snapshots/COMMIT/PATH   a link to a blob, or the content itself
//   models--ORG--NAME/.no_exist/COMMIT/PATH   an empty file: the hub has no such file
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "depthlens/io/hub_client.hpp"
#include "depthlens/io/hub_id.hpp"
#include "depthlens/util/descriptor.hpp"

namespace depthlens::io {

/// One repository in one cache folder. Reading never writes.
class CachedRepository {
 public:
  CachedRepository(std::filesystem::path cache, Repository repository);

  const Repository& repository() const { return repository_; }
  const std::filesystem::path& folder() const { return folder_; }
  bool exists() const;

  /// The commit that a revision stands for here: itself, or what refs/REVISION says. Throws a format error
  /// for a file there that names no commit.
  std::optional<std::string> commit_of(const std::string& revision) const;
  /// What refs/REVISION says, whatever it is; "" where it is absent or cannot be read.
  std::string reference(const std::string& revision) const;
  std::filesystem::path snapshot(const std::string& commit) const;
  /// Whether the file is there; however it got there.
  bool has(const std::string& commit, const std::string& path) const;
  /// Whether it is known that the commit has no such file.
  bool knows_absent(const std::string& commit, const std::string& path) const;

  /// Writing. Every file appears whole or not at all, whoever else writes at the same time. Throws output
  /// errors.
  std::filesystem::path blob(const std::string& etag) const;
  /// Puts a finished blob where the snapshot has `path`: a relative symbolic link, or where such links cannot
  /// be made, or HF_HUB_DISABLE_SYMLINKS is set, a hard link, or else a copy. The blob stays.
  void put_in_snapshot(const std::string& commit, const std::string& path, const std::string& etag) const;
  /// Lets refs/REVISION say `commit`, where it still says what it did `before` (see `reference`): an older
  /// download that ends late does not set a branch back.
  void write_reference(const std::string& revision, const std::string& commit,
                       const std::string& before) const;
  /// Takes a mark away that the hub has no such file: huggingface_hub looks there before the snapshot.
  void mark_present(const std::string& commit, const std::string& path) const;
  void mark_absent(const std::string& commit, const std::string& path) const;

 private:
  std::filesystem::path cache_;
  Repository repository_;
  std::filesystem::path folder_;

  friend class BlobLock;
};

/// Whether the file at `path` has the size and the hash of `file`. Reads it whole.
bool has_content(const std::filesystem::path& path, const HubFile& file);

class BlobHash;

/// Held while a blob is fetched, so that of several processes one does the work. What is fetched is right
/// without it as well: some file systems of clusters have no locks, or locks that hold on one machine only.
class BlobLock {
 public:
  /// Waits for the process that has it, as long as that makes progress. Warns where it cannot be had.
  BlobLock(const CachedRepository& repository, const std::string& etag, const std::function<bool()>& stop);

 private:
  /// Why the lock cannot be had; "" where it was.
  std::string acquire(const CachedRepository& repository, const std::string& etag,
                      const std::function<bool()>& stop) const;

  util::Descriptor file_;  // closed, and with it the lock goes; the file stays
};

/// A blob in the making, in a file of this process's own, which it holds a lock on. What an earlier process
/// has left of it is taken over, where it can be locked. Goes on destruction, unless finished, or kept for a
/// later process.
class UnfinishedBlob : public HubSink {
 public:
  UnfinishedBlob(const CachedRepository& repository, HubFile file);
  ~UnfinishedBlob() override;

  std::uint64_t size() const override { return size_; }
  void write(std::string_view bytes) override;
  void restart() override;

  enum class End {
    kFinished,
    kOtherContent,  ///< than its hash says; it is empty again
    kGone           ///< somebody has taken the file away; it is empty again
  };
  /// Checks the content against its hash and gives it its name. Throws output errors.
  End finish();
  /// What is there stays for a later process to go on with, where that can tell that nobody is at work on it.
  void keep();

 private:
  std::filesystem::path new_name() const;
  void create();
  [[nodiscard]] util::Descriptor take_over();
  void begin_hash();
  bool has_name() const;
  util::Error cannot_write(int error) const;

  std::filesystem::path final_, own_;
  HubFile file_;
  std::unique_ptr<BlobHash> hash_;
  std::uint64_t size_ = 0;
  util::Descriptor opened_;
  bool locked_ = false, finished_ = false, kept_ = false;
};

/// The commit of a folder, or a file, in a snapshot of a hub cache, however it was named; nothing for other
/// folders.
std::optional<std::string> hub_commit(const std::filesystem::path& folder);

}  // namespace depthlens::io
