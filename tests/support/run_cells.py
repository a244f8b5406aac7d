"""Run the code cells of a notebook: `python run_cells.py NOTEBOOK`. Prints each cell's outputs as a line of JSON.

The cells run in IPython's own shell, with top-level await and its display machinery, in this process. It is no Jupyter
kernel: no messages, no browser.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output


def main() -> None:
    """Run the cells in order, up to one that fails. Exit code 1 if one fails."""
    cells = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]
    shell = InteractiveShell.instance()
    shell.display_formatter.active_types = shell.display_formatter.format_types  # as in a kernel, not only text
    for source in ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]:
        with capture_output() as captured:
            result = shell.run_cell(source, store_history=True)
        if result.error_before_exec or result.error_in_exec:
            sys.exit(f"{source}\n{captured.stdout}")
        print(
            json.dumps(
                {
                    "source": source,
                    "text": captured.stdout,
                    "shown": _shown(captured),
                    "result": _types(shell, result.result),
                }
            )
        )


def _shown(captured: Any) -> list[dict[str, Any]]:
    """What the cell displayed: media types, the text, and whether an output was replaced."""
    shown = [output if isinstance(output, dict) else output.__dict__ for output in captured._outputs]
    return [
        {
            "types": sorted(one["data"]),
            "plain": one["data"].get("text/plain", ""),
            "html": one["data"].get("text/html", ""),
            "update": bool(one.get("update")),
            "display_id": (one.get("transient") or {}).get("display_id"),
        }
        for one in shown
    ]


def _types(shell: Any, value: Any) -> list[str]:
    """The media types of a cell's last value. None for a value that displays itself: that is in `shown`."""
    if value is None or hasattr(value, "_ipython_display_"):
        return []
    return sorted(shell.display_formatter.format(value)[0])


main()
