#!/usr/bin/env python3
"""Copies the libraries that a program needs beside it, with their licences, so that it runs on systems without them.

    bundle_libraries.py --program PROGRAM --into PREFIX --libtorch FOLDER [--header FILE…]

PREFIX/lib gets every shared library that PROGRAM loads, but for those of libtorch's folder, those of CUDA that pip
installs beside torch, and those that every Linux has (BASE); each looks for its own ones beside itself.
PREFIX/share/doc/depthlens/licences gets the licence text of each, and of the libraries whose headers are compiled in
(--header), as Debian's packages have them; common/ in it the texts that these point to. Called by
cmake/installation.cmake; needs ldd, patchelf and dpkg-query.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

# The C and C++ libraries of the system, which a program brings at its peril. libgomp comes with torch.
BASE = re.compile(r"^(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|gcc_s|stdc\+\+|gomp|anl|nsl))\.so\.")
COMMON = Path("/usr/share/common-licenses")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--libtorch", type=Path, required=True)
    parser.add_argument("--header", type=Path, action="append", default=[])
    options = parser.parse_args()

    folder = options.into / "lib"
    licences = options.into / "share" / "doc" / "depthlens" / "licences"
    licences.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    packages = set()
    for name, place in needed_libraries(options.program, options.libtorch).items():
        target = folder / name
        shutil.copyfile(place, target)
        target.chmod(0o755)
        run("patchelf", "--set-rpath", "$ORIGIN", target)
        packages.add(package_of(place))
    packages |= {package_of(header) for header in options.header}
    for package in sorted(packages):
        text = Path("/usr/share/doc") / package / "copyright"
        if not text.is_file():
            sys.exit(f"{text} is missing: a library is not bundled without its licence")
        shutil.copyfile(text, licences / f"{package}.txt")
    copy_common_licences(licences)
    copy_licence_of_torch(options.libtorch, licences)
    print(f"bundled {len(list(folder.iterdir()))} libraries, licences of {len(packages)} packages")


def needed_libraries(program: Path, libtorch: Path) -> "dict[str, Path]":
    """The libraries to bundle, by the names under which the loader looks for them."""
    libtorch = libtorch.resolve()
    cuda = libtorch.parents[1] / "nvidia"
    libraries = {}
    for line in run("ldd", program).splitlines():
        match = re.match(r"\s*(\S+) => (.+?)(?: \(0x[0-9a-f]+\))?$", line)
        if match is None:
            continue
        name, place = match.group(1), match.group(2)
        if place == "not found":
            sys.exit(f"{program} does not find {name}")
        resolved = Path(place).resolve()
        if BASE.match(name) or libtorch in resolved.parents or cuda in resolved.parents:
            continue
        libraries[name] = resolved
    return libraries


def package_of(file: Path) -> str:
    # Debian knows a file by one of two names: /lib is a link to /usr/lib.
    for name in (file, Path("/usr") / file.relative_to("/"), Path("/") / Path(*file.parts[2:])):
        done = subprocess.run(["dpkg-query", "--search", str(name)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    sys.exit(f"no Debian package has {file}: a library is not bundled without its licence")


def copy_common_licences(licences: Path) -> None:
    """Debian's copyright files name the texts of the GPL, the LGPL and others by their place on a Debian system."""
    names = set()
    for file in licences.glob("*.txt"):
        # A full stop may follow; the folder alone names nothing.
        text = file.read_text(encoding="utf-8", errors="replace")
        names |= set(re.findall(re.escape(str(COMMON)) + r"/([A-Za-z0-9.+-]*[A-Za-z0-9+])", text))
    (licences / "common").mkdir(exist_ok=True)
    for name in sorted(names):
        if not (COMMON / name).is_file():
            sys.exit(f"{COMMON / name} is missing: a library is not bundled without its licence")
        shutil.copyfile(COMMON / name, licences / "common" / name)


def copy_licence_of_torch(libtorch: Path, licences: Path) -> None:
    """Parts of libtorch's headers are compiled in."""
    wheel = libtorch.resolve().parents[1]
    places = [libtorch.parent / "LICENSE", *wheel.glob("torch-*.dist-info/licenses/LICENSE"), *wheel.glob("torch-*.dist-info/LICENSE")]
    for place in places:
        if place.is_file():
            shutil.copyfile(place, licences / "torch.txt")
            return
    sys.exit(f"no licence of torch at {wheel}")


def run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{words[0]}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
