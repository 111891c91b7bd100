#!/usr/bin/env python3
"""The Biaxial LSTM in PyTorch (docs/MODEL.md, "The Biaxial LSTM"): the losses of one of our checkpoints on MIDI files, or the time
of a training step. Ends with one JSON line.

    pip install torch safetensors numpy mido
    python3 benches/peers/torch_biaxial.py --checkpoint runs/NAME/best.safetensors FILE.mid ...
    python3 benches/peers/torch_biaxial.py --batch 1 --steps 128

With a checkpoint and files it evaluates each file from silence, the state carried over the whole of it, runs `deepj evaluate` on the
same files, and fails where a loss differs by more than 1e-6. Without a checkpoint it times training steps of the paper's sizes.
"""
import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

OCTAVE, REACH, BEATS = 12, 12, 16
FEATURES = 1 + OCTAVE + 2 * (2 * REACH + 1) + OCTAVE + 4 + 1  # 80


class Biaxial(nn.Module):
    """Time layers over steps for each note, note layers over notes for each step, from low to high."""

    def __init__(self, lowest=24, notes=78, time_units=(300, 300), note_units=(100, 50), dropout=0.5):
        super().__init__()
        self.lowest, self.notes, self.dropout = lowest, notes, dropout
        (t0, t1), (n0, n1) = time_units, note_units
        sizes = [(FEATURES, t0), (t0, t1), (t1 + 2, n0), (n0, n1)]
        self.lstms = nn.ModuleList(nn.LSTM(inputs, units, batch_first=True) for inputs, units in sizes)
        self.heads = nn.Linear(n1, 2)
        for lstm in self.lstms:
            # nn.LSTM adds two biases. One does the same, and is what we have.
            lstm.bias_hh_l0.requires_grad_(False).zero_()

    def load(self, w):
        with torch.no_grad():
            self.heads.weight.copy_(w["heads.weight"].T)
            self.heads.bias.copy_(w["heads.bias"])
            for name, lstm in zip(("time.0", "time.1", "note.0", "note.1"), self.lstms):
                lstm.weight_ih_l0.copy_(w[f"{name}.input"].T)
                lstm.weight_hh_l0.copy_(w[f"{name}.recurrent"].T)
                lstm.bias_ih_l0.copy_(w[f"{name}.bias"])
        return self

    def features(self, seen, first):
        """[B, T, N, 80] from cells [B, T, N, 2]; `first` is the index of the first time step in its piece."""
        b, t, n, _ = seen.shape
        index = torch.arange(n)
        pitch_class = (self.lowest + index) % OCTAVE
        one_hot = F.one_hot(pitch_class, OCTAVE).float()
        padded = F.pad(seen, (0, 0, REACH, REACH))
        around = torch.cat([padded[:, :, k:k + n] for k in range(2 * REACH + 1)], -1)
        counts = seen[..., 0] @ one_hot  # [B, T, 12], by class from C
        rotated = counts[:, :, (pitch_class[:, None] + torch.arange(OCTAVE)) % OCTAVE]
        time = (torch.arange(t) + first) % BEATS
        bits = torch.stack([2.0 * (time >> bit & 1) - 1 for bit in range(4)], -1)
        wide = lambda x: x.expand(b, t, n, x.shape[-1])
        return torch.cat([
            wide(index[:, None].float()), wide(one_hot), around, rotated,
            bits[None, :, None].expand(b, t, n, 4), torch.ones(b, t, n, 1),
        ], -1)

    def forward(self, seen, target, first=0):
        """Logits [B, T, N, 2] of play and replay."""
        b, t, n, _ = seen.shape
        through = lambda layer, x: F.dropout(self.lstms[layer](x)[0], self.dropout, self.training)
        x = self.features(seen, first).transpose(1, 2).reshape(b * n, t, FEATURES)
        x = through(1, through(0, x)).view(b, n, t, -1).transpose(1, 2)
        lower = F.pad(target[:, :, :-1], (0, 0, 1, 0))
        x = torch.cat([x, lower], -1).reshape(b * t, n, -1)
        return self.heads(through(3, through(2, x))).view(b, t, n, 2)


