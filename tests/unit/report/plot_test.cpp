// Pictures: values stand where the axes say, text is escaped, odd input still gives a picture.
#include "depthlens/report/plot.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <regex>

#include "support/catch.hpp"

namespace depthlens::report {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
  return n;
}

struct Point {
  double x, y;
};

/// The marks of the first series, by what appears under the pointer.
std::vector<Point> circles(const std::string& svg) {
  const std::regex pattern("<circle class=\"mark s0\" cx=\"([^\"]+)\" cy=\"([^\"]+)\" r=\"[^\"]+\"><title>");
  std::vector<Point> points;
  for (std::sregex_iterator i(svg.begin(), svg.end(), pattern), end; i != end; ++i)
    points.push_back({std::stod((*i)[1]), std::stod((*i)[2])});
  return points;
}

/// Text beside the left axis → its height (of the middle of the digits).
std::map<std::string, double> left_labels(const std::string& svg) {
  const std::regex pattern("<text x=\"64\" y=\"([^\"]+)\" text-anchor=\"end\">([^<]+)</text>");
  std::map<std::string, double> labels;
  for (std::sregex_iterator i(svg.begin(), svg.end(), pattern), end; i != end; ++i)
    labels[(*i)[2]] = std::stod((*i)[1]) - 4;
  return labels;
}

LineChart chart(std::vector<Series> series, Scale scale = Scale::kLinear) {
  return {
      .title = "Title", .x_title = "layer", .y_title = "nats", .scale = scale, .series = std::move(series)};
}

/// Every tag that is opened is closed, and no text holds a raw "&". A raw "<" would open a tag.
void check_well_formed(const std::string& svg) {
  std::vector<std::string> open;
  std::size_t i = 0;
  bool sound = true;
  while (i < svg.size() && sound) {
    if (svg[i] == '&') {
      bool known = false;
      for (const std::string entity : {"&amp;", "&lt;", "&gt;", "&quot;"})
        known = known || svg.compare(i, entity.size(), entity) == 0;
      sound = known;
    }
    if (svg[i++] != '<') continue;
    const std::size_t end = svg.find('>', i);
    const std::string tag = svg.substr(i, end - i), name = tag.substr(0, tag.find(' '));
    sound = end != std::string::npos && tag.find('<') == std::string::npos;
    if (tag.starts_with('/')) {
      sound = sound && !open.empty() && "/" + open.back() == tag;
      if (sound) open.pop_back();
    } else if (!tag.ends_with('/')) {
      open.push_back(name);
    }
    i = end;
  }
  CHECK(sound);
  CHECK(open.empty());
}

TEST_CASE("on a linear scale values stand level with their labels and evenly apart") {
  const std::string svg = line_chart_svg(chart({{"a", {0, 1, 2, 4}}}));
  const auto points = circles(svg);
  const auto labels = left_labels(svg);
  REQUIRE(points.size() == 4);
  for (const auto& [text, value] :
       std::map<std::string, std::size_t>{{"0", 0}, {"1", 1}, {"2", 2}, {"4", 3}}) {
    REQUIRE(labels.count(text) == 1);
    CHECK(labels.at(text) == Approx(points[value].y).margin(0.02));
  }
  CHECK(points[0].y - points[1].y == Approx(points[1].y - points[2].y).margin(0.02));
  CHECK(points[2].y - points[3].y == Approx(2 * (points[1].y - points[2].y)).margin(0.02));
  CHECK(points[1].x - points[0].x == Approx(points[3].x - points[2].x).margin(0.02));
  CHECK(points[0].x < points[1].x);
  check_well_formed(svg);
}

TEST_CASE("on a logarithmic scale equal factors are equal distances, and zero leaves a gap") {
  const std::string svg = line_chart_svg(chart({{"a", {100, 10, 1, 0, 0.1}}}, Scale::kLog));
  const auto points = circles(svg);
  const auto labels = left_labels(svg);
  REQUIRE(points.size() == 4);
  CHECK(points[1].y - points[0].y == Approx(points[2].y - points[1].y).margin(0.02));
  CHECK(points[3].y - points[2].y == Approx(points[2].y - points[1].y).margin(0.02));
  CHECK(points[3].x - points[2].x == Approx(2 * (points[2].x - points[1].x)).margin(0.02));
  CHECK(labels.at("10") == Approx(points[1].y).margin(0.02));
  const std::regex path("<path class=\"s0 line\" d=\"(M[^H\"]+)\"");
  std::smatch found;
  REQUIRE(std::regex_search(svg, found, path));
  CHECK(count(found[1], "M") == 2);  // the pen is lifted at the gap
}

TEST_CASE("the right axis shows the left one's values in its own unit") {
  LineChart two = chart({{"a", {0, 1, 2}}});
  two.right_title = "bits";
  two.right_factor = 10;
  const std::string svg = line_chart_svg(two);
  const double y = left_labels(svg).at("1");
  std::smatch found;
  REQUIRE(std::regex_search(svg, found, std::regex("y=\"([^\"]+)\" text-anchor=\"start\">10</text>")));
  CHECK(std::stod(found[1]) - 4 == Approx(y).margin(0.02));
  CHECK(count(svg, ">bits</text>") == 1);
}

