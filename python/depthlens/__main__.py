"""``python -m depthlens`` is the program."""

from ._start import main

main()
