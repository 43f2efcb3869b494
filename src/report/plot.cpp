// SVG by hand: a chart is a few dozen elements, and a library would cost more than it saves.
#include "depthlens/report/plot.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>

#include "colour_ramp.hpp"
#include "depthlens/util/text.hpp"

namespace depthlens::report {
namespace {

// After Okabe and Ito (2008), darkened or lightened where a colour would not stand out from the background.
// Marks differ in shape too, and lines in their dashes once the colours are used up.
constexpr std::array<const char*, 7> kLightColours = {"#0072b2", "#d55e00", "#00805d", "#a8487f",
                                                      "#8a6a00", "#3a8fc4", "#555555"};
constexpr std::array<const char*, 7> kDarkColours = {"#56b4e9", "#ff8a3d", "#2cc59a", "#e7a1c8",
                                                     "#f0e442", "#a5b4ff", "#c8c8c8"};

constexpr double kCharacter = 6.8;  // width of a character of body text, about

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : util::valid_utf8(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // XML 1.0 has no way to write the other control characters.
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

double text_width(std::string_view text) {
  const auto characters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return static_cast<double>(characters) * kCharacter;
}

/// A coordinate, to a hundredth.
std::string at(double value) {
  std::array<char, 32> buffer;
  const double rounded = std::round(value * 100) / 100 + 0.0;  // no "-0"
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), rounded);
  return {buffer.data(), end};
}

std::string formatted(double value, std::chars_format format, int precision) {
  std::array<char, 400> buffer;  // room for the digits of any double
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format, precision);
  return {buffer.data(), end};
}

/// A round number beside an axis.
std::string tick_label(double value) {
  return formatted(value, std::chars_format::general, 6);
}

/// A value for people: 123, 12.3, 1.23, 0.12, 0.012, 0.0012.
std::string value_label(double value) {
  const double size = std::abs(value);
  if (value == 0) return "0";
  if (size < 0.01 || size >= 1e5) return formatted(value, std::chars_format::general, 2);
  const int decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3;
  return formatted(value, std::chars_format::fixed, decimals);
}

bool drawable(double value, Scale scale) {
  return std::isfinite(value) && (scale == Scale::kLinear || value > 0);
}

/// 1, 2 or 5 times a power of ten: the least that is not below `value` > 0.
double nice_above(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double digit : {1.0, 2.0, 5.0}) {
    if (digit * power >= value * (1 - 1e-9)) return digit * power;
  }
  return 10 * power;
}

double nice_below(double value) {
  return 1 / nice_above(1 / value);
}

/// Where values lie between the two ends of a scale.
struct Axis {
  Scale scale = Scale::kLinear;
  double low = 0;
  double high = 1;

  /// 0 at the lower end, 1 at the upper one.
  double place(double value) const {
    if (scale == Scale::kLinear) return (value - low) / (high - low);
    return (std::log(value) - std::log(low)) / (std::log(high) - std::log(low));  // quotients may overflow
  }

  std::vector<double> ticks() const {
    std::vector<double> all;
    if (scale == Scale::kLinear) {
      const double step = nice_above((high - low) / 6);
      const double first = std::ceil(low / step - 1e-9), last = std::floor(high / step + 1e-9);
      for (double i = first; i <= last; ++i) all.push_back(i * step + 0.0);  // no -0
      return all;
    }
    const double first = std::floor(std::log10(low)), last = std::ceil(std::log10(high));
    const double decades_apart = std::max(1.0, std::ceil((last - first) / 8));
    const bool between = last - first <= 4;
    for (double power = first; power <= last; power += decades_apart) {
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double tick = digit * std::pow(10, power);
        if (digit > 1 && !between) break;
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) all.push_back(tick);
      }
    }
    return all;
  }
};

/// An axis with room for all of `values`, which ends on round numbers; nothing where there is nothing to
/// draw.
std::optional<Axis> fit_axis(const std::vector<double>& values, Scale scale) {
  std::optional<double> least, greatest;
  for (const double value : values) {
    if (!drawable(value, scale)) continue;
    least = std::min(value, least.value_or(value));
    greatest = std::max(value, greatest.value_or(value));
  }
  if (!least) return std::nullopt;
  if (scale == Scale::kLog) {
    Axis axis{scale, nice_below(*least), nice_above(*greatest)};
    if (axis.low >= axis.high) axis.high = nice_above(axis.low * 1.5);
    return axis;
  }
  const double low = std::min(0.0, *least), high = std::max(0.0, *greatest);
  if (low == high) return Axis{scale, 0, 1};
  const double step = nice_above((high - low) / 6);
  return Axis{scale, std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step};
}

