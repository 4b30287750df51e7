"""Loads a script of ``scripts/`` as a module, so that its functions can be tested."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from support.tools import CHECKOUT

SCRIPTS = CHECKOUT / "scripts"


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
