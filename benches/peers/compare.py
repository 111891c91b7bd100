#!/usr/bin/env python3
"""Times ours, PyTorch and Burn in turn and prints one table in Markdown; progress goes to stderr.

  python3 benches/peers/compare.py --quick                                     # smoke test
  python3 benches/peers/compare.py --out runs.jsonl                            # the CPU: ours, PyTorch, Burn flex
  python3 benches/peers/compare.py --model biaxial --batches 1 4               # the Biaxial LSTM beside PyTorch
  python3 benches/peers/compare.py --device auto --torch-device cuda --batches 16 64 --precision f32 mixed

Wants an idle machine: beside one busy process PyTorch takes three times as long. Every measurement is a process of its
own, which warms up before it measures; all engines take their turn, round after round. README.md here tells how to
install the peers and what differs between them; one that is missing is left out, and the table says so.
"""
import argparse
import datetime
import importlib.util
import json
import os
import platform
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD_BURN = "cargo build --release --manifest-path benches/peers/burn/Cargo.toml"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="deepj", choices=["deepj", "biaxial"], help="the Biaxial LSTM: eager PyTorch, training")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--runs", type=int, default=3, help="timed steps of a process")
parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16], help="of the training update")
parser.add_argument("--pieces", type=int, nargs="*", default=[1, 16], help="generated together")
parser.add_argument("--seq", type=int, default=128, help="time steps of the training update")
parser.add_argument("--precision", nargs="*", default=["f32"], choices=["f32", "mixed"])
parser.add_argument("--device", default="cpu", help="ours: cpu, or an adapter as --device names it")
parser.add_argument("--torch-device", default="cpu", choices=["cpu", "cuda"])
parser.add_argument("--torch-flags", default="", help="more flags for torch_deepj.py")
parser.add_argument("--burn-backend", choices=["flex", "wgpu"], help="default: flex, with --torch-device cuda wgpu")
parser.add_argument("--burn", type=Path, default=HERE / "burn/target/release/deepj-burn", help="the Burn program")
parser.add_argument("--skip", nargs="*", default=[], help="leave out engines whose name contains this, such as compiled")
parser.add_argument("--no-generate", action="store_true")
parser.add_argument("--timeout", type=int, default=1200, help="seconds that a process may take")
parser.add_argument("--busy", action="store_true", help="measure though other programs compute")
parser.add_argument("--quick", action="store_true", help="smoke test: one round, one run, small shapes, --busy")
parser.add_argument("--out", type=Path, help="append the raw figures to this file, one JSON a line")
args = parser.parse_args()
if args.quick:
    args.rounds, args.runs, args.batches, args.pieces, args.seq, args.busy = 1, 1, [1], [1], 16, True
if args.model == "biaxial":
    # Its peer is torch_biaxial.py, which computes on the CPU in f32 and does not compose.
    args.no_generate = True
    if (args.device, args.torch_device, args.precision, args.torch_flags) != ("cpu", "cpu", ["f32"], ""):
        parser.error("the Biaxial LSTM is compared on the CPU in f32 alone")
steps_generated = 16 if args.quick else 64
notes = []
NO_TORCH = f"No PyTorch in {sys.executable}: pip install torch."


def ours(work):
    bench, flags = "step", ["--model", args.model, "--seq", args.seq, "--precision", work["precision"]]
    if work["generate"]:
        bench, flags = "generation", ["--seq", 4 * steps_generated]
    flags += ["--batch", work["batch"], "--device", args.device, "--runs", args.runs]
    return [["cargo", "bench", "--bench", bench, "--", *flags]]


def peer(work):
    mode, steps = ("gen", steps_generated) if work["generate"] else ("train", args.seq)
    return ["--json", "--mode", mode, "--batch", work["batch"], "--steps", steps, "--runs", args.runs]


def pytorch(*flags):
    def commands(work):
        command = [sys.executable, HERE / "torch_deepj.py", *peer(work), "--device", args.torch_device, *flags]
        command += args.torch_flags.split() + (["--bf16"] if work["precision"] == "mixed" else [])
        # Which LSTM cell is faster in generation depends on the machine: the faster one counts.
        return [[*command, "--gen-impl", cell] for cell in ("cell", "gemm")] if work["generate"] else [command]

    return commands


def torch_biaxial(work):
    return [[sys.executable, HERE / "torch_biaxial.py", "--batch", work["batch"], "--steps", args.seq, "--runs", args.runs]]


def burn(work):
    return [[args.burn, *peer(work), "--backend", args.burn_backend]] if work["precision"] == "f32" else []


def engines():
    """Name and commands of each engine that is there; notes what is not."""
    cuda = args.torch_device == "cuda"
    args.burn_backend = args.burn_backend or ("wgpu" if cuda else "flex")
    found = {"ours": ours}
    if args.model == "biaxial":
        if importlib.util.find_spec("torch"):
            found["PyTorch eager"] = torch_biaxial
        else:
            notes.append(NO_TORCH)
        return without_skipped(found)
    if importlib.util.find_spec("torch"):
        found["PyTorch eager"] = pytorch()
        if cuda:
            found["PyTorch TF32"] = pytorch("--tf32")
        found["PyTorch compiled" + ", TF32" * cuda] = pytorch("--compile", *["--tf32"] * cuda)
    else:
        notes.append(NO_TORCH)
    if args.burn.exists():
        found[f"Burn {args.burn_backend}"] = burn
    else:
        feature = " --features wgpu" if args.burn_backend == "wgpu" else ""
        notes.append(f"No Burn program: `{BUILD_BURN}{feature}`.")
    return without_skipped(found)


