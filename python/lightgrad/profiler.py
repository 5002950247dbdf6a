"""What ran, how long it took, and how that compares with what the machine can do.

with lg.profiler.profile() as p:
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
print(p)                            # a table: calls, time, FLOPs, bytes, memory
p.save_trace("step.json")           # for ui.perfetto.dev
p.save_roofline("roofline.svg")
"""

from lightgrad._core.profiler import Event, Peak, Row, measure_peak, profile

__all__ = ["Event", "Peak", "Row", "measure_peak", "profile"]
