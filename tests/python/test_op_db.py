"""PyTorch's own sample inputs (op_db), run through LightGrad: values, dtypes, first and second gradients.

Every sample of every operation that both have: every dtype of theirs that LightGrad has, as given and with every second
element of memory skipped. What LightGrad refuses is declared in op_db_table.py and counted at the end.
"""

import contextlib
import warnings
from collections import Counter, defaultdict

import numpy as np
import pytest
from op_db_table import REFUSED, row_of

import lightgrad as lg

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("expecttest", reason="torch's samples need expecttest")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_device_type import toleranceOverride
    from torch.testing._internal.common_methods_invocations import op_db

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
ROUNDED = [torch.float32, torch.bfloat16, torch.float16]  # where float64 tells who is closer
SHARED = {
    torch.float32: lg.float32,
    torch.float64: lg.float64,
    torch.float16: lg.float16,
    torch.bfloat16: lg.bfloat16,
    torch.int64: lg.int64,
    torch.int32: lg.int32,
    torch.uint8: lg.uint8,
    torch.bool: lg.bool,
}


def full_name(op):
    return f"{op.name}/{op.variant_test_name}" if op.variant_test_name else op.name


PAIRS = {full_name(op): (op, row) for op in op_db if (row := row_of(op))}
totals: dict = defaultdict(Counter)  # by test: samples run, passed, refused, ...
refused: Counter = Counter()  # by operation and reason
counts = totals["all"]


@pytest.fixture(autouse=True)
def count_for(request):
    global counts
    counts = totals[request.function.__name__]


class Summary:
    """Says at the end of the run what was counted."""

    @staticmethod
    def pytest_terminal_summary(terminalreporter):
        terminalreporter.section(f"PyTorch's samples of {len(PAIRS)} operations")
        for test, counted in totals.items():
            if counted:
                terminalreporter.write_line(f"{test}: " + ", ".join(f"{n} {what}" for what, n in counted.items()))
        for (name, reason), n in sorted(refused.items()):
            terminalreporter.write_line(f"refused: {name}: {n} ({reason})")


@pytest.fixture(scope="module", autouse=True)
def summary(request):
    request.config.pluginmanager.register(Summary())


class NotShared(Exception):
    """The sample holds something that LightGrad does not know at all: a complex tensor, say."""


# --- between the two libraries ---


def to_lg(value, leaves=None):
    """PyTorch's objects as LightGrad's, tensors on the same memory. `leaves` collects pairs that want gradients."""
    if isinstance(value, torch.Tensor):
        if value.dtype not in SHARED:
            raise NotShared(f"dtype {value.dtype}")
        if value.is_sparse or value.layout is not torch.strided:
            raise NotShared(f"layout {value.layout}")
        x = lg.from_dlpack(value.detach())
        if leaves is not None and value.requires_grad:
            x.requires_grad_()
            leaves.append((value, x))
        return x
    if isinstance(value, torch.dtype):
        if value not in SHARED:
            raise NotShared(f"dtype {value}")
        return SHARED[value]
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, slice):
        return slice(*(to_lg(v, leaves) for v in (value.start, value.stop, value.step)))
    if isinstance(value, list):
        return [to_lg(v, leaves) for v in value]
    if isinstance(value, tuple):
        return tuple(to_lg(v, leaves) for v in value)
    if isinstance(value, dict):
        return {k: to_lg(v, leaves) for k, v in value.items()}
    if isinstance(value, complex):
        raise NotShared("a complex number")
    return value


def to_torch(x):
    if not isinstance(x, lg.Tensor):
        return x
    x = x.detach()
    # PyTorch's from_dlpack ends the process on negative strides.
    return torch.from_dlpack(x.contiguous() if any(n < 0 for n in x.stride()) else x)


def flat(result):
    if isinstance(result, (tuple, list)):
        return [part for r in result for part in flat(r)]
    return [result]


def skipped(t):
    """t with every second element of its memory skipped; the elements between are of no meaning."""
    wide = t.new_empty((*t.shape, 2))
    wide[..., 0] = float("nan") if t.dtype.is_floating_point else 1
    wide[..., 1] = t.detach()
    return wide[..., 1].requires_grad_(t.requires_grad)


def map_tensors(f, value):
    if isinstance(value, torch.Tensor):
        return f(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(f, v) for v in value)
    if isinstance(value, dict):
        return {k: map_tensors(f, v) for k, v in value.items()}
    return value


