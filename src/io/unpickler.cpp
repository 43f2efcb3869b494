// A pickle machine with a stack and a memo, restricted to data and tensors.
#include "unpickler.hpp"

#include <bit>
#include <cstring>
#include <deque>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"
#include "depthlens/util/text.hpp"
#include "dtype_names.hpp"
#include "tensor_layout.hpp"

namespace depthlens::io {
namespace {

using util::cat;
using util::in_quotes;

// Ten times what the largest checkpoints need; a pickle that wants more is damaged or hostile.
constexpr std::size_t kMaxObjects = 4'000'000;
constexpr std::size_t kMaxStack = 1'000'000;
constexpr std::size_t kMaxResultValues = 1'000'000;
constexpr std::size_t kMaxResultText = std::size_t{64} << 20;
constexpr int kDeepestResult = 64;
constexpr std::size_t kMaxGlobal = 256;

enum class Opcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

struct Object;
using Objects = std::vector<const Object*>;

struct Tuple {
  Objects items;
};
struct List {
  Objects items;
};
struct Dictionary {
  Objects keys_and_values;
  bool ordered = false;
};
enum class Callable { kOrderedDict, kRebuildTensor, kRebuildParameter };
struct StorageType {
  at::ScalarType dtype;
};
struct Storage {
  at::ScalarType dtype;
  std::uint64_t offset;        // in the file, bytes
  std::uint64_t num_elements;  // all of them are in the file
  std::shared_ptr<const RecordChecksum> checksum;
};

// Lists and dictionaries are filled after others refer to them, and may even hold themselves: objects live in
// an arena and refer to each other by address.
struct Object {
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Tuple, List, Dictionary, Callable,
               StorageType, Storage, TensorEntry>
      value;
};

const char* kind_name(const Object& object) {
  constexpr const char* kNames[] = {"None",       "a boolean",      "an integer", "a number",
                                    "a string",   "a tuple",        "a list",     "a dictionary",
                                    "a function", "a storage type", "a storage",  "a tensor"};
  static_assert(std::size(kNames) == std::variant_size_v<decltype(Object::value)>);
  return kNames[object.value.index()];
}

using Global = std::variant<Callable, StorageType>;

/// Everything that a pickle may name.
std::optional<Global> known_global(const std::string& name) {
  static const std::unordered_map<std::string, Global> kFunctions = {
      {"collections.OrderedDict", Callable::kOrderedDict},
      {"torch._utils._rebuild_tensor_v2", Callable::kRebuildTensor},
      {"torch._utils._rebuild_parameter", Callable::kRebuildParameter},
  };
  constexpr std::string_view kModule = "torch.";
  if (name.rfind(kModule, 0) == 0) {
    for (const DtypeNames& names : kDtypeNames) {
      if (!names.torch_storage.empty() && name.substr(kModule.size()) == names.torch_storage)
        return StorageType{names.dtype};
    }
  }
  const auto found = kFunctions.find(name);
  return found == kFunctions.end() ? std::nullopt : std::optional(found->second);
}

class Unpickler {
 public:
  explicit Unpickler(const PickleSource& source) : source_(source) {}

  Unpickled run() {
    while (!stopped_) {
      opcode_at_ = next_;
      step(static_cast<Opcode>(read_integer(1)));
    }
    const Object* root = pop();
    if (!stack_.empty() || !marks_.empty()) fail("values left on the stack");
    return {.value = result_of(*root, 0), .length = next_};
  }

 private:
  /// Where the present opcode is, within the file.
  std::string place() const {
    return source_.begin ? cat("byte ", *source_.begin + opcode_at_) : cat("data.pkl, byte ", opcode_at_);
  }

  [[noreturn]] void fail(std::string found, std::string expected = {}) const {
    throw util::format_error({.what = "cannot read the pickle",
                              .where = source_.file_name + ": " + place(),
                              .expected = std::move(expected),
                              .found = std::move(found)});
  }

  // --- bytes ---

  std::string_view read_bytes(std::uint64_t count) {
    if (count > source_.bytes.size() - next_) {
      fail(cat(source_.bytes.size() - next_, " bytes before the end"), cat(count, " more bytes"));
    }
    const std::string_view bytes = source_.bytes.substr(next_, count);
    next_ += count;
    return bytes;
  }

