#!/usr/bin/env bash
# `make train-sketch`: autoencoder, transformer, the decoder's finish, export. What is done stays done (NAME.done); what
# was interrupted goes on where it was, except the finish, which takes minutes and begins anew.
# STEPS_AUTOENCODER, PICTURES_TRANSFORMER and STEPS_FINISH say how long to train; TORCH_PYTHON is a Python with
# requirements.txt; DEVICE is cpu or cuda, by default cuda where torch has one.
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
export PYTHONPATH="$PWD"
on=(${DEVICE:+--device "$DEVICE"})
again() { [ -f "$1" ] && echo "--resume $1" || true; }
if [ ! -f "$run/autoencoder.done" ]; then
  # shellcheck disable=SC2046
  "$python" training/train_autoencoder.py "$run/autoencoder.pt" "${on[@]}" \
    ${STEPS_AUTOENCODER:+--steps "$STEPS_AUTOENCODER"} $(again "$run/autoencoder.pt")
  touch "$run/autoencoder.done"
fi
if [ ! -f "$run/transformer.done" ]; then
  # shellcheck disable=SC2046
  "$python" training/train_transformer.py "$run/autoencoder.pt" "$run/transformer.pt" "${on[@]}" \
    ${PICTURES_TRANSFORMER:+--pictures "$PICTURES_TRANSFORMER"} $(again "$run/transformer.pt")
  touch "$run/transformer.done"
fi
if [ ! "$run/finished.pt" -nt "$run/transformer.pt" ]; then
  "$python" training/finish.py "$run/autoencoder.pt" "$run/transformer.pt" "$run/finished.pt" "${on[@]}" \
    ${STEPS_FINISH:+--steps "$STEPS_FINISH"}
fi
"$python" training/export.py "$run/finished.pt" "$run/transformer.pt" imagegen/models/entries/sketch.npz
