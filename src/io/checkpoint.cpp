// Named tensors over mapped files, and the weight files of a model folder.
#include "depthlens/io/checkpoint.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "depthlens/io/hub_id.hpp"
#include "depthlens/io/model_files.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/folders.hpp"
#include "depthlens/util/json.hpp"
#include "depthlens/util/log.hpp"
#include "depthlens/util/rounding.hpp"
#include "depthlens/util/text.hpp"
#include "tensor_layout.hpp"
#include "zip_archive.hpp"

namespace depthlens::io {
namespace {

namespace fs = std::filesystem;
using util::cat;
using util::format_error;
using util::in_quotes;
using util::input_error;

bool is_contiguous(const TensorEntry& entry) {
  const std::vector<std::int64_t> strides = contiguous_strides(entry.shape);
  for (std::size_t i = 0; i < strides.size(); ++i) {
    if (entry.shape[i] != 1 && entry.strides[i] != strides[i]) return false;
  }
  return true;
}

bool is_in_8_bits(const TensorEntry& entry) {
  return entry.dtype == at::kFloat8_e4m3fn;
}

TensorEntry as_bytes(TensorEntry numbers_in_8_bits) {
  numbers_in_8_bits.dtype = at::kByte;
  return numbers_in_8_bits;
}

/// Whether it is read with scales. Throws where it should be and has none.
bool is_scaled(const TensorEntry& entry) {
  if (!is_in_8_bits(entry)) return false;
  if (entry.scales != nullptr) return true;
  throw format_error({.what = "numbers in 8 bits (F8_E4M3) without scales",
                      .where = entry.file->path().string(),
                      .hint = "take a conversion to bfloat16, float16 or float32"});
}

/// The bytes of a tensor as one. Where they can be used in place the tensor holds the map.
at::Tensor stored_view(const TensorEntry& entry) {
  if (entry.checksum != nullptr) entry.checksum->check();
  const std::byte* bytes = entry.file->data() + entry.offset;
  const bool boolean = entry.dtype == at::kBool;
  const at::ScalarType dtype = boolean ? at::kByte : entry.dtype;
  const std::uint64_t element_size = c10::elementSize(dtype);
  if (reinterpret_cast<std::uintptr_t>(bytes) % element_size != 0) {
    const auto num_elements = static_cast<std::int64_t>(entry.length / element_size);
    const at::Tensor copy = at::empty({num_elements}, dtype);
    if (entry.length > 0) std::memcpy(copy.data_ptr(), bytes, entry.length);
    return copy.as_strided(entry.shape, entry.strides);
  }
  const at::Tensor view = at::from_blob(
      const_cast<std::byte*>(bytes), entry.shape, entry.strides, [file = entry.file](void*) {}, dtype);
  // A byte other than 0 and 1 read as bool is undefined behaviour.
  return boolean ? view.ne(0) : view;
}

/// Rows of a matrix in 8 bits times their factors. The products of a factor in 16 bits are exact in float32,
/// and those of one in float32 nearly so; then they are rounded to bfloat16, as transformers does.
at::Tensor scaled_rows(const TensorEntry& entry, std::int64_t first, std::int64_t count) {
  const TensorScales& scales = *entry.scales;
  const at::Tensor factors = stored_view(scales.factors).to(at::kFloat);
  at::Tensor values = stored_view(entry).narrow(0, first, count).to(at::kFloat);
  const std::int64_t columns = values.size(1), tile = scales.rows;
  if (tile == 1 && scales.columns == columns)
    return values.mul_(factors.narrow(0, first, count)).to(at::kBFloat16);
  for (std::int64_t row = first, end; row < first + count; row = end) {
    end = std::min(first + count, (row / tile + 1) * tile);
    const at::Tensor of_rows =
        factors[row / tile].repeat_interleave(std::min(scales.columns, columns)).narrow(0, 0, columns);
    values.narrow(0, row - first, end - row).mul_(of_rows);
  }
  return values.to(at::kBFloat16);
}

/// The values of a tensor. Where the bytes are such the tensor holds the map.
at::Tensor view_of(const TensorEntry& entry) {
  if (!is_scaled(entry)) return stored_view(entry);
  if (entry.shape.size() == 2) return scaled_rows(entry, 0, entry.shape[0]);
  std::vector<at::Tensor> all;
  for (std::int64_t i = 0; i < entry.shape[0]; ++i) all.push_back(view_of(selected(entry, i)));
  return at::stack(all);
}

/// `values`, a view of the entry's bytes, as a contiguous tensor of its own.
at::Tensor copy_and_release(const at::Tensor& values, const TensorEntry& entry, at::ScalarType dtype) {
  const at::Tensor target = at::empty(values.sizes(), dtype);
  target.copy_(values);
  entry.file->release(entry.offset, entry.length);
  return target;
}

/// `count` elements from `first` on of a contiguous tensor, as a tensor of one dimension.
TensorEntry part_of(const TensorEntry& entry, std::int64_t first, std::int64_t count) {
  const std::uint64_t element_size = c10::elementSize(entry.dtype);
  return {.dtype = entry.dtype,
          .shape = {count},
          .strides = {1},
          .offset = entry.offset + static_cast<std::uint64_t>(first) * element_size,
          .length = static_cast<std::uint64_t>(count) * element_size,
          .file = entry.file};
}

std::int64_t num_elements_of(const TensorEntry& entry) {
  std::uint64_t count = 0;
  DEPTHLENS_ASSERT(count_elements(entry.shape, count));
  return static_cast<std::int64_t>(count);
}

constexpr std::int64_t kPiece = std::int64_t{1} << 20;  // elements

/// Calls `see` with the first element and the number of elements of one piece after the other, so that
/// neither the pages of a file nor a copy of unaligned bytes stand in memory as a whole. False where `see`
/// says so.
template <typename See>
bool in_pieces(std::int64_t num_elements, See see) {
  for (std::int64_t first = 0; first < num_elements; first += kPiece) {
    if (!see(first, std::min(kPiece, num_elements - first))) return false;
  }
  return true;
}

bool equal_values(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() ? at::equal(a, b)
                                            : at::equal(a.to(at::kDouble), b.to(at::kDouble));
}

const TensorEntry& find_entry(const TensorFile& file, const std::string& name) {
  const auto found = file.entries().find(name);
  if (found != file.entries().end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [other, entry] : file.entries()) names.push_back(other);
  throw format_error({.what = "no tensor " + in_quotes(name),
                      .where = file.source(),
                      .hint = util::did_you_mean(name, names)});
}

/// "a, b, c and 7 more"
std::string first_few(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, names.size()); ++i)
    text += cat(i > 0 ? ", " : "", in_quotes(names[i]));
  if (names.size() > kShown) text += cat(" and ", names.size() - kShown, " more");
  return text;
}

