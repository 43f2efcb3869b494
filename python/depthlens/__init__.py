"""depthlens from Python: opens run folders and starts the program.

>>> import depthlens
>>> run = depthlens.run("analyze", input="corpus.txt", out="out/corpus", lens=["logit"])
>>> run.tables["lens.quality"]          # a data frame
>>> run.frame(lens="logit", fields=("final_rank", "entropy"))   # one row a position and layer
"""

from __future__ import annotations

from ._error import Error
from ._program import demo_folder, run
from ._reader import NUMBERS, Run, Tables, load

try:
    from ._built import VERSION as __version__
except ImportError:  # from the source tree, without a build
    __version__ = "0+source"

__all__ = ["Error", "NUMBERS", "Run", "Tables", "demo_folder", "load", "run", "__version__"]
