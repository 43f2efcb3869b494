// Pictures as SVG from plain numbers: lines over layers, heat maps. A picture is one file without references;
// it follows the reader's light or dark theme, and its colours can be told apart by the colour-blind.
#pragma once

#include <string>
#include <vector>

namespace depthlens::report {

enum class Scale { kLinear, kLog };

/// The scale that shows all of `values`: logarithmic where the positive ones span more than a factor of 50.
Scale suitable_scale(const std::vector<double>& values);

struct Series {
  std::string name;
  std::vector<double> values;  ///< at x = 0, 1, 2, …
};

/// Values that are not finite leave a gap; so do those that are not positive on a logarithmic scale.
struct LineChart {
  std::string title;
  std::string note = {};  ///< a line below the chart
  std::string x_title;
  std::string y_title;
  Scale scale = Scale::kLinear;
  std::vector<Series> series;
  /// A second axis on the right, in a unit of which the left one's is `right_factor`. "": none.
  std::string right_title = {};
  double right_factor = 1;
};

std::string line_chart_svg(const LineChart& chart);

/// Heat maps, one below the other, on one scale of colours. Cells without a finite value (or positive
/// one, on a logarithmic scale) are grey.
struct Heatmap {
  struct Panel {
    std::string title;
    std::vector<std::vector<double>> rows;  ///< all equally long
  };
  std::string title;
  std::string note = {};
  std::string x_title;      ///< of the columns, numbered from 0
  std::string y_title;      ///< of the rows, numbered from 0
  std::string value_title;  ///< of the scale of colours
  Scale scale = Scale::kLinear;
  bool mark_diagonal = false;
  std::vector<Panel> panels;
};

std::string heatmap_svg(const Heatmap& map);

}  // namespace depthlens::report
