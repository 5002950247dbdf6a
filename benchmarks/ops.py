"""Operations of LightGrad and PyTorch side by side: ratios of PyTorch's best time over LightGrad's.

Usage: ops.py [--threads N] [--rounds N] [--seconds S] [--compile] [FILTER ...]
A filter is a part of a group's or a case's name: `ops.py gemm`, `ops.py "layer_norm" memory_small`, `ops.py context`.
"""

import argparse
import sys

from cases import operations
from costs import cost
from turns import BUILT, HERE, Peer, has, in_turns, ratio, summary

PEERS = ["torch", "torch.best", "torch.compile.best"]


def operation_peers(threads, compiled):
    peers = [Peer("lightgrad", [BUILT / "ops"], threads)]
    if has("torch"):
        script = [sys.executable, HERE / "torch_ops.py"]
        peers += [Peer("torch", script, threads), Peer("torch.best", [*script, "--best"], threads)]
        if compiled:
            peers.append(Peer("torch.compile.best", [*script, "--compile", "--best"], threads))
    return peers


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=0.1, help="of each case, system and round")
    p.add_argument("--compile", action="store_true", help="torch.compile as well")
    p.add_argument("filters", nargs="*", metavar="FILTER")
    a = p.parse_args()
    peers = operation_peers(a.threads, a.compile)
    group = None
    for case in operations():
        if a.filters and not any(f in text for f in a.filters for text in (case.group, case.name, case.text)):
            continue
        if case.group != group:
            group = case.group
            heads = f"{'median ms':>11}{'GF/s':>8}{'GB/s':>8}{'torch ms':>11}{'ratio':>8}{'spread':>14}  best peer"
            print(f"\n{group:<44}{heads}")
        asked = [peer for peer in peers if case.compiles or peer.name != "torch.compile.best"]
        systems = summary(in_turns(asked, case.text, a.seconds, a.rounds))
        if "error" in systems["lightgrad"]:
            print(f"{case.name:<44}{systems['lightgrad']['error']}")
            continue
        ms = systems["lightgrad"]["median"]
        flop, size = cost(case.text)
        line = f"{case.name:<44}{ms:>11.4f}{flop / ms / 1e6:>8.0f}{size / ms / 1e6:>8.1f}"
        r = ratio(systems, "lightgrad", PEERS)
        if r:
            spread = f"{r['low']:.2f}-{r['high']:.2f}"
            line += f"{systems[r['peer']]['median']:>11.4f}{r['median']:>8.2f}{spread:>14}  {r['peer']}"
        print(line, flush=True)
    for peer in peers:
        peer.close()


if __name__ == "__main__":
    main()
