"""Files: nested objects, safetensors against the `safetensors` package, checkpoints, texts."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import lightgrad as lg

DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


def sample(dtype, shape=(3, 4)):
    count = int(np.prod(shape))
    values = [i % 2 if dtype == "bool" else i * 3 for i in range(count)]
    return lg.tensor(values, dtype=lg.float64).to(getattr(lg, dtype)).reshape(shape)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# --- lg.save and lg.load ---


def test_nested_objects_come_back_as_they_were(tmp_path):
    w, b = lg.randn(2, 3), lg.arange(4)
    saved = {
        "model": {"blocks.0.weight": w, "bias": b},
        "groups": [{"lr": 1e-3, "betas": (0.9, 0.99), "params": [0, 1]}, {}],
        "state": {0: {"step": 3, "moment": w}, 1: None},
        "epoch": 7,
        "name": "caf\u00e9 \U0001f600",
        "flags": [True, False, None, -0.0, 1e22, 2**70],
        "$tensor": "not a tag",
        "empty": {"list": [], "tuple": (), "text": ""},
    }
    lg.save(saved, tmp_path / "a")
    loaded = lg.load(str(tmp_path / "a"))
    assert same(loaded["model"].pop("blocks.0.weight"), saved["model"].pop("blocks.0.weight"))
    assert same(loaded["model"].pop("bias"), saved["model"].pop("bias"))
    assert same(loaded["state"][0].pop("moment"), saved["state"][0].pop("moment"))
    assert repr(loaded) == repr(saved)
    tensors, _ = lg.io.load_safetensors(tmp_path / "a")
    assert sorted(tensors) == ["model.bias", "model.blocks.0.weight", "state.0.moment"]


def test_a_tensor_alone(tmp_path):
    x = lg.randn(3).to(lg.bfloat16)
    lg.save(x, tmp_path / "a")
    assert same(lg.load(tmp_path / "a"), x)
    lg.save([1.5, "x"], tmp_path / "a")
    assert lg.load(tmp_path / "a") == [1.5, "x"]


def test_floats_are_exact(tmp_path):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf")]
    lg.save(values, tmp_path / "a")
    assert lg.load(tmp_path / "a") == values
    lg.save(float("nan"), tmp_path / "a")
    assert np.isnan(lg.load(tmp_path / "a"))


def test_names_that_meet(tmp_path):
    a, b, c = lg.tensor([1]), lg.tensor([2]), lg.tensor([3])
    lg.save({"a.b": a, "a": {"b": b}, "a.b#2": c, "__metadata__": a}, tmp_path / "a")
    loaded = lg.load(tmp_path / "a")
    assert same(loaded["a.b"], a) and same(loaded["a"]["b"], b) and same(loaded["a.b#2"], c)
    assert same(loaded["__metadata__"], a)


def test_what_cannot_be_saved(tmp_path):
    (tmp_path / "a").write_text("old")
    for obj, message in [
        ({"x": [set()]}, r"save: x.0 is a set, expected a Tensor, number, str"),
        (lg.nn.Linear(1, 1), r"save: obj is a Linear.*; save its state_dict\(\)"),
        ({"x": {(1, 2): 3}}, r"save: x has \(1, 2\) as a key"),
    ]:
        with pytest.raises(TypeError, match=message):
            lg.save(obj, tmp_path / "a")
    with pytest.raises(OSError, match=r"cannot write .*: No such file or directory"):
        lg.save({}, tmp_path / "none" / "a")
    with pytest.raises(OSError, match=r"cannot read .*: No such file or directory"):
        lg.load(tmp_path / "none")
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "structure",
    [
        "{",
        "[" * 100_000,
        '{"$tensor": "none"}',
        '{"$tensor": ["x"]}',
        '{"$tensor": "x", "y": 1}',
        '{"$items": [1]}',
        '{"$items": [[[], 1]]}',
        '{"$tuple": 3}',
        '{"$code": "import os"}',
    ],
)
def test_damaged_structures_are_refused(tmp_path, structure):
    meta = {"lightgrad.structure": structure}
    lg.io.save_safetensors({"x": lg.tensor([1])}, tmp_path / "a", meta)
    with pytest.raises(OSError, match=r"load: .*a: its metadata is damaged"):
        lg.load(tmp_path / "a")


def test_a_pickle_is_refused(tmp_path):
    import pickle

    (tmp_path / "a").write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(OSError, match=r"safetensors: .*a: "):
        lg.load(tmp_path / "a")


# --- safetensors ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 2), (3, 4)])
def test_every_dtype_comes_back(tmp_path, dtype, shape):
    x = sample(dtype, shape)
    lg.io.save_safetensors({"x": x}, tmp_path / "a", {"key": "value"})
    tensors, metadata = lg.io.load_safetensors(tmp_path / "a")
    assert same(tensors["x"], x) and metadata == {"key": "value"}
    raw = (tmp_path / "a").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    entry = json.loads(raw[8 : 8 + length])["x"]
    assert entry == {
        "dtype": DTYPES[dtype],
        "shape": list(shape),
        "data_offsets": [0, len(raw) - 8 - length],
    }


def test_views_and_parameters(tmp_path):
    x = lg.arange(12).reshape(3, 4)
    weight = lg.nn.Linear(2, 3).weight
    lg.io.save_safetensors({"t": x.T, "s": x[::2, 1::2], "w": weight}, tmp_path / "a")
    tensors, _ = lg.io.load_safetensors(tmp_path / "a")
    assert tensors["t"].tolist() == x.T.tolist() and tensors["s"].tolist() == [[1, 3], [9, 11]]
    assert tensors["w"].tolist() == weight.tolist() and not tensors["w"].requires_grad


def test_the_safetensors_package_reads_ours(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    tensors = {d: sample(d) for d in DTYPES if d != "bfloat16"}
    tensors["scalar"], tensors["empty"] = lg.tensor(2.5), lg.zeros(0, 3)
    lg.io.save_safetensors(tensors, tmp_path / "a", {"k": "v"})
    theirs = package.load_file(tmp_path / "a")
    assert sorted(theirs) == sorted(tensors)
    for name, x in tensors.items():
        assert np.array_equal(theirs[name], x.numpy()) and theirs[name].dtype == x.numpy().dtype
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        assert file.metadata() == {"k": "v"}


def test_we_read_files_of_the_safetensors_package(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    arrays = {
        d: np.arange(6).reshape(2, 3).astype(d)
        for d in ("uint8", "int32", "int64", "float16", "float32", "float64", "bool")
    }
    arrays["scalar"], arrays["empty"] = np.array(2.5, np.float32), np.zeros((0, 3))
    package.save_file(arrays, tmp_path / "a", {"k": "v"})
    tensors, metadata = lg.io.load_safetensors(tmp_path / "a")
    assert metadata == {"k": "v"} and sorted(tensors) == sorted(arrays)
    for name, x in arrays.items():
        assert np.array_equal(tensors[name].numpy(), x) and tensors[name].numpy().dtype == x.dtype
    assert sorted(lg.load(tmp_path / "a")) == sorted(arrays)


def test_hostile_files(tmp_path):
    def refuses(error, message, header, data=b""):
        write(tmp_path / "a", header, data)
        with pytest.raises(error, match=message):
            lg.io.load_safetensors(tmp_path / "a")

    def w(dtype="U8", shape=(1,), offsets=(0, 1)):
        return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}

    refuses(OSError, 'tensor "w" ends at byte 1 of the data, but the file has only 0', w())
    refuses(OSError, "1 bytes follow the data of the last tensor", w(), b"ab")
    refuses(OSError, 'tensor "w" has a negative dimension, -1', w(shape=[-1]), b"a")
    refuses(OSError, "more bytes than fit in 64 bits", w("F64", [2**61], [0, 0]))
    refuses(ValueError, 'tensor "w" has the unsupported dtype "U16"', w("U16", offsets=[0, 2]))
    refuses(OSError, "the header is not valid JSON", b"{" * 8)
    (tmp_path / "a").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(OSError, match="its header claims 9223372036854775808 bytes"):
        lg.io.load_safetensors(tmp_path / "a")


def test_wrong_arguments(tmp_path):
    with pytest.raises(TypeError, match="save_safetensors: 'x' is a list, expected a Tensor"):
        lg.io.save_safetensors({"x": [1.0]}, tmp_path / "a")
    with pytest.raises(TypeError, match="names are strings, got 1"):
        lg.io.save_safetensors({1: lg.tensor([1])}, tmp_path / "a")
    with pytest.raises(TypeError):
        lg.io.load_safetensors(3)
    assert os.listdir(tmp_path) == []


# --- Checkpoint ---


def test_a_checkpoint_comes_back(tmp_path):
    model = lg.nn.Sequential(lg.nn.Linear(2, 3), lg.nn.Linear(3, 1))
    lg.manual_seed(2**64 - 3)
    lg.rand(2)
    saved = lg.io.Checkpoint()
    saved.put_state("model.", model.state_dict())
    saved.put_generator()
    for name, value in [("step", 5), ("rate", 0.1), ("note", "x"), ("whole", 2.0)]:
        saved.put(name, value)
    saved.save(tmp_path / "a")
    expected = lg.rand(4).tolist()

    lg.manual_seed(1)
    loaded = lg.io.Checkpoint.load(tmp_path / "a")
    loaded.take_generator()
    assert lg.rand(4).tolist() == expected
    assert [loaded.get(n) for n in ("step", "rate", "note")] == [5, 0.1, "x"]
    assert isinstance(loaded.get("whole"), float)
    assert "step" in loaded and "loss" not in loaded and loaded.has("model.0.weight")
    assert loaded.names("model.1") == ["model.1.bias", "model.1.weight"]
    other = lg.nn.Sequential(lg.nn.Linear(2, 3), lg.nn.Linear(3, 1))
    other.load_state_dict(loaded.take_state("model."))
    for name, x in model.state_dict().items():
        assert same(other.state_dict()[name], x)
    assert lg.load(tmp_path / "a")["rate"] == 0.1


def test_a_checkpoint_of_another_model(tmp_path):
    saved = lg.io.Checkpoint()
    saved.put_state("model.", lg.nn.Linear(2, 3).state_dict())
    saved.save(tmp_path / "a")
    loaded = lg.io.Checkpoint.load(tmp_path / "a")
    model = lg.nn.Linear(2, 4)
    before = model.weight.tolist()
    with pytest.raises((ValueError, RuntimeError), match="weight"):
        model.load_state_dict(loaded.take_state("model."))
    assert model.weight.tolist() == before
    with pytest.raises(IndexError, match=r'a has no "optimizer.\*" \(tensors\); it has "model.bias"'):
        loaded.take_state("optimizer.")
    with pytest.raises(IndexError, match=r'a has no "step" \(a number or a string\)'):
        loaded.get("step")


def test_checkpoint_errors(tmp_path):
    c = lg.io.Checkpoint()
    with pytest.raises(TypeError, match="'x' is a list, expected a Tensor, int, float or str"):
        c.put("x", [1])
    with pytest.raises(TypeError, match="'x' is a bool"):
        c.put("x", True)
    with pytest.raises(ValueError, match="'x': 18446744073709551616 does not fit int64"):
        c.put("x", 2**64)
    lg.io.save_safetensors({}, tmp_path / "a")
    with pytest.raises(OSError, match="a: it is a safetensors file, but not a checkpoint"):
        lg.io.Checkpoint.load(tmp_path / "a")


# --- texts ---


def test_the_text_is_found_by_path_and_variable(tmp_path, monkeypatch):
    (tmp_path / "mine").write_bytes(b"mine \xff")
    (tmp_path / "other").write_bytes(b"other")
    monkeypatch.setenv("LIGHTGRAD_DATA", str(tmp_path / "other"))
    assert lg.io.find_text(Path(tmp_path / "mine")) == (b"mine \xff", str(tmp_path / "mine"))
    assert lg.io.find_text() == (b"other", str(tmp_path / "other"))
    with pytest.raises(OSError, match=r"find_text \(--data\): cannot read .*none: No such file"):
        lg.io.find_text(tmp_path / "none")


def test_characters_as_numbers():
    v = lg.io.Vocabulary(b"hello\n")
    assert len(v) == 5 and v.characters == b"\nehlo"
    ids = v.encode(b"hole")
    assert ids.dtype == lg.int64 and ids.tolist() == [2, 4, 3, 1]
    assert v.decode(ids) == b"hole"
    train, validation = lg.io.split_text(lg.arange(25))
    assert train.tolist() == list(range(22)) and validation.tolist() == [22, 23, 24]
    with pytest.raises(ValueError, match=r"the character 'x' \(byte 120\) at position 1"):
        v.encode(b"hx")
    with pytest.raises(IndexError, match=r"the id 5 at position 0 is outside of \[0, 5\)"):
        v.decode(lg.tensor([5]))


# --- PNG ---


def chunks(png):
    """Each part's type and contents; its checksum holds."""
    at = 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, contents = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + contents)
        yield kind, contents
        at += 12 + size


