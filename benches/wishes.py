#!/usr/bin/env python3
"""Asks `deepj generate` for pieces as a film maker might, and measures from the files whether it gave what was wished.

  pip install mido music21 numpy partitura
  benches/wishes.py --program deepj --requests 50 --seed 1 --against both --out wishes.json
  benches/wishes.py --requests 5 --no-model --no-time          # a quick look

Each request is drawn at random: a genre, 15 to 90 seconds at 50 to 160 quarter notes a minute, one of 24 keys, dynamics
through 2 to 4 points that span 30 velocities or more, and density through 2 to 4 points from 0.5 to 1.6 that span 0.4 or
more. Each is composed with these wishes, and by the same seed with its genre, length and tempo alone.

Nothing that deepj says of its pieces is believed: mido reads the MIDI files, and partitura and music21 hear their keys.

- length: the sum of all messages' times, that of the end of the track included; of every tenth sound the frames
- key: by profiles that deepj does not choose by, those of Temperley 2001 in partitura ("cbms") and Sapp's simple weights in
  music21; and by those that it does choose by, among them the defaults of partitura ("krumhansl") and music21 ("aarden").
  F# and Gb are one
- dynamics: of each bar with onsets the mean velocity, of each request the correlation with the mean of the wished curve
- density: the same of onsets a bar, of all bars; `smooth` of means of two bars each, `inner` without the last two bars,
  in which the ending has its chord. In `pooled` the bars of all requests are one sample, with onsets a bar as a
  multiple of those that the genre's pieces without wishes have
- breaking off: that no note sounds up to the end of the file, that one is never ended, or that the piece ends in silence;
  silences within it; and whether its last chord is of the tonic's triad, above the tonic

With the weights' own judgement (`deepj evaluate`) the pieces with wishes are compared to those without: the loss in nats, for
which a piece has to be filed under one composer, and with --against the statistics beside those of real pieces.
"""
import argparse
import datetime
import json
import math
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import mido
import numpy
import music21
import partitura

TONICS = {
    "major": ["C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"],
    "minor": ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"],
}
PROFILES = {
    "sapp": "key.simple",
    "aarden": "key",
    "krumhansl": "key.krumhanslschmuckler",
    "temperley": "key.temperleykostkapayne",
    "bellman": "key.bellmanbudge",
}
JUDGES = ["cbms", *PROFILES]
BAR = 4  # quarter notes

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", default="deepj")
parser.add_argument("--checkpoint", default="builtin")
parser.add_argument("--device", default="cpu")
parser.add_argument("--requests", type=int, default=50)
parser.add_argument("--seed", type=int, default=1, help="of the requests; each is composed by a seed of its own")
parser.add_argument("--flags", default="", help="more flags of deepj generate for the pieces with wishes")
parser.add_argument(
    "--composers", nargs="*", default=["baroque/bach", "classical/beethoven", "romantic/chopin"],
    help="genres to ask for, each with the composer under whom its pieces are filed for their loss",
)
parser.add_argument("--against", type=Path, help="real pieces, <genre>/<composer>/*.mid, whose held-out ones are compared to")
parser.add_argument("--no-model", action="store_true", help="no losses, no statistics, and no pieces without wishes")
parser.add_argument("--no-time", action="store_true", help="do not time 64 candidates")
parser.add_argument("--work", type=Path, help="keep the pieces in this folder")
parser.add_argument("--out", type=Path, help="write all figures to this file, as JSON")
args = parser.parse_args()


