"""Write the results of gpu.py as tables between two markers of docs/gpu.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gpu_drive import Setup

BEGIN, END = "<!-- written by `benchmarks/gpu.py`: run that -->", "<!-- end of what it wrote -->"


def write(page: Path, results: Path, state: dict[str, Any], sizes_px: Sequence[int], setups: Sequence[Setup]) -> None:
    """Write the tables into `page`, and all measurements and medians into `results`."""
    done = state["done"]
    rows = [_row(done, setup, sizes_px) for setup in setups]
    results.write_text(json.dumps(state | {"rows": rows}, indent=2) + "\n")
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{_tables(state, rows, sizes_px)}\n\n{END}{after}")


def _row(done: dict[str, Any], setup: Setup, sizes_px: Sequence[int]) -> dict[str, Any]:
    """The medians measured for one setup, and whether both ways drew the same pictures."""
    row: dict[str, Any] = {"setup": setup.title}
    loads = []
    for way in setup.ways:
        for load in ("cold", "warm"):
            if found := done.get(f"{setup.name}/{way}/{load}"):
                row[f"{way}_{load}_s"] = found["s"]
                loads.append(found)
    if loads:
        for name in ("before_bytes", "loaded_bytes", "after_bytes", "given_back_s"):
            row[name] = max(load[name] for load in loads)
    for size in sizes_px:
        drawn = {way: _pictures(done, f"{setup.name}/{way}/{size}/") for way in setup.ways}
        drawn = {way: pictures for way, pictures in drawn.items() if pictures}
        for way, pictures in drawn.items():
            row[f"{way}_{size}_s"] = median(one["s"] for one in pictures.values())
        if drawn:
            row[f"peak_{size}_bytes"] = max(one["peak_bytes"] for way in drawn.values() for one in way.values())
        if len(drawn) == len(setup.ways) == 2:
            both = drawn["direct"].keys() & drawn["service"].keys()
            row[f"ratio_{size}"] = row[f"service_{size}_s"] / row[f"direct_{size}_s"]
            row[f"same_{size}"] = all(
                drawn["direct"][seed]["pixels_crc32"] == drawn["service"][seed]["pixels_crc32"] for seed in both
            )
    return row


def _pictures(done: dict[str, Any], prefix: str) -> dict[str, dict[str, Any]]:
    """The measurements of each picture by its seed."""
    return {name.removeprefix(prefix): result for name, result in done.items() if name.startswith(prefix)}


def _tables(state: dict[str, Any], rows: list[dict[str, Any]], sizes_px: Sequence[int]) -> str:
    about, done = state["about"], state["done"]
    build = done["engine"]
    lines = [
        f"{about['card']}" + (f", driver {about['driver']} (CUDA {about['driver_cuda']})" if about["driver"] else "")
        + (f", compiled with CUDA {'.'.join(map(str, build['cuda']))}" if build["cuda"] else "")
        + f", engine {about['engine']} ({build['backend'] or 'own binary'} {' '.join(build['archs'] or [])}".rstrip()
        + f"), imagegen {about['imagegen']}, {done['weights']['bytes'] / 1e9:.2f} GB of weights. "
        "A cell with a dash was not measured.",
        "",
    ]  # fmt: skip
    if about["dry_run"]:
        lines[:0] = ["**A dry run on the CPU with a tiny model: these figures say nothing of a GPU.**", ""]
    sizes = [str(size) for size in sizes_px]
    lines += _table(
        ["seconds for a picture", *(f"{s}² {what}" for s in sizes for what in ("engine alone", "service", "ratio"))],
        [
            [row["setup"]]
            + [_cell(row, f"{what}_{s}{unit}", digits) for s in sizes for what, unit, digits in PICTURE_COLUMNS]
            for row in rows
        ],
    )
    lines += ["", *_table(
        ["seconds for a load", "from disk, engine alone", "service", "from page cache, engine alone", "service"],
        [[row["setup"], *(_cell(row, key, 1) for key in ("direct_cold_s", "service_cold_s", "direct_warm_s",
          "service_warm_s"))] for row in rows if "direct_cold_s" in row],
    )]  # fmt: skip
    memory = "RAM of the engine" if about["dry_run"] else "VRAM"
    lines += ["", *_table(
        [f"{memory}, GB", "before", "loaded", *(f"most at {s}²" for s in sizes), "after", "given back in, s"],
        [[row["setup"], *(_cell(row, key, 2, 1e9) for key in ("before_bytes", "loaded_bytes",
          *(f"peak_{s}_bytes" for s in sizes), "after_bytes")), _cell(row, "given_back_s", 2)] for row in rows],
    )]  # fmt: skip
    compared = [(row, s) for row in rows for s in sizes if f"same_{s}" in row]
    odd = [f"{row['setup']} at {s}²" for row, s in compared if not row[f"same_{s}"]]
    if compared:
        lines += ["", f"Pictures that differ between the engine alone and the service: {', '.join(odd) or 'none'}."]
    return "\n".join(lines)


PICTURE_COLUMNS = (("direct", "_s", 2), ("service", "_s", 2), ("ratio", "", 3))


def _cell(row: dict[str, Any], key: str, digits: int, unit: float = 1.0) -> str:
    return "–" if key not in row else f"{row[key] / unit:.{digits}f}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
