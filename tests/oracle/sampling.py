#!/usr/bin/env python3
"""sampling.py: what survives the filters of sampling, by the originals themselves: FlagAI's aquila_generate (packages torch and flagai 1.8.4, of which
only the file flagai/model/predictor/aquila.py is loaded: its sample_top_p with torch.multinomial watched) and, for Aquila2's predict, the warpers
that it strings together (package transformers). Writes tests/data/sampling.txt:

    ORDER TEMPERATURE TOP_K TOP_P V KEPT
    V logits in eighths (small whole numbers, so that there are ties)
    KEPT probabilities, falling

  python3 tests/oracle/sampling.py PATH/TO/flagai/model/predictor/aquila.py
"""
import importlib.util, random, sys
import torch
from transformers.generation.logits_process import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

spec = importlib.util.spec_from_file_location("predictor", sys.argv[1])
predictor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(predictor)
seen = []
draw = torch.multinomial


def watched(probs, **more):
    seen.append(probs.clone())
    return draw(probs, **more)


torch.multinomial = watched


class Token:
    """A tokenizer and a model of one step: predictor.aquila_generate asks for no more."""

    def __init__(self, logits):
        self.logits = logits

    def get_command_id(self, name):
        return -1

    def decode(self, ids):
        return ids

    def forward(self, input_ids, start_pos):
        return {"logits": self.logits.clone()[None]}


torch.Tensor.cuda = lambda self: self


def original(order, temperature, k, p, logits):
    if order == 0:
        seen.clear()
        model = Token(logits)
        predictor.aquila_generate(model, model, None, 1, temperature, k, p, prompts_tokens=[[1]])
        probs = seen[0][0]
    else:
        warp = LogitsProcessorList([TopPLogitsWarper(p), TopKLogitsWarper(k), TemperatureLogitsWarper(temperature)])
        probs = torch.softmax(warp(None, logits.clone()[None]), -1)[0]
    return sorted((x for x in probs.tolist() if x > 0), reverse=True)


def close_call(order, temperature, k, p, logits):
    """A cumulative probability so near top_p that f32 and f64 may disagree. Uniform ones are exact and stay."""
    x = logits.double()
    if order == 0:
        x = x / temperature
        x[x < torch.topk(x, k)[0][-1]] = -float("inf")
    before = torch.softmax(x, -1).sort(descending=True)[0]
    before = torch.cumsum(before, -1) - before
    near = (before - p).abs()
    return bool(((near < 1e-4) & (near > 1e-12)).any())


r = random.Random(1)
cases = []
for v in (4, 8, 16):                                       # equal logits: cumulative probabilities meet top_p exactly
    for p in (0.25, 0.5, 0.75):
        cases += [(order, 1.0, v, p, [8] * v) for order in (0, 1)]
while len(cases) < 80:
    order, v = r.randrange(2), r.choice([2, 7, 40, 100])
    logits = [round(r.gauss(0, r.choice([6, 16, 40]))) for _ in range(v)]
    case = (order, r.choice([0.1, 0.5, 0.8, 1.0, 1.3, 3.0]), r.choice([1, 2, 5, 15, 30, 100]), r.choice([0.1, 0.5, 0.9, 0.95, 1.0]), logits)
    case = case[:2] + (min(case[2], v),) + case[3:]
    if not close_call(*case[:4], torch.tensor(logits) / 8):
        cases.append(case)
with open("tests/data/sampling.txt", "w") as f:
    for order, temperature, k, p, logits in cases:
        kept = original(order, temperature, k, p, torch.tensor(logits, dtype=torch.float32) / 8)
        f.write(f"{order} {temperature} {k} {p} {len(logits)} {len(kept)}\n{' '.join(map(str, logits))}\n{' '.join(f'{x:.6g}' for x in kept)}\n")
print(len(cases), "cases")
