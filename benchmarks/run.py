"""Training steps of LightGrad and PyTorch side by side: separate processes in turns (A B A B). Prints times and
ratios, PyTorch's over LightGrad's; with --best and --compile against PyTorch at its best, with --bf16 both under
autocast to bfloat16 as well. `make report` measures all.

Usage: run.py [--threads N] [--rounds N] [--best] [--compile] [WORKLOAD ...]     (an otherwise idle machine, please)
"""

import argparse
import sys

from cases import WORKLOADS
from turns import BUILT, HERE, Peer, has, in_turns, ratio, summary

# What each system is called, and its program. Compiled PyTorch takes its fused optimizers too: that is its best.
TORCH = {"torch": [], "torch.best": ["--best"], "torch.compile.best": ["--compile", "--best"]}


def step_peers(threads, torch=TORCH, jax=False, simd=(), bf16=False):
    """simd: LightGrad's targets to measure as well, "AVX2" and older ones. bf16: both under autocast, too."""
    programs = {"lightgrad": [BUILT / "steps"], "lightgrad.python": [sys.executable, HERE / "steps.py"]}
    programs |= {f"lightgrad.{target.lower()}": [BUILT / "steps", "--simd", target] for target in simd}
    if has("torch"):
        programs |= {name: [sys.executable, HERE / "torch_steps.py", *TORCH[name]] for name in torch}
    if bf16:
        programs |= {f"{name}.bf16": [*command, "--bf16"] for name, command in programs.items()}
    if jax and has("jax"):
        programs["jax"] = [sys.executable, HERE / "jax_steps.py"]
    return [Peer(name, command, threads) for name, command in programs.items()]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.5, help="of each workload, system and round")
    p.add_argument("--best", action="store_true", help="PyTorch with its fused optimizers as well")
    p.add_argument("--compile", action="store_true", help="torch.compile as well")
    p.add_argument("--bf16", action="store_true", help="each of them under autocast to bfloat16 as well")
    p.add_argument("workloads", nargs="*", default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}, or a case")
    a = p.parse_args()
    torch = ["torch"] + ["torch.best"] * a.best + ["torch.compile.best"] * a.compile
    peers = step_peers(a.threads, torch, bf16=a.bf16)
    if not any(peer.name in torch for peer in peers):
        print("PyTorch is not installed here: LightGrad alone (pip install torch==2.13.0 for the comparison)")
    heads = f"{'median ms':>11}{'min ms':>10}{'torch/this: median':>20}{'min':>7}{'spread':>14}"
    print(f"{'workload':<12}{'system':<24}{heads}")
    for name in a.workloads:
        systems = summary(in_turns(peers, WORKLOADS.get(name, name), a.seconds, a.rounds))
        for system, row in systems.items():
            if "error" in row:
                print(f"{name:<12}{system:<24}{row['error']}", flush=True)
                continue
            line = f"{name:<12}{system:<24}{row['median']:>11.4f}{row['min']:>10.4f}"
            theirs = [f"{t}.bf16" for t in torch] if system.endswith(".bf16") else torch
            r = ratio(systems, system, theirs) if system.startswith("lightgrad") else None
            if r:
                spread = f"{r['low']:.2f}-{r['high']:.2f}"
                line += f"{r['median']:>20.2f}{r['by_min']:>7.2f}{spread:>14}" + f"  {r['peer']}" * (len(torch) > 1)
            print(line, flush=True)
    for peer in peers:
        peer.close()


if __name__ == "__main__":
    main()
