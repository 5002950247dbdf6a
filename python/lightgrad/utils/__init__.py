"""What stands around training: data sets and their loader, activation checkpoints."""

from lightgrad.utils import checkpoint, data

__all__ = ["checkpoint", "data"]
