"""The report's charts, each drawn into axes that it is given. Numbers come from the report's JSON alone."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from report_table import NAMES, TORCH, limit_ms, of_group, peak
from turns import ratio

INK, GREY, PALE, BAD = "#22272e", "#7d8590", "#d9dee4", "#c0392b"
COLORS = {
    "lightgrad": "#1f5fa8",
    "lightgrad.python": "#7fb0e0",
    "lightgrad.avx2": "#a9b8c9",
    "lightgrad.sse4": "#cfd8e2",
    "torch": "#e07b39",
    "torch.best": "#f0b27a",
    "torch.compile.best": "#a04000",
    "torch.compile": "#a04000",
    "jax": "#4f9d69",
}
OURS, THEIRS = COLORS["lightgrad"], COLORS["torch"]
plt.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 8.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GREY,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": PALE,
        "grid.linewidth": 0.6,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
        "pdf.fonttype": 42,
    }
)


def number(value):
    """Three digits, no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}" if value >= 1e-4 else f"{value:f}"


def plain_log(axis, ticks=None):
    """A logarithmic axis labelled with plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if v < 1e4 else f"{v:,.0f}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())
    if ticks is None:
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=12))
    else:
        axis.set_ticks(ticks)


def bars(ax, title, systems, unit, scale=1.0, log=False):
    """A horizontal bar per system: its median, with a line from the least to the largest round."""
    shown = [(name, s) for name, s in systems.items() if "median" in s]
    for y, (name, s) in enumerate(shown):
        ax.barh(y, s["median"] * scale, height=0.62, color=COLORS[name])
        values = [v * scale for v in s["medians"]]
        if len(values) > 1:
            ax.plot([min(values), max(values)], [y, y], color=INK, linewidth=1.2, solid_capstyle="butt")
        end = max([s["median"] * scale, *values])
        ax.annotate(
            f"{number(s['median'] * scale)} {unit}",
            (end, y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_yticks(range(len(shown)), [NAMES[name] for name, _ in shown])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    most = max((max(s["medians"]) for _, s in shown), default=1) * scale
    if log:
        least = min(s["median"] for _, s in shown) * scale
        ax.set_xscale("log")
        ax.set_xlim(least / 3, most * 8)
        plain_log(ax.xaxis)
        ax.xaxis.set_major_locator(LogLocator(base=10))
    else:
        ax.set_xlim(0, most * 1.3)
    ax.grid(axis="x")
    ax.set_title(title)


def dumbbells(ax, rows, value, better_right=True):
    """Per case, ours and PyTorch's best on one line. `value(row, system)` gives the number."""
    for y, (row, r) in enumerate(rows):
        ours, theirs = value(row, "lightgrad"), value(row, r["peer"])
        ax.plot([ours, theirs], [y, y], color=PALE, linewidth=2.4, zorder=1)
        ax.plot(theirs, y, "o", color=THEIRS, markersize=5, zorder=2)
        ax.plot(ours, y, "o", color=OURS, markersize=5.5, zorder=3)
    ax.set_yticks(range(len(rows)), [row["name"] for row, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")


def ratios(ax, rows, must, aim, title):
    """Per case, PyTorch's time over ours with its spread, on a logarithmic axis."""
    for y, (_, r) in enumerate(rows):
        color = OURS if r["median"] >= must else BAD
        ax.plot([r["low"], r["high"]], [y, y], color=color, alpha=0.35, linewidth=4, solid_capstyle="butt")
        ax.plot(r["median"], y, "o", color=color, markersize=5)
    ax.set_xscale("log")
    low = min([0.5, *(r["low"] for _, r in rows)])
    high = max([4, aim, *(r["high"] for _, r in rows)])
    ax.set_xlim(low / 1.1, high * 1.15)
    plain_log(ax.xaxis)
    ax.axvline(must, color=INK, linewidth=1)
    ax.axvline(aim, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_yticks(range(len(rows)), [row["name"] for row, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_title(title)
    ax.set_xlabel(f"PyTorch's time / LightGrad's (line: must {must:g}, dashed: aim {aim:g})")


def targets(ax, lines):
    """The summary's ratios, a line each: the dot and its spread, a tick at the must and a lighter one at the aim."""
    for y, line in enumerate(lines):
        color = OURS if line["holds"] else BAD
        ax.plot([line["low"], line["high"]], [y, y], color=color, alpha=0.35, linewidth=4, solid_capstyle="butt")
        ax.plot(line["median"], y, "o", color=color, markersize=5.5)
        ax.plot([line["must"]] * 2, [y - 0.33, y + 0.33], color=INK, linewidth=1.6)
        ax.plot([line["aim"]] * 2, [y - 0.33, y + 0.33], color=GREY, linewidth=1.6, linestyle=(0, (1.5, 1)))
    ax.set_xscale("log")
    ax.set_xlim(min([0.5, *(line["low"] / 1.2 for line in lines)]), max([100, *(1.2 * line["high"] for line in lines)]))
    plain_log(ax.xaxis)
    ax.axvline(1, color=INK, linewidth=0.8)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.tick_params(axis="y", left=False, labelleft=False)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")


def rate(row, system, what):
    return row[what] / row["systems"][system]["median"] / 1e6  # per millisecond, in units of 1e9


def roofline(ax, data):
    """Matrix products and attention under the machine's roof."""
    p = peak(data)
    knee = p["flops"] / p["memory"]
    x = [1, knee, 2000]
    ax.plot(x, [min(p["flops"], i * p["memory"]) / 1e9 for i in x], color=INK, linewidth=1.6)
    near = p["flops"] / p["cache"]
    ax.plot(
        [1, near, knee],
        [min(p["flops"], i * p["cache"]) / 1e9 for i in (1, near, knee)],
        color=GREY,
        linewidth=1.2,
        linestyle=(0, (4, 3)),
    )
    for group, marker in (("gemm", "o"), ("attention", "^")):
        for row, r in of_group(data, group):
            intensity = row["flop"] / row["bytes"]
            for name, color in ((r["peer"], THEIRS), ("lightgrad", OURS)):
                ax.plot(intensity, rate(row, name, "flop"), marker, color=color, markersize=4.5, alpha=0.8, mew=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(1.5, 2000)
    ax.set_ylim(p["flops"] / 1e9 / 60, p["flops"] / 1e9 * 1.6)
    plain_log(ax.xaxis)
    plain_log(ax.yaxis)
    ax.grid()
    ax.set_xlabel("FLOP per byte that has to move")
    ax.set_ylabel("GFLOP/s")
    ax.annotate(
        f"peak {p['flops'] / 1e9:.0f} GFLOP/s",
        (1900, p["flops"] / 1e9),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
    )
    entries = [
        ("o", OURS, "LightGrad, matrix product"),
        ("o", THEIRS, "PyTorch's best, matrix product"),
        ("^", OURS, "LightGrad, attention"),
        ("^", THEIRS, "PyTorch's best, attention"),
    ]
    handles = [plt.Line2D([], [], marker=m, color=c, linestyle="", markersize=5) for m, c, _ in entries]
    handles += [plt.Line2D([], [], color=INK), plt.Line2D([], [], color=GREY, linestyle=(0, (4, 3)))]
    labels = [text for *_, text in entries]
    labels += [f"memory, {p['memory'] / 1e9:.0f} GB/s", f"the cores' caches, {p['cache'] / 1e9:.0f} GB/s"]
    ax.legend(handles, labels, loc="lower right", fontsize=7.5)
    ax.set_title("Roofline")


def shares(ax, data, groups):
    """Per group, which share of the machine's limit each case reaches; from 200 percent on at the edge."""
    p, labels, most = peak(data), [], 200
    for y, (group, label) in enumerate(groups.items()):
        labels.append(label)
        for row, r in of_group(data, group):
            limit = limit_ms(row, p)
            for name, color, shift in (("lightgrad", OURS, -0.16), (r["peer"], THEIRS, 0.16)):
                share = min(100 * limit / row["systems"][name]["median"], most)
                ax.plot(share, y + shift, "o", color=color, markersize=4, alpha=0.55, mew=0)
    ax.axvline(100, color=INK, linewidth=1.2)
    ax.set_xlim(0, 1.04 * most)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.set_xlabel("percent of what peak and bandwidth allow")
    ax.set_title("Share of the limit, a dot per case")


def sweep(top, bottom, rows, what, p):
    """Time over one growing size, and the ratio under it."""
    rows = [row for row in rows if row["what"] == what]
    sizes = [row["size"] for row in rows]
    for name in ("torch.best", "lightgrad"):
        there = [
            (row["size"], row["systems"][name]["median"]) for row in rows if "median" in row["systems"].get(name, {})
        ]
        if there:
            color = OURS if name == "lightgrad" else THEIRS
            top.plot(*zip(*there, strict=True), "o-", color=color, markersize=4, label=NAMES[name])
    if p:
        limits = [1e3 * row["flop"] / p["flops"] for row in rows]
        top.plot(sizes, limits, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    for ax in (top, bottom):
        ax.set_xscale("log")
        ax.set_xlim(min(sizes) / 1.35, max(sizes) * 1.35)
        plain_log(ax.xaxis, sizes)
        ax.grid()
    top.set_yscale("log")
    plain_log(top.yaxis)
    top.tick_params(labelbottom=False)
    found = [(row["size"], ratio(row["systems"], "lightgrad", TORCH)) for row in rows]
    found = [(size, r) for size, r in found if r]
    if found:
        sizes, values = zip(*found, strict=True)
        bottom.fill_between(sizes, [r["low"] for r in values], [r["high"] for r in values], color=OURS, alpha=0.2, lw=0)
        bottom.plot(sizes, [r["median"] for r in values], "o-", color=OURS, markersize=4)
    bottom.axhline(1, color=INK, linewidth=1)
    bottom.set_ylim(0, max([2, *(1.1 * r["high"] for _, r in found)]))
    bottom.tick_params(axis="x", labelsize=7)
    bottom.set_xlabel(what)
    top.set_title(what)


def kernel(ax, data, name):
    """Throughput over size: two dtypes, one thread and all."""
    rows = [row for row in data["kernels"] if row["kernel"] == name]
    what = "flops" if "flops" in rows[0] else "bytes"
    styles = {"float32": (OURS, "-"), "float64": (COLORS["jax"], "-")}
    for dtype, (color, line) in styles.items():
        for threads in sorted({row["threads"] for row in rows}):
            picked = sorted((r["size"], r[what]) for r in rows if r["dtype"] == dtype and r["threads"] == threads)
            if picked:
                many = threads > 1
                ax.plot(
                    *zip(*picked, strict=True),
                    "o" + line,
                    color=color,
                    alpha=1 if many else 0.45,
                    markersize=3.2,
                    linewidth=1.6 if many else 1,
                    label=f"{dtype}, {threads} thread{'s' * many}",
                )
    p = peak(data)
    if p:
        roof = p["flops"] if what == "flops" else p["memory"]
        ax.axhline(roof / 1e9, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_xscale("log", base=2)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(
        FuncFormatter(
            lambda v, _: f"{v / 2**20:.0f} M" if v >= 2**20 else f"{v / 1024:.0f} K" if v >= 1024 else f"{v:.0f}"
        )
    )
    ax.set_ylim(bottom=0)
    ax.grid()
    ax.set_title(f"{name}, {'GFLOP/s' if what == 'flops' else 'GB/s'}")
