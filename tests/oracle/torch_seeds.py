#!/usr/bin/env python3
"""torch_seeds.py: the smallest models there are, by torch.save: seeds of tests/fuzz/fuzz_torch.c, which tests/import/test_torch.c also cuts off and
changes bit by bit. Packages: torch, numpy. Width 2, one layer, one head, ffn 2, two tokens."""
import argparse, os, struct, zipfile
import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = os.path.join(HERE, "..", "fuzz", "corpus", "torch")
HF = {"model.embed_tokens": 2, "model.norm": 1, "lm_head": 2, **{f"model.layers.0.{n}": 2 for n in (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")},
    "model.layers.0.input_layernorm": 1, "model.layers.0.post_attention_layernorm": 1}
FLAGAI = {"tok_embeddings": 2, "norm": 1, "output": 2, "layers.0.attention.wo": 2, "layers.0.feed_forward.w1": 2, "layers.0.feed_forward.w2": 2,
          "layers.0.feed_forward.w3": 2, "layers.0.attention_norm": 1, "layers.0.ffn_norm": 1}


def tensors(names, dtype):
    torch.manual_seed(1)
    return {k + ".weight": torch.randn((2,) * rank).to(dtype) for k, rank in names.items()}


def save(name, what, **how):
    os.makedirs(SEEDS, exist_ok=True)
    path = os.path.join(SEEDS, name)
    torch.save(what, path, **how)
    print(name, os.path.getsize(path))


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for k, v in tensors(HF, torch.float32).items():
            self.register_parameter(k.replace(".", "_"), torch.nn.Parameter(v))


def zip64(name, new):
    """The seed in the form that archives of more than 4 GiB have: every size, offset and count in its 64-bit place."""
    path, full = os.path.join(SEEDS, name), 0xffffffff
    with open(path, "rb") as f:
        data = f.read()
    entries = zipfile.ZipFile(path).infolist()
    end, directory = data.rindex(b"PK\5\6"), b""
    start = struct.unpack_from("<I", data, end + 16)[0]
    for e in entries:
        extra = struct.pack("<HHQQQ", 1, 24, e.file_size, e.compress_size, e.header_offset)
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 45, 45, e.flag_bits, 0, 0, 0, e.CRC, full, full, len(e.filename), len(extra), 0, 0, 0, 0,
                                 full) + e.filename.encode() + extra
    tail = struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, len(entries), len(entries), len(directory), start)
    tail += struct.pack("<IIQI", 0x07064b50, 0, start + len(directory), 1) + struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 0xffff, 0xffff, full, full, 0)
    with open(os.path.join(SEEDS, new), "wb") as f:
        f.write(data[:start] + directory + tail)
    assert torch.load(os.path.join(SEEDS, new)).keys() == torch.load(path).keys()


save("hf", tensors(HF, torch.float16))
fused = tensors(FLAGAI, torch.bfloat16)
fused["layers.0.attention.Wqkv.weight"] = torch.randn(6, 2).bfloat16()
save("flagai", {"module": fused, "iteration": 7, "lr": 1e-4, "name": "x", "big": 1 << 70})
whole = torch.randn(128)  # all in one storage, some transposed
views = {k: whole[4 * i:4 * i + 2 ** v.dim()].view(v.shape) for i, (k, v) in enumerate(tensors(HF, torch.float32).items())}
save("views", {"state_dict": {"module." + k: torch.nn.Parameter(v.T if v.dim() == 2 and i % 2 else v) for i, (k, v) in enumerate(views.items())}}, pickle_protocol=4)
save("parameters", Linear().state_dict())
save("mixed", {"a": torch.zeros(1, dtype=torch.int64), "b": torch.zeros(1, dtype=torch.uint16), "c": torch.zeros(1).to(torch.float8_e5m2), "d": torch.zeros(2, 1, 3)})
zip64("hf", "zip64")

# what training saves beside the weights: an optimizer's state, random states, options
model = Linear()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
sum(p.sum() for p in model.parameters()).backward()
optimizer.step()
few = {"state": {0: optimizer.state_dict()["state"][0]}, "param_groups": optimizer.state_dict()["param_groups"]}
save("training", {"model": tensors(HF, torch.float16), "optimizer": few, "scheduler": {"last_lr": [1e-4], "step": 3}, "seed": 2 ** 40, "none": None,
                  "args": argparse.Namespace(lr=1e-4, device=torch.device("cpu"), shape=torch.Size([2, 2]), names=("a", "b"), dtype=torch.float16),
                  "rng": {"numpy": ("MT19937", np.arange(4, dtype=np.uint32), 624, 0, 0.0), "loss": np.float64(0.5), "torch": torch.zeros(8, dtype=torch.uint8)}})
