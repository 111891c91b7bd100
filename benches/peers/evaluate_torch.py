#!/usr/bin/env python3
"""Evaluates a checkpoint in PyTorch on MIDI files, to hold `deepj evaluate` against an independent reading of the file
format, the MIDI decoding and the network:

    pip install torch safetensors numpy mido
    python3 benches/peers/evaluate_torch.py runs/NAME/best.safetensors FOLDER/<genre>/<composer>/FILE.mid ...
    deepj evaluate --checkpoint runs/NAME/best.safetensors --data FOLDER --split all --json

Each piece is predicted from silence with the state carried over the whole of it; figures are means over all steps.
"""
import json
import math
import pathlib
import sys

import mido
import torch
import torch.nn.functional as F
from safetensors import safe_open


def roll(path, lowest, notes):
    """Play, replay and dynamics [T, N, 3]: 4 steps a quarter note, tempo ignored, overlapping notes re-attack."""
    midi = mido.MidiFile(path)
    spans = []
    for track in midi.tracks:
        sounding, tick = {}, 0
        for message in track:
            tick += message.time
            if message.type not in ("note_on", "note_off") or message.channel == 9:
                continue
            key = (message.channel, message.note)
            if message.type == "note_on" and message.velocity > 0:
                sounding.setdefault(key, []).append((tick, message.velocity))
            elif sounding.get(key):
                # Where notes of one key overlap, a note-off ends the oldest.
                start, velocity = sounding[key].pop(0)
                spans.append((start, tick, message.note, velocity))
        for (_, pitch), notes_left in sounding.items():
            spans.extend((start, tick, pitch, velocity) for start, velocity in notes_left)
    # Half a step rounds up.
    step = lambda t: (8 * t + midi.ticks_per_beat) // (2 * midi.ticks_per_beat)
    spans = [(step(a), max(step(b), step(a) + 1), p, v) for a, b, p, v in spans]
    spans = sorted(s for s in spans if lowest <= s[2] < lowest + notes)
    longest = max(s[1] for s in spans)
    cells = torch.zeros(longest, notes, 3)
    onsets = torch.zeros(longest, notes, dtype=torch.bool)
    for a, b, p, v in spans:
        n = p - lowest
        # A later attack takes over from where it begins.
        cells[a:b, n, 0] = 1
        cells[a:b, n, 2] = v / 127
        onsets[a, n] = True
    before = F.pad(cells[:-1, :, 0], (0, 0, 1, 0))
    cells[..., 1] = (onsets & (before > 0)).float()
    return cells


def lstm(x, w, name, style_bias):
    """x [T, rows, I] -> [T, rows, H]; gates i, f, g, o."""
    gates = x @ w[f"{name}.input"] + w[f"{name}.bias"] + style_bias
    units = gates.shape[-1] // 4
    h = c = torch.zeros(x.shape[1], units)
    out = []
    for g in gates:
        i, f, g, o = (g + h @ w[f"{name}.recurrent"]).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        out.append(h)
    return torch.stack(out)


def logits(w, config, cells, style):
    """Logits [T, N, 3] of each step of the piece from the steps before it and the lower notes."""
    steps, notes = cells.shape[:2]
    seen = F.pad(cells[:-1], (0, 0, 0, 0, 1, 0))
    lowest, beats = config["lowest"], config["beats"]
    octave = F.conv1d(seen.transpose(1, 2), w["octave.weight"].permute(2, 1, 0), w["octave.bias"], padding="same")
    octave = torch.tanh(octave).transpose(1, 2)
    classes = F.one_hot((lowest + torch.arange(notes)) % 12, 12).float()
    counts = seen[..., 0] @ classes @ classes.T
    beat = F.one_hot((torch.arange(steps) - 1) % beats, beats).float()
    x = torch.cat([
        (torch.arange(notes) / notes).expand(steps, notes)[..., None],
        classes.expand(steps, notes, 12),
        counts[..., None],
        octave,
        beat[:, None].expand(steps, notes, beats),
    ], -1)
    embedding = style @ w["style.embedding.weight"] + w["style.embedding.bias"]
    hidden = lambda name: torch.tanh(embedding @ w[f"{name}.style.weight"] + w[f"{name}.style.bias"])
    # The summation as the paper writes it, x + h', not folded into a bias.
    for name in ("time.0", "time.1"):
        x = lstm(x + hidden(name), w, name, 0)
    lower = F.pad(cells[:, :-1], (0, 0, 1, 0))
    x = torch.cat([x, lower], -1).transpose(0, 1)
    for name in ("note.0", "note.1"):
        x = lstm(x + hidden(name), w, name, 0)
    return (x @ w["heads.weight"] + w["heads.bias"]).transpose(0, 1)


def main():
    checkpoint, files = sys.argv[1], sys.argv[2:]
    with safe_open(checkpoint, "pt") as f:
        metadata = f.metadata()
        w = {name: f.get_tensor(name) for name in f.keys() if not name.startswith("optimizer.")}
    config = json.loads(metadata["config"])
    composers = [(c["genre"], c["name"]) for c in json.loads(metadata["styles"])]
    totals, cells_seen = torch.zeros(3, dtype=torch.float64), 0
    with torch.no_grad():
        for path in map(pathlib.Path, files):
            style = torch.zeros(len(composers))
            style[composers.index((path.parts[-3], path.parts[-2]))] = 1
            cells = roll(path, config["lowest"], config["notes"])
            z = logits(w, config, cells, style)
            play = cells[..., 0]
            losses = [
                F.binary_cross_entropy_with_logits(z[..., 0], play, reduction="none"),
                play * F.binary_cross_entropy_with_logits(z[..., 1], cells[..., 1], reduction="none"),
                play * (z[..., 2] - cells[..., 2]) ** 2,
            ]
            totals += torch.stack([l.double().sum() for l in losses])
            cells_seen += play.numel()
    play, replay, dynamics = (totals / cells_seen).tolist()
    print(json.dumps({
        "play_nats_per_step": play * config["notes"], "play_bce": play, "replay_bce": replay,
        "dynamics_mse": dynamics, "loss": play + replay + dynamics,
        "steps": cells_seen // config["notes"], "files": len(files),
    }))


if __name__ == "__main__":
    main()
