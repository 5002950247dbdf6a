"""Pictures of a run, as SVG: how it went, which images it takes for something else, what its first layer looks for.
pictures.h draws the same ones in C++.
"""

import base64

import lightgrad as lg
from lightgrad import io

BLUE, ORANGE, GREY = "#1565c0", "#ef6c00", "#546e7a"


def picture(width, height, title, body):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="11" fill="#263238">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n'
        + words(16, 26, title, 'font-size="15"')
        + body
        + "</svg>\n"
    )


def words(x, y, text, style=""):
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{text}</text>\n'


def grid(title, images, captions, columns):
    """Images, uint8 (n, c, h, w), enlarged without smoothing, each above its lines of text."""
    side, gap, top = 64, 20, 44
    lines = len(captions[0]) if captions else 0
    row = side + gap + 12 * lines
    body = ""
    for i in range(len(images)):
        x, y = 16 + i % columns * (side + gap), top + i // columns * row
        png = base64.b64encode(io.encode_png(images[i])).decode()
        body += (
            f'<image x="{x}" y="{y}" width="{side}" height="{side}" style="image-rendering: pixelated" '
            f'href="data:image/png;base64,{png}"/>\n'
        )
        for k in range(lines):
            body += words(x, y + side + 12 + 12 * k, captions[i][k], f'fill="{(GREY, ORANGE)[k]}"')
    return picture(32 + columns * (side + gap) - gap, top + -(-len(images) // columns) * row + 4, title, body)


def plot(left, title, low, high, lines):
    """A box with lines (name, colour, values), from `low` to `high`, over the epochs."""
    top, width, height = 64, 340, 220
    body = words(left, top - 14, title, 'font-weight="bold"')
    for i in range(6):
        y = top + height * (1 - i / 5)
        body += f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="#eceff1"/>\n'
        body += words(left - 6, y + 4, f"{low + (high - low) * i / 5:.2f}", f'text-anchor="end" fill="{GREY}"')
    count = len(lines[0][2])
    for e in range(1, count + 1):
        if e == 1 or e == count or (e % 5 == 0 and count - e > 2):
            x = left + width * e / count
            body += words(x, top + height + 16, f"{e}", f'text-anchor="middle" fill="{GREY}"')
    body += words(left + width / 2, top + height + 34, "epoch", f'text-anchor="middle" fill="{GREY}"')
    for k, (name, colour, values) in enumerate(lines):
        points = ""
        for e, v in enumerate(values):
            at = min(max((v - low) / (high - low), 0.0), 1.0)
            points += f" {left + width * (e + 1) / count:.1f},{top + height * (1 - at):.1f}"
        body += f'<polyline points="{points[1:]}" fill="none" stroke="{colour}" stroke-width="2"/>\n'
        x = left + width - 120 * (len(lines) - 1 - k)
        body += words(x, top - 14, f"{name} {values[-1]:.4f}", f'text-anchor="end" fill="{colour}"')
    return body


def curves(title, history):
    """Of rows (loss, accuracy in training, accuracy in the test), one for each epoch."""
    losses, learned, tested = zip(*history, strict=True)
    body = plot(56, "loss", 0.0, max(*losses, 0.01), [("training", BLUE, losses)])
    lines = [("training", BLUE, learned), ("test", ORANGE, tested)]
    body += plot(464, "accuracy", min(*learned, *tested, 0.99), 1.0, lines)
    return picture(824, 330, title, body)


def filters(title, weights):
    """The first convolution's weights (n, c, 3, 3): grey is none, white and black are the largest."""
    with lg.no_grad():
        images = (weights / weights.abs().max() * 127.5 + 128).clamp(0, 255).to(lg.uint8)
    return grid(title, images, [], 8)
