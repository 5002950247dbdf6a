"""A module in LightGrad and in PyTorch, with the same weights."""


def torch_twin(make_lg, make_torch):
    """The same module in both, with PyTorch's weights."""
    ours, theirs = make_lg(), make_torch()
    state = {name: t.numpy() for name, t in theirs.state_dict().items()}
    ours.load_state_dict(state)
    return ours, theirs
