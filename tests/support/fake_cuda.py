"""Stand-ins for a GPU and for a CUDA toolkit with cuBLAS."""

from __future__ import annotations

from pathlib import Path

from imagegen.engine_build.cards import Card, Cards

H200 = Cards((Card("NVIDIA H200", (9, 0)),), driver_cuda=(13, 0))
OLD_DRIVER = Cards((Card("NVIDIA A10", (8, 6)),), driver="550.54", driver_cuda=(12, 4))
NO_CARDS = Cards()
BROKEN = Cards(problem="Driver/library version mismatch")


def fake_toolkit(root: Path, *, cublas: bool = True, release: str = "13.0") -> Path:
    """An nvcc that prints the real one's answers to queries, and compiles nothing."""
    (root / "bin").mkdir(parents=True)
    (root / "include").mkdir()
    if cublas:
        (root / "include" / "cublas_v2.h").touch()
    nvcc = root / "bin" / "nvcc"
    nvcc.write_text(
        f"""#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release {release}, V{release}.88" ;;
--dryrun) echo "#\\$ TOP={root}/bin/.." >&2; echo '#$ INCLUDES="-I{root}/bin/..//include"  ' >&2 ;;
--list-gpu-code) echo sm_75; echo sm_90; echo sm_120; echo compute_75 ;;
esac
"""
    )
    nvcc.chmod(0o755)
    return nvcc