bool is_index(const fs::path& path) {
  return path.extension() == ".json";
}

TensorFile open_weights(const fs::path& path) {
  return path.extension() == ".safetensors" ? TensorFile::open_safetensors(path)
                                            : TensorFile::open_torch(path);
}

/// Tells of what shards hold beside the tensors that the index takes from them: copies of those that it takes
/// from another shard, where they differ, and tensors that it does not name.
void tell_left_out(const TensorFile& weights, const std::vector<TensorFile>& shards,
                   const std::string& where) {
  std::vector<std::string> other_copies, unnamed;
  for (const TensorFile& shard : shards) {
    for (const auto& [name, entry] : shard.entries()) {
      const auto taken = weights.entries().find(name);
      if (taken == weights.entries().end()) {
        unnamed.push_back(name);
      } else if (taken->second.file != entry.file && !same_values(taken->second, entry)) {
        other_copies.push_back(name);
      }
    }
  }
  if (!other_copies.empty()) {
    util::log_warning(cat(where, ": ", other_copies.size(), " tensors (", first_few(other_copies),
                          ") have other values in a shard that the index does not name for them; those are "
                          "ignored, where transformers may take them"));
  }
  if (!unnamed.empty()) {
    util::log_warning(cat(where, ": ", unnamed.size(), " tensors in the shards (", first_few(unnamed),
                          ") are not named by the index and are ignored, where transformers may take them"));
  }
}

/// A path relative to the model's folder, without "./" before it; "" where it leads out of that.
std::string path_in_folder(const util::JsonView& path) {
  const std::string given = path.as_string();
  std::string_view plain = given;
  while (plain.starts_with("./")) plain.remove_prefix(2);
  return is_valid_hub_path(plain) ? std::string(plain) : "";
}

