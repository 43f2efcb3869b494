#!/usr/bin/env python3
"""Makes tests/golden/torch_archives/*: small torch.save files whose values tests/unit/io knows by heart.

Run with PyTorch (made with 2.13): python tools/scripts/make_torch_archive_golden.py [--out FOLDER]
"""

import argparse
from collections import OrderedDict
from pathlib import Path

import torch


def main():
    golden = Path(__file__).resolve().parents[2] / "tests" / "golden"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=golden / "torch_archives")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)

    def save(name, value, **options):
        torch.save(value, folder / name, **options)

    # Every dtype that depthlens reads, each with -1 (or 1), 0, 2.
    signed = torch.tensor([-1, 0, 2])
    unsigned = torch.tensor([1, 0, 2])
    dtypes = {
        "float64": signed.double(), "float32": signed.float(), "float16": signed.half(),
        "bfloat16": signed.bfloat16(), "int64": signed.long(), "int32": signed.int(),
        "int16": signed.short(), "int8": signed.to(torch.int8), "uint8": unsigned.to(torch.uint8),
        "bool": unsigned.bool(),
    }
    save("dtypes.pt", dtypes)
    save("dtypes_protocol4.pt", dtypes, pickle_protocol=4)

    # Layouts: 0..11 in one storage, seen in several ways.
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    layouts = {
        "base": base,
        "transposed": base.t(),
        "rows_1_2": base[1:],
        "column_2": base[:, 2],
        "every_second": base[:, ::2],
        "expanded": base[0].expand(2, 4),
        "scalar": torch.tensor(7.5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.tensor([1.5, -2.5])),
    }
    save("layouts.pt", layouts)

    # The same as versions before 1.6 write it: without zip, keys of storages that are addresses.
    save("old_dtypes.pt", dtypes, _use_new_zipfile_serialization=False)
    save("old_layouts.pt", layouts, _use_new_zipfile_serialization=False, pickle_protocol=4)

    # A state_dict: OrderedDict with a _metadata attribute, as pytorch_model.bin and params.pt have it.
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) + 10 * number)
    save("state_dict.bin", model.state_dict())
    save("wrapped.pt", {"epoch": 3, "model": model.state_dict(), "name": "x"})
    save("old_state_dict.bin", model.state_dict(), _use_new_zipfile_serialization=False)

    # The shape of a Jacobian lens, with every kind of plain value.
    save("nested.pt", {
        "J": {0: torch.eye(2).half(), 3: torch.tensor([[1, 2], [3, 4]]).half()},
        "n_prompts": 5,
        "source_layers": [0, 3],
        "metadata": OrderedDict(
            text="naïve", number=-1.5, yes=True, no=False, none=None, pair=(1, "two"),
            big=2**40, negative=-(2**40), byte=200, short=60000, int=-70000, lowest=-(2**63), empty={}),
    })
    save("tensor.pt", torch.ones(2))
    save("uint16.pt", {"x": torch.zeros(2, dtype=torch.uint16)})  # refused: needs _rebuild_tensor_v3
    save("function.pt", {"x": torch.nn.functional.relu})  # refused
    torch.serialization.set_crc32_options(False)
    save("no_checksums.pt", {"x": torch.arange(6.0)})


if __name__ == "__main__":
    main()