def deepj(*words):
    """Runs deepj, and returns what it printed and the seconds that took."""
    began = time.monotonic()
    done = subprocess.run([args.program, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"deepj {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout, time.monotonic() - began


def points(draw, seconds, low, high, span, digits):
    """A curve as [(seconds, value)], from the beginning to the end of the piece."""
    while True:
        count = draw.randint(2, 4)
        values = [round(draw.uniform(low, high), digits) for _ in range(count)]
        places = [0.0, *sorted(round(draw.uniform(0.1, 0.9) * seconds, 2) for _ in range(count - 2)), seconds]
        if max(values) - min(values) >= span and len(set(places)) == count:
            return list(zip(places, values))


def requests():
    draw = random.Random(args.seed)
    for number in range(args.requests):
        seconds = round(draw.uniform(15, 90), 2)
        mode = draw.choice(list(TONICS))
        yield {
            "number": number,
            "style": draw.choice(args.composers).split("/")[0],
            "seconds": seconds,
            "tempo": draw.randint(50, 160),
            "key": f"{draw.choice(TONICS[mode])} {mode}",
            "dynamics": [(at, int(v)) for at, v in points(draw, seconds, 30, 115, 30, 0)],
            "density": points(draw, seconds, 0.5, 1.6, 0.4, 2),
            "seed": draw.randrange(1 << 31),
        }


def written(curve):
    return " ".join(f"{value}@{place}" for place, value in curve)


def compose(of, file, wishes):
    words = ["generate", "--checkpoint", args.checkpoint, "--device", args.device, "--style", of["style"]]
    words += ["--seconds", of["seconds"], "--tempo", of["tempo"], "--seed", of["seed"], "--json", "-o", file]
    if wishes:
        words += ["--key", of["key"], "--dynamics", written(of["dynamics"]), "--density", written(of["density"])]
        words += args.flags.split() + (["--wav"] if of["number"] % 10 == 0 else [])
    file.parent.mkdir(parents=True, exist_ok=True)
    return deepj(*words)[1]


class Piece:
    """Notes of a MIDI file as (start, end, pitch, velocity) in seconds, and its length."""

    def __init__(self, file):
        self.notes, self.length, sounding = [], 0.0, {}
        for message in mido.MidiFile(file):
            self.length += message.time
            if message.type == "note_on" and message.velocity > 0:
                sounding.setdefault((message.channel, message.note), []).append((self.length, message.velocity))
            elif message.type in ("note_on", "note_off"):
                if sounding.get((message.channel, message.note)):
                    start, velocity = sounding[message.channel, message.note].pop(0)
                    self.notes.append((start, self.length, message.note, velocity))
        self.hanging = sum(map(len, sounding.values()))
        self.notes.sort()

    def silences(self):
        """The longest silence within, and that at the end."""
        longest, end = 0.0, 0.0
        for start, stop, _, _ in self.notes:
            longest, end = max(longest, start - end), max(end, stop)
        return longest, self.length - end

    def last_chord(self):
        """The notes that sound just before the end, and for how long none has begun."""
        chord = [note for note in self.notes if note[1] > self.length - 0.002]
        return chord, self.length - max((note[0] for note in chord), default=self.length)


def of_curve(curve, start, end):
    """The mean of a curve between two places."""
    places = numpy.linspace(start, end, 65)
    return float(numpy.interp((places[1:] + places[:-1]) / 2, *zip(*curve)).mean())


def correlation(pairs):
    if len(pairs) < 3:
        return None
    a, b = numpy.array(pairs).T
    return float(numpy.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else (0.0 if a.std() > 0 else None)


def bars(piece, of):
    """For each bar wanted and played velocity (None without onsets), wanted density and onsets a bar."""
    bar, found = 60.0 / of["tempo"] * BAR, []
    for number in range(math.ceil(of["seconds"] / bar - 1e-6)):
        start, end = number * bar, min((number + 1) * bar, of["seconds"])
        # Of the last bar, what is left may be too short to say how dense it is.
        if end - start < bar / 2:
            continue
        inside = [note for note in piece.notes if start - 1e-3 <= note[0] < end - 1e-3]
        velocity = float(numpy.mean([note[3] for note in inside])) if inside else None
        wanted = of_curve(of["dynamics"], start, end), of_curve(of["density"], start, end)
        found.append((wanted[0], velocity, wanted[1], len(inside) * bar / (end - start)))
    return found


def parsed(key):
    tonic, mode = key.split()
    return TONICS[mode].index(tonic), mode


def relative(key):
    tonic, mode = key
    return ((tonic + 9) % 12, "minor") if mode == "major" else ((tonic + 3) % 12, "major")


def heard_keys(file):
    score = music21.converter.parse(file)
    keys = {name: score.analyze(method) for name, method in PROFILES.items()}
    heard = {name: (key.tonic.pitchClass, key.mode) for name, key in keys.items()}
    notes = partitura.load_performance_midi(str(file)).note_array()
    name = partitura.musicanalysis.estimate_key(notes, key_profiles="temperley")
    tonic = music21.pitch.Pitch(name.removesuffix("m").replace("b", "-")).pitchClass
    return heard | {"cbms": (tonic, "minor" if name.endswith("m") else "major")}


def named(key):
    return f"{TONICS[key[1]][key[0]]} {key[1]}"


def chord_of(chord, key):
    """Whether the tonic is the lowest note of a chord, and whether all its notes are of the tonic's triad."""
    tonic, mode = key
    degrees = [(pitch - tonic) % 12 for pitch in sorted(note[2] for note in chord)]
    triad = {0, 4 if mode == "major" else 3, 7}
    return bool(degrees) and degrees[0] == 0, bool(degrees) and set(degrees) <= triad


def measured(of, file):
    piece, wanted = Piece(file), parsed(of["key"])
    found, keys = bars(piece, of), heard_keys(file)
    dynamics = [(bar[0], bar[1]) for bar in found if bar[1] is not None]
    density = [(bar[2], bar[3]) for bar in found]
    smooth = [tuple(numpy.mean(pair, axis=0)) for pair in zip(density, density[1:])]
    longest, at_end = piece.silences()
    chord, held = piece.last_chord()
    beat = 60.0 / of["tempo"]
    row = {
        "length_error_ms": (piece.length - of["seconds"]) * 1000,
        "heard": {name: named(key) for name, key in keys.items()},
        "exact": {name: key == wanted for name, key in keys.items()},
        "relative": {name: key in (wanted, relative(wanted)) for name, key in keys.items()},
        "dynamics": correlation(dynamics),
        "density": correlation(density),
        "density_smooth": correlation(smooth),
        "density_inner": correlation(density[:-2]),
        "bars": len(found),
        "notes": len(piece.notes) + piece.hanging,
        "silence_beats": longest / beat,
        "silence_at_end_ms": at_end * 1000,
        "hanging": piece.hanging,
        "breaks_off": not chord or at_end > 0.002 or piece.hanging > 0,
        "last_chord": sorted(note[2] for note in chord),
        "held_beats": held / beat,
        "tonic_in_bass": chord_of(chord, wanted)[0],
        "triad_only": chord_of(chord, wanted)[1],
        "tonic_in_bass_as_heard": chord_of(chord, keys["aarden"])[0],
        "triad_only_as_heard": chord_of(chord, keys["aarden"])[1],
        "in_scale": numpy.mean([(note[2] - relative_major(wanted)) % 12 in (0, 2, 4, 5, 7, 9, 11) for note in piece.notes]),
    }
    sound = file.with_suffix(".wav")
    if sound.exists():
        with wave.open(str(sound)) as opened:
            row["sound_frames_off"] = opened.getnframes() - round(of["seconds"] * opened.getframerate())
    return row, found


def relative_major(key):
    return key[0] if key[1] == "major" else relative(key)[0]


def loss(file, of, work):
    """Nats of playing a step, and the steps."""
    composer = next(composer for composer in args.composers if composer.split("/")[0] == of["style"])
    folder = work / "filed"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / composer).mkdir(parents=True)
    shutil.copy(file, folder / composer)
    flags = ["--checkpoint", args.checkpoint, "--device", args.device, "--split", "all", "--json"]
    said = json.loads(deepj("evaluate", "--data", folder, *flags)[0])
    return said["play_nats_per_step"], said["steps"]


def statistics(folder):
    flags = ["--checkpoint", args.checkpoint, "--device", args.device, "--split", "held-out", "--json"]
    said = json.loads(deepj("evaluate", "--generated", folder, "--against", args.against, *flags)[0])
    found = {}
    for group in said["groups"]:
        if not group["composer"]:
            rows = [row for row in group["rows"] if row["real"]]
            outside = [row["measure"] for row in rows if not row["within_quartiles"]]
            within = group["within_quartiles"]
            found[group["genre"] or "all"] = {"within_quartiles": within, "of": group["compared"], "outside": outside}
    return found


def interval(differences):
    """Mean, and 95 % interval by Student's t."""
    x = numpy.array(differences, dtype=float)
    # The quantile of t, near enough from 10 degrees of freedom on.
    t = 1.96 + 2.4 / max(len(x) - 1, 1) + 3 / max(len(x) - 1, 1) ** 2
    half = t * x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    return [float(x.mean()), float(x.mean() - half), float(x.mean() + half)]


def load():
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def candidates(work):
    """Seconds that three of 64 candidates of 45 seconds take, three times, and the processors' seconds where these are known."""
    found, used = [], lambda: sum(os.times()[2:4])
    for seed in range(1, 4):
        words = ["generate", "--checkpoint", args.checkpoint, "--device", args.device, "--style", args.composers[0].split("/")[0]]
        words += ["--seconds", 45, "--tempo", 72, "--candidates", 64, "--count", 3, "--seed", seed, "-o", work / "time.mid"]
        before, cpu = load(), used()
        found.append({"seconds": deepj(*words)[1], "cpu_seconds": used() - cpu, "load": before})
    return found


def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    if isinstance(value, numpy.bool_):
        return bool(value)
    return round(float(value), 4) if isinstance(value, (float, numpy.floating)) else value


def share(rows, of):
    return sum(bool(of(row)) for row in rows) / max(len(rows), 1)


def correlations(rows, name):
    all_ = [row[name] for row in rows if row[name] is not None]
    bound = 0.8 if name == "dynamics" else 0.7
    return {
        "median": float(numpy.median(all_)),
        "lowest": min(all_),
        "bound": bound,
        "share": sum(x >= bound for x in all_) / len(all_),
    }


def amount(bars_):
    """What a correlation does not see: by how much velocities miss the curve, and the part of its changes that is played."""
    wanted, played = numpy.array([bar[:2] for bar in bars_ if bar[1] is not None]).T
    return {"mean_error": numpy.abs(played - wanted).mean(), "slope": numpy.polyfit(wanted, played, 1)[0]}


def main(work):
    rows, without, pooled = [], [], []
    for of in requests():
        name = f"{of['style']}/{of['number']:03}.mid"
        seconds = compose(of, work / "with" / name, True)
        row, found = measured(of, work / "with" / name)
        row["seconds_to_compose"] = seconds
        if not args.no_model:
            compose(of, work / "without" / name, False)
            plain = Piece(work / "without" / name)
            for kind, rows_of in (("with", row), ("without", beside := {"style": of["style"]})):
                nats, steps = loss(work / kind / name, of, work)
                notes = row["notes"] if kind == "with" else len(plain.notes)
                rows_of |= {"nats_a_step": nats, "nats_a_note": nats * steps / max(notes, 1), "notes": notes}
            beside["onsets_a_bar"] = len(plain.notes) / (of["seconds"] * of["tempo"] / 60 / BAR)
            without.append(beside)
        rows.append({**of, **row})
        pooled.append(found)
        print(of["number"], of["style"], of["key"], row["heard"]["cbms"], row["heard"]["sapp"], f"{row['dynamics']} {row['density']}", file=sys.stderr)

    usual = {}
    for style in {of["style"] for of in without}:
        usual[style] = float(numpy.mean([of["onsets_a_bar"] for of in without if of["style"] == style]))
    all_bars = [(bar, usual.get(row["style"], 1.0)) for row, found in zip(rows, pooled) for bar in found]
    summary = {
        "length_error_ms": max(abs(row["length_error_ms"]) for row in rows),
        "sounds": sum("sound_frames_off" in row for row in rows),
        "sound_frames_off": max((abs(row["sound_frames_off"]) for row in rows if "sound_frames_off" in row), default=None),
        "key": {name: share(rows, lambda row: row["exact"][name]) for name in JUDGES},
        "key_or_relative": {name: share(rows, lambda row: row["relative"][name]) for name in JUDGES},
        "dynamics": correlations(rows, "dynamics"),
        "density": correlations(rows, "density"),
        "density_smooth": correlations(rows, "density_smooth"),
        "density_inner": correlations(rows, "density_inner"),
        "dynamics_amount": amount([bar for bar, _ in all_bars]),
        "pooled": {
            "dynamics": correlation([(bar[0], bar[1]) for bar, _ in all_bars if bar[1] is not None]),
            "density": correlation([(bar[2], bar[3] / usual) for bar, usual in all_bars]),
        },
        "break_off": sum(row["breaks_off"] for row in rows),
        "hanging": sum(row["hanging"] for row in rows),
        "silence_at_end_ms": max(row["silence_at_end_ms"] for row in rows),
        "silence_beats": {"median": float(numpy.median([row["silence_beats"] for row in rows])),
                          "longest": max(row["silence_beats"] for row in rows)},
        "held_beats": {"median": float(numpy.median([row["held_beats"] for row in rows])),
                       "least": min(row["held_beats"] for row in rows)},
        "tonic_in_bass": share(rows, lambda row: row["tonic_in_bass"]),
        "triad_only": share(rows, lambda row: row["triad_only"]),
        "in_scale": float(numpy.mean([row["in_scale"] for row in rows])),
        "seconds_to_compose": float(numpy.median([row["seconds_to_compose"] for row in rows])),
    }
    if without:
        for unit in ("nats_a_step", "nats_a_note"):
            summary[unit] = {
                "with": float(numpy.mean([row[unit] for row in rows])),
                "without": float(numpy.mean([of[unit] for of in without])),
                "difference": interval([row[unit] - of[unit] for row, of in zip(rows, without)]),
            }
        summary["onsets_a_bar_without"] = usual
        if args.against:
            summary["statistics"] = {kind: statistics(work / kind) for kind in ("with", "without")}
    if not args.no_time:
        summary["candidates_64"] = candidates(work)
    about = {
        "command": " ".join(["benches/wishes.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "program": deepj("--version")[0].strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": load(),
        "music21": music21.VERSION_STR,
        "mido": mido.version_info._asdict()["base_version"] if hasattr(mido.version_info, "_asdict") else str(mido.version_info),
    }
    result = rounded({"about": about, "summary": summary, "requests": rows, "without": without})
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join("  " + json.dumps(row) for row in result.pop("requests"))
        beside = ",\n".join("  " + json.dumps(row) for row in result.pop("without"))
        head = json.dumps(result, indent=1)[:-2]
        args.out.write_text(f'{head},\n "requests": [\n{lines}\n ],\n "without": [\n{beside}\n ]\n}}\n')
    print(json.dumps(rounded(summary), indent=1))


if __name__ == "__main__":
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
        main(args.work)
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
