"""Learning rates as functions of the number of steps. A scheduler writes group["lr"] at each step()."""

from lightgrad._core.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
    WarmupCosine,
)

__all__ = [
    "CosineAnnealingLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "OneCycleLR",
    "SequentialLR",
    "StepLR",
    "WarmupCosine",
]
