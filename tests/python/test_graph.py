"""Pictures of the graph from Python."""

import shutil

import pytest

import lightgrad as lg
from lightgrad import nn


def block():
    return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))


def test_boxes_and_names():
    model = block()
    with lg.graph.paths():
        y = model(lg.ones(5, 3)).sum()
    dot = lg.graph.to_dot(y, model=model, title="a block")
    assert dot.count("subgraph cluster_") == 3
    assert all(dot.count(name) == 1 for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    assert 'label="a block"' in dot and 'label="gelu_erf"' in dot


def test_without_paths_there_are_no_boxes():
    assert "subgraph" not in lg.graph.to_dot(block()(lg.ones(5, 3)).sum())


def test_svg_is_drawn_by_graphviz(tmp_path):
    y = block()(lg.ones(5, 3)).sum()
    if shutil.which("dot"):
        lg.graph.save_svg(y, tmp_path / "y.svg")
        assert "</svg>" in (tmp_path / "y.svg").read_text()
    else:
        with pytest.raises(RuntimeError, match="graphviz"):
            lg.graph.save_svg(y, tmp_path / "y.svg")


def test_no_graph():
    with pytest.raises(ValueError, match="to_dot: the tensor has no graph"):
        lg.graph.to_dot(lg.ones(2))