/// What an index says: the tensors of each shard.
std::map<std::string, std::vector<std::string>> parse_index(const std::string& text,
                                                            const std::string& where) {
  const util::Json document = util::parse_json(text, where);
  const util::JsonView weight_map = util::JsonView(document, where).at("weight_map");
  std::map<std::string, std::vector<std::string>> tensors_of_shard;
  for (const std::string& name : weight_map.keys()) {
    const util::JsonView shard = weight_map.at(name);
    const std::string file = path_in_folder(shard);
    if (file.empty() || is_index(file)) shard.fail("a file of weights in the same folder or below it");
    tensors_of_shard[file].push_back(name);
  }
  if (tensors_of_shard.empty()) weight_map.fail("tensors and their files");
  return tensors_of_shard;
}

std::map<std::string, std::vector<std::string>> read_index(const fs::path& index_path) {
  return parse_index(util::read_file(index_path), index_path.string());
}

/// The tensors that the index names, each from its own shard in the folder. What else is in the shards is
/// left out, and told.
TensorFile open_sharded(const fs::path& folder, const std::string& index) {
  const fs::path index_path = folder / index;
  const std::string where = index_path.string();
  const std::map<std::string, std::vector<std::string>> tensors_of_shard = read_index(index_path);

  std::vector<std::string> missing_shards;
  for (const auto& [shard, names] : tensors_of_shard) {
    if (!util::exists(folder / shard)) missing_shards.push_back(shard);
  }
  if (!missing_shards.empty()) {
    throw input_error(
        {.what = cat(missing_shards.size(), " of ", tensors_of_shard.size(), " shards are missing"),
         .where = where,
         .expected = first_few(missing_shards) + " beside it",
         .hint = "the download may be incomplete: get the missing files"});
  }

  TensorFile result(folder.string());
  std::size_t num_tensors = 0;
  std::vector<std::string> missing_tensors;
  std::vector<TensorFile> shards;
  for (const auto& [shard, names] : tensors_of_shard) {
    const TensorFile& part = shards.emplace_back(open_weights(folder / shard));
    result.mutable_metadata().insert(part.metadata().begin(), part.metadata().end());
    num_tensors += names.size();
    for (const std::string& name : names) {
      const auto found = part.entries().find(name);
      if (found == part.entries().end()) {
        missing_tensors.push_back(name);
      } else {
        result.mutable_entries().insert(*found);
      }
    }
  }
  if (!missing_tensors.empty()) {
    throw format_error({.what = cat(missing_tensors.size(), " of ", num_tensors,
                                    " tensors are not in the shard that the index names"),
                        .where = where,
                        .expected = first_few(missing_tensors),
                        .hint = "the shards may belong to another version of the model"});
  }
  tell_left_out(result, shards, where);
  return result;
}

/// Whether two tensors are alike at their ends, in the coarser of their types: enough to tell two trainings
/// apart, without reading them whole.
bool alike(const TensorEntry& a, const TensorEntry& b) {
  if (a.shape != b.shape) return false;
  if (!is_contiguous(a) || !is_contiguous(b)) return same_values(a, b);
  if (is_in_8_bits(a) != is_in_8_bits(b)) return true;  // the scales are not known yet
  if (is_in_8_bits(a)) return alike(as_bytes(a), as_bytes(b));
  const bool b_coarser = c10::elementSize(b.dtype) < c10::elementSize(a.dtype);
  const at::ScalarType dtype = b_coarser ? b.dtype : a.dtype;
  if (a.dtype != b.dtype && c10::elementSize(a.dtype) == c10::elementSize(b.dtype)) return true;
  const std::int64_t total = num_elements_of(a), count = std::min<std::int64_t>(total, 64);
  for (const std::int64_t first : {std::int64_t{0}, total - count}) {
    const TensorEntry x = part_of(a, first, count), y = part_of(b, first, count);
    if (!at::equal(view_of(x).to(dtype), view_of(y).to(dtype))) return false;
  }
  return true;
}

/// Tells of files of weights that were not read and hold other values under the same names: stale shards, a
/// save in another format. What cannot be opened is no other model: formats of before and unfinished
/// downloads are common beside the weights.
void tell_other_weights(const TensorFile& weights, const fs::path& folder) {
  std::set<std::string> read, unread, other;
  for (const auto& [name, entry] : weights.entries())
    read.insert(entry.file->path().lexically_relative(folder).string());
  for (const fs::path& path : util::entries_of(folder)) {
    const std::string name = path.filename().string();
    const bool weight_file = name.ends_with(".safetensors")
                                 ? !name.starts_with("adapter_")
                                 : name.starts_with("pytorch_model") && name.ends_with(".bin");
    if (weight_file && read.count(name) == 0) unread.insert(name);
  }
  std::string example;
  for (const std::string& file : unread) {
    try {
      const TensorFile others = open_weights(folder / file);
      for (const auto& [name, entry] : others.entries()) {
        const auto found = weights.entries().find(name);
        if (found == weights.entries().end() || alike(found->second, entry)) continue;
        other.insert(file);
        example = name;
        break;
      }
    } catch (const util::Error&) {
    }
  }
  if (other.empty()) return;
  util::log_warning(cat(weights.source(), " is read; ", first_few({other.begin(), other.end()}),
                        " beside it, with other values (", in_quotes(example),
                        " for one), is ignored, as transformers does"));
}

