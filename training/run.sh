#!/usr/bin/env bash
# `make train-sketch`: autoencoder, transformer, export; each step goes on where an interrupted one was.
# MINUTES_AUTOENCODER and MINUTES_TRANSFORMER say how long to train; TORCH_PYTHON is a Python with requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${TORCH_PYTHON:-training/.venv/bin/python}
run=training/run
[ -x "$python" ] || { echo "No $python: see training/README.md, or set TORCH_PYTHON." >&2; exit 1; }
mkdir -p "$run"
if [ -z "${SDCPP_SRC:-}" ]; then
  SDCPP_SRC=$(.venv/bin/python training/engine_source.py "$run")
fi
export SDCPP_SRC OMP_WAIT_POLICY=passive
again() { [ -f "$1" ] && echo "--resume $1" || true; }
if [ ! -f "$run/autoencoder.done" ]; then
  # shellcheck disable=SC2046
  "$python" training/train_autoencoder.py "$run/autoencoder.pt" --minutes "${MINUTES_AUTOENCODER:-60}" $(again "$run/autoencoder.pt")
  touch "$run/autoencoder.done"
fi
# shellcheck disable=SC2046
"$python" training/train_transformer.py "$run/autoencoder.pt" "$run/transformer.pt" \
  --minutes "${MINUTES_TRANSFORMER:-180}" $(again "$run/transformer.pt")
"$python" training/export.py "$run/autoencoder.pt" "$run/transformer.pt" imagegen/models/sketch.npz
