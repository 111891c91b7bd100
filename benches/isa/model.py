#!/usr/bin/env python3
"""A static model of a training update and of a generated time step on cards that nobody measured: from the machine code that
RADV makes of the kernels, their workgroups and published clocks.

    DEEPJ_ISA_DUMP=target/isa cargo test --release --test isa
    python3 benches/isa/model.py target/isa            # a line a plan and card, and the kernels that take most
    python3 benches/isa/model.py target/isa --plan "train B=16" --card "RX 6800 XT" --all --variant gemm=register

What it assumes, for a wave of 64 lanes:

- A SIMD of 32 lanes takes 2 cycles for a vector instruction, one of 16 lanes 4; four times as long for 32-bit integer
  multiplication, exp and reciprocal. What RDNA 3 can issue two at a time counts once.
- Reading 64 vectors of 16 bytes from workgroup memory takes 8 cycles of a compute unit, and 80 until they are there. Storage takes
  350 cycles, constants 50, a barrier 50, a dispatch 5 us beside its work.
- A dispatch's FLOPs are made by the loop with the most multiply-adds, which tells how often it runs. One around it runs once a tile
  (DEPTH or K_TILE terms), those beside it within that one fill workgroup memory once a tile, and others run once.
- A loop takes as long as its instructions take with all waves of the fullest SIMD, or as one wave takes with its waiting, whichever
  is longer. Loads are waited for unless they stand before the multiply-adds and their first use behind them.
- Memory's bandwidth and caches are left out: it is too fast where they are what limits.
"""
import argparse, collections, json, os, re

CARDS = {  # published: compute units, boost clock
    "RX 6800 XT": dict(chip="navi21", units=72, simds=2, lanes=32, ghz=2.25),
    "RX 7900 XTX": dict(chip="gfx1100", units=96, simds=2, lanes=32, ghz=2.5),
    "RX Vega 64": dict(chip="vega10", units=64, simds=4, lanes=16, ghz=1.546),
}
LDS, CONSTANT, STORAGE, BARRIER, LAUNCH = 80, 50, 350, 50, 5e-6
PRODUCT = re.compile(r"v_(dual_)?(pk_)?(fma|fmac|mac|mad)(ak|mk|aak|amk|_mix\w*)?_(legacy_)?f(32|16)|v_fma_mix")
SLOW = re.compile(r"v_(mul_lo|mul_hi|mad_u64|exp|rcp|rsq|log|sqrt)")


def blocks(text):
    """Basic blocks: number and instructions."""
    found, current = [], None
    for line in text.split("\n"):
        line = line.split(";")[0].rstrip()
        label = re.match(r"BB(\d+):", line)
        if label:
            current = (int(label.group(1)), [])
            found.append(current)
        elif line.strip() and current is not None:
            current[1].extend(half.strip() for half in line.split("::"))
    return found


def loops(found):
    """First and last block of each loop, by their places."""
    place = {number: i for i, (number, _) in enumerate(found)}
    last = {}
    for i, (_, code) in enumerate(found):
        for line in code:
            jump = re.match(r"s_c?branch\w*\s+BB(\d+)", line)
            if jump and place.get(int(jump.group(1)), i + 1) <= i:
                first = place[int(jump.group(1))]
                last[first] = max(i, last.get(first, 0))
    return sorted(last.items())


def count(code):
    """Instructions by kind."""
    kinds = collections.Counter()
    for line in code:
        name = line.split()[0]
        if PRODUCT.match(name):
            kinds["product"] += 2 if "pk_" in name else 1
            kinds["vector"] += 1
        elif name.startswith("v_"):
            kinds["vector"] += 1
            kinds["slow"] += bool(SLOW.match(name))
        elif name.startswith("ds_"):
            kinds["lds"] += 2 if "b128" in name else 1
            kinds["lds_read"] += "read" in name or "load" in name
        elif re.match(r"(buffer|global)_load", name):
            kinds["load"] += 1
        elif re.match(r"(buffer|global)_store", name):
            kinds["store"] += 1
        elif name == "s_barrier":
            kinds["barrier"] += 1
        elif name.startswith(("s_load", "s_buffer_load")):
            kinds["constant"] += 1
    return kinds


def waits(code):
    """How often one wave waits for storage and for workgroup memory. A wait behind at least 16 products since the load is free."""
    storage = lds = since = 0
    loading = reading = False
    for line in code:
        name = line.split()[0]
        if re.match(r"(buffer|global)_load", name):
            loading, since = True, 0
        elif name.startswith(("ds_read", "ds_load")):
            reading = True
        elif PRODUCT.match(name):
            since += 1
        elif name.startswith(("s_waitcnt", "s_wait_")):
            if "vmcnt" in line and loading:
                storage += since < 16
                loading = False
            if "lgkmcnt" in line and reading:
                lds += 1
                reading = False
    return storage, lds