/// Tells of files beside the weights that other programs read and that change the model.
void tell_unread_files(const fs::path& folder) {
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}) {
    if (!util::exists(folder / name)) continue;
    util::log_warning(cat((folder / name).string(),
                          ": the adapter beside the weights is not applied; merge it "
                          "into them where it is not merged yet, or take it away"));
    break;
  }
  for (const char* name : {"quantize_config.json", "quant_config.json", "hf_quant_config.json"}) {
    if (util::exists(folder / name))
      util::log_warning(
          cat((folder / name).string(), " is ignored: the weights are used as they are stored"));
  }
}

/// What to do with a folder that has only weights of other programs.
std::string other_weights_hint(const fs::path& folder) {
  std::string found;
  for (const fs::path& path : util::entries_of(folder)) {
    const std::string extension = path.extension().string();
    const bool weights = extension == ".gguf" || extension == ".h5" || extension == ".msgpack" ||
                         extension == ".onnx" || extension == ".pth" || extension == ".pt" ||
                         extension == ".bin" || extension == ".safetensors";
    if (weights && found.empty()) found = path.filename().string();  // the first by name
  }
  if (found.empty()) return {};
  if (found.rfind("adapter_model.", 0) == 0) {
    return "there is only an adapter: merge it into its base model and save that";
  }
  return "there is " + in_quotes(found) +
         ", which is not read: get the model in Hugging Face layout, or save it with save_pretrained of "
         "transformers";
}

constexpr const char* kNamedWeights = "transformers_weights";

/// What config.json names in place of the usual files, if it does.
std::optional<std::string> named_weights(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  if (!util::exists(path)) return std::nullopt;
  std::optional<std::string> name = weights_named_by(util::read_file(path), path.string());
  if (name && !util::exists(folder / *name)) {
    throw input_error(
        {.what = cat("no weights ", in_quotes(*name), ", which config.json names"),
         .where = folder.string(),
         .hint = cat("without its key ", kNamedWeights, " the weights are sought under their usual names")});
  }
  return name;
}

/// The file that the weights of a folder are found by, in transformers' order.
std::string weights_or_index(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    throw input_error({.what = "no folder " + in_quotes(folder.string())});
  }
  if (const auto named = named_weights(folder)) return *named;
  for (const std::string& name : weight_file_names()) {
    if (util::exists(folder / name)) return name;
  }
  throw input_error({.what = "no weights in " + in_quotes(folder.string()),
                     .expected = "model.safetensors, model.safetensors.index.json, pytorch_model.bin or "
                                 "pytorch_model.bin.index.json",
                     .hint = other_weights_hint(folder)});
}

}  // namespace

at::ScalarType value_type(const TensorEntry& entry) {
  return entry.scales != nullptr ? at::kBFloat16 : entry.dtype;
}

at::Tensor tensor_view(const TensorEntry& entry) {
  return view_of(entry);
}

TensorEntry selected(const TensorEntry& entry, std::int64_t i) {
  DEPTHLENS_ASSERT(!entry.shape.empty() && i >= 0 && i < entry.shape[0]);
  const std::uint64_t element_size = c10::elementSize(entry.dtype);
  TensorEntry part = entry;
  part.shape.erase(part.shape.begin());
  part.strides.erase(part.strides.begin());
  part.offset += static_cast<std::uint64_t>(i * entry.strides[0]) * element_size;
  std::int64_t last = 0;
  for (std::size_t k = 0; k < part.shape.size(); ++k) last += (part.shape[k] - 1) * part.strides[k];
  part.length = num_elements_of(part) == 0 ? 0 : static_cast<std::uint64_t>(last + 1) * element_size;
  if (entry.scales != nullptr) {
    TensorScales scales = *entry.scales;
    scales.factors = selected(scales.factors, i);
    part.scales = std::make_shared<const TensorScales>(std::move(scales));
  }
  return part;
}