def without_skipped(found):
    return {name: of for name, of in found.items() if not any(word.lower() in name.lower() for word in args.skip)}


def machine_seconds():
    """CPU seconds that all programs have used, or None where the system does not tell (other than Linux)."""
    try:
        user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def cores_of_others(run):
    """What `run` returns, and how many cores programs that it did not start kept busy meanwhile."""
    def used():
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.monotonic(), machine_seconds(), sum(u.ru_utime + u.ru_stime for u in own)

    start, all_before, own_before = used()
    result = run()
    end, all_after, own_after = used()
    if all_before is None:
        return result, 0.0
    return result, max(0.0, (all_after - all_before - own_after + own_before) / (end - start))


def finished(command):
    """Runs a command; one that takes too long is killed with all that it has started, so that nothing goes on computing."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, errors = process.communicate(timeout=args.timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def measure(name, command):
    """The JSON line that a command ends with; None, and a note, where it fails."""
    command = [str(part) for part in command]
    # As a reader of the table would type it.
    shown = shlex.join(command).replace(f"{ROOT}/", "").replace(sys.executable, "python3")
    print(f"{name}: {shown}", file=sys.stderr)
    run = lambda: finished(command)
    try:
        done, others = cores_of_others(run)
    except subprocess.TimeoutExpired:
        notes.append(f"{name}: `{shown}` took longer than {args.timeout} s (--timeout).")
        return None
    except OSError as error:
        notes.append(f"{name}: {error}.")
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it printed nothing"]
        why = next((line for line in reversed(said) if "rror" in line), said[-1])
        notes.append(f"{name}: `{shown}` failed: {why}")
        return None
    figures = json.loads(lines[-1]) | {"engine": name, "cores_of_others": round(others, 2)}
    if args.out:
        with args.out.open("a") as file:
            file.write(json.dumps(figures) + "\n")
    return figures


def row(work, engines, seen):
    """One row of the table; puts a measurement of each engine into `seen`."""
    rounds = {name: [] for name in engines}
    asked = dict(engines)
    for _ in range(args.rounds):
        for name, commands in list(asked.items()):
            all_ways = [measure(name, command) for command in commands(work)]
            if not all_ways or None in all_ways:
                del asked[name]
            else:
                rounds[name].append(min(all_ways, key=lambda figures: figures["median_s"]))
    # Both as speeds, so that a ratio above 1 says that ours is faster.
    rate = (lambda f: work["batch"] * f["steps_per_s"]) if work["generate"] else (lambda f: 1 / f["median_s"])
    cells = []
    for name, figures in rounds.items():
        if not figures:
            cells.append("-")
            continue
        seen.setdefault(name, []).extend(figures)
        middle = statistics.median(map(rate, figures))
        text = f"{middle:.0f} steps/s" if work["generate"] else f"{1 / middle:.3g} s"
        if name != "ours":
            ratios = [rate(our) / rate(their) for our, their in zip(rounds.get("ours", []), figures)]
            if ratios:
                text += f": **{statistics.median(ratios):.2f} x** ({min(ratios):.2f} to {max(ratios):.2f})"
        cells.append(text)
    print(f"| {work['label']} | {' | '.join(cells)} |", flush=True)


def first_line(*command):
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip().splitlines()[0]
    except (OSError, IndexError):
        return ""


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor() or platform.machine()}"


def main():
    _, others = cores_of_others(lambda: time.sleep(2))
    if others > 0.1 and not args.busy:
        sys.exit(f"error: other programs keep {others:.1f} cores busy; wait until they are done, or give --busy")
    if args.out:
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.touch()
        except OSError as error:
            sys.exit(f"error: --out: {error}")
    chosen = engines()
    works = [
        {"label": f"training step B={batch} T={args.seq} {precision}",
         "generate": False, "batch": batch, "precision": precision}
        for batch in args.batches for precision in args.precision
    ]
    works += [
        {"label": f"generation, {'one piece' if pieces == 1 else f'{pieces} pieces together'}",
         "generate": True, "batch": pieces, "precision": "f32"}
        for pieces in ([] if args.no_generate else args.pieces)
    ]
    print(f"| work | {' | '.join(chosen)} |\n|---|{'---|' * len(chosen)}", flush=True)
    seen = {}
    for work in works:
        row(work, chosen, seen)
    every = [figures for list_ in seen.values() for figures in list_]
    versions = [f"deepj {first_line('git', 'describe', '--always', '--dirty')}", first_line("rustc", "--version")]
    versions += sorted({f"{f['framework']} {f['version']}" for f in every if "framework" in f}, key=str.lower)
    versions += [f"Python {platform.python_version()}", platform.platform()]
    versions += sorted({f"cuDNN {f['cudnn']}" for f in every if f.get("cudnn")})
    gpus = sorted({str(f.get("gpu") or f["device"]) for f in every} - {"cpu", "cuda", "flex", "wgpu"})
    print(f"""
{datetime.date.today()}; {processor()}; {'; '.join(gpus) or 'no GPU'};
{', '.join(versions)}.
`{shlex.join(['python3', *sys.argv])}`: medians of {args.rounds} round{'s' * (args.rounds != 1)} of alternating runs. Beside each peer's figure
stands our speed over its own: the median of the rounds' ratios, and their range.""")
    if every:
        print(f"Other programs kept at most {max(f['cores_of_others'] for f in every):.2f} cores busy during a measurement.")
    for note in dict.fromkeys(notes):
        print(f"- {note}")


if __name__ == "__main__":
    main()
