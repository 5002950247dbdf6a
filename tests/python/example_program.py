"""An example, which is one program in C++ and Python, and how tests call both."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

import lightgrad as lg

ROOT = Path(__file__).resolve().parents[2]


class ExampleProgram:
    def __init__(self, name):
        self.folder = ROOT / "examples" / name
        self.binary = Path(os.environ.get(f"LIGHTGRAD_{name.upper()}", ROOT / "build/examples" / name))
        self.commands = {"cpp": [str(self.binary)], "python": [sys.executable, str(self.folder / "train.py")]}

    def need_binary(self):
        if not self.binary.exists():
            pytest.skip(f"{self.binary} is not built")

    def command(self, language):
        if language == "cpp":
            self.need_binary()
        return self.commands[language]

    def raise_scale(self, folder):
        """Of the checkpoint: too high for the steps that follow."""
        path = folder / "checkpoint.safetensors"
        c = lg.io.Checkpoint.load(path)
        c.put("scaler.scale", 2.0**40)
        c.save(path)

    def load(self, *names):
        """Its modules of these names, the last of which is returned, so that other examples' files of the same names
        cannot replace them.
        """
        modules = {}
        hidden = {name: sys.modules.get(name) for name in names}
        for name in names:
            spec = importlib.util.spec_from_file_location(name, self.folder / f"{name}.py")
            sys.modules[name] = modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(modules[name])
        for name, module in hidden.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
        return modules[names[-1]]