bool same_values(const TensorEntry& a, const TensorEntry& b) {
  if (a.shape != b.shape) return false;
  if (a.file == b.file && a.offset == b.offset && a.dtype == b.dtype && a.strides == b.strides) return true;
  const auto lacks_scales = [](const TensorEntry& entry) {
    return is_in_8_bits(entry) && entry.scales == nullptr;
  };
  if (lacks_scales(a) || lacks_scales(b)) {  // copies at the most
    if (a.dtype != b.dtype) return false;
    return same_values(as_bytes(a), as_bytes(b));
  }
  const auto release = [](const TensorEntry& entry) { entry.file->release(entry.offset, entry.length); };
  if (!is_contiguous(a) || !is_contiguous(b) || is_scaled(a) || is_scaled(b)) {
    const bool same = equal_values(view_of(a), view_of(b));
    release(a), release(b);
    return same;
  }
  return in_pieces(num_elements_of(a), [&](std::int64_t first, std::int64_t count) {
    const TensorEntry x = part_of(a, first, count), y = part_of(b, first, count);
    const bool same = equal_values(view_of(x), view_of(y));
    release(x), release(y);
    return same;
  });
}

bool all_finite(const TensorEntry& entry) {
  const auto finite = [](const TensorEntry& part) {
    const bool result = at::isfinite(view_of(part)).all().item<bool>();
    part.file->release(part.offset, part.length);
    return result;
  };
  if (!is_contiguous(entry) || is_scaled(entry)) return finite(entry);
  return in_pieces(num_elements_of(entry), [&](std::int64_t first, std::int64_t count) {
    return finite(part_of(entry, first, count));
  });
}

std::int64_t TensorFile::join_scales(const ScaleForm& form,
                                     const std::function<bool(const std::string&)>& is_wanted) {
  std::int64_t joined = 0;
  for (auto& [name, entry] : entries_) {
    if (!is_in_8_bits(entry) || !is_wanted(name)) continue;
    ++joined;
    const auto fail = [&](const std::string& what, const std::string& expected, const std::string& found) {
      throw format_error({.what = what, .where = source_, .expected = expected, .found = found});
    };
    const std::size_t dims = entry.shape.size();
    if ((dims != 2 && dims != 3) || num_elements_of(entry) == 0)
      fail("tensor " + in_quotes(name) + " in 8 bits is no matrix", "numbers in 2 or 3 dimensions",
           util::shape_text(entry.shape));
    const std::int64_t rows = entry.shape[dims - 2], columns = entry.shape[dims - 1];
    const auto found = entries_.find(name + form.suffix);
    if (found == entries_.end()) {
      throw format_error({.what = "missing tensor " + in_quotes(name + form.suffix),
                          .where = source_,
                          .expected = "the scales of " + in_quotes(name) + ", which is stored in 8 bits",
                          .found = "no tensor of that name",
                          .hint = entries_.count(name + "_scale") == 0
                                      ? ""
                                      : "there is " + in_quotes(name + "_scale") +
                                            ": of another program's form, which is not read"});
    }
    TensorScales scales{.factors = found->second, .rows = form.rows, .columns = form.columns};
    TensorEntry& factors = scales.factors;
    if (!at::isFloatingType(factors.dtype) || is_in_8_bits(factors))
      fail("the scales " + in_quotes(found->first) + " are no numbers that can be read",
           "float32, float16, bfloat16 or F8_E8M0", at::toString(factors.dtype));
    std::vector<std::int64_t> expected(entry.shape.begin(), entry.shape.end() - 2);
    if (form.rows > 0) {
      expected.insert(expected.end(),
                      {util::ceil_div(rows, form.rows), util::ceil_div(columns, form.columns)});
    } else {
      // One for each row, as [rows] or [rows, 1], or one for all, of whatever shape.
      std::vector<std::int64_t> of_rows(entry.shape.begin(), entry.shape.end() - 1);
      const bool flat = factors.shape == of_rows;
      of_rows.push_back(1);
      const bool by_row = flat || factors.shape == of_rows;
      const std::int64_t matrices = num_elements_of(entry) / (rows * columns);
      scales.rows = by_row ? 1 : rows;
      scales.columns = columns;
      expected.insert(expected.end(), {by_row ? rows : 1, 1});
      if (is_contiguous(factors) && (by_row || num_elements_of(factors) == matrices)) {
        factors.shape = expected;
        factors.strides = contiguous_strides(expected);
      }
    }
    if (factors.shape != expected)
      fail("the scales " + in_quotes(found->first) + " have the wrong shape", util::shape_text(expected),
           util::shape_text(factors.shape));
    entry.scales = std::make_shared<const TensorScales>(std::move(scales));
    entries_.erase(found);
  }
  return joined;
}