@pytest.mark.parametrize("shape", [(5, 7), (1, 1, 1), (3, 4, 6), (3, 33, 1)])
def test_a_png_holds_the_pixels(shape, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    lg.io.save_png(lg.tensor(pixels), tmp_path / "a.png")
    png = (tmp_path / "a.png").read_bytes()
    assert png == lg.io.encode_png(lg.tensor(pixels)) and png[:8] == b"\x89PNG\r\n\x1a\n"
    (head, header), (data, rows), end = chunks(png)
    colours = shape[0] if len(shape) == 3 else 1
    assert head == b"IHDR" and data == b"IDAT" and end == (b"IEND", b"")
    assert struct.unpack(">IIBBBBB", header) == (shape[-1], shape[-2], 8, colours - 1, 0, 0, 0)
    rows = np.frombuffer(zlib.decompress(rows), np.uint8).reshape(shape[-2], -1)
    seen = rows[:, 1:].reshape(shape[-2], shape[-1], colours).transpose(2, 0, 1)
    assert (rows[:, 0] == 0).all() and (seen == pixels).all()
    turned = lg.tensor(pixels).transpose(-1, -2)  # strides of their own
    assert lg.io.encode_png(turned) == lg.io.encode_png(turned.clone().contiguous())


def test_a_png_of_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"encode_png: image is float32 \[2, 2\], expected uint8 \[h, w\]"):
        lg.io.encode_png(lg.zeros(2, 2))
    with pytest.raises(ValueError, match=r"encode_png: image is uint8 \[2, 4, 4\], expected uint8"):
        lg.io.encode_png(lg.zeros(2, 4, 4, dtype=lg.uint8))
    with pytest.raises(OSError, match="save_png: cannot write"):
        lg.io.save_png(lg.zeros(2, 2, dtype=lg.uint8), tmp_path / "none/a.png")