  /// An unsigned little-endian integer of 1 to 8 bytes.
  std::uint64_t read_integer(std::size_t num_bytes) {
    std::uint64_t value = 0;
    const std::string_view bytes = read_bytes(num_bytes);
    for (std::size_t i = num_bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
  }

  std::string read_text(std::size_t num_length_bytes) {
    const std::uint64_t length = read_integer(num_length_bytes);
    std::string text(read_bytes(length));
    if (!util::is_valid_utf8(text)) fail("a string that is not UTF-8");
    return text;
  }

  std::string read_line() {
    const std::size_t end = source_.bytes.substr(next_, kMaxGlobal + 1).find('\n');
    if (end == std::string_view::npos) fail("none", cat("the end of a line within ", kMaxGlobal, " bytes"));
    std::string line(read_bytes(end));
    ++next_;
    return line;
  }

  // --- stack and memo ---

  template <typename T>
  void push(T value) {
    if (arena_.size() >= kMaxObjects) fail(cat("more than ", kMaxObjects, " objects"));
    arena_.push_back({std::move(value)});
    push_object(&arena_.back());
  }

  void push_object(Object* object) {
    if (stack_.size() >= kMaxStack) fail(cat("more than ", kMaxStack, " values on the stack"));
    stack_.push_back(object);
  }

  Object* top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("an empty stack", "a value");
    return stack_.back();
  }

  Object* pop() {
    Object* object = top();
    stack_.pop_back();
    return object;
  }

  Objects pop_last(std::size_t count) {
    Objects items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }

  Objects pop_to_mark() {
    if (marks_.empty()) fail("none", "a mark");
    Objects items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }

  template <typename T>
  const T& expect(const Object* object, const char* expected) const {
    const T* value = std::get_if<T>(&object->value);
    if (value == nullptr) fail(kind_name(*object), expected);
    return *value;
  }

  template <typename T>
  T& top_as(const char* expected) {
    Object* object = top();
    return const_cast<T&>(expect<T>(object, expected));
  }

  void put(std::uint64_t key) {
    if (memo_.size() >= kMaxObjects) fail(cat("more than ", kMaxObjects, " memo entries"));
    memo_[key] = top();
  }

  void get(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail(cat("memo entry ", key, " before it is set"));
    push_object(found->second);
  }

  // --- the machine ---

  void step(Opcode opcode) {
    switch (opcode) {
      case Opcode::kProto:
        if (const auto protocol = read_integer(1); protocol < 2 || protocol > 5) {
          fail(cat("protocol ", protocol), "protocol 2 to 5");
        }
        return;
      case Opcode::kFrame:
        read_integer(8);  // only a hint for readers of streams
        return;
      case Opcode::kStop:
        stopped_ = true;
        return;
      case Opcode::kMark:
        if (marks_.size() >= kMaxStack) fail(cat("more than ", kMaxStack, " marks"));
        marks_.push_back(stack_.size());
        return;
      case Opcode::kNone:
        return push(std::monostate());
      case Opcode::kNewTrue:
        return push(true);
      case Opcode::kNewFalse:
        return push(false);
      case Opcode::kBinInt1:
        return push(static_cast<std::int64_t>(read_integer(1)));
      case Opcode::kBinInt2:
        return push(static_cast<std::int64_t>(read_integer(2)));
      case Opcode::kBinInt:
        return push(std::int64_t{static_cast<std::int32_t>(read_integer(4))});
      case Opcode::kLong1:
        return push_long();
      case Opcode::kBinFloat: {
        std::uint64_t bits = 0;  // the one big-endian number of the format
        for (const char c : read_bytes(8)) bits = bits << 8 | static_cast<unsigned char>(c);
        return push(std::bit_cast<double>(bits));
      }
      case Opcode::kShortBinUnicode:
      case Opcode::kShortBinString:
        return push(read_text(1));
      case Opcode::kBinUnicode:
      case Opcode::kBinString:
        return push(read_text(4));
      case Opcode::kBinUnicode8:
        return push(read_text(8));
      case Opcode::kEmptyTuple:
        return push(Tuple());
      case Opcode::kTuple1:
        return push(Tuple{pop_last(1)});
      case Opcode::kTuple2:
        return push(Tuple{pop_last(2)});
      case Opcode::kTuple3:
        return push(Tuple{pop_last(3)});
      case Opcode::kTuple:
        return push(Tuple{pop_to_mark()});
      case Opcode::kEmptyList:
        return push(List());
      case Opcode::kAppend:
        return append(pop_last(1));
      case Opcode::kAppends:
        return append(pop_to_mark());
      case Opcode::kEmptyDict:
        return push(Dictionary());
      case Opcode::kSetItem:
        return set_items(pop_last(2));
      case Opcode::kSetItems:
        return set_items(pop_to_mark());
      case Opcode::kBinPut:
        return put(read_integer(1));
      case Opcode::kLongBinPut:
        return put(read_integer(4));
      case Opcode::kMemoize:
        return put(memo_.size());
      case Opcode::kBinGet:
        return get(read_integer(1));
      case Opcode::kLongBinGet:
        return get(read_integer(4));
      case Opcode::kGlobal: {
        const std::string module = read_line();
        return push_global(module + "." + read_line());
      }
      case Opcode::kStackGlobal: {
        const std::string name = expect<std::string>(pop(), "a name");
        return push_global(expect<std::string>(pop(), "a module") + "." + name);
      }
      case Opcode::kBinPersId:
        return push_storage(expect<Tuple>(pop(), "a tuple as persistent id").items);
      case Opcode::kReduce:
        return reduce();
      case Opcode::kBuild:
        // The `_metadata` attribute of a state dict; torch's own loader needs it, the tensors do not.
        pop();
        if (!top_as<Dictionary>("an OrderedDict to set attributes of").ordered) {
          fail("a plain dictionary", "an OrderedDict to set attributes of");
        }
        return;
    }
    fail("the refused opcode " + util::hex_escape(static_cast<std::uint8_t>(opcode)));
  }

