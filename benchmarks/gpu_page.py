"""The results of gpu.py as a table, between two markers of docs/gpu.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gpu_drive import Setup

BEGIN, END = "<!-- written by `benchmarks/gpu.py`: run that -->", "<!-- end of what it wrote -->"


def write(page: Path, results: Path, state: dict[str, Any], sizes_px: Sequence[int], setups: Sequence[Setup]) -> None:
    """Put the tables into `page` and everything that was measured, with the medians, into `results`."""
    done = state["done"]
    rows = [_row(done, setup, sizes_px) for setup in setups]
    results.write_text(json.dumps(state | {"rows": rows}, indent=2) + "\n")
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{_tables(state, rows, sizes_px)}\n\n{END}{after}")


def _row(done: dict[str, Any], setup: Setup, sizes_px: Sequence[int]) -> dict[str, Any]:
    """The medians of one setup, and whether both ways drew the same pictures."""
    row: dict[str, Any] = {"setup": setup.title}
    for way in ("direct", "service"):
        for load in ("cold", "warm"):
            row[f"{way}_{load}_s"] = done[f"{setup.name}/{way}/{load}"]["s"]
    loads = [done[f"{setup.name}/service/{load}"] for load in ("cold", "warm")]
    for name in ("before_bytes", "loaded_bytes", "after_bytes", "given_back_s"):
        row[name] = max(load[name] for load in loads)
    for size in sizes_px:
        pictures = {way: _pictures(done, f"{setup.name}/{way}/{size}/") for way in ("direct", "service")}
        for way, drawn in pictures.items():
            row[f"{way}_{size}_s"] = median(one["s"] for one in drawn)
        row[f"ratio_{size}"] = row[f"service_{size}_s"] / row[f"direct_{size}_s"]
        row[f"peak_{size}_bytes"] = max(one["peak_bytes"] for one in pictures["service"])
        row[f"same_{size}"] = [p["pixels_crc32"] for p in pictures["direct"]] == [
            p["pixels_crc32"] for p in pictures["service"]
        ]
    return row


def _pictures(done: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    return [result for name, result in done.items() if name.startswith(prefix)]


def _tables(state: dict[str, Any], rows: list[dict[str, Any]], sizes_px: Sequence[int]) -> str:
    about, done = state["about"], state["done"]
    memory = "RAM of the engine" if about["dry_run"] else "VRAM"
    weights = sum(result["bytes"] for name, result in done.items() if name.startswith("weights/"))
    build = done["engine"]
    lines = [
        f"{about['card']}" + (f", driver {about['driver']} (CUDA {about['driver_cuda']})" if about["driver"] else "")
        + (f", nvcc {done['toolkit']['release']}" if done["toolkit"]["nvcc"] else "")
        + f", engine {about['engine']} ({build['backend'] or 'own binary'} {' '.join(build['archs'] or [])}".rstrip()
        + f"), imagegen {about['imagegen']}, {weights / 1e9:.2f} GB of weights.",
        "",
    ]  # fmt: skip
    if about["dry_run"]:
        lines[:0] = ["**A dry run on the CPU with a tiny model: these figures say nothing of a GPU.**", ""]
    sizes = [str(size) for size in sizes_px]
    lines += _table(
        ["seconds for a picture", *(f"{s}² {what}" for s in sizes for what in ("by hand", "service", "ratio"))],
        [
            [row["setup"]]
            + [
                f"{row[key]:.2f}" if not key.startswith("ratio") else f"{row[key]:.3f}"
                for s in sizes
                for key in (f"direct_{s}_s", f"service_{s}_s", f"ratio_{s}")
            ]
            for row in rows
        ],
    )
    lines += ["", *_table(
        ["seconds for a load", "by hand, from the disk", "service", "by hand, from the page cache", "service"],
        [[row["setup"], *(f"{row[key]:.1f}" for key in ("direct_cold_s", "service_cold_s", "direct_warm_s",
          "service_warm_s"))] for row in rows],
    )]  # fmt: skip
    lines += ["", *_table(
        [f"{memory}, GB", "before", "loaded", *(f"most at {s}²" for s in sizes), "after", "given back in"],
        [[row["setup"], *(f"{row[key] / 1e9:.2f}" for key in ("before_bytes", "loaded_bytes",
          *(f"peak_{s}_bytes" for s in sizes), "after_bytes")), f"{row['given_back_s']:.2f} s"] for row in rows],
    )]  # fmt: skip
    odd = [f"{row['setup']} at {s}²" for row in rows for s in sizes if not row[f"same_{s}"]]
    lines += ["", f"Pictures that differ between the two ways: {', '.join(odd) or 'none'}."]
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