at::Tensor TensorFile::view(const std::string& name) const {
  return view_of(find_entry(*this, name));
}

at::Tensor TensorFile::load(const std::string& name, at::ScalarType dtype) const {
  const TensorEntry& entry = find_entry(*this, name);
  const bool contiguous = is_contiguous(entry);
  const std::uint64_t element_size = c10::elementSize(entry.dtype);
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(entry.file->data() + entry.offset) % element_size == 0;
  if (contiguous && aligned && dtype == entry.dtype) return view_of(entry);

  if (!contiguous || (is_scaled(entry) && entry.shape.size() != 2))
    return copy_and_release(view_of(entry), entry, dtype);
  if (entry.checksum != nullptr) entry.checksum->check();
  const at::Tensor target = at::empty(entry.shape, dtype);
  if (is_scaled(entry)) {
    const std::int64_t rows = entry.shape[0],
                       of_piece = 1 + kPiece / std::max<std::int64_t>(1, entry.shape[1]);
    for (std::int64_t first = 0; first < rows; first += of_piece) {
      const std::int64_t count = std::min(of_piece, rows - first);
      target.narrow(0, first, count).copy_(scaled_rows(entry, first, count));
    }
    entry.file->release(entry.offset, entry.length);
    return target;
  }
  const at::Tensor flat = target.view(-1);
  in_pieces(flat.numel(), [&](std::int64_t first, std::int64_t count) {
    const TensorEntry piece = part_of(entry, first, count);
    flat.narrow(0, first, count).copy_(view_of(piece));
    entry.file->release(piece.offset, piece.length);
    return true;
  });
  return target;
}

at::Tensor TensorFile::load_transposed(const std::string& name, at::ScalarType dtype) const {
  const TensorEntry& entry = find_entry(*this, name);
  return copy_and_release(view_of(entry).t(), entry, dtype);
}

void TensorFile::release(const std::string& name) const {
  const TensorEntry& entry = find_entry(*this, name);
  entry.file->release(entry.offset, entry.length);
}

void TensorFile::read_ahead(const std::string& name) const {
  const TensorEntry& entry = find_entry(*this, name);
  entry.file->read_ahead(entry.offset, entry.length);
}

std::int64_t TensorFile::num_elements() const {
  std::int64_t total = 0;
  for (const auto& [name, entry] : entries_) total += num_elements_of(entry);
  return total;
}

std::uint64_t TensorFile::num_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, entry] : entries_)
    total += static_cast<std::uint64_t>(num_elements_of(entry)) * c10::elementSize(entry.dtype);
  return total;
}

TensorFile open_checkpoint(const fs::path& folder) {
  const std::string name = weights_or_index(folder);
  TensorFile weights = is_index(name) ? open_sharded(folder, name) : open_weights(folder / name);
  tell_other_weights(weights, folder);
  tell_unread_files(folder);
  return weights;
}

const std::vector<std::string>& weight_file_names() {
  static const std::vector<std::string> names = {"model.safetensors", "model.safetensors.index.json",
                                                 "pytorch_model.bin", "pytorch_model.bin.index.json"};
  return names;
}

std::optional<std::string> weights_named_by(const std::string& config, const std::string& where) {
  if (config.find(kNamedWeights) == std::string::npos) return std::nullopt;
  const util::Json document = util::parse_config(config, where);
  const util::JsonView view(document, where);
  if (!view.has(kNamedWeights)) return std::nullopt;
  const util::JsonView named = view.at(kNamedWeights);
  std::string name = path_in_folder(named);
  if (name.empty() || !(name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")))
    named.fail("a file NAME.safetensors or NAME.safetensors.index.json in the model's folder or below it");
  return name;
}

std::vector<std::string> shards_of_index(const std::string& text, const std::string& where) {
  std::vector<std::string> shards;
  for (const auto& [shard, tensors] : parse_index(text, where)) shards.push_back(shard);
  return shards;
}

std::vector<std::string> model_files(const fs::path& folder) {
  std::vector<std::string> names = {"config.json", weights_or_index(folder)};
  if (!is_index(names.back())) return names;
  for (const auto& [shard, tensors] : read_index(folder / names.back())) names.push_back(shard);
  return names;
}

}  // namespace depthlens::io
