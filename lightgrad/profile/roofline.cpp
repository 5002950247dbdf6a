// roofline.cpp: the roofline model (Williams, Waterman, Patterson 2009) as a picture. Right of the
// ridge the multiply-add units limit an operation, left of it the memory. An operation whose data
// stays in the cores' caches may lie above the memory's line, up to the caches'.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "lightgrad/base/file.h"
#include "lightgrad/base/table.h"
#include "lightgrad/profile/profile.h"

namespace lg::profiler {
namespace {

constexpr double left = 74, top = 64, width = 560, height = 400;  // of the plot, in pixels
constexpr double legend = left + width + 28;                      // where the list begins
constexpr std::size_t most = 16;                                  // operations that are drawn

struct Axis {  // powers of ten
  double low, high;
  double at(double v) const { return (std::log10(v) - low) / (high - low); }
};

std::string number(double v) {
  char out[32];
  std::snprintf(out, sizeof out, "%.1f", v);
  return out;
}

std::string escaped(std::string_view s) {
  std::string out;
  for (const char c : s) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) >= 0x20)
      out += c;
  }
  return out;
}

class Picture {
 public:
  Picture(const Peak& peak, std::vector<Row> rows, double seconds)
      : peak_(peak), rows_(std::move(rows)), seconds_(seconds) {
    double slowest = peak.flops / 1e3, sparse = 0.1, dense = 10 * peak.flops / peak.memory;
    for (const Row& r : rows_) {
      slowest = std::min(slowest, r.flops_per_second());
      sparse = std::min(sparse, r.flops / r.bytes);
      dense = std::max(dense, r.flops / r.bytes);
    }
    x_ = {std::floor(std::log10(sparse)), std::ceil(std::log10(2 * dense))};
    y_ = {std::floor(std::log10(slowest)), std::ceil(std::log10(peak.flops) + 0.1)};
  }

  std::string draw() {
    const double total_height = std::max(top + height + 60, top + 46 + 19.0 * rows_.size());
    out_ = text("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", number(legend + 450),
                " ", number(total_height), "\" width=\"", number(legend + 450), "\" height=\"",
                number(total_height),
                "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" "
                "fill=\"#263238\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n");
    words(left, 26, "Roofline", "font-size=\"17\" font-weight=\"bold\"");
    words(left, 46,
          text(peak_.threads, peak_.threads == 1 ? " thread, " : " threads, ", peak_.simd_target,
               ": ", with_unit(peak_.flops, "F/s"), " in float32, memory ",
               with_unit(peak_.memory, "B/s"), ", caches ", with_unit(peak_.cache, "B/s")),
          "fill=\"#546e7a\"");
    grid();
    roof(peak_.cache, "#90a4ae", "caches", "stroke-dasharray=\"5 4\"");
    roof(peak_.memory, "#37474f", "memory", "stroke-width=\"2\"");
    points();
    return out_ + "</svg>\n";
  }

 private:
  double px(double intensity) const { return left + width * x_.at(intensity); }
  double py(double speed) const { return top + height * (1 - y_.at(speed)); }

  void words(double x, double y, const std::string& s, const std::string& style = "") {
    out_ += text("<text x=\"", number(x), "\" y=\"", number(y), "\" ", style, ">", escaped(s),
                 "</text>\n");
  }
  void line(double x1, double y1, double x2, double y2, const std::string& style) {
    out_ += text("<line x1=\"", number(x1), "\" y1=\"", number(y1), "\" x2=\"", number(x2),
                 "\" y2=\"", number(y2), "\" ", style, "/>\n");
  }

  void grid() {
    for (double e = x_.low; e <= x_.high; ++e) {
      const double at = px(std::pow(10, e));
      line(at, top, at, top + height, "stroke=\"#eceff1\"");
      char label[32];
      std::snprintf(label, sizeof label, "%g", std::pow(10, e));
      words(at, top + height + 17, label, "text-anchor=\"middle\" fill=\"#546e7a\"");
    }
    for (double e = y_.low; e <= y_.high; ++e) {
      const double at = py(std::pow(10, e));
      line(left, at, left + width, at, "stroke=\"#eceff1\"");
      words(left - 7, at + 4, with_unit(std::pow(10, e), "F/s"),
            "text-anchor=\"end\" font-size=\"11\" fill=\"#546e7a\"");
    }
    words(left + width / 2, top + height + 40,
          "arithmetic intensity: floating-point operations per byte moved",
          "text-anchor=\"middle\"");
  }

