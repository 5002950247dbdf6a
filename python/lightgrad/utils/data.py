"""Data sets and the loader that makes batches of them, ahead of time, on worker threads.

A data set is one of C++ (TensorDataset, lg.datasets.CIFAR10, ...) or any object with `__len__` and `__getitem__`.
"""

from lightgrad import _core
from lightgrad._core import Tensor
from lightgrad._core.data import (
    DataLoader,
    Dataset,
    ImageDataset,
    Subset,
    TensorDataset,
    random_split,
    sample_generator,
)

__all__ = [
    "DataLoader",
    "Dataset",
    "ImageDataset",
    "Subset",
    "TensorDataset",
    "default_collate",
    "random_split",
    "sample_generator",
]


def default_collate(samples: list):
    """Samples as a batch: tensors and arrays stacked, numbers as a tensor, strings and bytes as a list; tuples (named
    ones too), lists and dicts of such things one by one. TypeError for anything else.
    """
    first = samples[0]
    if isinstance(first, Tensor):
        return _core.stack(samples)
    if isinstance(first, (bool, int, float)):
        return _core.tensor(samples)
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, dict):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        for sample in samples:
            if len(sample) != len(first):
                raise ValueError(f"default_collate: samples of {len(first)} and of {len(sample)} parts in one batch")
        columns = [default_collate(list(column)) for column in zip(*samples, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*columns)
        return tuple(columns) if isinstance(first, tuple) else columns
    if hasattr(first, "__array__"):  # NumPy's arrays and numbers
        return _core.stack([_core.tensor(sample) for sample in samples])
    raise TypeError(
        f"default_collate: a sample holds a {type(first).__name__}; return tensors, arrays, numbers, strings, or "
        "tuples, lists and dicts of them, or give the DataLoader a collate_fn"
    )
