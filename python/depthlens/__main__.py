"""``python -m depthlens`` is the program."""

from ._program import main

main()
