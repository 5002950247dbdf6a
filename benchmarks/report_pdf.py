"""docs/report.pdf from the report's JSON: A4 pages, landscape."""

import textwrap

from cases import TARGETS
from matplotlib.backends.backend_pdf import PdfPages
from report_plots import (
    BAD,
    GREY,
    INK,
    OURS,
    PALE,
    THEIRS,
    bars,
    dumbbells,
    kernel,
    number,
    plt,
    rate,
    ratios,
    roofline,
    shares,
    sweep,
    targets,
)
from report_table import TORCH, how_fast, of_group, peak, slower_with
from turns import ratio

WIDTH, HEIGHT = 11.69, 8.27
FOUR = {"left": 0.15, "right": 0.95, "top": 0.83, "bottom": 0.1, "hspace": 0.35, "wspace": 0.45}


class Report:
    def __init__(self, data, pdf):
        self.data, self.pdf, self.number = data, pdf, 0

    def page(self, title, text=""):
        """A figure with a heading, a line or two under it, and a foot."""
        self.number += 1
        figure = plt.figure(figsize=(WIDTH, HEIGHT))
        figure.text(0.05, 0.945, title, fontsize=17, weight="bold")
        text = "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, 165))
        figure.text(0.05, 0.925, text, fontsize=9, color=GREY, va="top", linespacing=1.4)
        machine = self.data.get("machine", {})
        cpu = f"{machine.get('cpu', '')}, {self.data['threads']} threads"
        foot = "   ·   ".join([self.data["date"], cpu, self.data["command"]])
        figure.text(0.05, 0.025, foot, fontsize=7.5, color=GREY)
        figure.text(0.95, 0.025, str(self.number), fontsize=7.5, color=GREY, ha="right")
        return figure

    def done(self, figure):
        self.pdf.savefig(figure)
        plt.close(figure)


def table(figure, rect, heads, rows, edges, line=0.026, size=8, colors=None):
    """Text in columns: the first one starts at edges[0], the others end at their edge. Fractions of the page."""
    x0, y = rect

    def write(cells, at, **style):
        for i, (cell, edge) in enumerate(zip(cells, edges, strict=True)):
            figure.text(x0 + edge, at, cell, ha="left" if i == 0 else "right", va="center", fontsize=size, **style)

    write(heads, y, weight="bold")
    rule = lambda at, color: figure.add_artist(
        plt.Line2D([x0, x0 + edges[-1]], [at, at], color=color, linewidth=0.7, transform=figure.transFigure)
    )
    rule(y - 0.6 * line, INK)
    for i, row in enumerate(rows):
        at = y - (i + 1.2) * line
        write(row, at, color=(colors or {}).get(i, INK))
        if i < len(rows) - 1:
            rule(at - 0.5 * line, PALE)
    return y - (len(rows) + 1.2) * line


def summary(report):
    data = report.data
    figure = report.page(
        "LightGrad beside PyTorch, on the CPU",
        "One training step, its operations and the whole process. Each system runs in a process of its own, in"
        " turns, the others stopped.\nA ratio is PyTorch's time over LightGrad's: the best of eager, fused optimizers"
        " (and out= for single operations) and torch.compile; the spread is over the rounds.",
    )
    lines = how_fast(data)
    rows, colors = [], {}
    for i, line in enumerate(lines):
        one = line["ours"] is not None
        rows.append(
            [
                line["title"],
                f"{number(line['ours'])} {line['unit']}" if one else "",
                f"{number(line['theirs'])} {line['unit']}" if one else "",
                f"{line['median']:.2f}",
                f"{line['low']:.2f} to {line['high']:.2f}",
                f"{line['must']:g}",
                f"{line['aim']:g}",
            ]
        )
        if not line["holds"]:
            colors[i] = BAD
    heads = ["", "LightGrad", "PyTorch's best", "ratio", "spread", "must", "aim"]
    edges = [0, 0.425, 0.517, 0.555, 0.64, 0.675, 0.705]
    step = 0.031
    y = table(figure, (0.05, 0.845), heads, rows, edges, line=step, colors=colors)
    if lines:
        top = 0.845 - 0.7 * step
        targets(figure.add_axes((0.775, top - len(rows) * step, 0.18, len(rows) * step)), lines)
        words = "dot: ratio; black: must; dotted: aim"
        figure.text(0.775, 0.845, words, fontsize=8, color=GREY, va="center")

    m, v, p = data.get("machine", {}), data.get("versions", {}), peak(data)
    facts = [
        ("processor", f"{m.get('cpu')}, {m.get('family')}, {m.get('cores')} cores; {' '.join(m.get('simd', []))}"),
        (
            "caches, memory",
            ", ".join(f"{k} {c}" for k, c in m.get("caches", {}).items()) + f"; {m.get('memory_gib')} GiB",
        ),
        ("system", f"{m.get('system')}{', virtual machine' * bool(m.get('virtual'))}; {v.get('compiler')}"),
        (
            "versions",
            ", ".join(f"{k} {v[k]}" for k in ("lightgrad", "commit", "torch", "jax", "python", "numpy") if k in v),
        ),
        (
            "rounds",
            ", ".join(f"{k} {n}" for k, n in data["rounds"].items())
            + f"; {sum(data['minutes'].values()):.0f} minutes in all",
        ),
    ]
    if data.get("torch_uses"):
        facts.insert(-1, ("PyTorch's kernels", textwrap.shorten(data["torch_uses"], 160)))
    if p:
        facts.insert(
            2,
            (
                "measured peak",
                f"{p['flops'] / 1e9:.0f} GFLOP/s, memory {p['memory'] / 1e9:.0f} GB/s, the cores' caches "
                f"{p['cache'] / 1e9:.0f} GB/s (float32, {p['threads']} threads, {p['simd_target']})",
            ),
        )
    y -= 0.055
    for name, text in facts:
        figure.text(0.05, y, name, fontsize=8, color=GREY)
        figure.text(0.17, y, text, fontsize=8)
        y -= 0.025
    report.done(figure)


