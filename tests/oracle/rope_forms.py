#!/usr/bin/env python3
"""rope_forms.py: tiny models with every way of stretching rotary positions, with reference logits of transformers. Packages: torch, transformers 5,
safetensors, numpy.

Makes tests/data/forms/rope-NAME/ and tests/data/rope.json, in the form of forms.json (torch_forms.py). One set of weights (bf16), so that the logits
differ by the scaling alone; the folders hold links to them, as the hub's cache does. Figures are chosen so that
some pairs are kept, some divided and some between; the prompts go far beyond the original length. f64 arithmetic, angles in f32 as transformers has them.
"""
import json, os, shutil, sys
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from torch_forms import DATA, FORMS, answer, make, state_of

SHAPE = dict(hidden_size=24, num_attention_heads=2, num_key_value_heads=1, head_dim=32, intermediate_size=20, vocab_size=32, max_position_embeddings=128)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
# name: (keys of config.json; the prompt's length)
KINDS = {
    "none": ({"rope_theta": 10000.0}, 90),
    "linear": ({"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.5}}, 90),
    "llama3": ({"rope_theta": 10000.0, "rope_scaling": LLAMA3}, 90),
    "llama3-wide": ({"rope_theta": 5000.0, "rope_scaling": {**LLAMA3, "factor": 32.0, "low_freq_factor": 0.25, "high_freq_factor": 2.0}}, 90),
    "llama3-new": ({"rope_parameters": {**LLAMA3, "rope_theta": 700.0, "factor": 3.0}}, 90),
    "yarn": ({"rope_theta": 10000.0, "rope_scaling": YARN}, 90),
    "yarn-old": ({"rope_theta": 10000.0, "rope_scaling": {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 8}}, 90),
    "yarn-betas": ({"rope_theta": 10000.0, "rope_scaling": {**YARN, "beta_fast": 4, "beta_slow": 0.3, "attention_factor": 1.3}}, 90),
    "yarn-mscale": ({"rope_theta": 10000.0, "rope_scaling": {**YARN, "mscale": 0.8, "mscale_all_dim": 0.5, "factor": 12.0}}, 90),
    "yarn-exact": ({"rope_theta": 1000.0, "rope_scaling": {**YARN, "truncate": False, "beta_fast": 3}}, 90),
    "yarn-ratio": ({"rope_theta": 10000.0, "rope_parameters": {"rope_type": "yarn", "rope_theta": 9000.0, "factor": None, "original_max_position_embeddings": 16}}, 90),
    "yarn-beside": ({"rope_theta": 10000.0, "original_max_position_embeddings": 16, "rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, 90),
}


def main():
    model, _ = make(31, **SHAPE)
    for name in os.listdir(FORMS):
        if name.startswith("rope-"):
            shutil.rmtree(os.path.join(FORMS, name))
    reference = {}
    for name, (keys, n) in KINDS.items():
        folder = os.path.join(FORMS, f"rope-{name}")
        os.makedirs(folder)
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", **SHAPE, "num_hidden_layers": 1, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
                  "bos_token_id": 1, "eos_token_id": 2, **keys}
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f, separators=(",", ":"))
            f.write("\n")
        other = LlamaForCausalLM(LlamaConfig.from_pretrained(folder, attn_implementation="eager")).double().eval()
        other.load_state_dict(model.state_dict())
        rope = other.model.rotary_emb
        print(f"{name:12} gain {rope.attention_scaling:.6f}, of the plain frequencies: "
              + " ".join("%.4g" % x for x in rope.inv_freq * other.config.rope_parameters["rope_theta"] ** (torch.arange(0, 32, 2) / 32)))
        if name == "none":
            save_file(state_of(model, torch.bfloat16), os.path.join(folder, "model.safetensors"))
        else:
            os.symlink("../rope-none/model.safetensors", os.path.join(folder, "model.safetensors"))
        reference[name] = {"folder": f"rope-{name}", "context": 128, **answer(other, n)}
    with open(os.path.join(DATA, "rope.json"), "w") as f:
        json.dump(reference, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