  /// A two's complement integer of any length; those of more than 64 bits are refused.
  void push_long() {
    const std::uint64_t length = read_integer(1);
    if (length > 8) fail(cat("an integer of ", length, " bytes"), "at most 8");
    std::uint64_t value = length == 0 ? 0 : read_integer(length);
    const std::uint64_t unused_bits = 64 - 8 * length;
    if (length == 0) return push(std::int64_t{0});
    push(static_cast<std::int64_t>(value << unused_bits) >> unused_bits);
  }

  void append(const Objects& items) {
    auto& list = top_as<List>("a list to append to").items;
    list.insert(list.end(), items.begin(), items.end());
  }

  void set_items(const Objects& items) {
    if (items.size() % 2 != 0) fail("a key without a value");
    auto& dictionary = top_as<Dictionary>("a dictionary to fill").keys_and_values;
    dictionary.insert(dictionary.end(), items.begin(), items.end());
  }

  void push_global(const std::string& name) {
    const std::optional<Global> global = known_global(name);
    if (!global) {
      throw util::format_error(
          {.what = cat("the pickle in ", in_quotes(source_.file_name), " asks for ", in_quotes(name)),
           .where = place(),
           .expected = "tensors, dictionaries, lists, strings and numbers only",
           .hint = "nothing of the file was run; save a plain dictionary of tensors"});
    }
    std::visit([this](auto value) { push(value); }, *global);
  }

  /// ("storage", type, key, location, number of elements[, view]). The location, such as "cuda:0", does not
  /// matter here. The view, in files without zip, is that of a part of another storage, or None since PyTorch
  /// 0.4.
  void push_storage(const Objects& id) {
    if (id.size() != (source_.begin ? 6 : 5) || expect<std::string>(id[0], "'storage'") != "storage") {
      fail("another persistent id",
           cat("('storage', type, key, location, number of elements", source_.begin ? ", view)" : ")"));
    }
    if (source_.begin) expect<std::monostate>(id[5], "no view of another storage, as PyTorch before 0.4 has");
    const at::ScalarType dtype = expect<StorageType>(id[1], "a storage type").dtype;
    const std::string& key = expect<std::string>(id[2], "a storage key");
    const std::uint64_t num_elements = size_of(id[4]);
    const StorageRecord record = source_.find_storage(key, dtype, num_elements);
    if (num_elements > record.length / c10::elementSize(dtype)) {
      fail(cat("a record 'data/", key, "' of ", record.length, " bytes"),
           cat(num_elements, " elements of ", c10::toString(dtype)));
    }
    push(Storage{dtype, record.offset, num_elements, record.checksum});
  }

