// Writes files of torch.save: libtorch makes the zip, the pickle is written here.
#include <ATen/core/Tensor.h>
#include <caffe2/serialize/inline_container.h>

#include <bit>
#include <exception>
#include <limits>
#include <string_view>

#include "depthlens/io/writers.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "dtype_names.hpp"

namespace depthlens::io {
namespace {

using caffe2::serialize::PyTorchStreamWriter;
using util::cat;

std::string little_endian(std::uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

/// Turns a value into opcodes and collects its tensors. Nothing is put into a memo: what repeats is short.
class Pickler {
 public:
  explicit Pickler(std::string where) : where_(std::move(where)) {}

  std::string pickle(const PickleValue& value) {
    bytes_ = "\x80\x02";  // PROTO 2
    add(value);
    bytes_ += '.';  // STOP
    return std::move(bytes_);
  }

  /// One for each storage key, in order.
  const std::vector<at::Tensor>& tensors() const { return tensors_; }

 private:
  using Kind = PickleValue::Kind;

  void add(const PickleValue& value) {
    switch (value.kind) {
      case Kind::kNone:
        bytes_ += 'N';
        return;
      case Kind::kBool:
        bytes_ += value.boolean ? '\x88' : '\x89';
        return;
      case Kind::kInteger:
        return add_integer(value.integer);
      case Kind::kNumber: {
        const auto bits = std::bit_cast<std::uint64_t>(value.number);
        bytes_ += 'G';
        for (int i = 7; i >= 0; --i) bytes_ += static_cast<char>(bits >> (8 * i) & 0xff);
        return;
      }
      case Kind::kString:
        return add_text(value.string);
      case Kind::kList:
        bytes_ += "](";  // EMPTY_LIST, MARK
        for (const PickleValue& item : value.list) add(item);
        bytes_ += 'e';  // APPENDS
        return;
      case Kind::kDictionary:
        if (value.ordered) {
          add_ordered_dictionary();
        } else {
          bytes_ += '}';
        }
        bytes_ += '(';
        for (const PickleValue& item : value.list) add(item);
        bytes_ += 'u';  // SETITEMS
        return;
      case Kind::kTensor:
        return add_tensor(value.values.defined() ? value.values : tensor_view(value.tensor));
    }
  }

  void add_integer(std::int64_t value) {
    const auto bits = static_cast<std::uint64_t>(value);
    if (value >= 0 && value < 1 << 8) {
      bytes_ += 'K' + little_endian(bits, 1);
    } else if (value >= 0 && value < 1 << 16) {
      bytes_ += 'M' + little_endian(bits, 2);
    } else if (value >= std::numeric_limits<std::int32_t>::min() &&
               value <= std::numeric_limits<std::int32_t>::max()) {
      bytes_ += 'J' + little_endian(bits, 4);
    } else {
      bytes_ += "\x8a\x08" + little_endian(bits, 8);  // LONG1 of 8 bytes
    }
  }

  void add_text(const std::string& text) {
    if (!util::is_valid_utf8(text) || text.size() > std::numeric_limits<std::int32_t>::max()) {
      throw util::format_error({.what = "text that is not UTF-8 cannot be written",
                                .where = where_,
                                .found = util::in_quotes(text)});
    }
    bytes_ += 'X' + little_endian(text.size(), 4) + text;
  }

  void add_ordered_dictionary() { bytes_ += "ccollections\nOrderedDict\n)R"; }

  void add_sizes(at::IntArrayRef sizes) {
    bytes_ += '(';
    for (const std::int64_t size : sizes) add_integer(size);
    bytes_ += 't';
  }

  void add_tensor(const at::Tensor& tensor) {
    const DtypeNames* names = names_of(tensor.scalar_type());
    if (names == nullptr || names->torch_storage.empty()) {
      throw util::format_error({.what = "tensors of this type cannot be written",
                                .where = where_,
                                .found = at::toString(tensor.scalar_type())});
    }
    bytes_ += "ctorch._utils\n_rebuild_tensor_v2\n((";
    add_text("storage");
    bytes_ += cat("ctorch\n", names->torch_storage, "\n");
    add_text(cat(tensors_.size()));
    add_text("cpu");
    add_integer(tensor.numel());
    bytes_ += "tQ";  // the tuple above as a persistent id
    add_integer(0);  // offset in the storage
    add_sizes(tensor.sizes());
    std::int64_t stride = 1;
    std::vector<std::int64_t> strides(static_cast<std::size_t>(tensor.dim()));
    for (std::size_t i = strides.size(); i-- > 0;) {
      strides[i] = stride;
      stride *= std::max<std::int64_t>(tensor.size(static_cast<std::int64_t>(i)), 1);
    }
    add_sizes(strides);
    bytes_ += '\x89';          // requires no gradient
    add_ordered_dictionary();  // no hooks
    bytes_ += "tR";
    tensors_.push_back(tensor);
  }

  std::string where_;
  std::string bytes_;
  std::vector<at::Tensor> tensors_;
};

void write_records(PyTorchStreamWriter& writer, const std::string& pickle,
                   const std::vector<at::Tensor>& tensors) {
  const auto write = [&](const std::string& name, std::string_view bytes) {
    writer.writeRecord(name, bytes.data(), bytes.size());
  };
  // Names, contents and order of torch.save; the writer adds `version` and an id made from the contents.
  write("data.pkl", pickle);
  write(".format_version", "1");
  write(".storage_alignment", "64");
  write("byteorder", "little");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor values = tensors[i].detach().cpu().contiguous();
    writer.writeRecord(cat("data/", i), values.const_data_ptr(), values.nbytes());
  }
  writer.writeEndOfFile();
}

}  // namespace

void write_torch_archive(const std::filesystem::path& path, const PickleValue& value) {
  Pickler pickler(path.string());
  const std::string pickle = pickler.pickle(value);
  util::AtomicFile file(path);
  std::exception_ptr failure;
  {
    // The writer calls this through C code, which an exception cannot cross, and a writer that is reported a
    // failure writes on in its destructor and ends the program: it learns nothing of one.
    PyTorchStreamWriter writer([&](const void* bytes, std::size_t size) {
      try {
        if (failure == nullptr) file.write({static_cast<const char*>(bytes), size});
      } catch (...) {
        failure = std::current_exception();
      }
      return size;
    });
    write_records(writer, pickle, pickler.tensors());
  }
  if (failure != nullptr) std::rethrow_exception(failure);
  file.commit();
}

}  // namespace depthlens::io
