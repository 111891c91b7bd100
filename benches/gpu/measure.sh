#!/usr/bin/env bash
# All that is worth knowing of a GPU, in about nine minutes and one command, which goes on where a part fails:
#
#   cargo build --release
#   benches/gpu/measure.sh target/release/deepj FOLDER
#
# DEVICE (auto), BATCHES (1 16 64), SEQ (128), RUNS (10), TORCH (cuda) and SECONDS_VERIFY (200) change what is measured. Each part has a
# time limit, and a file in FOLDER with what it printed; one that failed has a second file with what it complained of. The summary comes last.
# The peers need Python with PyTorch (benches/peers/README.md); without it these parts fail and the others do not. A try without a GPU:
#
#   DEVICE=0 BATCHES=1 SEQ=4 RUNS=2 TORCH=cpu SECONDS_VERIFY=60 benches/gpu/measure.sh target/release/deepj FOLDER
set -u
[ $# = 2 ] || { echo "usage: $0 DEEPJ FOLDER" >&2; exit 2; }
deepj=$(realpath "$1") out=$2 peers=$(realpath "$(dirname "$0")/../peers")
device=${DEVICE:-auto} batches=${BATCHES:-1 16 64} seq=${SEQ:-128} runs=${RUNS:-10} torch=${TORCH:-cuda}
[ -x "$deepj" ] || { echo "$1 is no program: cargo build --release makes it" >&2; exit 2; }
mkdir -p "$out"
# Nothing that was measured before, and no shader that was compiled before.
export XDG_CACHE_HOME=$out/cache

part() { # FILE SECONDS COMMAND ...
  local file=$1 limit=$2 began=$SECONDS
  shift 2
  timeout -k 5 "$limit" "$@" >"$out/$file" 2>"$out/$file.err"
  echo "$file: exit $? after $((SECONDS - began)) s"
  [ -s "$out/$file.err" ] || rm -f "$out/$file.err"
}
profile() { part "$1" "$2" "$deepj" profile train --preset paper --seq "$seq" --runs "$runs" --format jsonl --device "$device" "${@:3}"; }
peer() { part "$1" 60 python3 "$peers/torch_deepj.py" --json --device "$torch" "${@:2}"; }

part adapters.txt 30 "$deepj" adapters
part nvidia-smi.txt 20 nvidia-smi
part peaks.json 90 "$deepj" peaks --device "$device" --json
for batch in $batches; do
  profile "train-b$batch.jsonl" 90 --batch "$batch"
  peer "torch-b$batch.json" --mode train --batch "$batch" --steps "$seq" --runs "$runs"
done
first=${batches%% *}
main=$first
for batch in $batches; do [ "$batch" = 16 ] && main=16; done
profile "train-b$main-apart.jsonl" 60 --batch "$main" --pairs off
profile "train-b$main-mixed.jsonl" 60 --batch "$main" --precision mixed
peer "torch-b$main-tf32.json" --mode train --batch "$main" --steps "$seq" --runs "$runs" --tf32
part generate.jsonl 60 "$deepj" profile generate --preset paper --runs "$runs" --format jsonl --device "$device"
peer torch-generate.json --mode gen --batch 1 --steps 64 --runs 5
part gemm.txt 60 "$deepj" profile op gemm --shape m=98304,n=1024,k=256 --device "$device"
part verify.txt "${SECONDS_VERIFY:-200}" "$deepj" verify --device "$device" --report "$out/verify.json"

python3 - "$out" "$main" $batches <<'PYTHON'
import json, sys

out, main, batches = sys.argv[1], sys.argv[2], sys.argv[3:]


def last(name, key):
    """The last value of this name in a file of JSON lines; None where there is none."""
    try:
        lines = [json.loads(line) for line in open(f"{out}/{name}") if line.startswith("{")]
    except (OSError, ValueError):
        return None
    return next((line[key] for line in reversed(lines) if key in line), None)


def ms(seconds):
    return None if seconds is None else 1000 * seconds


def shown(value):
    return "not measured" if value is None else f"{value:.2f}"


for batch in batches:
    ours, theirs = last(f"train-b{batch}.jsonl", "step_ms"), ms(last(f"torch-b{batch}.json", "median_s"))
    ratio = theirs / ours if ours and theirs else None
    print(f"update B={batch}: {shown(ours)} ms, PyTorch {shown(theirs)} ms, ratio {shown(ratio)}")
print(f"update B={main}: layers one after the other {shown(last(f'train-b{main}-apart.jsonl', 'step_ms'))} ms,",
      f"mixed {shown(last(f'train-b{main}-mixed.jsonl', 'step_ms'))} ms,",
      f"PyTorch with TF32 {shown(ms(last(f'torch-b{main}-tf32.json', 'median_s')))} ms")
print(f"generation: {shown(last('generate.jsonl', 'step_ms'))} ms a bar, PyTorch {shown(last('torch-generate.json', 'steps_per_s'))} steps/s")
try:
    print(open(f"{out}/verify.txt").read()[-1500:])
except OSError:
    print("verify: not measured")
PYTHON
