"""What the tests of the Python package share: one run of the built program on the demo model."""

import importlib.util
import shutil
import tempfile
import unittest
from pathlib import Path

import depthlens

SOURCE = Path(__file__).resolve().parents[2]
TEXT = "The capital of France is Paris.\n\nWater boils at a temperature of one hundred degrees.\n"
LENSES = ["logit", f"tuned:{SOURCE / 'data/demo/lens'}"]

try:
    import pandas
except ImportError:
    pandas = None

needs_pandas = unittest.skipUnless(pandas, "pandas is not installed")


def module(name):
    """A script of the source tree as a module."""
    path = SOURCE / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class RunTest(unittest.TestCase):
    """Has a folder of its own, a text in it, and `analysed`, a run made once for all tests."""

    analysed = None
    _shared = None

    @classmethod
    def setUpClass(cls):
        if RunTest._shared is None:
            RunTest._shared = tempfile.TemporaryDirectory(prefix="depthlens-python-")
            folder = Path(RunTest._shared.name)
            (folder / "text.txt").write_text(TEXT, encoding="utf-8")
            RunTest.analysed = folder / "run"
            depthlens.run(
                "analyze", input=folder / "text.txt", out=RunTest.analysed, lens=LENSES, threads=1, quiet=True
            )

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="depthlens-python-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.text = self.folder / "text.txt"
        self.text.write_text(TEXT, encoding="utf-8")

    def copy_of_run(self):
        place = self.folder / "copy"
        shutil.copytree(RunTest.analysed, place)
        return place

    def assert_error(self, exit_code, part, action, *arguments, **keywords):
        with self.assertRaises(depthlens.Error) as caught:
            result = action(*arguments, **keywords)
            list(result) if hasattr(result, "__next__") else result
        self.assertEqual(caught.exception.exit_code, exit_code)
        self.assertIn(part, caught.exception.message)
        return caught.exception


