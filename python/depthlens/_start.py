"""The console script. What is slow is imported only when Ctrl-C has a meaning, which is not a stack trace."""

from __future__ import annotations

import os

# Built in; the module signal imports enum and more before it gives the same.
import _signal  # type: ignore[import-not-found,unused-ignore]


def main(packaged: bool = True) -> None:
    """Becomes the program: that of this package, or else the one that ``run`` starts."""
    _signal.signal(_signal.SIGINT, _end)
    from ._program import replace_process

    replace_process(packaged)


def _end(*_: object) -> None:
    os.write(2, b"depthlens: error: interrupted\n")
    os._exit(130)