def losses(z, target, masked=True):
    """Play and replay: means over all cells; replay counts where the target plays, if it is masked."""
    cross = F.binary_cross_entropy_with_logits(z, target, reduction="none")
    return torch.stack([cross[..., 0].mean(), (cross[..., 1] * (target[..., 0] if masked else 1)).mean()])


class Adadelta:
    """Zeiler 2012 with the gradients' global norm capped, as the Biaxial LSTM is trained here."""

    def __init__(self, params):
        self.params = [p for p in params if p.requires_grad]
        self.optimizer = torch.optim.Adadelta(self.params, lr=1.0, rho=0.95, eps=1e-6)

    def step(self):
        nn.utils.clip_grad_norm_(self.params, 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def time_training(args):
    m = Biaxial().train()
    optimizer = Adadelta(m.parameters())
    cells = torch.arange(args.batch * (args.steps + 1) * m.notes)
    # Multiplicative hashing spreads the indices evenly (Knuth, volume 3, section 6.4).
    play, replay = ((cells * k % 2**32).float() / 2**32 for k in (2654435761, 2246822519))
    play = (play < 0.08).float()
    roll = torch.stack([play, play * (replay < 0.3)], -1).view(args.batch, args.steps + 1, m.notes, 2)
    seconds = []
    for _ in range(2 + args.runs):
        start = time.perf_counter()
        losses(m(roll[:, :-1], roll[:, 1:]), roll[:, 1:]).sum().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    timed = seconds[2:]
    return {"framework": "PyTorch", "version": torch.__version__, "device": "cpu", "threads": torch.get_num_threads(), "batch": args.batch,
            "steps": args.steps, "params": sum(p.numel() for p in m.parameters() if p.requires_grad),
            "median_s": statistics.median(timed), "min_s": min(timed), "max_s": max(timed)}


def ours(checkpoint, files):
    """What `deepj evaluate` says of these files."""
    with tempfile.TemporaryDirectory() as folder:
        for i, file in enumerate(files):
            target = Path(folder, *file.parts[-3:-1], f"{i}-{file.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        done = subprocess.run(
            ["cargo", "run", "--release", "--quiet", "--", "evaluate", "--device", "cpu", "--checkpoint", str(checkpoint),
             "--data", folder, "--split", "all", "--json"],
            cwd=Path(__file__).resolve().parent.parent.parent, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("error: deepj evaluate failed")
    found = json.loads(done.stdout[done.stdout.index("{"):])
    return [found["play_bce"], found.get("replay_bce", found.get("replay_bce_of_all"))]


def compare(args):
    from evaluate_torch import roll
    from safetensors import safe_open

    with safe_open(args.checkpoint, "pt") as file:
        model = file.metadata().get("model", "deepj")
        if model != "biaxial":
            sys.exit(f"error: {args.checkpoint} is of the model {model}, not of biaxial")
        c = json.loads(file.metadata()["config"])
        weights = {name: file.get_tensor(name) for name in file.keys()}
    m = Biaxial(c["lowest"], c["notes"], c["time_units"], c["note_units"]).load(weights).eval()
    sums, steps = torch.zeros(2, dtype=torch.float64), 0
    for file in args.files:
        target = roll(file, m.lowest, m.notes)[None, ..., :2]
        seen = F.pad(target[:, :-1], (0, 0, 0, 0, 1, 0))
        with torch.no_grad():
            # The step before the first is the last of a bar.
            sums += losses(m(seen, target, BEATS - 1), target, c["masked_losses"]).double() * target.shape[1]
        steps += target.shape[1]
    theirs, mine = (sums / steps).tolist(), ours(args.checkpoint, args.files)
    apart = max(abs(a - b) for a, b in zip(theirs, mine))
    return {"ours": mine, "PyTorch": theirs, "apart": apart}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=lambda path: Path(path).resolve(), help="<genre>/<composer>/FILE.mid")
    parser.add_argument("--checkpoint", type=lambda path: Path(path).resolve(), help="of `deepj train --model biaxial`")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    if bool(args.checkpoint) != bool(args.files):
        parser.error("a checkpoint wants MIDI files, and they want one")
    figures = compare(args) if args.checkpoint else time_training(args)
    print(json.dumps(figures))
    sys.exit(figures.get("apart", 0) > 1e-6)


if __name__ == "__main__":
    main()