  void reduce() {
    const Objects& arguments = expect<Tuple>(pop(), "a tuple of arguments").items;
    switch (expect<Callable>(pop(), "a function to call")) {
      case Callable::kOrderedDict:
        if (!arguments.empty()) fail("an OrderedDict made with arguments");
        return push(Dictionary{.keys_and_values = {}, .ordered = true});
      case Callable::kRebuildTensor:
        return push_tensor(arguments);
      case Callable::kRebuildParameter:  // (tensor, requires_grad, hooks)
        if (arguments.size() != 3) fail(cat(arguments.size(), " arguments"), "3 for _rebuild_parameter");
        return push(expect<TensorEntry>(arguments[0], "a tensor"));
    }
  }

  std::uint64_t size_of(const Object* object) const {
    const auto size = expect<std::int64_t>(object, "a size");
    if (size < 0) fail(cat(size), "a size or stride that is not negative");
    return static_cast<std::uint64_t>(size);
  }

  std::vector<std::int64_t> sizes_of(const Object* object) const {
    std::vector<std::int64_t> sizes;
    const Objects& items = expect<Tuple>(object, "a tuple of sizes").items;
    if (items.size() > kMaxDimensions) {
      fail(cat(items.size(), " dimensions"), cat("at most ", kMaxDimensions));
    }
    for (const Object* item : items) sizes.push_back(static_cast<std::int64_t>(size_of(item)));
    return sizes;
  }

  /// Of a tensor whose numbers are not those in its storage: `neg` says that they have the other sign.
  void check_metadata(const Object& metadata) const {
    if (std::holds_alternative<std::monostate>(metadata.value)) return;
    const Objects& entries = expect<Dictionary>(&metadata, "a dictionary of metadata").keys_and_values;
    if (entries.empty()) return;
    const auto* name = std::get_if<std::string>(&entries.front()->value);
    fail("a tensor with the metadata " + in_quotes(name != nullptr ? *name : kind_name(*entries.front())),
         "numbers as they stand in the file (tensor.resolve_neg() before saving gives them)");
  }

  /// (storage, offset, shape, strides, requires_grad, hooks[, metadata])
  void push_tensor(const Objects& arguments) {
    if (arguments.size() != 6 && arguments.size() != 7) {
      fail(cat(arguments.size(), " arguments"), "6 or 7 for _rebuild_tensor_v2");
    }
    if (arguments.size() == 7) check_metadata(*arguments[6]);
    const auto& storage = expect<Storage>(arguments[0], "a storage");
    const std::uint64_t first = size_of(arguments[1]);
    TensorEntry entry{
        .dtype = storage.dtype, .shape = sizes_of(arguments[2]), .strides = sizes_of(arguments[3])};
    if (entry.shape.size() != entry.strides.size()) {
      fail(cat(entry.strides.size(), " strides"), cat("one for each of ", entry.shape.size(), " dimensions"));
    }
    const std::uint64_t element_size = c10::elementSize(entry.dtype);
    std::uint64_t elements = 0;
    std::uint64_t bytes = 0;
    // Overlapping strides let a shape be larger than its storage, but no honest one is larger than the file.
    if (!count_elements(entry.shape, elements) || __builtin_mul_overflow(elements, element_size, &bytes) ||
        bytes > source_.file->size()) {
      fail(cat("a tensor of shape ", util::shape_text(entry.shape)), "one that is not larger than the file");
    }
    std::uint64_t reach = first;  // index in the storage of the last element, or of the end when empty
    bool fits = true;
    if (elements == 0) entry.strides = contiguous_strides(entry.shape);
    for (std::size_t i = 0; elements > 0 && i < entry.shape.size(); ++i) {
      const auto steps = static_cast<std::uint64_t>(entry.shape[i] - 1);
      std::uint64_t distance = 0;
      fits = fits &&
             !__builtin_mul_overflow(steps, static_cast<std::uint64_t>(entry.strides[i]), &distance) &&
             !__builtin_add_overflow(reach, distance, &reach);
    }
    if (!fits || reach > storage.num_elements || (elements > 0 && reach == storage.num_elements)) {
      fail(cat("a tensor of shape ", util::shape_text(entry.shape), ", strides ",
               util::shape_text(entry.strides), ", offset ", first),
           cat("one within its storage of ", storage.num_elements, " elements"));
    }
    entry.offset = storage.offset + first * element_size;
    entry.length = elements == 0 ? 0 : (reach - first + 1) * element_size;
    entry.file = source_.file;
    entry.checksum = storage.checksum;
    push(std::move(entry));
  }