def cycles(code, card, waves):
    """Cycles of a piece of code with so many waves a SIMD."""
    kinds, (storage, lds) = count(code), waits(code)
    issue = 64 // card["lanes"] * (kinds["vector"] + 3 * kinds["slow"])
    alone = issue + lds * LDS + storage * STORAGE + kinds["barrier"] * BARRIER + min(kinds["constant"], 1) * CONSTANT
    shared = 4 * card["simds"] * kinds["lds"] * waves
    return max(waves * issue, alone, shared), kinds


def kernel(entry, text, card):
    """Seconds of one dispatch, and those at the card's peak."""
    peak = entry["flops"] / (2 * card["units"] * card["simds"] * card["lanes"] * card["ghz"] * 1e9)
    simds = card["units"] * card["simds"]
    held = max(entry["taken"]["waves"] // (2 if card["lanes"] == 32 else 1), 1)
    waves = entry["groups"] * -(-entry["workgroup"] // 64)
    fullest = min(-(-waves // simds), held)
    rounds = max(waves / (simds * fullest), 1)
    found = blocks(text)
    inner = loops(found)
    own = {}
    for first, last in inner:
        within = {i for a, z in inner if (a, z) != (first, last) and a >= first and z <= last for i in range(a, z + 1)}
        own[first, last] = [line for i in range(first, last + 1) if i not in within for line in found[i][1]]
    main = max(own, key=lambda loop: count(own[loop])["product"], default=None)
    in_loops = {i for a, z in own for i in range(a, z + 1)}
    total = cycles([line for i, (_, code) in enumerate(found) if i not in in_loops for line in code], card, fullest)[0]
    if main is not None:
        products = max(count(own[main])["product"], 1)
        times = max(entry["flops"] / 2 / (products * 64 * waves), 1)
        # Around it may stand the loop over tiles, which it goes through term by term.
        depth = re.search(r"(DEPTH|K_TILE)=(\d+)", entry["shader"])
        around = [loop for loop in own if loop != main and loop[0] <= main[0] and loop[1] >= main[1]]
        tiles = times / int(depth.group(2)) if depth and around else 1
        fills = [loop for loop in own if around and loop not in around and loop != main
                 and any(a <= loop[0] and loop[1] <= z for a, z in around)]
        # Together they fill workgroup memory once a tile.
        trips = max(entry["taken"]["lds"] / 16 / entry["workgroup"] / max(len(fills), 1), 1)
        for loop, code in own.items():
            runs = times if loop == main else tiles if loop in around else tiles * trips if loop in fills else 1
            total += cycles(code, card, fullest)[0] * runs
    return rounds * total / (card["ghz"] * 1e9) + LAUNCH, peak


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder")
    arguments.add_argument("--plan", help="one plan, such as 'train B=16'")
    arguments.add_argument("--card", choices=CARDS, help="one card")
    arguments.add_argument("--variant", action="append", default=[], metavar="KERNEL=NAME", help="not the default: lstm_bwd=step_32")
    arguments.add_argument("--all", action="store_true", help="all kernels, not the ten that take most")
    given = arguments.parse_args()
    wanted = [variant.split("=", 1) for variant in given.variant]
    for name, card in CARDS.items():
        if given.card not in (None, name):
            continue
        folder = os.path.join(given.folder, card["chip"])
        with open(os.path.join(folder, "kernels.json")) as file:
            entries = json.load(file)
        for plan in dict.fromkeys(entry["plan"] for entry in entries):
            if given.plan not in (None, plan):
                continue
            rows = []
            of_plan = [entry for entry in entries if entry["plan"] == plan]
            # The last one named that there is of an op.
            taken = {entry["label"]: entry["variant"] for entry in of_plan if entry["default"]}
            for kernel_name, variant in wanted:
                taken.update({e["label"]: variant for e in of_plan if (e["kernel"], e["variant"]) == (kernel_name, variant)})
            for entry in (entry for entry in of_plan if entry["variant"] == taken[entry["label"]]):
                with open(os.path.join(folder, entry["code"])) as file:
                    seconds, peak = kernel(entry, file.read(), card)
                rows.append((entry["dispatches"] * seconds, entry["dispatches"] * peak, entry))
            total, peak, dispatches = sum(r[0] for r in rows), sum(r[1] for r in rows), sum(r[2]["dispatches"] for r in rows)
            print(f"{name}, {plan}: {1e3 * total:.1f} ms in {dispatches} dispatches, {1e3 * peak:.1f} ms at peak")
            rows.sort(key=lambda row: -row[0])
            for time, at_peak, entry in rows if given.all else rows[:10]:
                share = 100 * at_peak / time
                print(f"  {1e3 * time:8.3f} ms  {share:3.0f} % of peak  x{entry['dispatches']:<4} {entry['label']}")


if __name__ == "__main__":
    main()
