#!/usr/bin/env python3
"""Whether ours, PyTorch's and Burn's are the same model: the losses of one checkpoint on one piece, by each.

    pip install torch safetensors numpy mido
    python3 benches/peers/same_model.py runs/NAME/best.safetensors FOLDER/<genre>/<composer>/FILE.mid [DEEPJ-BURN]

Ours is `deepj evaluate`; evaluate_torch.py decodes the MIDI file with another library and computes the network as the
paper writes it; torch_deepj.py and burn/ are what compare.py times. Fails where two differ by more than 1e-6.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from evaluate_torch import roll

HERE = Path(__file__).resolve().parent


def last_line(*command):
    """The JSON object that a command prints."""
    done = subprocess.run([str(part) for part in command], cwd=HERE.parent.parent, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} failed")
    return json.loads(done.stdout[done.stdout.index("{"):])


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    checkpoint, midi = (Path(path).resolve() for path in sys.argv[1:3])
    burn = Path(sys.argv[3] if len(sys.argv) > 3 else HERE / "burn/target/release/deepj-burn").resolve()
    with safe_open(checkpoint, "pt") as file:
        config, styles = (json.loads(file.metadata()[key]) for key in ("config", "styles"))
    place = midi.parts[-3:]
    style = torch.tensor([float((s["genre"], s["name"]) == place[:2]) for s in styles])
    if not style.any():
        sys.exit(f"error: {checkpoint} knows no style {place[0]}/{place[1]}")
    with tempfile.TemporaryDirectory() as folder:
        corpus, piece = Path(folder) / "corpus", Path(folder) / "piece.safetensors"
        (corpus / place[0] / place[1]).mkdir(parents=True)
        shutil.copy(midi, corpus.joinpath(*place))
        save_file({"cells": roll(midi, config["lowest"], config["notes"]), "style": style}, piece)
        evaluate = ["cargo", "run", "--release", "--quiet", "--", "evaluate", "--device", "cpu"]
        by_parts = lambda f: [f["play_bce"], f["replay_bce"], f["dynamics_mse"]]
        timed = lambda *program: last_line(
            *program, "--mode", "eval", "--runs", 1, "--warmup", 0, "--checkpoint", checkpoint, "--roll", piece, "--json")
        results = {
            "ours": by_parts(last_line(*evaluate, "--checkpoint", checkpoint, "--data", corpus, "--split", "all", "--json")),
            "evaluate_torch.py": by_parts(last_line(sys.executable, HERE / "evaluate_torch.py", checkpoint, midi)),
            "torch_deepj.py": timed(sys.executable, HERE / "torch_deepj.py")["losses"][0],
        }
        if burn.exists():
            results["burn"] = timed(burn)["losses"][0]
        else:
            print(f"{burn} does not exist: left out")
    print("| program | play | replay | dynamics |\n|---|---|---|---|")
    for name, losses in results.items():
        print(f"| {name} | {' | '.join(f'{loss:.7f}' for loss in losses)} |")
    apart = max(max(column) - min(column) for column in zip(*results.values()))
    print(f"At most {apart:.1e} apart.")
    sys.exit(apart > 1e-6)


if __name__ == "__main__":
    main()