def steps_page(report):
    data = report.data
    older = ""
    for target in ("AVX2", "SSE4"):
        times = ", ".join(f"{name} {slower:.2f}" for name, slower in slower_with(data, target).items())
        older += f"Times as long with {target}: {times}. " * bool(times)
    figure = report.page(
        "Training steps",
        "Forward, backward and the optimizer's update, float32; the bar is the median, the black line runs from the"
        f" least to the largest round.\n{older}",
    )
    axes = figure.subplots(2, 2, gridspec_kw=FOUR)
    p = peak(data)
    for ax, row in zip(axes.flat, data["steps"], strict=False):
        r = ratio(row["systems"], "lightgrad", TORCH)
        title = row["name"]
        if r:
            title += f":  {r['median']:.2f} times as fast"
        small = row["name"] == "tiny"
        bars(ax, title, row["systems"], "us" if small else "ms", 1e3 if small else 1, log=small)
        if p and not small:
            limit = 1e3 * row["flop"] / p["flops"]
            ax.axvline(limit, color=INK, linestyle=(0, (4, 3)), linewidth=1)
            share = 100 * limit / row["systems"]["lightgrad"]["median"]
            ax.set_xlabel(f"ms; dashed: its matrix products at peak, {number(limit)} ms ({share:.0f}% reached)")
        else:
            ax.set_xlabel("microseconds, logarithmic" if small else "ms")
    for ax in list(axes.flat)[len(data["steps"]) :]:
        ax.remove()
    report.done(figure)


def roofline_page(report):
    if not peak(report.data):
        return
    figure = report.page(
        "Against the machine",
        "Rates are what a case cannot do without, over its time: FLOP of its products, bytes with operands read once a"
        " pass. Above 100 percent: data that stayed in a cache.",
    )
    roofline(figure.add_axes((0.07, 0.11, 0.50, 0.72)), report.data)
    groups = {
        "gemm": "matrix\nproducts",
        "attention": "attention",
        "cross_entropy": "cross-\nentropy",
        "conv": "convo-\nlutions",
        "memory_large": "16 M\nelements",
        "memory_small": "64 K\nelements",
    }
    shares(figure.add_axes((0.68, 0.11, 0.27, 0.72)), report.data, groups)
    report.done(figure)


def legend(figure):
    handles = [plt.Line2D([], [], marker="o", color=c, linestyle="", markersize=6) for c in (OURS, THEIRS)]
    figure.legend(handles, ["LightGrad", "PyTorch's best"], loc="upper right", bbox_to_anchor=(0.955, 0.975), ncols=2)