  // Bandwidth up to the ridge, then the multiply-add units.
  void roof(double bandwidth, const char* colour, const char* name, const char* style) {
    const double ridge = peak_.flops / bandwidth;
    const double begin =
        std::max(std::pow(10, x_.low), std::pow(10, y_.low) / bandwidth);  // where it enters
    const std::string stroke = text("stroke=\"", colour, "\" ", style);
    line(px(begin), py(begin * bandwidth), px(ridge), py(peak_.flops), stroke);
    line(px(ridge), py(peak_.flops), left + width, py(peak_.flops), stroke);
    const double middle = std::sqrt(begin * ridge);
    const double x = px(middle), y = py(middle * bandwidth);
    const double slope = -std::atan2(y - py(peak_.flops), px(ridge) - x) * 180 / 3.14159265358979;
    words(x, y - 6, name,
          text("text-anchor=\"middle\" font-size=\"11\" fill=\"", colour, "\" transform=\"rotate(",
               number(slope), " ", number(x), " ", number(y), ")\""));
  }

  static const char* colour(const Row& r) {
    if (r.name.ends_with(" backward")) return "#ef6c00";
    return r.name.ends_with(" step") || r.name.ends_with('_') ? "#6a1b9a" : "#1565c0";
  }

  // Area by share of the time, largest first so that small ones stay visible; and the list.
  void points() {
    words(legend, top + 6, "operation", "font-weight=\"bold\"");
    words(legend + 300, top + 6, "time", "font-weight=\"bold\" text-anchor=\"end\"");
    words(legend + 378, top + 6, "speed", "font-weight=\"bold\" text-anchor=\"end\"");
    words(legend + 440, top + 6, "of roof", "font-weight=\"bold\" text-anchor=\"end\"");
    double y = top + 28;
    for (std::size_t i = 0; i < rows_.size(); ++i, y += 19) {
      const Row& r = rows_[i];
      const double share = seconds_ > 0 ? r.seconds / seconds_ : 0, intensity = r.flops / r.bytes;
      const double limit = std::min(peak_.flops, intensity * peak_.memory);
      const double radius = std::max(8.0, 40 * std::sqrt(share));
      const std::string fill = text("fill=\"", colour(r), "\"");
      const std::string what =
          text(r.name, ": ", with_unit(r.flops_per_second(), "F/s"), ", ",
               with_unit(r.bytes_per_second(), "B/s"), ", ", r.calls, " calls");
      out_ +=
          text("<circle cx=\"", number(px(intensity)), "\" cy=\"", number(py(r.flops_per_second())),
               "\" r=\"", number(radius), "\" ", fill, " fill-opacity=\"0.25\" stroke=\"",
               colour(r), "\"><title>", escaped(what), "</title></circle>\n");
      const std::string index = std::to_string(i + 1);
      const std::string small =
          text("font-size=\"10\" font-weight=\"bold\" text-anchor=\"middle\" ");
      words(px(intensity), py(r.flops_per_second()) + 3.5, index, small + fill);
      words(legend + 6, y + 4, index, small + fill);
      words(legend + 20, y + 4, shortened(r.name));
      words(legend + 300, y + 4, number(100 * share) + "%", "text-anchor=\"end\"");
      words(legend + 378, y + 4, with_unit(r.flops_per_second(), "F/s"), "text-anchor=\"end\"");
      words(legend + 440, y + 4, number(100 * r.flops_per_second() / limit) + "%",
            "text-anchor=\"end\"");
    }
    if (rows_.empty()) words(legend, y, "no floating-point operations were recorded");
  }

  static std::string shortened(const std::string& name) {
    std::size_t end = 33;
    while (name.size() > 36 && (name[end] & 0xc0) == 0x80) --end;  // not within a character
    return name.size() <= 36 ? name : name.substr(0, end) + "...";
  }

  const Peak& peak_;
  std::vector<Row> rows_;
  double seconds_;
  Axis x_{}, y_{};
  std::string out_;
};

}  // namespace

std::string Profile::roofline(const Peak& peak) const {
  if (!(peak.flops > 0 && peak.memory > 0 && peak.cache > 0))
    fail(ErrorKind::value, "roofline", "the peak has rates of ", peak.flops, " F/s, ", peak.memory,
         " and ", peak.cache, " B/s, expected numbers above 0");
  std::vector<Row> all = rows();
  std::erase_if(all, [](const Row& r) { return !(r.flops > 0 && r.bytes > 0 && r.seconds > 0); });
  if (all.size() > most) all.resize(most);
  return Picture(peak, std::move(all), total().seconds).draw();
}

void Profile::save_roofline(const std::string& path, const Peak& peak) const {
  AtomicFile file(path, "save_roofline");
  file.write(roofline(peak));
  file.commit();
}

}  // namespace lg::profiler
