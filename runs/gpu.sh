#!/usr/bin/env bash
# The report's experiments as it published them, on one GPU: from a bare machine with JAX or PyTorch and the Kaggle zip to
# results/*_published.json. With everything that the notebooks import installed (pip install '.[train,gpu,dev]'):
#
#   DATA=path/to/midi_classic_music_data.zip runs/gpu.sh
#
# On an H100 with 16 cores: five minutes for the CNN with the search beside it, and five for all composers. What is finished is
# kept, each epoch of each training, and the same command goes on where it was cut. SET=smoke rehearses it on a CPU. After each
# step, and every half minute, $OUT/published.tar holds what there is; unpacked in another clone, the same command goes on
# there. LIMIT: seconds after which no training is waited for.
set -uo pipefail
cd "$(dirname "$0")/.."
: "${DATA:?say which data: DATA=path/to/midi_classic_music_data.zip runs/gpu.sh}"
[ "$DATA" = embedded ] || DATA=$(realpath "$DATA")
SET=${SET:-gpu} PYTHON=${PYTHON:-python3} LIMIT=${LIMIT:-1500} work=runs/out/${SET:-gpu}
OUT=${OUT:-$work}
mkdir -p "$work/results" "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} MPLBACKEND=Agg TF_CPP_MIN_LOG_LEVEL=2 PYTHONWARNINGS=ignore
# Several notebooks share the GPU, each takes what it needs; what one process has compiled the others need not compile again
export XLA_PYTHON_CLIENT_PREALLOCATE=false JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/$work/compiled}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.5 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=0
see_gpu="import sys, keras; from composer_classify.results import accelerator; print(accelerator()); sys.exit(not accelerator() and '$SET' != 'smoke')"

say() { echo "$(printf '%4d' $SECONDS) s  $*"; }

save() {  # the results, what is known of finished trainings, and logs; no networks, which are large and not needed to go on
  (
    flock 9
    find "$work" -type f \( -name '*.json' -o -name '*.done' -o -name '*.log' -o -name '*.ipynb' \) \
      ! -path '*/compiled/*' -print0 | tar -cf "$OUT/published.tmp" --null -T -
    mv "$OUT/published.tmp" "$OUT/published.tar"
  ) 9> "$work/saving"
}

watch() {
  while sleep 30; do
    save
    say "trainings kept: $(find "$work/keep" -name '*.json' 2> /dev/null | wc -l)" \
      "$(nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader 2> /dev/null)"
  done
}

step() {  # step NAME NOTEBOOK
  local name=$1 notebook=$2 left=$((LIMIT - SECONDS)) begin=$SECONDS
  [ ! -e "$work/$name.done" ] || { say "$name: finished before"; return 0; }
  [ $left -gt 30 ] || { say "$name: no time left"; return 1; }
  say "$name: begins"
  if timeout --kill-after=5 $left "$PYTHON" -m papermill "nbs/$notebook.ipynb" "$work/$name.ipynb" --cwd nbs \
    -f "runs/$SET/$notebook.yaml" -p corpus "$DATA" -p only_published True \
    -p results "../$work/results/${notebook#*_}.json" \
    --start-timeout 300 --log-output --no-progress-bar > "$work/$name.log" 2>&1; then
    touch "$work/$name.done"
    say "$name: finished, $((SECONDS - begin)) s"
  else
    say "$name: not finished; the end of its log:"
    tail -n 15 "$work/$name.log"
    false
  fi
  local status=$?
  save
  return $status
}

device=
for backend in ${KERAS_BACKEND:-jax torch tensorflow}; do
  export KERAS_BACKEND=$backend
  device=$("$PYTHON" -c "$see_gpu" 2>> "$work/device.log") && found=yes && break
done
[ -n "${found:-}" ] || {
  echo "No GPU is seen here by JAX, PyTorch or TensorFlow:" >&2
  tail -n 5 "$work/device.log" >&2
  exit 1
}
say "KERAS_BACKEND=$KERAS_BACKEND on ${device:-the CPU}"
"$PYTHON" -c "
from composer_classify.collection import open_corpus
corpus = open_corpus('$DATA')
print(len(corpus.files), 'files; data hash', corpus.data_hash)" || exit 1
say "data: collected"
watch &
watching=$!
trap 'kill $watching 2> /dev/null' EXIT

step cnn 04_cnn & cnn=$!
step optimization 05_optimization & optimization=$!
wait $cnn; failed=$?
wait $optimization || failed=1
step all_composers 06_all_composers || failed=1
save
[ "$SET" = smoke ] || cp "$work"/results/*_published.json results/ || failed=1  # which the pages read
[ $failed = 0 ] && say "all finished" || say "not all finished: the same command goes on"
exit $failed
