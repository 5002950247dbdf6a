"""The recorded graph as a picture: operations coloured by family, sizes on the arrows, a box for every module.

with lg.graph.paths():          # notes which module each operation belongs to
    loss = model(x).sum()
lg.graph.save_svg(loss, "model.svg", model=model)
"""

import contextlib
import os

from lightgrad import _core


@contextlib.contextmanager
def paths():
    """Operations recorded inside remember their module, which draws the boxes."""
    before = _core._keep_module_paths(True)
    try:
        yield
    finally:
        _core._keep_module_paths(before)


def to_dot(output, model=None, title="", leaves=True, max_nodes=2000):
    """The graph behind `output` in Graphviz's language. `model` gives its parameters their names; ValueError when the
    tensor has no graph, or one of more than `max_nodes` operations.
    """
    return _core._to_dot(output, model, title, leaves, max_nodes)


def save_svg(output, path, model=None, title="", leaves=True, max_nodes=2000):
    """The same drawn by Graphviz's program `dot`; RuntimeError when it is not installed."""
    _core._save_svg(output, os.fspath(path), model, title, leaves, max_nodes)