/// Numbers of a row of `count` things, with a step that leaves at most `most` of them.
std::vector<std::int64_t> numbered(std::int64_t count, std::int64_t most) {
  std::int64_t step = 1;
  for (const std::int64_t wider : {1, 2, 4, 5, 10, 20, 50, 100}) {
    step = wider;
    if ((count + wider - 1) / wider <= most) break;
  }
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < count; i += step) all.push_back(i);
  return all;
}

/// The file in the making.
class Canvas {
 public:
  Canvas(double width, double height, const std::string& title) {
    out_ = util::cat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", at(width), "\" height=\"",
                     at(height), "\" viewBox=\"0 0 ", at(width), " ", at(height), "\" role=\"img\">\n<title>",
                     escaped(title), "</title>\n<style>\n",
                     "text { font-family: system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; "
                     "font-size: 12px; fill: #24292f; }\n"
                     ".title { font-size: 15px; font-weight: 600; }\n"
                     ".quiet { fill: #57606a; }\n"
                     ".paper { fill: #ffffff; }\n"
                     ".grid { stroke: #d8dee4; stroke-width: 1; }\n"
                     ".axis { stroke: #57606a; stroke-width: 1; fill: none; }\n"
                     ".missing { fill: #d8dee4; }\n"
                     ".diagonal { stroke: #ffffff; fill: none; }\n"
                     ".cell { shape-rendering: crispEdges; }\n");
    colours(kLightColours, "");
    out_ +=
        "@media (prefers-color-scheme: dark) {\n"
        "  text { fill: #e6edf3; }\n"
        "  .quiet { fill: #9da7b3; }\n"
        "  .paper { fill: #0d1117; }\n"
        "  .grid { stroke: #30363d; }\n"
        "  .axis { stroke: #9da7b3; }\n"
        "  .missing { fill: #30363d; }\n";
    colours(kDarkColours, "  ");
    out_ +=
        "}\n.line { fill: none; stroke-width: 2; stroke-linejoin: round; }\n"
        ".mark { stroke-width: 0; }\n"
        ".light { fill: #ffffff; }\n.dark { fill: #14181d; }\n</style>\n";
    out_ += util::cat("<rect class=\"paper\" width=\"", at(width), "\" height=\"", at(height), "\"/>\n");
  }

  void text(double x, double y, const char* anchor, const std::string& text, const std::string& more = "") {
    out_ += util::cat("<text x=\"", at(x), "\" y=\"", at(y), "\" text-anchor=\"", anchor, "\"", more, ">",
                      escaped(text), "</text>\n");
  }

  /// Text that reads upwards (or, with 90, downwards), centred on a point.
  void turned_text(double x, double y, int degrees, const std::string& text) {
    out_ += util::cat("<text transform=\"translate(", at(x), " ", at(y), ") rotate(", degrees,
                      ")\" text-anchor=\"middle\">", escaped(text), "</text>\n");
  }

  void line(const char* kind, double x1, double y1, double x2, double y2) {
    out_ += util::cat("<line class=\"", kind, "\" x1=\"", at(x1), "\" y1=\"", at(y1), "\" x2=\"", at(x2),
                      "\" y2=\"", at(y2), "\"/>\n");
  }

  void add(const std::string& element) { out_ += element + "\n"; }

  std::string finish() && { return std::move(out_) + "</svg>\n"; }

 private:
  void colours(const std::array<const char*, 7>& colours, const char* indent) {
    for (std::size_t i = 0; i < colours.size(); ++i) {
      out_ += util::cat(indent, ".s", i, " { stroke: ", colours[i], "; fill: ", colours[i], "; }\n");
    }
  }
  std::string out_;
};

std::string series_class(std::size_t i) {
  return util::cat("s", i % kLightColours.size());
}