class Sample:
    def __init__(self, sample):
        self.parts = (sample.input, tuple(sample.args), dict(sample.kwargs))

    def skipped(self):
        other = object.__new__(Sample)
        other.parts = map_tensors(skipped, self.parts)
        return other

    def double(self):
        other = object.__new__(Sample)
        first, args, kwargs = map_tensors(lambda t: t.double() if t.dtype in ROUNDED else t, self.parts)
        if kwargs.get("dtype") in ROUNDED:
            kwargs["dtype"] = torch.float64
        other.parts = first, args, kwargs
        return other

    def call(self, f, parts=None):
        first, args, kwargs = parts or self.parts
        return f(first, *args, **kwargs)

    def to_lg(self, leaves=None):
        """The parts as LightGrad's; `leaves` collects (PyTorch's tensor, ours) where a gradient is wanted."""
        return tuple(to_lg(p, leaves) for p in self.parts)

    def __repr__(self):
        def short(v):
            if isinstance(v, torch.Tensor):
                return f"{str(v.dtype)[6:]}{list(v.shape)}" + (f"={v.item()}" if v.numel() == 1 else "")
            if isinstance(v, (list, tuple)):
                return "(" + ", ".join(map(short, v)) + ")"
            if isinstance(v, dict):
                return ", ".join(f"{k}={short(x)}" for k, x in v.items())
            return repr(v)

        return short(self.parts)


def samples_of(op, dtype, requires_grad=False):
    torch.manual_seed(0)
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from map(Sample, op.sample_inputs("cpu", dtype, requires_grad=requires_grad))


def tolerance(op, dtype):
    """(rtol, atol): torch.testing's, widened by what the op's own tests use on the CPU."""
    rtol, atol = {
        torch.float32: (1.3e-6, 1e-5),
        torch.float64: (1e-7, 1e-7),
        torch.bfloat16: (1.6e-2, 1e-5),
        torch.float16: (1e-3, 1e-5),
    }.get(dtype, (0, 0))
    for d in op.decorators:
        for_us = getattr(d, "device_type", None) in (None, "cpu") and getattr(d, "cls_name", None) in (
            None,
            "TestCommon",
        )
        for t in getattr(d, "decorators", [d]) if for_us else []:
            if isinstance(t, toleranceOverride) and dtype in t.d:
                rtol, atol = max(rtol, t.d[dtype].rtol), max(atol, t.d[dtype].atol)
    return rtol, atol


# --- running ---


def refusal(row, error):
    return next((reason for part, reason in {**row.refuses, **REFUSED}.items() if part in str(error)), None)


def shapes_only(row, sample):
    return sample.call(row.shapes_only) if callable(row.shapes_only) else row.shapes_only


def picked(result, row, sample):
    """What the indices of a result pick from the sample's input."""
    *_, indices = flat(result)
    x = sample.parts[0].detach()
    return torch.gather(x, sample.call(row.picks), to_torch(indices))


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def closer(ours, theirs, exact):
    """Whether ours is nowhere farther from the float64 result than the worst of theirs."""

    def error(a):
        e = (a.double() - exact).abs()
        return torch.where(a.double().eq(exact) | (a.isnan() & exact.isnan()), 0, e).nan_to_num(float("inf")).max()

    return bool(error(ours) <= error(theirs))


def check_equal(ours, theirs, op, what, exact=None, values=True):
    ours, theirs = flat(ours), flat(theirs)
    assert len(ours) == len(theirs), f"{what}: {len(ours)} results, PyTorch gives {len(theirs)}"
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        a = to_torch(a)
        if not isinstance(b, torch.Tensor):
            assert type(a) is type(b) and (a == b or (a != a and b != b)), f"{what}: {a!r}, PyTorch gives {b!r}"
            continue
        b = b.detach()
        assert a.dtype == b.dtype, f"{what}: dtype {a.dtype}, PyTorch gives {b.dtype}"
        assert a.shape == b.shape, f"{what}: shape {list(a.shape)}, PyTorch gives {list(b.shape)}"
        if not values:
            continue
        rtol, atol = tolerance(op, b.dtype)
        try:
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError as error:
            if b.dtype in ROUNDED and exact is not None and closer(a, b, flat(exact())[i].detach()):
                counts["outside tolerance but closer to the float64 result"] += 1
                continue
            raise AssertionError(f"{what}: {error}") from None