  // --- the result ---

  /// Copies an object and what it holds into a tree. Shared objects are copied each time, so the limits also
  /// hold for the whole: a few lists that hold each other many times over would otherwise grow without end.
  PickleValue result_of(const Object& object, int depth) {
    if (depth > kDeepestResult) fail(cat("values nested deeper than ", kDeepestResult));
    if (++num_result_values_ > kMaxResultValues) fail(cat("more than ", kMaxResultValues, " values"));
    PickleValue result;
    if (const auto* boolean = std::get_if<bool>(&object.value)) {
      result.kind = PickleValue::Kind::kBool;
      result.boolean = *boolean;
    } else if (const auto* integer = std::get_if<std::int64_t>(&object.value)) {
      result.kind = PickleValue::Kind::kInteger;
      result.integer = *integer;
    } else if (const auto* number = std::get_if<double>(&object.value)) {
      result.kind = PickleValue::Kind::kNumber;
      result.number = *number;
    } else if (const auto* text = std::get_if<std::string>(&object.value)) {
      result.kind = PickleValue::Kind::kString;
      result_text_bytes_ += text->size();
      if (result_text_bytes_ > kMaxResultText)
        fail("more than " + util::as_bytes(kMaxResultText) + " of text");
      result.string = *text;
    } else if (const auto* tuple = std::get_if<Tuple>(&object.value)) {
      result.kind = PickleValue::Kind::kList;
      result.list = results_of(tuple->items, depth);
    } else if (const auto* list = std::get_if<List>(&object.value)) {
      result.kind = PickleValue::Kind::kList;
      result.list = results_of(list->items, depth);
    } else if (const auto* dictionary = std::get_if<Dictionary>(&object.value)) {
      check_keys(*dictionary);
      result.kind = PickleValue::Kind::kDictionary;
      result.ordered = dictionary->ordered;
      result.list = results_of(dictionary->keys_and_values, depth);
    } else if (const auto* tensor = std::get_if<TensorEntry>(&object.value)) {
      result.kind = PickleValue::Kind::kTensor;
      result.tensor = *tensor;
    } else if (!std::holds_alternative<std::monostate>(object.value)) {
      fail(cat(kind_name(object), " as a value"));
    }
    return result;
  }

  std::vector<PickleValue> results_of(const Objects& items, int depth) {
    std::vector<PickleValue> results;
    for (const Object* item : items) results.push_back(result_of(*item, depth + 1));
    return results;
  }

  void check_keys(const Dictionary& dictionary) const {
    std::set<std::variant<std::int64_t, std::string>> seen;
    for (std::size_t i = 0; i < dictionary.keys_and_values.size(); i += 2) {
      const Object* key = dictionary.keys_and_values[i];
      bool added = false;
      if (const auto* integer = std::get_if<std::int64_t>(&key->value)) {
        added = seen.insert(*integer).second;
        if (!added) fail(cat("the key ", *integer, " twice in one dictionary"));
      } else {
        const auto& text = expect<std::string>(key, "a string or an integer as key");
        added = seen.insert(text).second;
        if (!added) fail(cat("the key ", in_quotes(text), " twice in one dictionary"));
      }
    }
  }

  const PickleSource& source_;
  std::size_t next_ = 0;
  std::size_t opcode_at_ = 0;
  bool stopped_ = false;
  std::deque<Object> arena_;
  std::vector<Object*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, Object*> memo_;
  std::size_t num_result_values_ = 0;
  std::size_t result_text_bytes_ = 0;
};

}  // namespace

Unpickled unpickle(const PickleSource& source) {
  return Unpickler(source).run();
}

}  // namespace depthlens::io
