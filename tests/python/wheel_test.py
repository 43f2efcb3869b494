"""What makes the wheel, as far as it can be tried without building one."""

import re
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from support import SOURCE, module


class Requirement(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.site = Path(folder.name)
        self.provider = module("python/build/torch_requirement.py")

    def install(self, version):
        (self.site / "torch").mkdir(exist_ok=True)
        (self.site / "torch/__init__.py").write_text("raise RuntimeError('torch must not be imported')\n")
        (self.site / "torch/version.py").write_text(f"__all__ = ['__version__']\n__version__ = '{version}'\n")
        return mock.patch.object(sys, "path", [str(self.site), *sys.path])

    def test_a_wheel_requires_the_minor_version_it_is_built_with(self):
        for version, expected in (("2.13.0+cpu", "2.13"), ("2.14.1", "2.14"), ("2.11.0+cu130", "2.11")):
            with self.subTest(version), self.install(version):
                self.provider.build_state("wheel")
                self.assertEqual(self.provider.dynamic_metadata({}, {}), {"dependencies": [f"torch=={expected}.*"]})

    def test_a_source_archive_does_not(self):
        self.provider.build_state("sdist")
        self.assertEqual(self.provider.dynamic_metadata({}, {}), {"dependencies": ["torch"]})
        self.assertEqual(self.provider.dynamic_wheel({}), {"dependencies": True})

    def test_no_torch(self):
        with mock.patch("importlib.util.find_spec", return_value=None):
            with self.assertRaisesRegex(RuntimeError, "pip install torch"):
                self.provider.installed_minor()

    def test_the_version_is_that_of_cmake(self):
        text = (SOURCE / "pyproject.toml").read_text(encoding="utf-8")
        pattern = re.search(r"^regex = '(.*)'$", text, re.MULTILINE).group(1)
        found = re.search(pattern, (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8")).group("value")
        self.assertRegex(found, r"^\d+\.\d+\.\d+$")


class Bundle(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()
        self.bundle = module("tools/scripts/bundle_libraries.py")

    def needed(self, listing):
        with mock.patch.object(self.bundle, "run", return_value=listing):
            return self.bundle.needed_libraries(self.folder / "program", self.folder / "torch/lib")

    def test_libraries_of_the_system_and_of_torch_stay_where_they_are(self):
        listing = (
            "\tlinux-vdso.so.1 (0x00007f48ea1db000)\n"
            "\tlibpcre2-8.so.0 => /lib/x86_64-linux-gnu/libpcre2-8.so.0.11.2 (0x00007f48e9966000)\n"
            "\tlibstdc++.so.6 => /lib/x86_64-linux-gnu/libstdc++.so.6 (0x00007f48e9600000)\n"
            "\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f48e9600000)\n"
            "\tlibcrypto.so.3 => /lib/x86_64-linux-gnu/libcrypto.so.3 (0x00007f48d4400000)\n"
            f"\tlibtorch_cpu.so => {self.folder}/torch/lib/libtorch_cpu.so (0x00007f48d4a00000)\n"
            f"\tlibgomp.so.1 => {self.folder}/torch/lib/libgomp.so.1 (0x00007f48d4a00000)\n"
            f"\tlibcudart.so.13 => {self.folder}/torch/lib/../../nvidia/cu13/lib/libcudart.so.13 (0x00007f48d4600000)\n"
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f48d3e1e000)\n"
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007f48ea1dd000)\n"
        )
        self.assertEqual(sorted(self.needed(listing)), ["libcrypto.so.3", "libpcre2-8.so.0"])

    def test_a_library_that_is_not_found_stops_it(self):
        with self.assertRaisesRegex(SystemExit, "does not find libzstd.so.1"):
            self.needed("\tlibzstd.so.1 => not found\n")

    def test_texts_that_licences_point_to_come_along(self):
        common = self.folder / "common-licenses"
        common.mkdir()
        for name in ("LGPL-2.1", "GPL-3", "GFDL-1.2"):
            (common / name).write_text(f"text of {name}\n")
        licences = self.folder / "licences"
        licences.mkdir()
        (licences / "a.txt").write_text(f"see {common}/LGPL-2.1.\n")
        (licences / "b.txt").write_text(f"'{common}/GPL-3', {common}/LGPL-2.1, below {common}/\n")
        with mock.patch.object(self.bundle, "COMMON", common):
            self.bundle.copy_common_licences(licences)
            copied = {file.name: file.read_text() for file in (licences / "common").iterdir()}
            self.assertEqual(copied, {name: f"text of {name}\n" for name in ("LGPL-2.1", "GPL-3")})
            (licences / "c.txt").write_text(f"{common}/MPL-9\n")
            with self.assertRaisesRegex(SystemExit, "MPL-9 is missing"):
                self.bundle.copy_common_licences(licences)

    def test_a_file_of_no_package_stops_it(self):
        with self.assertRaisesRegex(SystemExit, "without its licence"):
            self.bundle.package_of(self.folder / "libmine.so")


class Script(unittest.TestCase):
    def test_scripts_can_be_started(self):
        for name in ("tools/wheel.sh", "tools/scripts/bundle_libraries.py"):
            self.assertTrue((SOURCE / name).stat().st_mode & stat.S_IXUSR, name)
        done = subprocess.run(["bash", "-n", str(SOURCE / "tools/wheel.sh")], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
