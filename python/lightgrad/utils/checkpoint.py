"""Activations for time: a checkpointed function keeps nothing for backward, which runs it again."""

from lightgrad._core import _checkpoint

__all__ = ["checkpoint"]


def checkpoint(function, *args, use_reentrant=False, **kwargs):
    """`function(*args, **kwargs)`, with the gradients that it would have without the checkpoint, to the bit, and
    without the memory for what lies between its inputs and its result.

    Tensors among `args` are its inputs; it may use others (weights) too. It must do the same when backward runs it
    again, for which the default generator and autocast are set as they were. A batch norm inside counts its batch
    once in its running statistics. Checkpoints nest, and the graph may be differentiated again. RuntimeError in
    backward when an input was changed in place since, or the function did something else the second time.

    `use_reentrant` is there for programs written for PyTorch; only False is known.
    """
    if use_reentrant:
        raise ValueError("checkpoint: use_reentrant is True, expected False: there is only one kind here")
    return _checkpoint(function, args, kwargs)
