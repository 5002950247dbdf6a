"""README's performance section, from the report's JSON."""

from report_table import NAMES, TORCH, geometric_mean, of_group
from turns import ratio

BEGIN = "<!-- Written by `make report` from docs/report.json; edits here are lost. -->"
END = "<!-- The end of what `make report` writes. -->"
SYSTEMS = ["lightgrad", "lightgrad.python", "torch", "torch.best", "torch.compile.best", "jax"]
GROUPS = {
    "gemm": "matrix products of the steps, four transpositions",
    "attention": "attention, forward and backward, context 64 to 2048",
    "cross_entropy": "cross-entropy, vocabulary 50,257",
    "conv": "convolutions, forward and each gradient, ResNet-20's and larger ones",
    "memory_large": "normalization, activations, AdamW, reductions, copies: 16 M elements",
    "memory_small": "the same: 64 K elements",
}


def ms(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def spread(r):
    return f"{r['median']:.2f} ({r['low']:.2f} to {r['high']:.2f})"


def table(head, rows):
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return [line(head), line(["---"] + ["--:"] * (len(head) - 1)), *map(line, rows), ""]


def machine_words(data):
    m, v = data["machine"], data["versions"]
    simd = "AVX-512" if "avx512f" in m["simd"] else "AVX2" if "avx2" in m["simd"] else "SSE4"
    peers = ", ".join(f"{name} {v[key]}" for name, key in (("PyTorch", "torch"), ("JAX", "jax")) if key in v)
    return (
        f"{m['cpu']} ({m['family']}, {simd}), {m['cores']} cores, {data['threads']} threads, float32; "
        f"LightGrad {v['lightgrad']} at {v['commit']}, {peers or 'no peer'}; {data['date']}"
    )


def steps_table(data):
    steps = data.get("steps", [])
    names = [name for name in SYSTEMS if any(name in row["systems"] for row in steps)]
    rows = []
    for row in steps:
        cell = lambda name, s=row["systems"]: ms(s[name]["median"]) if "median" in s.get(name, {}) else "-"
        r = ratio(row["systems"], "lightgrad", TORCH)
        rows.append([f"`{row['name']}`", *map(cell, names), spread(r) if r else "-"])
    heads = [NAMES[name] + (", C++" if name == "lightgrad" else "") for name in names]
    return table(["milliseconds a training step", *heads, "ratio (spread)"], rows) if rows else []


def operations_table(data):
    rows = []
    for group, title in GROUPS.items():
        pairs = of_group(data, group)
        if pairs:
            values = [r["median"] for _, r in pairs]
            slowest = min(pairs, key=lambda pair: pair[1]["median"])
            rows.append(
                [
                    title,
                    str(len(pairs)),
                    f"{geometric_mean(values):.2f}",
                    f"{slowest[1]['median']:.2f} ({slowest[0]['name']})",
                    f"{max(values):.2f}",
                ]
            )
    return table(["operations", "cases", "ratio: geometric mean", "least", "most"], rows) if rows else []


def processes_table(data):
    whole, rows = data.get("processes"), []
    if not whole or "torch" not in whole["start"]:
        return []
    cells = [
        ("process start to the first finished step of `gpt_small`, seconds", "start", lambda v: f"{v:.2f}"),
        ("import, seconds", "import", lambda v: f"{v:.3f}"),
        ("peak memory of a `gpt_medium` training process, MB", "peak_memory", lambda v: f"{v:.0f}"),
    ]
    for title, key, word in cells:
        systems = whole[key]
        r = ratio(systems, "lightgrad.python", ["torch", "torch.best"])
        if r:
            medians = systems["lightgrad.python"]["median"], systems[r["peer"]]["median"]
            rows.append([title, *map(word, medians), spread(r)])
    size = whole["installed_mb"]
    rows.append(
        [
            "installed, with all it needs, MB",
            f"{size['lightgrad.python']:.1f}",
            f"{size['torch']:.0f}",
            f"{size['torch'] / size['lightgrad.python']:.0f}",
        ]
    )
    return table(["whole processes, from Python", "LightGrad", "PyTorch", "ratio (spread)"], rows)


def section(data):
    lines = [
        BEGIN,
        "",
        "## Performance",
        "",
        f"{machine_words(data)}.",
        "Each system in a process of its own, in turns; medians. Ratios are PyTorch's time over LightGrad's, with the",
        "best of eager, fused optimizers and `torch.compile`, and their spread over the rounds.",
        "",
        *steps_table(data),
        *operations_table(data),
        *processes_table(data),
        "[docs/report.pdf](docs/report.pdf) shows every case, the roofline, and how cost grows with size;",
        f"`{data['command']}` measures it all again.",
        "",
        END,
    ]
    return "\n".join(lines)


def replaced(text, new):
    """`text` with what stands between the markers replaced; before "## More" or at the end when there is none yet."""
    if BEGIN in text and END in text:
        return text[: text.index(BEGIN)] + new + text[text.index(END) + len(END) :]
    at = text.find("## More\n")
    at = len(text) if at < 0 else at
    return text[:at].rstrip("\n") + "\n\n" + new + "\n\n" + text[at:]


def current(text):
    """The section as README has it, or None."""
    return text[text.index(BEGIN) : text.index(END) + len(END)] if BEGIN in text and END in text else None


def write_section(data, readme):
    readme.write_text(replaced(readme.read_text(), section(data)))
