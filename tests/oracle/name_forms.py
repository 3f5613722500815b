#!/usr/bin/env python3
"""name_forms.py: tiny models whose tensors go by the names of what wrapped them, and models of other names with the same mathematics; with
reference logits of transformers. Packages: torch, transformers 5, safetensors, numpy.

Makes tests/data/forms/name-KIND/ and tests/data/names.json, in the form of forms.json (torch_forms.py).
"""
import json, os, shutil
import torch
from safetensors.torch import save_file
from transformers import MistralConfig, MistralForCausalLM

from torch_forms import DATA, FORMS, answer, make, state_of

SHAPE = dict(hidden_size=20, num_attention_heads=2, num_key_value_heads=1, head_dim=14, intermediate_size=12, vocab_size=24, max_position_embeddings=64)
reference = {}


def put(kind, config, model, state, name="model.safetensors", n=20, context=64):
    folder = os.path.join(FORMS, "name-" + kind)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, separators=(",", ":"))
        f.write("\n")
    (save_file if name.endswith("safetensors") else torch.save)(state, os.path.join(folder, name))
    reference[kind] = {"folder": "name-" + kind, "context": context, **answer(model, n)}


def wrapped():
    # LlamaModel.save_pretrained: no "model." and no head, which is tied
    model, config = make(41, tie_word_embeddings=True, **SHAPE)
    put("base", config, model, {k: v.to(torch.bfloat16) for k, v in model.model.state_dict().items()})

    # torch.save(DDP(model).state_dict()); kv heads are not said where they are the heads
    model, config = make(42, **{**SHAPE, "num_key_value_heads": 2})
    config["num_key_value_heads"] = config["rope_scaling"] = None
    put("ddp", config, model, {"module." + k: v for k, v in state_of(model, torch.bfloat16).items()}, "pytorch_model.bin")

    # torch.save(torch.compile(model).state_dict()), once more within DDP; a tied head that is stored too
    model, config = make(43, tie_word_embeddings=True, **SHAPE)
    state = {f"module.{k}": v.to(torch.bfloat16) for k, v in torch.compile(model).state_dict().items()}
    assert "module._orig_mod.model.norm.weight" in state and "module._orig_mod.lm_head.weight" in state
    put("compiled", config, model, state, "pytorch_model.bin")

    # what old modules kept beside their weights
    model, config = make(44, **SHAPE)
    state = state_of(model, torch.bfloat16)
    state["model.rotary_emb.inv_freq"] = torch.arange(7.0)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.arange(7.0)
    state["model.layers.0.self_attn.rotary_emb.cos_cached"] = torch.ones(1, 1, 64, 14)
    state["model.layers.0.attention.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    state["model.layers.0.attention.masked_bias"] = torch.tensor(-1e4)
    put("buffers", config, model, state)
    put("buffers-bin", config, model, state, "pytorch_model.bin")


def mistral():
    for kind, window, n, context in (("mistral", None, 40, 64), ("mistral-window", 32, 30, 32)):
        torch.manual_seed(45)
        config = MistralConfig(attn_implementation="eager", sliding_window=window, rope_theta=1e6, rms_norm_eps=1e-5, tie_word_embeddings=False,
                               num_hidden_layers=1, **SHAPE)
        model = MistralForCausalLM(config).double().eval()
        with torch.no_grad():
            for p in model.parameters():
                p.copy_((torch.randn(p.shape) * 0.15 + (1 if p.dim() == 1 else 0)).to(torch.bfloat16).double())
        written = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": window, "rope_theta": 1e6, "rms_norm_eps": 1e-5,
                   "num_hidden_layers": 1, "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16", **SHAPE}
        put(kind, written, model, state_of(model, torch.bfloat16), n=n, context=context)


if __name__ == "__main__":
    wrapped()
    mistral()
    with open(os.path.join(DATA, "names.json"), "w") as f:
        json.dump(reference, f, separators=(",", ":"))
        f.write("\n")
