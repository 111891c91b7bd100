#!/usr/bin/env python3
"""Whether MusicXML files have the notes that they should have: needs music21, nothing of deepj.

    musicxml.py SCORE.musicxml NOTES.json [SCORE NOTES ...] [--xsd musicxml.xsd]

NOTES is a list of [MIDI pitch, start, end, hand], in sixteenths from the beginning; hand is "right" (upper staff) or
"left". The script reads the score with music21, joins tied notes, and compares onset, length, pitch and staff of every
note. It also sums each voice of each measure (the cursor of <backup> and <forward>), which must end with the bar, and
checks that no voice plays two things at once; with --xsd it validates against the schema (needs lxml; the schema, with
the two that it imports, is at https://github.com/w3c/musicxml/tree/v4.0/schema). It prints one line a file and each
difference, and exits with 1 where there is any.
"""
import argparse
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from fractions import Fraction

from music21 import converter, note, stream


def joined(staff):
    """The notes of a staff as (pitch, start, end) in sixteenths, tied ones joined."""
    parts = []
    for element in staff.recurse().notes:
        start = Fraction(element.getOffsetInHierarchy(staff)) * 4
        end = start + Fraction(element.duration.quarterLength) * 4
        for one in element.notes if hasattr(element, "notes") else [element]:
            if isinstance(one, note.Note):
                parts.append((one.pitch.midi, start, end, one.tie.type if one.tie else None))
    notes, wrong, open_ = [], [], None
    for pitch, start, end, tie in sorted(parts, key=lambda part: part[:3]):
        goes_on = tie in ("stop", "continue")
        if goes_on and open_ and open_[0] == pitch and open_[2] == start:
            begin = open_[1]
        elif goes_on:
            wrong.append(f"a tie to pitch {pitch} at {start} comes from nowhere")
            begin = start
        else:
            begin = start
        if open_ and not (goes_on and begin < start):
            wrong.append(f"a tie from pitch {open_[0]} at {open_[1]} leads nowhere")
        open_ = None
        if tie in ("start", "continue"):
            open_ = (pitch, begin, end)
        else:
            notes.append((pitch, begin, end))
    if open_:
        wrong.append(f"a tie from pitch {open_[0]} at {open_[1]} leads nowhere")
    return notes, wrong


def of_measures(path):
    """What is wrong with the measures of the file: their sums, and their voices."""
    wrong, bar = [], None
    for measure in ElementTree.parse(path).getroot().iter("measure"):
        time = measure.find("attributes/time")
        if time is not None:
            bar = 16 * int(time.findtext("beats")) // int(time.findtext("beat-type"))
        now, last, sums, staves = 0, 0, Counter(), {}
        for element in measure:
            steps = int(element.findtext("duration", "0"))
            if element.tag == "backup":
                now -= steps
            elif element.tag in ("note", "forward"):
                if element.find("chord") is not None:
                    if steps != now - last:
                        wrong.append(f"measure {measure.get('number')}: a chord of notes of several lengths")
                    continue
                voice = element.findtext("voice")
                if sums[voice] != now:
                    wrong.append(f"measure {measure.get('number')}: voice {voice} is at {sums[voice]}, not {now}")
                if staves.setdefault(voice, element.findtext("staff")) != element.findtext("staff"):
                    wrong.append(f"measure {measure.get('number')}: voice {voice} is on two staves")
                last, now = now, now + steps
                sums[voice] = now
        for voice, total in sums.items():
            if total != bar:
                wrong.append(f"measure {measure.get('number')}: voice {voice} sums to {total} of {bar}")
        if not {"1", "2"} <= set(staves.values()):
            wrong.append(f"measure {measure.get('number')}: a staff is missing")
        for staff in ("1", "2"):
            voices = [voice for voice, on in staves.items() if on == staff]
            if len(voices) > 4:
                wrong.append(f"measure {measure.get('number')}: {len(voices)} voices on staff {staff}")
    return wrong


def compare(score_path, notes_path):
    """The number of notes, and what differs."""
    with open(notes_path, encoding="utf-8") as file:
        expected = Counter((pitch, start, end, hand) for pitch, start, end, hand in json.load(file))
    score = converter.parse(score_path, format="musicxml", forceSource=True)
    staves = [part for part in score.parts if isinstance(part, stream.Part)]
    wrong = of_measures(score_path)
    if len(staves) != 2:
        return 0, wrong + [f"{len(staves)} staves instead of 2"]
    found = Counter()
    for hand, staff in zip(("right", "left"), staves):
        notes, ties = joined(staff)
        wrong += ties
        found.update((*one, hand) for one in notes)
    wrong += [f"missing: {one}" for one in (expected - found).elements()]
    wrong += [f"too many: {tuple(map(str, one))}" for one in (found - expected).elements()]
    return sum(expected.values()), wrong


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("paths", nargs="+", metavar="SCORE NOTES")
    arguments.add_argument("--xsd", help="the MusicXML schema")
    arguments = arguments.parse_args()
    if len(arguments.paths) % 2:
        sys.exit("give pairs of SCORE and NOTES")
    schema = None
    if arguments.xsd:
        from lxml import etree

        schema = etree.XMLSchema(etree.parse(arguments.xsd))
    failed = False
    for score, notes in zip(arguments.paths[::2], arguments.paths[1::2]):
        count, wrong = compare(score, notes)
        if schema is not None and not schema.validate(etree.parse(score)):
            wrong += [f"schema, line {error.line}: {error.message}" for error in schema.error_log]
        failed |= bool(wrong)
        print(f"{score}: {count} notes, {len(wrong)} differences")
        for line in wrong[:20]:
            print(f"  {line}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