/// A circle, square, triangle or diamond; with `hint`, a text that appears under the pointer.
std::string mark(std::size_t series, double x, double y, const std::string& hint = "") {
  const std::string start = util::cat("class=\"mark ", series_class(series), "\"");
  const std::string title = hint.empty() ? "" : "<title>" + escaped(hint) + "</title>";
  const auto polygon = [&](std::initializer_list<std::array<double, 2>> points) {
    std::string list;
    for (const auto& point : points) {
      list += util::cat(list.empty() ? "" : " ", at(x + point[0]), ",", at(y + point[1]));
    }
    return util::cat("<polygon ", start, " points=\"", list, "\">", title, "</polygon>");
  };
  switch (series % 4) {
    case 0:
      return util::cat("<circle ", start, " cx=\"", at(x), "\" cy=\"", at(y), "\" r=\"3.5\">", title,
                       "</circle>");
    case 1:
      return polygon({{-3.2, -3.2}, {3.2, -3.2}, {3.2, 3.2}, {-3.2, 3.2}});
    case 2:
      return polygon({{0, -4.4}, {4.2, 3}, {-4.2, 3}});
    default:
      return polygon({{0, -4.6}, {4.6, 0}, {0, 4.6}, {-4.6, 0}});
  }
}

std::string line_start(std::size_t series) {
  static constexpr std::array<const char*, 3> kDashes = {"", " stroke-dasharray=\"7 4\"",
                                                         " stroke-dasharray=\"2 3\""};
  return util::cat("<path class=\"", series_class(series), " line\"",
                   kDashes[series / kLightColours.size() % kDashes.size()], " d=\"");
}

/// Names of the series in rows of at most `width`; returns the height used.
double draw_legend(Canvas* canvas, const std::vector<Series>& series, double left, double top, double width) {
  constexpr double kRow = 20, kSample = 28, kGap = 18;
  double x = left, y = top;
  for (std::size_t i = 0; i < series.size(); ++i) {
    const double needed = kSample + 6 + text_width(series[i].name);
    if (x > left && x + needed > left + width) {
      x = left;
      y += kRow;
    }
    if (canvas != nullptr) {
      canvas->add(util::cat(line_start(i), "M", at(x), " ", at(y), "H", at(x + kSample), "\"/>"));
      canvas->add(mark(i, x + kSample / 2, y));
      canvas->text(x + kSample + 6, y + 4, "start", series[i].name);
    }
    x += needed + kGap;
  }
  return y - top + kRow;
}

std::string hex_colour(const Rgb& colour) {
  std::string out = "#";
  for (const double part : {colour.r, colour.g, colour.b}) {
    static constexpr std::string_view kDigits = "0123456789abcdef";
    const auto value = static_cast<std::size_t>(std::lround(part));
    out += kDigits[value / 16];
    out += kDigits[value % 16];
  }
  return out;
}

}  // namespace

Scale suitable_scale(const std::vector<double>& values) {
  double least = INFINITY, greatest = 0;
  for (const double value : values) {
    if (!drawable(value, Scale::kLog)) continue;
    least = std::min(least, value);
    greatest = std::max(greatest, value);
  }
  return greatest > 50 * least ? Scale::kLog : Scale::kLinear;
}

