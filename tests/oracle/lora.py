#!/usr/bin/env python3
"""lora.py: adapters on tests/data/tiny-hf and the logits that PEFT computes with them, in f32. Packages: numpy, torch, transformers 5, safetensors, peft.

    lora.py [LLAMA.CPP]    makes tests/data/lora/{peft,flagai,fused,patterns} and tests/data/lora/logits.json; with the sources of llama.cpp also gguf.gguf

peft: every projection and lm_head, rank 4, bf16, as PEFT saves it. flagai: q and v, rank 8, rslora, under FlagAI's names, whose rows of wq are not in
rotate-half order. fused: q, k and v as one Wqkv of FlagAI: A stacked (rank 12), B in blocks. The reference of the last two is the same
adapter under Hugging Face's names. patterns: ranks and alphas of their own, a norm and a projection trained as a whole. gguf: what llama.cpp's
convert_lora_to_gguf makes of an adapter of q, k and down.
"""
import json, os, shutil, subprocess, sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
OUT = os.path.join(DATA, "lora")
HEAD = 16
PROMPTS = [[1, 17, 300, 42, 511, 7], list(range(3, 503, 17))]


def short(x):
    return float(f"%.7g" % x)


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()


def base():
    return LlamaForCausalLM.from_pretrained(os.path.join(DATA, "tiny-hf"), dtype=torch.float32, attn_implementation="eager").eval()


def adapter(targets, folder, seed, **settings):
    torch.manual_seed(seed)
    model = get_peft_model(base(), LoraConfig(target_modules=targets, **settings))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name or p.requires_grad:
                p.copy_((torch.randn(p.shape) * 0.15 + (p.dim() == 1)).bfloat16().float())
    model.save_pretrained(folder, save_embedding_layers=False)
    os.remove(os.path.join(folder, "README.md"))


def settings_of(folder, **changes):
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        c = json.load(f)
    c.update(changes)
    c["base_model_name_or_path"] = "tiny-hf"
    c["target_modules"] = sorted(c["target_modules"])
    with open(path, "w") as f:
        json.dump(c, f, indent=1, sort_keys=True)
        f.write("\n")


def weights(folder, change):
    path = os.path.join(folder, "adapter_model.safetensors")
    save_file({k: v.contiguous().bfloat16() for k, v in change(load_file(path)).items()}, path, metadata={"format": "pt"})


def interleaved(b):
    """Rows of each head from rotate-half order to pairs."""
    return b.reshape(-1, 2, HEAD // 2, b.shape[1]).transpose(1, 2).reshape(b.shape)


def reference(folder):
    model = PeftModel.from_pretrained(base(), folder).eval()
    return [[short(x) for x in logits_of(model, ids)[-1]] for ids in PROMPTS]


def flagai(t):
    names = {"self_attn.q_proj": "attention.wq", "self_attn.v_proj": "attention.wv"}
    out = {}
    for k, v in t.items():
        v = interleaved(v) if "q_proj.lora_B" in k else v
        for hf, ours in names.items():
            k = k.replace(hf, ours)
        out[k.replace("base_model.model.model.", "base_model.model.")] = v
    return out


def fused(t):
    out = {}
    for layer in range(2):
        get = lambda p, m: t[f"base_model.model.model.layers.{layer}.self_attn.{p}_proj.lora_{m}.weight"]
        b = [interleaved(get("q", "B")), interleaved(get("k", "B")), get("v", "B")]
        out[f"base_model.model.layers.{layer}.attention.Wqkv.lora_A.weight"] = torch.cat([get(p, "A") for p in "qkv"])
        out[f"base_model.model.layers.{layer}.attention.Wqkv.lora_B.weight"] = torch.block_diag(*b)
    return out


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    result = {"prompts": PROMPTS}
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    cases = [("peft", every, dict(r=4, lora_alpha=8), lambda t: t, {}),
             ("flagai", ["q_proj", "v_proj"], dict(r=8, lora_alpha=16, use_rslora=True), flagai, {"target_modules": ["wq", "wv"]}),
             ("fused", ["q_proj", "k_proj", "v_proj"], dict(r=4, lora_alpha=6), fused, {"target_modules": ["Wqkv"], "r": 12, "lora_alpha": 18}),
             ("patterns", ["q_proj", "v_proj", "down_proj"], dict(r=2, lora_alpha=6, rank_pattern={"layers.1.self_attn.q_proj": 3}, modules_to_save=["model.norm", "k_proj"],
                                                                 alpha_pattern={"^model.layers.0.mlp.down_proj": 10, "self_attn.q_proj": 1.5}), lambda t: t, {})]
    for seed, (name, targets, settings, change, config) in enumerate(cases):
        folder = os.path.join(OUT, name)
        adapter(targets, folder, seed, **settings)
        result[name] = reference(folder)
        weights(folder, change)
        settings_of(folder, **config)
    name, folder = "gguf", os.path.join(OUT, "gguf")
    adapter(["q_proj", "k_proj", "down_proj"], folder, 7, r=2, lora_alpha=6)
    result[name] = reference(folder)
    weights(folder, lambda t: t)
    if sys.argv[1:]:
        subprocess.run([sys.executable, os.path.join(sys.argv[1], "convert_lora_to_gguf.py"), "--base", os.path.join(DATA, "tiny-hf"), "--outtype", "bf16", "--outfile",
                        os.path.join(OUT, "gguf.gguf"), folder], check=True, env={**os.environ, "PYTHONPATH": os.path.join(sys.argv[1], "gguf-py")})
        shutil.rmtree(folder)
    with open(os.path.join(OUT, "logits.json"), "w") as f:
        json.dump(result, f, separators=(",", ":"))
        f.write("\n")


main()
