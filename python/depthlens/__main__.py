"""``python -m depthlens`` is the program that ``run`` starts."""

from ._start import main

main(packaged=False)