def run_sample(name, op, row, sample, leaves=None):
    """(LightGrad's result, PyTorch's, LightGrad's arguments); None when refused for a reason that the table knows."""
    counts["run"] += 1
    try:
        parts = sample.to_lg(leaves)
    except NotShared as e:
        counts["not applicable"] += 1
        refused[name, str(e)] += 1
        return None
    with quiet():
        theirs = sample.call(op.op)
    for b in flat(theirs):
        if isinstance(b, torch.Tensor) and b.dtype not in SHARED:
            counts["not applicable"] += 1
            refused[name, f"result of dtype {b.dtype}"] += 1
            return None
    try:
        ours = sample.call(row.call, parts)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        reason = refusal(row, error)
        if reason is None:
            raise AssertionError(f"{name} {sample}: {type(error).__name__}: {error}") from None
        counts["refused"] += 1
        refused[name, reason] += 1
        return None
    return ours, theirs, parts


def check_values(name, op, row, sample, ours, theirs):
    what = f"{name} {sample}"
    if row.picks:
        check_equal(ours, theirs, op, what, values=False)
        check_equal(*(flat(r)[:-1] + [picked(r, row, sample)] for r in (ours, theirs)), op, what)
    else:
        check_equal(ours, theirs, op, what, lambda: sample.double().call(op.op), values=not shapes_only(row, sample))


@pytest.mark.parametrize("name", PAIRS)
def test_values(name):
    op, row = PAIRS[name]
    for dtype in DTYPES:
        if dtype not in op.supported_dtypes("cpu"):
            continue
        for sample in samples_of(op, dtype):
            for s in (sample, sample.skipped()):
                if (ran := run_sample(name, op, row, s)) is None:
                    continue
                check_values(name, op, row, s, *ran[:2])
                counts["passed"] += 1


def checked_outputs(result):
    """Finite differences need float64."""
    return [r for r in flat(result) if isinstance(r, lg.Tensor) and r.requires_grad and r.dtype == lg.float64]


GRADIENT_PAIRS = {
    name: (op, row)
    for name, (op, row) in PAIRS.items()
    if op.supports_autograd and torch.float64 in op.supported_dtypes("cpu")
}


def with_gradients(results):
    return [t for t in flat(results) if isinstance(t, torch.Tensor) and t.requires_grad]


def gradients_of(results, leaves, cotangents):
    """PyTorch's, zeros where a result does not depend on a leaf."""
    found = torch.autograd.grad(results, leaves, cotangents, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, found, strict=True)]


def check_gradient(name, op, row, sample):
    """Against PyTorch's gradients, for a random cotangent."""
    leaves: list = []
    if (ran := run_sample(name, op, row, sample, leaves)) is None:
        return
    ours, theirs, f = flat(ran[0]), flat(ran[1]), op.op
    if row.picks:  # of equals either may be the one that was picked: PyTorch picks as we did
        indices = to_torch(ours.pop())

        def f(x, *args, **kwargs):
            return torch.gather(x, row.picks(x, *args, **kwargs), indices)

        theirs = [sample.call(f)]
    results = with_gradients(theirs)
    if results and not shapes_only(row, sample):
        cotangents = [torch.randn_like(t) for t in results]
        expected = gradients_of(results, [t for t, _ in leaves], cotangents)
        compared = [y for y, t in zip(ours, theirs, strict=True) if any(t is r for r in results)]
        for y, c in zip(compared, cotangents, strict=True):
            if y.requires_grad:  # otherwise PyTorch's gradient through it must be zero
                y.backward(lg.from_dlpack(c), retain_graph=True)
        gradients = [torch.zeros_like(t) if x.grad is None else to_torch(x.grad) for t, x in leaves]

        def exact():
            double = sample.double()
            inputs: list = []
            map_tensors(lambda t: inputs.append(t) if t.requires_grad else None, double.parts)
            return gradients_of(with_gradients(double.call(f)), inputs, [c.double() for c in cotangents])

        check_equal(gradients, expected, op, f"{name} {sample}: gradients", exact)
    counts["passed"] += 1


@pytest.mark.parametrize("name", GRADIENT_PAIRS)
def test_gradients(name):
    op, row = GRADIENT_PAIRS[name]
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        if dtype not in op.supported_backward_dtypes("cpu"):
            continue
        for sample in samples_of(op, dtype, requires_grad=True):
            check_gradient(name, op, row, sample)
            check_gradient(name, op, row, sample.skipped())


