// pictures.h: pictures of a run, as SVG: how it went, which images it takes for something else,
// what its first layer looks for. pictures.py draws the same ones in Python.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "lightgrad/lightgrad.h"

namespace pictures {

using lg::Tensor;
using lg::text;

inline const std::string blue = "#1565c0", orange = "#ef6c00", grey = "#546e7a";

inline std::string fixed(double v, int digits) {
  char out[64];
  std::snprintf(out, sizeof out, "%.*f", digits, v);
  return out;
}

inline std::string base64(std::string_view bytes) {
  constexpr std::string_view letters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    unsigned v = 0;
    for (std::size_t k = 0; k < 3; ++k)
      v = v << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (std::size_t k = 0; k < 4; ++k) out += k <= count ? letters[v >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

inline std::string words(double x, double y, std::string_view said, const std::string& style = "") {
  std::string escaped;
  for (const char c : said) {
    if (c == '&')
      escaped += "&amp;";
    else if (c == '<')
      escaped += "&lt;";
    else
      escaped += c;
  }
  return text("<text x=\"", fixed(x, 1), "\" y=\"", fixed(y, 1), "\" ", style, ">", escaped,
              "</text>\n");
}

inline std::string picture(std::int64_t width, std::int64_t height, std::string_view title,
                           const std::string& body) {
  return text("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", width, " ", height,
              "\" width=\"", width, "\" height=\"", height,
              "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\" "
              "fill=\"#263238\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
              words(16, 26, title, "font-size=\"15\""), body, "</svg>\n");
}

// Images, uint8 [n, c, h, w], enlarged without smoothing, each above its lines of text.
inline std::string grid(std::string_view title, const Tensor& images,
                        const std::vector<std::vector<std::string>>& captions,
                        std::int64_t columns) {
  constexpr std::int64_t side = 64, gap = 20, top = 44;
  const std::int64_t count = images.size(0);
  const std::int64_t lines = captions.empty() ? 0 : std::ssize(captions[0]);
  const std::int64_t row = side + gap + 12 * lines;
  std::string body;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t x = 16 + i % columns * (side + gap), y = top + i / columns * row;
    body += text("<image x=\"", x, "\" y=\"", y, "\" width=\"", side, "\" height=\"", side,
                 "\" style=\"image-rendering: pixelated\" href=\"data:image/png;base64,",
                 base64(lg::io::encode_png(images.index({i}))), "\"/>\n");
    for (std::int64_t k = 0; k < lines; ++k) {
      body += words(static_cast<double>(x), static_cast<double>(y + side + 12 + 12 * k),
                    captions[i][k], text("fill=\"", k == 0 ? grey : orange, "\""));
    }
  }
  const std::int64_t rows = (count + columns - 1) / columns;
  return picture(32 + columns * (side + gap) - gap, top + rows * row + 4, title, body);
}

struct Line {
  std::string name, colour;
  std::vector<double> values;
};

// A box with lines, from `low` to `high`, over the epochs.
inline std::string plot(int left, std::string_view title, double low, double high,
                        const std::vector<Line>& lines) {
  constexpr int top = 64, width = 340, height = 220;
  const std::string middle = text("text-anchor=\"middle\" fill=\"", grey, "\"");
  std::string body = words(left, top - 14, title, "font-weight=\"bold\"");
  for (int i = 0; i < 6; ++i) {
    const double y = top + height * (1 - i / 5.0);
    body += text("<line x1=\"", left, "\" y1=\"", fixed(y, 1), "\" x2=\"", left + width, "\" y2=\"",
                 fixed(y, 1), "\" stroke=\"#eceff1\"/>\n",
                 words(left - 6, y + 4, fixed(low + (high - low) * i / 5, 2),
                       text("text-anchor=\"end\" fill=\"", grey, "\"")));
  }
  const int count = static_cast<int>(lines[0].values.size());
  for (int e = 1; e <= count; ++e) {
    if (e != 1 && e != count && (e % 5 != 0 || count - e <= 2)) continue;
    const double x = left + static_cast<double>(width * e) / count;
    body += words(x, top + height + 16, text(e), middle);
  }
  body += words(left + width / 2, top + height + 34, "epoch", middle);
  for (std::size_t k = 0; k < lines.size(); ++k) {
    const auto& [name, colour, values] = lines[k];
    std::string points;
    for (int e = 0; e < count; ++e) {
      const double at = std::clamp((values[e] - low) / (high - low), 0.0, 1.0);
      points += text(" ", fixed(left + static_cast<double>(width * (e + 1)) / count, 1), ",",
                     fixed(top + height * (1 - at), 1));
    }
    body += text("<polyline points=\"", points.substr(1), "\" fill=\"none\" stroke=\"", colour,
                 "\" stroke-width=\"2\"/>\n");
    const double x = left + width - 120 * static_cast<double>(lines.size() - 1 - k);
    body += words(x, top - 14, text(name, " ", fixed(values.back(), 4)),
                  text("text-anchor=\"end\" fill=\"", colour, "\""));
  }
  return body;
}

// Of rows (loss, accuracy in training, accuracy in the test), one for each epoch.
inline std::string curves(std::string_view title, const std::vector<double>& history) {
  std::vector<double> losses, learned, tested;
  for (std::size_t i = 0; i < history.size(); i += 3) {
    losses.push_back(history[i]);
    learned.push_back(history[i + 1]);
    tested.push_back(history[i + 2]);
  }
  const double low = std::min({std::ranges::min(learned), std::ranges::min(tested), 0.99});
  const double high = std::max(std::ranges::max(losses), 0.01);
  return picture(
      824, 330, title,
      plot(56, "loss", 0, high, {{"training", blue, losses}}) +
          plot(464, "accuracy", low, 1, {{"training", blue, learned}, {"test", orange, tested}}));
}

// The first convolution's weights [n, c, 3, 3]: grey is none, white and black are the largest.
inline std::string filters(std::string_view title, const Tensor& weights) {
  const lg::NoGrad off;
  const Tensor images = lg::clamp(weights / lg::amax(lg::abs(weights)) * 127.5 + 128, 0, 255);
  return grid(title, lg::to(images, lg::DType::uint8), {}, 8);
}

}  // namespace pictures
