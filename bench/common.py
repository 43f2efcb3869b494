"""What the benchmarks share: the processor's and the card's name, and running the program with its time and memory measured."""

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(os.environ.get("DEPTHLENS", Path(__file__).resolve().parent.parent / "build" / "bin" / "depthlens"))


def processor():
    """The processor's name and what it offers for low-precision products, such as 'Intel …, 2 cores, avx512_bf16 amx_bf16'."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    offers = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{fields.get('model name', 'unknown')}, {os.cpu_count()} cores, {' '.join(offers)}"


def machine(device):
    """The processor; of a card its name, driver and torch, as the driver and torch call them."""
    if device == "cpu":
        return processor()
    import torch

    driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True,
                            text=True, check=False).stdout.split("\n")[0]
    return f"{torch.cuda.get_device_name(device)}, driver {driver}, torch {torch.__version__}; {processor()}"


@dataclass
class Measured:
    seconds: float
    cpu_seconds: float  # of all threads, in the program and in the kernel
    peak_bytes: int  # of resident memory
    positions: float = 0  # as the program tells, unless --quiet
    analyzing_seconds: float = 0  # without loading


ANALYZING = re.compile(r"([\d,]+) positions, ([\d,.]+) positions/s")


def run(arguments, **options):
    """Runs the program and raises where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen([str(PROGRAM), *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               text=True, **options)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"depthlens ended with status {process.returncode}: {' '.join(map(str, arguments))}\n{said}")
    measured = Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
    if ANALYZING.search(said):
        measured.positions, rate = (float(number.replace(",", "")) for number in ANALYZING.findall(said)[-1])
        measured.analyzing_seconds = measured.positions / max(1.0, rate)
    return measured


def first_lines(path, num_bytes):
    """The beginning of a text, cut at a line's end, or at a space where the first line is longer."""
    with open(path, "rb") as file:
        text = file.read(num_bytes)
    end = text.rfind(b"\n") + 1 or text.rfind(b" ") + 1
    if end == 0:
        raise SystemExit(f"{path}: neither a line nor a word ends within the first {num_bytes} bytes")
    return text[:end]


def print_table(header, rows, markdown):
    """Rows of texts, the first column to the left; in columns, or as markdown."""
    if markdown:
        lines = [header, ["---"] * len(header), *rows]
        print("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
        return
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(text.ljust(width) if column == 0 else text.rjust(width)
                        for column, (text, width) in enumerate(zip(row, widths))))
