"""The one exception of the package."""

from __future__ import annotations


class Error(Exception):
    """What went wrong, in words of the user.

    ``message`` says what and where, ``hint`` what to do about it (or is empty). ``exit_code`` is the exit status of the
    program, or the one that the program would have ended with: 2 wrong usage, 3 a file is missing, 4 a file is
    damaged, 5 a self-check failed, 6 the run folder cannot be written, 70 a defect, 130 interrupted.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = 4) -> None:
        super().__init__(message, hint, exit_code)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message