# --- finite differences, with PyTorch's tolerances ---

EPS, ATOL, RTOL = 1e-6, 1e-5, 1e-3
FAST = 60  # inputs with more elements than this are checked along one random direction


def replaced(value, new):
    """`value` with the tensors that are keys (by identity) of `new` exchanged."""
    if isinstance(value, lg.Tensor):
        return new.get(id(value), value)
    if isinstance(value, (list, tuple)):
        return type(value)(replaced(v, new) for v in value)
    if isinstance(value, dict):
        return {k: replaced(v, new) for k, v in value.items()}
    return value


def along(f, inputs, outputs):
    """Whether v . J u by backward equals it by central differences, for random u and v."""
    rng = np.random.default_rng(0)
    u = [rng.standard_normal(x.shape) for x in inputs]
    v = [rng.standard_normal(y.shape) for y in outputs]
    size = np.sqrt(sum((a * a).sum() for a in u)) or 1.0
    gradients = lg.grad(outputs, inputs, [lg.tensor(a) for a in v], retain_graph=True, allow_unused=True)
    exact = sum((g.detach().numpy() * a).sum() / size for g, a in zip(gradients, u, strict=True) if g is not None)

    def at(delta):
        moved = [x.detach().numpy() + delta / size * a for x, a in zip(inputs, u, strict=True)]
        moved = [lg.tensor(a).requires_grad_() for a in moved]
        return sum((y.detach().numpy() * a).sum() for y, a in zip(f(*moved), v, strict=True))

    numeric = (at(EPS) - at(-EPS)) / (2 * EPS)
    close = abs(exact - numeric) <= ATOL + RTOL * abs(numeric)
    assert close, f"backward {exact}, differences {numeric}"


def check_differences(name, op, row, sample, second):
    leaves: list = []
    if (ran := run_sample(name, op, row, sample, leaves)) is None:
        return
    outputs = checked_outputs(ran[0])
    if not all(lg.isfinite(y).all() for y in outputs):
        counts["not finite, so without differences"] += 1
    elif outputs:
        parts, inputs = ran[2], [x for _, x in leaves]

        def f(*moved):
            lg.manual_seed(0)
            new = dict(zip(map(id, inputs), moved, strict=True))
            return checked_outputs(sample.call(row.call, replaced(parts, new)))

        if sum(x.numel() for x in inputs) <= FAST:
            check = lg.gradgradcheck if second else lg.gradcheck
            assert check(f, inputs, eps=EPS, atol=ATOL, rtol=RTOL)
        elif not second:
            along(f, inputs, f(*inputs))
        else:
            rng = np.random.default_rng(1)
            starts = [lg.tensor(rng.standard_normal(y.shape)).requires_grad_() for y in f(*inputs)]

            def gradient(*all_inputs):
                moved, g = all_inputs[: len(inputs)], all_inputs[len(inputs) :]
                result = lg.grad(f(*moved), moved, list(g), create_graph=True, allow_unused=True)
                return [r for r in result if r is not None and r.requires_grad]

            if outputs := gradient(*inputs, *starts):
                along(gradient, [*inputs, *starts], outputs)
    counts["passed"] += 1


@pytest.mark.parametrize("name", GRADIENT_PAIRS)
def test_gradcheck(name):
    op, row = GRADIENT_PAIRS[name]
    for sample in samples_of(op, torch.float64, requires_grad=True):
        check_differences(name, op, row, sample, second=False)


@pytest.mark.parametrize("name", [n for n, (op, _) in GRADIENT_PAIRS.items() if op.supports_gradgrad])
def test_gradgradcheck(name):
    op, row = GRADIENT_PAIRS[name]
    for sample in samples_of(op, torch.float64, requires_grad=True):
        check_differences(name, op, row, sample, second=True)


def test_every_row_of_the_table_has_samples():
    """Unless PyTorch has no operation of that name."""
    known = {n.rpartition(".")[2] for op, _ in PAIRS.values() for n in (op.name, *(a.name for a in op.aliases))}
    theirs = {n.rpartition(".")[2] for op in op_db for n in (op.name, *(a.name for a in op.aliases))}
    ours = {*lg._core._operations, *lg.__all__, *lg.nn.functional.__all__}
    assert not (ours & theirs) - known
    scopes = (torch, torch.nn.functional, torch.Tensor)
    assert not [n for n in lg._core._operations if n not in known and any(hasattr(s, n) for s in scopes)]
