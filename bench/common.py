"""What the benchmarks share: the processor's name, and running the program with its time and memory measured."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent / "build" / "bin" / "depthlens"


def processor():
    """The processor's name and what it offers for low-precision products, such as 'Intel …, 2 cores, avx512_bf16 amx_bf16'."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    offers = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{fields.get('model name', 'unknown')}, {os.cpu_count()} cores, {' '.join(offers)}"


@dataclass
class Measured:
    seconds: float
    cpu_seconds: float  # of all threads, in the program and in the kernel
    peak_bytes: int  # of resident memory


def run(arguments, **options):
    """Runs the program and raises where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen([str(PROGRAM), *map(str, arguments)], stdout=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"depthlens ended with status {process.returncode}: {' '.join(map(str, arguments))}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def first_lines(path, num_bytes):
    """The beginning of a text, cut at a line's end."""
    with open(path, "rb") as file:
        text = file.read(num_bytes)
    return text[: text.rfind(b"\n") + 1]
