"""lg.cuda.tune(): of the tiles that would do, the fastest on this device is measured, kept and taken from then on."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("triton")

from test_machines import run

# By the stand-in's clock every tile but one takes a second.
PRODUCT = """
import numpy as np

stand_in.delay = lambda row: 0 if row["constants"].get("BLOCK_N") == 256 else 1000
rng = np.random.default_rng(0)
a, b = (lg.tensor(rng.standard_normal(s), dtype=lg.bfloat16).to("cuda") for s in ((96, 64), (64, 160)))

def tile(a=a, b=b):
    c = a @ b
    want = a.to("cpu").double().numpy() @ b.to("cpu").double().numpy()
    error = np.linalg.norm(c.to("cpu").double().numpy() - want) / np.linalg.norm(want)
    assert error < 1e-2, error
    return stand_in.last["constants"]["BLOCK_M"], stand_in.last["constants"]["BLOCK_N"]

assert tile() == (128, 128)
"""


def test_the_fastest_is_found_kept_and_taken(bundle_copy):
    before = (bundle_copy / "manifest.json").read_text()
    code = (
        PRODUCT
        + """
with lg.cuda.tune() as winners:
    tile()
    measured = len(stand_in.launched)
    assert tile() == (128, 256) and len(stand_in.launched) == measured + 1  # measured once
assert tile() == (128, 256)
# Half as many columns are another size, and were not measured.
assert tile(b=b[:, :80].contiguous()) == (128, 128)
(w,) = winners
print(w["kernel"], w["sizes"], w["before"] > w["after"] > 0)
stand_in.check()
assert stand_in.events == 0
"""
    )
    assert run(code, bundle_copy) == "matmul [128, 256, 64] True\n"

    # One line of the manifest is new, and another process takes what it says: by this device, not by others.
    after = (bundle_copy / "manifest.json").read_text()
    assert after.rpartition('\n"tuned"')[0] == before.rpartition('\n"tuned"')[0]
    (row,) = json.loads(after)["tuned"]
    assert row["device"] == "stand-in GPU" and row["sizes"] == [128, 256, 64] and row["take"] != row["instead_of"]
    again = PRODUCT.replace("(128, 128)", "(128, 256)")
    run(again, bundle_copy)
    (bundle_copy / "manifest.json").write_text(after.replace("stand-in GPU", "another GPU"))
    run(PRODUCT, bundle_copy)


def test_what_is_measured_again_is_replaced(bundle_copy):
    code = (
        PRODUCT
        + """
import json
with lg.cuda.tune():
    tile()
stand_in.delay = lambda row: 0 if row["constants"].get("BLOCK_M") == 64 else 1000
with lg.cuda.tune():
    tile()
assert tile() == (64, 128)
stand_in.delay = lambda row: 0 if row["constants"].get("BLOCK_M") == row["constants"].get("BLOCK_N") else 1000
with lg.cuda.tune() as winners:
    tile()
assert tile() == (128, 128) and winners[0]["take"] == winners[0]["instead_of"]
"""
    )
    run(code, bundle_copy)
    assert json.loads((bundle_copy / "manifest.json").read_text())["tuned"] == []


def test_an_error_within_writes_nothing(bundle_copy):
    before = (bundle_copy / "manifest.json").read_text()
    code = (
        PRODUCT
        + """
try:
    with lg.cuda.tune():
        tile()
        raise KeyError("mine")
except KeyError:
    pass
assert tile() == (128, 128)
"""
    )
    run(code, bundle_copy)
    assert (bundle_copy / "manifest.json").read_text() == before
    assert not list(bundle_copy.glob("*.part"))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("take", "0" * 64, "is damaged.*no variant has the code 0000"),
        ("take", "../../etc/passwd", "is damaged.*is no SHA-256"),
        ("sizes", [128, 256], "is damaged.*expected 3 sizes"),
        ("sizes", [128, 256, -1], "is damaged.*-1 is outside 1"),
        ("kernel", "unheard", "is damaged.*unknown kernel"),
    ],
)
def test_a_damaged_line_is_refused(bundle_copy, field, value, says):
    import lightgrad as lg

    file = bundle_copy / "manifest.json"
    manifest = json.loads(file.read_text())
    code = next(v["blobs"]["cubin"] for v in manifest["variants"] if v["kernel"] == "matmul")
    row = {"device": "any", "kernel": "matmul", "instead_of": code, "sizes": [1, 1, 1], "take": code}
    file.write_text(json.dumps(manifest | {"tuned": [row | {field: value}]}))
    folder = lg.cuda.kernels_folder()
    with pytest.raises(ValueError, match=says):
        lg.cuda.load_kernels(str(bundle_copy))
    assert lg.cuda.kernels_folder() == folder
