// tuned-lens' hash of an unembedding: the text that NumPy's array_str prints for it, and the SHA-256 of that.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "depthlens/lens/provenance.hpp"
#include "depthlens/util/error.hpp"
#include "depthlens/util/files.hpp"

namespace depthlens::lens {
namespace {

// NumPy's print options.
constexpr std::int64_t kThreshold = 1000;  // elements above which only the edges are printed
constexpr std::int64_t kEdge = 3;
constexpr std::size_t kLineWidth = 75;
// Exponential notation: from 10^6, float32's decimal precision (1e8 before NumPy 2.3), below 1e-4, and for
// numbers of very different size. NumPy compares in float32.
constexpr float kMaxFixed = 1e6F;
constexpr float kMinFixed = 1e-4F;
constexpr float kMaxRatio = 1000;

/// The significant digits that tell `value` from all other floats.
std::size_t num_unique_digits(float value) {
  std::array<char, 64> text;
  const char* end =
      std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::scientific).ptr;
  return static_cast<std::size_t>(std::count_if(text.data(),
                                                std::find(text.data(), const_cast<char*>(end), 'e'),
                                                [](char c) { return c >= '0' && c <= '9'; }));
}

std::string printed(const char* format, int precision, float value) {
  std::array<char, 128> text;
  const int length = std::snprintf(text.data(), text.size(), format, precision, static_cast<double>(value));
  return {text.data(), static_cast<std::size_t>(length)};
}

/// A number as integer part (with sign), fraction without trailing zeros, and exponent ("e-05", or "").
struct Cell {
  std::string integer, fraction, exponent;
};

/// printf rounds the exact value half to even, as NumPy does where the digits are cut.
Cell split_number(float value, bool exponential, int precision) {
  std::string text = printed(exponential ? "%.*e" : "%.*f", precision, value);
  Cell cell;
  if (const std::size_t e = text.find('e'); e != std::string::npos) {
    cell.exponent = text.substr(e);
    text.erase(e);
  }
  const std::size_t point = text.find('.');
  cell.integer = text.substr(0, point);
  if (point != std::string::npos) cell.fraction = text.substr(point + 1);
  while (!cell.fraction.empty() && cell.fraction.back() == '0') cell.fraction.pop_back();
  return cell;
}

std::string padded_left(const std::string& text, std::size_t width) {
  return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

/// The printed numbers, all of one width.
std::vector<std::string> format_numbers(const std::vector<float>& numbers) {
  float largest = 0;
  float smallest = INFINITY;
  for (const float number : numbers) {
    const float magnitude = std::abs(number);
    if (!std::isfinite(number) || magnitude == 0) continue;
    largest = std::max(largest, magnitude);
    smallest = std::min(smallest, magnitude);
  }
  const bool exponential =
      largest > 0 && (largest >= kMaxFixed || smallest < kMinFixed || largest / smallest > kMaxRatio);
  std::vector<Cell> cells;
  std::size_t left = 0;
  std::size_t fraction = 0;
  std::size_t exponent = 0;
  for (const float number : numbers) {
    Cell& cell = cells.emplace_back();
    if (!std::isfinite(number)) continue;
    // A number that a single digit tells apart (only the smallest ones are) asks for no second.
    cell = split_number(number, exponential, exponential && num_unique_digits(number) == 1 ? 0 : 1);
    left = std::max(left, cell.integer.size());
    fraction = std::max(fraction, cell.fraction.size());
    exponent = std::max(exponent, cell.exponent.size());
  }
  const std::size_t right = fraction + exponent;
  for (const float number : numbers) {  // "nan" and "inf" reach over the point
    if (std::isfinite(number)) continue;
    const std::size_t length = std::isinf(number) && number < 0 ? 4 : 3;
    left = std::max(left, length > right + 1 ? length - right - 1 : 0);
  }
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (!std::isfinite(numbers[i])) {
      const std::string text = std::isnan(numbers[i]) ? "nan" : numbers[i] < 0 ? "-inf" : "inf";
      texts.push_back(padded_left(text, left + 1 + right));
      continue;
    }
    Cell& cell = cells[i];
    if (exponential) cell = split_number(numbers[i], exponential, static_cast<int>(fraction));
    cell.fraction.resize(fraction, exponential ? '0' : ' ');
    texts.push_back(padded_left(cell.integer, left) + '.' + cell.fraction + cell.exponent);
  }
  return texts;
}

/// The rows of a tensor that are printed: the first and last three, or all.
at::Tensor edges(const at::Tensor& values, std::int64_t dim) {
  const std::int64_t size = values.size(dim);
  if (size <= 2 * kEdge) return values;
  return at::cat({values.narrow(dim, 0, kEdge), values.narrow(dim, size - kEdge, kEdge)}, dim);
}

std::string array_str(const at::Tensor& matrix, at::ScalarType loaded_as) {
  if (matrix.numel() == 0) return "[]";
  const bool summary = matrix.numel() > kThreshold;
  const at::Tensor shown =
      (summary ? edges(edges(matrix, 0), 1) : matrix).cpu().to(loaded_as).to(at::kFloat).contiguous();
  const auto* data = shown.const_data_ptr<float>();
  const std::vector<std::string> texts = format_numbers({data, data + shown.numel()});

  const bool rows_left_out = summary && matrix.size(0) > 2 * kEdge;
  const bool columns_left_out = summary && matrix.size(1) > 2 * kEdge;
  // Two columns are kept for the closing brackets; a line begins with one space for each open bracket.
  constexpr std::size_t kRoom = kLineWidth - 2;
  std::string text = "[";
  for (std::int64_t row = 0; row < shown.size(0); ++row) {
    if (row > 0) text += "\n ";
    if (rows_left_out && row == kEdge) text += "...\n ";
    std::string line = "  ";
    std::string lines;
    const auto add = [&](const std::string& word) {
      if (line.size() + word.size() > kRoom && line.size() > 2) {
        lines += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        line = "  ";
      }
      line += word;
    };
    for (std::int64_t column = 0; column < shown.size(1); ++column) {
      if (columns_left_out && column == kEdge) {
        add("...");
        line += ' ';
      }
      add(texts[static_cast<std::size_t>(row * shown.size(1) + column)]);
      if (column + 1 < shown.size(1)) line += ' ';
    }
    lines += line;
    text += '[' + lines.substr(2) + ']';
  }
  return text + ']';
}

}  // namespace

std::string unembed_hash(const at::Tensor& unembedding, at::ScalarType loaded_as) {
  DEPTHLENS_ASSERT(unembedding.dim() == 2);
  return util::sha256(array_str(unembedding, loaded_as));
}

}  // namespace depthlens::lens
