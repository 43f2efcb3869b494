"""Runs the example of docs/python.md as it stands there, in an empty working folder."""

import contextlib
import io
import os
import re
import tempfile
import unittest
from pathlib import Path
from unittest import mock

SOURCE = Path(__file__).resolve().parents[2]

try:
    import matplotlib
    import pandas
except ImportError:
    matplotlib = pandas = None


@unittest.skipUnless(matplotlib and pandas, "pandas or matplotlib is not installed")
class Example(unittest.TestCase):
    def test_the_blocks_of_the_page(self):
        text = (SOURCE / "docs/python.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.assertEqual(len(blocks), 6)
        matplotlib.use("Agg")
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, COLUMNS="200"):
            os.chdir(folder)
            try:
                stdout, stderr = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                    scope = {}
                    for number, block in enumerate(blocks):
                        exec(compile(block, f"docs/python.md, block {number}", "exec"), scope)
            finally:
                os.chdir(before)
            for picture in ("frequency.png", "words.png"):
                self.assertGreater((Path(folder) / "out" / picture).stat().st_size, 10000)
        self.assertIn("·Paris", stdout.getvalue())
        self.assertIn("3 ", stdout.getvalue().splitlines()[-1])
        self.assertIn("missing.txt", stdout.getvalue().splitlines()[-1])
        self.assertEqual(scope["shares"].groupby("layer")["share"].sum().round(9).unique().tolist(), [1.0])
        self.assertEqual(scope["table"].index[0], "DET")


if __name__ == "__main__":
    unittest.main()
