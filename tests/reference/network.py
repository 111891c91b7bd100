#!/usr/bin/env python3
"""The networks of deepj once more, in float64, from docs/MODEL.md and docs/CHECKPOINTS.md alone: needs NumPy, nothing of deepj.

    network.py CHECKPOINT.safetensors LAYERS.safetensors [CHECKPOINT LAYERS ...] [--tolerance 1e-4]

LAYERS is what `deepj inspect CHECKPOINT --hidden all --piece FILE.mid -o LAYERS` has computed of one piece: `notes`, which the network read before it predicted each time
step, `target`, these time steps, `style_vector`, and every layer's values. From these three this script computes all layers. It
prints one line a layer and the losses, and exits with 1 where a value differs by more than the tolerance, or a layer is missing
in the file or unknown here. Layers are [T time steps, N notes, ...]; a cell has C channels, an LSTM layer H units.
"""
import argparse
import json
import sys

import numpy as np


def read_safetensors(path):
    """A file's tensors as float64, by name, and its metadata, which are strings."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    metadata, tensors, types = header.pop("__metadata__", {}), {}, {"F32": "<f4", "F16": "<f2"}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"]).astype(np.float64)
    return tensors, metadata


class Model:
    """A checkpoint: `model` is its architecture, `config` its sizes and switches, `p` its parameters by name."""

    def __init__(self, path):
        tensors, metadata = read_safetensors(path)
        self.model = metadata.get("model", "deepj")
        self.config = json.loads(metadata["config"])
        settings = json.loads(metadata.get("settings", "{}"))
        self.loss_weights = settings.get("loss_weights", {})
        self.p = {name: t for name, t in tensors.items() if not name.startswith(("optimizer.", "state.", "mean."))}
        if any(name.startswith("mean.") for name in tensors):
            # With --ema the program evaluates the weights' mean: a sum that began with zeros.
            part = 1 - settings["ema"] ** json.loads(metadata["progress"])["schedule"]["steps"]
            self.p = {name: tensors["mean." + name] / part for name in self.p}
        self.styled = "style.embedding.weight" in self.p


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


def dense(p, name, x):
    return x @ p[name + ".weight"] + p[name + ".bias"]


def lstm(p, name, x, layers):
    """Hidden values [steps, rows, H] of one LSTM layer over x [steps, rows, F], from the zero state. Its style
    h' = tanh(h W' + b') is added to the input (join=sum), or enters the gates through a matrix of its own (join=concat). With
    style=input that matrix takes the embedding h itself, in time.0 alone, whatever `join` says."""
    bias, recurrent, style = p[name + ".bias"], p[name + ".recurrent"], layers.get("style")
    if name + ".style.weight" in p:
        layers[name + ".style"] = style = np.tanh(dense(p, name + ".style", style))
    if name + ".style_input" in p:
        bias = bias + style @ p[name + ".style_input"]
    elif name + ".style.weight" in p:
        x = x + style
    gates = x @ p[name + ".input"] + bias
    h = c = np.zeros((x.shape[1], len(recurrent)))
    out = np.empty((*x.shape[:2], len(recurrent)))
    for step in range(len(x)):
        i, f, g, o = np.split(gates[step] + h @ recurrent, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        out[step] = h = sigmoid(o) * np.tanh(c)
    return out


def neighbours(notes, taps):
    """[T, N, taps, C]: of each note the cells from taps // 2 notes below to as many above, zero beyond the range."""
    padded = np.pad(notes, ((0, 0), (taps // 2, taps // 2), (0, 0)))
    return np.stack([padded[:, k:k + notes.shape[1]] for k in range(taps)], axis=2)


def features(m, notes):
    """What the time axis sees. Row t reads time step t - 1, so its beat is that of t - 1; the first row's is that of -1."""
    steps, count = notes.shape[:2]
    read = np.arange(steps) - 1
    classes = (m.config["lowest"] + np.arange(count)) % 12
    one_hot = np.eye(12)[classes]
    sounding = notes[:, :, 0] @ one_hot  # [T, 12]: how many notes of each pitch class sound
    everywhere = lambda x: np.broadcast_to(x, (steps, count, x.shape[-1]))
    index, layers = np.arange(count)[None, :, None], {}
    if m.model == "biaxial":
        around = neighbours(notes, 25).reshape(steps, count, -1)
        turned = np.stack([sounding[:, (k + np.arange(12)) % 12] for k in classes], axis=1)  # from the note's own class up
        bits = ((read[:, None] >> np.arange(4)) & 1) * 2 - 1  # lowest first
        parts = [everywhere(index), everywhere(one_hot), around, turned, everywhere(bits[:, None]), np.ones((steps, count, 1))]
    else:
        around = neighbours(notes, m.config["taps"])
        if m.config["octave"] == "conv":
            layers["octave"] = octave = np.tanh(np.tensordot(around, m.p["octave.weight"], 2) + m.p["octave.bias"])
        else:
            layers["octave"] = octave = around.reshape(steps, count, -1)
        beat = np.eye(m.config["beats"])[read % m.config["beats"]]
        parts = [everywhere(index / count), everywhere(one_hot), sounding[:, classes, None], octave, everywhere(beat[:, None])]
    layers["features"] = np.concatenate(parts, axis=2)
    return layers


def shifted(target):
    """What is read before each time step of a piece is predicted: the one before it, and silence before the first."""
    return np.concatenate([np.zeros_like(target[:1]), target[:-1]])


def compute(m, notes, target, style_vector=None):
    """All layers, by name: `notes` [T, N, C] are read, `target` are to be predicted."""
    p, layers = m.p, {}
    if m.styled:
        layers["style"] = dense(p, "style.embedding", style_vector)
    layers.update(features(m, notes))
    # The time axis: steps are time steps, rows are notes.
    layers["time.0"] = lstm(p, "time.0", layers["features"], layers)
    layers["time.1"] = lstm(p, "time.1", layers["time.0"], layers)
    # The note axis: steps are notes, rows are time steps. A note sees what was chosen for the next-lower one: the target.
    lower = np.pad(target, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    layers["note_input"] = np.concatenate([layers["time.1"], lower], axis=2)
    for name, below in [("note.0", "note_input"), ("note.1", "note.0")]:
        layers[name] = lstm(p, name, layers[below].swapaxes(0, 1), layers).swapaxes(0, 1)
    for name in ["heads", "bins"]:  # bins only with dynamics=categorical
        if name + ".weight" in p:
            layers[name] = dense(p, name, layers["note.1"])
    return layers


def losses(m, layers, target):
    """Means over all T x N cells. Replay's and dynamics' are 0 where the target is silent, unless masked_losses is false. The
    dynamics head is not clamped here."""
    heads = layers["heads"]
    mask = target[:, :, 0] if m.config["masked_losses"] else 1.0
    bce = np.logaddexp(0, heads[:, :, :2]) - heads[:, :, :2] * target[:, :, :2]
    result = {"play": bce[:, :, 0].mean(), "replay": (mask * bce[:, :, 1]).mean()}
    if "bins" in layers:
        # Softmax cross-entropy of the target's velocity, which is 0 in silence.
        bins, velocity = layers["bins"], np.rint(target[:, :, 2] * 127).astype(int)
        chosen = np.take_along_axis(bins, velocity[:, :, None], axis=2)[:, :, 0]
        result["dynamics"] = (mask * (np.logaddexp.reduce(bins, axis=2) - chosen)).mean()
    elif heads.shape[2] == 3:
        result["dynamics"] = (mask * (heads[:, :, 2] - target[:, :, 2]) ** 2).mean()
    result["loss"] = sum(m.loss_weights.get(name, 1.0) * value for name, value in result.items())
    return result


def compare(checkpoint, file, tolerance):
    """Prints how far the layers in the file are from those computed here; returns what is wrong."""
    model, theirs = Model(checkpoint), read_safetensors(file)[0]
    inputs = ["notes", "target"] + ["style_vector"] * model.styled
    if missing := [name for name in inputs if name not in theirs]:
        return [f"{file}: no {' and no '.join(missing)}"]
    ours = compute(model, *[theirs[name] for name in inputs])
    bad = [f"{file}: {name}: unknown" for name in theirs if name not in ours and name not in inputs]
    for name, values in [("notes", shifted(theirs["target"])), *ours.items()]:
        if name not in theirs or theirs[name].shape != values.shape:
            bad.append(f"{file}: {name}: {theirs[name].shape if name in theirs else 'missing'}, not {values.shape}")
            continue
        difference = np.abs(theirs[name] - values).max()
        print(f"{name:<12} {' x '.join(map(str, values.shape)):<16} {difference:.2e}")
        if not difference <= tolerance:  # also where it is not a number
            bad.append(f"{file}: {name}: differs by {difference:.2e}")
    means = losses(model, ours, theirs["target"])
    print("losses       " + ", ".join(f"{name} {value:.9f}" for name, value in means.items()))
    return bad


def main():
    parser = argparse.ArgumentParser(description="Compute a network's layers with NumPy, and compare them with the program's.")
    parser.add_argument("files", nargs="+", metavar="CHECKPOINT LAYERS")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest absolute difference [default: 1e-4]")
    options = parser.parse_args()
    if len(options.files) % 2:
        parser.error("a checkpoint and its layers go together")
    bad = []
    for checkpoint, file in zip(options.files[::2], options.files[1::2]):
        print(checkpoint)
        bad += compare(checkpoint, file, options.tolerance)
    if bad:
        sys.exit("\n".join(bad))


if __name__ == "__main__":
    main()
