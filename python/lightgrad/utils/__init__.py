"""What stands around training: data sets and their loader."""

from lightgrad.utils import data

__all__ = ["data"]
