"""depthlens from Python: opens run folders and starts the program.

>>> import depthlens
>>> run = depthlens.run("analyze", input="corpus.txt", out="out/corpus", lens=["logit"])
>>> run.tables["lens.quality"]          # a data frame
>>> run.frame(lens="logit", fields=("final_rank", "entropy"))   # one row a position and layer
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself is slow to import
if TYPE_CHECKING:
    from ._error import Error
    from ._program import demo_folder, run
    from ._reader import NUMBERS, Run, Tables, load

    __version__: str

__all__ = ["Error", "NUMBERS", "Run", "Tables", "demo_folder", "load", "run", "__version__"]

_PLACES = {
    "Error": "_error",
    "demo_folder": "_program",
    "run": "_program",
    "NUMBERS": "_reader",
    "Run": "_reader",
    "Tables": "_reader",
    "load": "_reader",
}


def __getattr__(name: str) -> object:
    """Imports a name when it is used: the console script, which needs none of them, is to be quick (``_start``)."""
    if name == "__version__":
        try:
            from ._built import VERSION
        except ImportError:  # from the source tree, without a build
            return "0+source"
        return VERSION
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("." + _PLACES[name], __name__), name)


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