std::string line_chart_svg(const LineChart& chart) {
  constexpr double kWidth = 760, kLeft = 72, kTop = 62, kPlotHeight = 320;
  const bool two_axes = !chart.right_title.empty();
  const double right = kWidth - (two_axes ? 72 : 28);
  const double legend = draw_legend(nullptr, chart.series, kLeft, 0, right - kLeft);
  const double top = kTop + legend - 8, bottom = top + kPlotHeight;
  const double height = bottom + 54 + (chart.note.empty() ? 0 : 22);

  Canvas canvas(kWidth, height, chart.title);
  canvas.text(kLeft, 30, "start", chart.title, " class=\"title\"");
  draw_legend(&canvas, chart.series, kLeft, 54, right - kLeft);

  std::vector<double> all;
  std::size_t count = 0;
  for (const Series& series : chart.series) {
    all.insert(all.end(), series.values.begin(), series.values.end());
    count = std::max(count, series.values.size());
  }
  const std::optional<Axis> axis = fit_axis(all, chart.scale);
  const auto y_of = [&](double value) { return bottom - axis->place(value) * kPlotHeight; };
  // Half a mark's width of room at both ends; a single value stands in the middle.
  const auto x_of = [&](double i) {
    if (count <= 1) return (kLeft + right) / 2;
    return kLeft + 10 + i / static_cast<double>(count - 1) * (right - kLeft - 20);
  };
  if (axis) {
    for (const double tick : axis->ticks()) {
      canvas.line("grid", kLeft, y_of(tick), right, y_of(tick));
      canvas.text(kLeft - 8, y_of(tick) + 4, "end", tick_label(tick));
    }
    if (two_axes) {
      const Axis other{axis->scale, axis->low * chart.right_factor, axis->high * chart.right_factor};
      for (const double tick : other.ticks()) {
        const double y = bottom - other.place(tick) * kPlotHeight;
        canvas.line("axis", right, y, right + 5, y);
        canvas.text(right + 9, y + 4, "start", tick_label(tick));
      }
      canvas.turned_text(kWidth - 16, (top + bottom) / 2, 90, chart.right_title);
    }
  } else {
    canvas.text((kLeft + right) / 2, (top + bottom) / 2, "middle", "no values", " class=\"quiet\"");
  }
  for (const std::int64_t i : numbered(static_cast<std::int64_t>(count), 26)) {
    canvas.line("axis", x_of(static_cast<double>(i)), bottom, x_of(static_cast<double>(i)), bottom + 5);
    canvas.text(x_of(static_cast<double>(i)), bottom + 19, "middle", std::to_string(i));
  }
  canvas.add(util::cat("<rect class=\"axis\" x=\"", at(kLeft), "\" y=\"", at(top), "\" width=\"",
                       at(right - kLeft), "\" height=\"", at(kPlotHeight), "\"/>"));
  canvas.text((kLeft + right) / 2, bottom + 40, "middle", chart.x_title);
  canvas.turned_text(22, (top + bottom) / 2, -90, chart.y_title);
  if (!chart.note.empty()) canvas.text(kLeft, height - 14, "start", chart.note, " class=\"quiet\"");

  if (!axis) return std::move(canvas).finish();
  // The first series is drawn last, so that it lies on top where lines coincide.
  for (std::size_t s = chart.series.size(); s-- > 0;) {
    const Series& series = chart.series[s];
    std::string path, marks;
    bool pen_down = false;
    for (std::size_t i = 0; i < series.values.size(); ++i) {
      const double value = series.values[i];
      if (!drawable(value, chart.scale)) {
        pen_down = false;
        continue;
      }
      const double x = x_of(static_cast<double>(i)), y = y_of(value);
      path += util::cat(pen_down ? "L" : "M", at(x), " ", at(y));
      pen_down = true;
      marks +=
          mark(s, x, y, util::cat(series.name, ", ", chart.x_title, " ", i, ": ", value_label(value))) + "\n";
    }
    if (path.empty()) continue;
    canvas.add(line_start(s) + path + "\"/>");
    marks.pop_back();
    canvas.add(marks);
  }
  return std::move(canvas).finish();
}

