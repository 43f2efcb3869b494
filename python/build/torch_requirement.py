"""The requirement on torch of a wheel: the minor version of the torch that it is built with, since the C++ interface of
another one differs. Called by scikit-build-core."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

_state = "wheel"


def build_state(state: str) -> None:
    global _state
    _state = state


def dynamic_wheel(settings: dict) -> dict:
    return {"dependencies": True}


def dynamic_metadata(settings: dict, project: dict) -> dict:
    return {"dependencies": ["torch" if _state == "sdist" else f"torch=={installed_minor()}.*"]}


def installed_minor() -> str:
    """MAJOR.MINOR of the torch of this Python, which is not imported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("depthlens is built for the torch that is installed, and none is: pip install torch")
    file = Path(list(spec.submodule_search_locations)[0]) / "version.py"
    match = re.search(r"^__version__\s*=\s*['\"](\d+\.\d+)\.", file.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"no version of torch in {file}")
    return match.group(1)