def gemm_page(report):
    pairs, p = of_group(report.data, "gemm"), peak(report.data)
    best = ""
    if p:
        ours = max(rate(row, "lightgrad", "flop") for row, _ in pairs)
        theirs = max(rate(row, r["peer"], "flop") for row, r in pairs)
        parts = [
            f"{who} {most:.0f} ({1e11 * most / p['flops']:.0f}%)"
            for who, most in (("LightGrad", ours), ("PyTorch", theirs))
        ]
        best = f"The most of the peak of {p['flops'] / 1e9:.0f}: {', '.join(parts)}."
    figure = report.page(
        "Matrix products of the steps",
        "GFLOP/s, m x n x k. NT is a layer's forward, NN the gradient of its input, TN of its weight; TT is extra."
        f"\n{best}",
    )
    axes = figure.subplots(
        2, 2, gridspec_kw={"left": 0.13, "right": 0.95, "top": 0.84, "bottom": 0.09, "hspace": 0.28, "wspace": 0.35}
    )
    for ax, form in zip(axes.flat, ("NT", "NN", "TN", "TT"), strict=True):
        rows = [(dict(row, name=row["name"][3:]), r) for row, r in pairs if row["name"].startswith(form)]
        dumbbells(ax, rows, lambda row, name: rate(row, name, "flop"))
        ax.set_xlim(0, 1.05 * p["flops"] / 1e9 if p else None)
        if p:
            ax.axvline(p["flops"] / 1e9, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        least = min(rows, key=lambda pair: pair[1]["median"])
        ax.set_title(f"{form}: least ratio {least[1]['median']:.2f}, at {least[0]['name']}")
        ax.tick_params(axis="y", labelsize=7.5)
    legend(figure)
    report.done(figure)


def ratio_pages(report):
    data = report.data
    figure = report.page("Attention and cross-entropy", "Forward and backward together; ratios with their spread.")
    pairs = of_group(data, "attention")
    target = TARGETS["attention"]
    ratios(figure.add_axes((0.24, 0.44, 0.70, 0.41)), pairs, target.must, target.aim, "Attention")
    pairs, target = of_group(data, "cross_entropy"), TARGETS["cross_entropy"]
    ratios(figure.add_axes((0.24, 0.12, 0.70, 0.16)), pairs, target.must, target.aim, "Cross-entropy, rows x classes")
    report.done(figure)

    pairs, target = of_group(data, "conv"), TARGETS["conv"]
    if pairs:
        figure = report.page(
            "Convolutions",
            "Forward, and the gradients of images (data) and weight; the better of PyTorch's two layouts. Red: under"
            " the must.",
        )
        middle = -(-len(pairs) // 2)
        for x, half, title in ((0.20, pairs[:middle], "ResNet-20"), (0.69, pairs[middle:], "Larger images")):
            ratios(figure.add_axes((x, 0.10, 0.27, 0.75)), half, target.must, target.aim, title)
        report.done(figure)

    figure = report.page(
        "What memory limits",
        "Normalization, activations, AdamW, reductions, copies and broadcasts, at two sizes; ratios with their spread."
        " Red: under the must.",
    )
    for x, group, title in ((0.19, "memory_large", "16 M elements"), (0.67, "memory_small", "64 K elements")):
        target = TARGETS[group]
        ratios(figure.add_axes((x, 0.10, 0.28, 0.75)), of_group(data, group), target.must, target.aim, title)
    report.done(figure)

    figure = report.page(
        "What memory limits, in GB/s",
        "Bytes that have to move over the time that it took. Dashed: the machine's memory, as measured.",
    )
    p = peak(data)
    for x, group, title in ((0.19, "memory_large", "16 M elements"), (0.67, "memory_small", "64 K elements")):
        ax = figure.add_axes((x, 0.10, 0.28, 0.75))
        dumbbells(ax, of_group(data, group), lambda row, name: rate(row, name, "bytes"))
        ax.set_xlim(left=0)
        if p:
            ax.axvline(p["memory"] / 1e9, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        ax.set_title(title)
        ax.set_xlabel("GB/s")
    legend(figure)
    report.done(figure)


def sweeps_page(report):
    found = report.data["sweeps"]
    base = ", ".join(f"{name} {value}" for name, value in found["base"].items())
    figure = report.page(
        "How cost grows",
        f"A training step of a small GPT ({base}) as one size grows: milliseconds, and the ratio of PyTorch's"
        " (fused optimizers) over LightGrad's. Dashed: its matrix products at the machine's peak.",
    )
    names = list(dict.fromkeys(row["what"] for row in found["rows"]))
    grid = {
        "left": 0.06,
        "right": 0.96,
        "top": 0.83,
        "bottom": 0.12,
        "hspace": 0.08,
        "wspace": 0.3,
        "height_ratios": (3, 2),
    }
    axes = figure.subplots(2, len(names), gridspec_kw=grid, squeeze=False)
    for i, what in enumerate(names):
        sweep(axes[0, i], axes[1, i], found["rows"], what, peak(report.data))
    axes[0, 0].set_ylabel("ms a step")
    axes[1, 0].set_ylabel("ratio")
    legend(figure)
    report.done(figure)


def kernels_page(report):
    names = list(dict.fromkeys(row["kernel"] for row in report.data["kernels"]))
    figure = report.page(
        "Kernels over sizes, dtypes and threads",
        "LightGrad alone. Dashed: the machine's float32 peak for gemm, its memory for the others; what is above it"
        " comes from caches. x: elements, for gemm the side of a square.",
    )
    grid = {"left": 0.05, "right": 0.97, "top": 0.84, "bottom": 0.08, "hspace": 0.4, "wspace": 0.25}
    axes = list(figure.subplots(2, 4, gridspec_kw=grid).flat)
    for ax, name in zip(axes, names, strict=False):
        kernel(ax, report.data, name)
    handles, labels = axes[0].get_legend_handles_labels()
    for ax in axes[len(names) :]:
        ax.axis("off")
        ax.legend(handles, labels, loc="center left", fontsize=9)
    report.done(figure)


def processes_page(report):
    whole = report.data["processes"]
    figure = report.page("Whole processes", "What a user waits for and pays for before the first useful number.")
    axes = figure.subplots(2, 2, gridspec_kw=FOUR)
    (start, imports), (memory, size) = axes
    bars(start, "Process start to the first finished step of gpt_small", whole["start"], "s", log=True)
    bars(imports, "Starting Python and importing", whole["import"], "s", log=True)
    bars(memory, "Peak memory of training gpt_medium", whole["peak_memory"], "MB")
    sizes = {name: {"median": mb, "medians": [mb]} for name, mb in whole["installed_mb"].items()}
    bars(size, "Installed, with all it needs", sizes, "MB", log=True)
    report.done(figure)


def appendix(report):
    """Every operation: the numbers behind the dots."""
    rows = [row for row in report.data["operations"] if "median" in row["systems"]["lightgrad"]]
    words = {"attention": "attention, ", "cross_entropy": "cross-entropy, ", "gemm": "product ", "conv": "convolution "}
    words |= {"memory_large": "16 M: ", "memory_small": "64 K: "}
    pages = -(-len(rows) // 36)
    each = -(-len(rows) // pages) if rows else 1
    for start in range(0, len(rows), each):
        figure = report.page(
            f"Every operation ({start // each + 1} of {pages})",
            "Milliseconds: median of medians, and minimum.",
        )
        cells, colors = [], {}
        for i, row in enumerate(rows[start : start + each]):
            systems = row["systems"]
            cell = lambda name, s=systems: number(s[name]["median"]) if "median" in s.get(name, {}) else "-"
            r = ratio(systems, "lightgrad", TORCH)
            line = [words.get(row["group"], "") + row["name"], number(systems["lightgrad"]["min"]), cell("lightgrad")]
            line += [cell(name) for name in TORCH]
            line += [f"{r['median']:.2f}", f"({r['low']:.2f} to {r['high']:.2f})"] if r else ["-", ""]
            ms = systems["lightgrad"]["median"]
            line += [f"{row['flop'] / ms / 1e6:.0f}" if row["flop"] else "", f"{row['bytes'] / ms / 1e6:.1f}"]
            cells.append(line)
            if r and r["median"] < 1:
                colors[i] = BAD
        heads = ["", "min", "LightGrad", "PyTorch", "fused, out=", "compiled", "ratio", "spread", "GFLOP/s", "GB/s"]
        edges = [0, 0.36, 0.44, 0.51, 0.59, 0.66, 0.72, 0.82, 0.87, 0.90]
        table(figure, (0.05, 0.885), heads, cells, edges, line=0.0228, size=7, colors=colors)
        report.done(figure)


PAGES = {
    "steps": steps_page,
    "operations": (roofline_page, gemm_page, ratio_pages),
    "sweeps": sweeps_page,
    "kernels": kernels_page,
    "processes": processes_page,
}


def write_pdf(data, path):
    with PdfPages(path, metadata={"Title": "LightGrad beside PyTorch, on the CPU", "CreationDate": None}) as pdf:
        report = Report(data, pdf)
        summary(report)
        for section, pages in PAGES.items():
            if data.get(section):
                for page in pages if isinstance(pages, tuple) else (pages,):
                    page(report)
        if data.get("operations"):
            appendix(report)