std::string heatmap_svg(const Heatmap& map) {
  std::vector<double> all;
  std::size_t num_rows = 0, num_columns = 0;
  for (const Heatmap::Panel& panel : map.panels) {
    num_rows = std::max(num_rows, panel.rows.size());
    for (const auto& row : panel.rows) {
      num_columns = std::max(num_columns, row.size());
      all.insert(all.end(), row.begin(), row.end());
    }
  }
  constexpr double kLeft = 72, kBar = 16;
  const double cell =
      std::clamp(640.0 / static_cast<double>(std::max<std::size_t>(num_columns, 1)), 9.0, 52.0);
  const double cell_height = std::max(9.0, cell * 0.72);
  // Below this size numbers cannot be read; they still appear under the pointer.
  const bool with_numbers = cell >= 26;
  const double font = std::min(12.0, cell * 0.31);
  const double map_width = cell * static_cast<double>(num_columns);
  const double map_height = std::max(cell_height * static_cast<double>(num_rows), 40.0);
  const bool panel_titles = map.panels.size() > 1;
  const double panel_step = map_height + 62 + (panel_titles ? 22 : 0);
  const double right = kLeft + std::max(map_width, 40.0);
  // A small map must still leave room for its own title and note.
  const double width = std::max(
      {right + 24 + kBar + 70, kLeft + 1.25 * text_width(map.title) + 24, kLeft + text_width(map.note)});
  const double height =
      48 + panel_step * static_cast<double>(map.panels.size()) + (map.note.empty() ? 0 : 22);

  Canvas canvas(width, height, map.title);
  canvas.text(kLeft, 30, "start", map.title, " class=\"title\"");
  const std::optional<Axis> axis = fit_axis(all, map.scale);

  for (std::size_t p = 0; p < map.panels.size(); ++p) {
    const Heatmap::Panel& panel = map.panels[p];
    double top = 50 + panel_step * static_cast<double>(p);
    if (panel_titles) {
      canvas.text(kLeft, top + 12, "start", panel.title);
      top += 22;
    }
    for (std::size_t r = 0; r < panel.rows.size(); ++r) {
      for (std::size_t c = 0; c < panel.rows[r].size(); ++c) {
        const double value = panel.rows[r][c];
        const bool there = axis && drawable(value, map.scale);
        const double x = kLeft + cell * static_cast<double>(c),
                     y = top + cell_height * static_cast<double>(r);
        const Rgb colour = there ? viridis(axis->place(value)) : Rgb{0, 0, 0};
        canvas.add(util::cat("<rect ",
                             there ? "class=\"cell\" fill=\"" + hex_colour(colour) + "\""
                                   : std::string("class=\"cell missing\""),
                             " x=\"", at(x), "\" y=\"", at(y), "\" width=\"", at(cell), "\" height=\"",
                             at(cell_height), "\"><title>",
                             escaped(util::cat(map.y_title, " ", r, ", ", map.x_title, " ", c, ": ",
                                               there ? value_label(value) : "none")),
                             "</title></rect>"));
        if (!with_numbers || !there) continue;
        const bool bright = 0.299 * colour.r + 0.587 * colour.g + 0.114 * colour.b > 130;
        canvas.text(x + cell / 2, y + cell_height / 2 + font * 0.36, "middle", value_label(value),
                    util::cat(" class=\"", bright ? "dark" : "light", "\" style=\"font-size: ", at(font),
                              "px\" pointer-events=\"none\""));
      }
      if (map.mark_diagonal && r < panel.rows[r].size() && drawable(panel.rows[r][r], map.scale)) {
        canvas.add(util::cat("<rect class=\"diagonal\" x=\"", at(kLeft + cell * static_cast<double>(r) + 1),
                             "\" y=\"", at(top + cell_height * static_cast<double>(r) + 1), "\" width=\"",
                             at(cell - 2), "\" height=\"", at(cell_height - 2), "\" stroke-width=\"",
                             cell < 20 ? 1 : 2, "\" pointer-events=\"none\"/>"));
      }
    }
    const double bottom = top + map_height;
    const auto most_labels = [](double length, double each) {
      return std::max<std::int64_t>(1, static_cast<std::int64_t>(length / each));
    };
    for (const std::int64_t r : numbered(static_cast<std::int64_t>(num_rows), most_labels(map_height, 15))) {
      canvas.text(kLeft - 8, top + cell_height * (static_cast<double>(r) + 0.5) + 4, "end",
                  std::to_string(r));
    }
    for (const std::int64_t c :
         numbered(static_cast<std::int64_t>(num_columns), most_labels(map_width, 22))) {
      canvas.text(kLeft + cell * (static_cast<double>(c) + 0.5), bottom + 17, "middle", std::to_string(c));
    }
    canvas.text(kLeft + map_width / 2, bottom + 38, "middle", map.x_title);
    canvas.turned_text(26, top + map_height / 2, -90, map.y_title);
    if (!axis) {
      canvas.text(right + 24, top + 12, "start", "no values", " class=\"quiet\"");
      continue;
    }
    // The scale of colours, in steps too fine to be seen.
    constexpr int kSteps = 64;
    const double bar = right + 24;
    for (int step = 0; step < kSteps; ++step) {
      const double from = map_height * step / kSteps;
      canvas.add(util::cat("<rect class=\"cell\" fill=\"", hex_colour(viridis((step + 0.5) / kSteps)),
                           "\" x=\"", at(bar), "\" y=\"", at(bottom - from - map_height / kSteps),
                           "\" width=\"", at(kBar), "\" height=\"", at(map_height / kSteps + 0.4), "\"/>"));
    }
    for (const double tick : axis->ticks()) {
      const double y = bottom - axis->place(tick) * map_height;
      canvas.line("axis", bar + kBar, y, bar + kBar + 4, y);
      canvas.text(bar + kBar + 8, y + 4, "start", tick_label(tick));
    }
    canvas.turned_text(bar + kBar + 46, top + map_height / 2, 90, map.value_title);
  }
  if (!map.note.empty()) canvas.text(kLeft, height - 14, "start", map.note, " class=\"quiet\"");
  return std::move(canvas).finish();
}

}  // namespace depthlens::report
