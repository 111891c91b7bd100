#!/usr/bin/env python3
"""Times ours and PyTorch's alternately and prints one table: medians over the rounds, and the median of the rounds' ratios.

  python3 benches/peers/compare.py [--rounds 3] [--device cpu] [--torch-device cpu] [--batches 1 4 16] [--seq 128]
                                   [--precision f32 mixed] [--torch-flags "--tf32"] [--out runs.jsonl]

Needs PyTorch (`pip install torch`) and an idle machine: beside one busy process PyTorch takes three times as long. Every
measurement is a process of its own, which warms up before it measures; ours first, then theirs, round after round.
"""
import argparse, json, statistics, subprocess, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--device", default="cpu", help="ours: cpu, or an adapter as --device names it")
parser.add_argument("--torch-device", default="cpu", choices=["cpu", "cuda"])
parser.add_argument("--torch-flags", default="", help="more flags for torch_deepj.py")
parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16])
parser.add_argument("--precision", nargs="*", default=["f32"], choices=["f32", "mixed"])
parser.add_argument("--seq", type=int, default=128)
parser.add_argument("--runs", type=int, default=3, help="timed steps of a process")
parser.add_argument("--no-generate", action="store_true")
parser.add_argument("--out", type=Path, help="append the raw figures to this file, one JSON a line")
args = parser.parse_args()


def measure(command):
    """The JSON line that a command ends with."""
    done = subprocess.run([str(part) for part in command], cwd=HERE.parent.parent, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stderr}")
    figures = json.loads(lines[-1])
    if args.out:
        with args.out.open("a") as file:
            file.write(json.dumps(figures) + "\n")
    return figures


def ours(*flags):
    return measure(["cargo", "bench", "--bench", "step", "--", "--device", args.device, "--runs", args.runs, *flags])


def theirs(*flags):
    command = [sys.executable, HERE / "torch_deepj.py", "--json", "--runs", args.runs, "--device", args.torch_device]
    return measure([*command, *args.torch_flags.split(), *flags])


def row(work, pairs, figure, unit, faster):
    """A row of the table from (ours, theirs) of each round; `faster` turns a pair into ours over theirs in speed."""
    our, their = (statistics.median(figure(pair[i]) for pair in pairs) for i in (0, 1))
    ratios = sorted(faster(*map(figure, pair)) for pair in pairs)
    low, high = ratios[0], ratios[-1]
    median = statistics.median(ratios)
    print(f"| {work} | {our:.3g} {unit} | {their:.3g} {unit} | {median:.2f} x ({low:.2f} to {high:.2f}) |", flush=True)


print("| work | ours | PyTorch | our speed |\n|---|---|---|---|", flush=True)
for batch in args.batches:
    for precision in args.precision:
        pairs = []
        for _ in range(args.rounds):
            mine = ours("--batch", batch, "--seq", args.seq, "--precision", precision)
            pairs.append((mine, theirs("--batch", batch, "--steps", args.seq)))
        row(f"training step B={batch} T={args.seq} {precision}", pairs, lambda r: r["median_s"], "s", lambda a, b: b / a)
if not args.no_generate:
    pairs, together = [], []
    for _ in range(args.rounds):
        mine = ours("--generate", "--batch", 1, "--seq", 256)
        best = max((theirs("--mode", "gen", "--gen-impl", how, "--steps", 64) for how in ("cell", "gemm")),
                   key=lambda r: r["steps_per_s"])
        pairs.append((mine, best))
        together.append((ours("--generate", "--batch", 16, "--seq", 256), mine))
    row("generation, one piece", pairs, lambda r: r["steps_per_s"], "steps/s", lambda a, b: a / b)
    scale = [16 * many["steps_per_s"] / one["steps_per_s"] for many, one in together]
    rate = statistics.median(16 * many["steps_per_s"] for many, _ in together)
    print(f"| generation, 16 pieces together | {rate:.4g} steps/s | | {statistics.median(scale):.2f} x our single piece |")
