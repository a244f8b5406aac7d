#!/usr/bin/env bash
# benchmarks/gpu.py, stops and previews on a GPU machine without a network, where every minute counts.
#
#   bash benchmarks/gpu_offline.sh pack FOLDER [PYTHON]       # where there is a network: what the machine lacks, below 64 MiB with the tree
#   bash benchmarks/gpu_offline.sh build FOLDER WORK OUT      # there: engine, weights and the upscaler's training side by side
#   bash benchmarks/gpu_offline.sh measure FOLDER WORK OUT    # there, as often as there is time: it goes on where it stopped
#
# The machine has nvcc 13, g++, CMake, ninja, PyTorch (with cuBLAS), NumPy and Pillow for PYTHON (default 3.12). Everything
# that is worth keeping goes to OUT after every stage: logs, state.json, results.json, gpu.md.
set -uo pipefail
cd "$(dirname "$0")/.."
stage=${1:?pack, build or measure} pack=${2:?the folder of the pack}
there="cmake ninja numpy pillow hf-xet setuptools pygments pyyaml rich"           # the machine has these
front="fastmcp fastmcp-slim mcp mcp-types beartype cyclopts rich-rst docutils openapi-pydantic authlib joserfc"  # only the MCP front needs these
seconds() { echo "[$SECONDS s] $*"; }

if [ "$stage" = pack ]; then
  python=${3:-3.12}
  mkdir -p "$pack/wheels"
  platforms=(--platform manylinux1_x86_64 --platform manylinux2014_x86_64)
  for n in 5 17 24 27 28 31 34 35; do platforms+=(--platform "manylinux_2_${n}_x86_64"); done
  .venv/bin/pip download --quiet --no-deps --only-binary=:all: --require-hashes --implementation cp --python-version "$python" \
    "${platforms[@]}" -r requirements/base.txt -d "$pack/wheels" || exit 1
  for name in $there $front; do rm -f "$pack/wheels/${name//-/_}"-[0-9]*.whl; done
  .venv/bin/python - "$pack" <<'PYTHON' || exit 1
import sys
from pathlib import Path
from imagegen.engine_build import source
from imagegen.engine_build.plan import PINNED
folder = Path(sys.argv[1])
with open("/dev/null", "wb") as log:
    archive = source.fetch(PINNED, folder, folder, log, lambda *_: None)
archive.replace(folder / PINNED.filename)
PYTHON
  rmdir "$pack/sdist" 2>/dev/null
  echo "$(( ($(du -sb "$pack" | cut -f1) + $(git archive HEAD | wc -c)) / 1048576 )) MiB with the tree"
  exit
fi

work=${3:?the folder for the weights} out=${4:?the folder for the results}
mkdir -p "$work" "$out"
export PYTHONUNBUFFERED=1 IMAGEGEN_CACHE="$work/cache"
site="$work/site"
if [ ! -d "$site" ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$pack"/wheels/*.whl || exit 3
fi
export PYTHONPATH="$site:$PWD"
keep() { cp "$work"/bench/{state,results}.json docs/gpu.md "$work"/cache/engine/logs/*.log "$out" 2>/dev/null; }

case "$stage" in
  build)
    nvidia-smi | tee "$out/smi.txt"
    mkdir -p "$work/cache/engine/sdist" && cp "$pack"/*.tar.gz "$work/cache/engine/sdist/"
    (python3 -m imagegen.cli engine build --backend cuda >"$out/build.txt" 2>&1; seconds "engine: status $?") &
    (nice -n 5 python3 benchmarks/gpu.py --work "$work/bench" --only-weights >"$out/weights.txt" 2>&1; seconds "weights: status $?") &
    if [ -f "$pack/teacher.pt" ]; then
      (PYTHONPATH='' timeout 400 python3 training/train_upscaler.py "$pack/teacher.pt" "$work/upscaler" --device cuda --minutes 3.3 \
        --workers 5 >"$out/training.txt" 2>&1; seconds "training: status $?"; cp "$work"/upscaler/* "$out") &
    fi
    wait
    keep
    tail -n 3 "$out"/*.txt
    ;;
  measure)
    python3 benchmarks/gpu.py --work "$work/bench" --setups fa --pictures 2 --minutes 4.2; keep; seconds "flash attention"
    if [ -f benchmarks/cancel.py ]; then
      timeout 120 python3 benchmarks/cancel.py >"$out/cancel.txt" 2>&1; seconds "stops: status $?"; tail -n 5 "$out/cancel.txt"
    fi
    python3 benchmarks/gpu.py --work "$work/bench" --pictures 1 --minutes 1.6; keep; seconds "the rest"
    tail -n 30 docs/gpu.md
    ;;
  *) echo "pack, build or measure" >&2; exit 2 ;;
esac
