#!/usr/bin/env python3
"""The model of examples/char_lstm.rs in PyTorch: loss and speed beside ours.

    python3 benches/peers/char_lstm.py [UPDATES]
"""
import pathlib
import sys
import time

import torch

TEXT = (pathlib.Path(__file__).parents[2] / "data/sonnets.txt").read_text()
BATCH, STEPS, UNITS = 32, 64, 256


class Model(torch.nn.Module):
    def __init__(self, characters):
        super().__init__()
        self.lstm = torch.nn.LSTM(characters, UNITS)
        self.logits = torch.nn.Linear(UNITS, characters)
        # As ours begin: Glorot, orthogonal gates, forget gates open.
        torch.nn.init.xavier_uniform_(self.logits.weight)
        torch.nn.init.zeros_(self.logits.bias)
        with torch.no_grad():
            for gate in range(4):
                rows = slice(gate * UNITS, (gate + 1) * UNITS)
                torch.nn.init.xavier_uniform_(self.lstm.weight_ih_l0[rows])
                torch.nn.init.orthogonal_(self.lstm.weight_hh_l0[rows])
            self.lstm.bias_ih_l0.zero_()
            self.lstm.bias_hh_l0.zero_()
            self.lstm.bias_ih_l0[UNITS : 2 * UNITS] = 1

    def forward(self, x, state):
        h, state = self.lstm(x, state)
        return self.logits(h), tuple(part.detach() for part in state)


def main():
    updates = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    torch.manual_seed(1)
    alphabet = sorted(set(TEXT))
    text = torch.tensor([alphabet.index(c) for c in TEXT])
    model = Model(len(alphabet))
    optimizer = torch.optim.NAdam(model.parameters(), lr=0.002)
    length = (len(text) - 1) // BATCH // STEPS * STEPS
    state, mean, began = None, None, time.time()
    for i in range(updates):
        first = torch.arange(BATCH) * length + i * STEPS % length
        at = first[None, :] + torch.arange(STEPS)[:, None]
        x = torch.nn.functional.one_hot(text[at], len(alphabet)).float()
        z, state = model(x, state)
        loss = torch.nn.functional.cross_entropy(z.flatten(0, 1), text[at + 1].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if (i + 1) % 100 == 0:
            print(f"update {i + 1}: {mean:.3f} nats a character, {(i + 1) / (time.time() - began):.1f} updates/s", flush=True)


if __name__ == "__main__":
    main()