TEST_CASE("names and titles are escaped") {
  LineChart odd = chart({{"<a> & \"b\"\x01\xFF", {1}}});
  odd.title = "</svg><script>";
  const std::string svg = line_chart_svg(odd);
  CHECK(count(svg, "<script>") == 0);
  CHECK(count(svg, "&lt;a&gt; &amp; &quot;b&quot; \xEF\xBF\xBD") >= 1);
  check_well_formed(svg);
  Heatmap map{
      .title = "a<b", .x_title = "x&y", .y_title = "\"", .value_title = "<", .panels = {{"p<", {{1}}}}};
  check_well_formed(heatmap_svg(map));
}

TEST_CASE("pictures of nothing, of one value and of values that are not finite") {
  for (const Scale scale : {Scale::kLinear, Scale::kLog}) {
    for (const std::vector<double>& values :
         {std::vector<double>{}, {kNone}, {kNone, INFINITY, -INFINITY}, {3}, {0}, {-1, 2}, {1e-300, 1e300}}) {
      const std::string svg = line_chart_svg(chart({{"a", values}}, scale));
      check_well_formed(svg);
      CHECK(count(svg, "nan") == 0);
      CHECK(count(svg, "inf") == 0);
      const std::string map = heatmap_svg({.title = "t",
                                           .x_title = "x",
                                           .y_title = "y",
                                           .value_title = "v",
                                           .scale = scale,
                                           .panels = {{"a", {values}}}});
      check_well_formed(map);
      CHECK(count(map, "nan") == 0);
    }
    check_well_formed(line_chart_svg(chart({}, scale)));
    check_well_formed(heatmap_svg(
        {.title = "t", .x_title = "x", .y_title = "y", .value_title = "v", .scale = scale, .panels = {}}));
  }
  CHECK(count(line_chart_svg(chart({{"a", {kNone}}})), "no values") == 1);
  const auto one = circles(line_chart_svg(chart({{"a", {3}}})));
  REQUIRE(one.size() == 1);
  CHECK(one[0].x == Approx((72 + 760 - 28) / 2.0));  // in the middle of the chart
}

TEST_CASE("series beyond the colours differ by their dashes") {
  std::vector<Series> many;
  for (int i = 0; i < 9; ++i) many.push_back({"lens", {1, 2}});
  const std::string svg = line_chart_svg(chart(many));
  CHECK(count(svg, "stroke-dasharray") == 4);  // two lines and their two samples in the legend
}

TEST_CASE("cells of a heat map stand in their row and column, with number, colour and frame") {
  const std::string svg = heatmap_svg({.title = "t",
                                       .x_title = "layer",
                                       .y_title = "translator",
                                       .value_title = "nats",
                                       .mark_diagonal = true,
                                       .panels = {{"a", {{0, 1.5}, {kNone, 10}}}}});
  const std::regex pattern(
      "<rect class=\"([^\"]+)\"(?: fill=\"([^\"]+)\")? x=\"([^\"]+)\" y=\"([^\"]+)\" [^>]*><title>translator "
      "(\\d), layer (\\d): ([^<]+)</title>");
  std::map<std::string, std::smatch> cells;
  for (std::sregex_iterator i(svg.begin(), svg.end(), pattern), end; i != end; ++i)
    cells[(*i)[5].str() + (*i)[6].str()] = *i;
  REQUIRE(cells.size() == 4);
  CHECK(cells["00"][7] == "0");
  CHECK(cells["01"][7] == "1.50");
  CHECK(cells["10"][7] == "none");
  CHECK(cells["10"][1] == "cell missing");
  CHECK(cells["11"][7] == "10.0");
  CHECK(cells["00"][2] == "#440154");  // the ends of the scale of colours
  CHECK(cells["11"][2] == "#fde725");
  CHECK(cells["00"][3] == "72");
  CHECK(std::stod(cells["01"][3]) > std::stod(cells["00"][3]));
  CHECK(cells["01"][4] == cells["00"][4]);
  CHECK(std::stod(cells["10"][4]) > std::stod(cells["00"][4]));
  CHECK(count(svg, ">1.50</text>") == 1);
  CHECK(count(svg, "class=\"diagonal\"") == 2);
}

TEST_CASE("large maps leave the numbers out of their cells") {
  const std::vector<std::vector<double>> rows(60, std::vector<double>(60, 1.25));
  const std::string svg = heatmap_svg(
      {.title = "t", .x_title = "x", .y_title = "y", .value_title = "v", .panels = {{"a", rows}}});
  CHECK(count(svg, ">1.25</text>") == 0);
  CHECK(count(svg, ": 1.25</title>") == 3600);
}

TEST_CASE("the suitable scale is logarithmic for values over more than a factor of 50") {
  CHECK(suitable_scale({}) == Scale::kLinear);
  CHECK(suitable_scale({kNone, 0, -3}) == Scale::kLinear);
  CHECK(suitable_scale({0, 1, 40}) == Scale::kLinear);
  CHECK(suitable_scale({0, 0.1, 6}) == Scale::kLog);
  CHECK(suitable_scale({1, INFINITY}) == Scale::kLinear);
}

}  // namespace
}  // namespace depthlens::report
