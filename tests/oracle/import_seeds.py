#!/usr/bin/env python3
"""import_seeds.py: makes the seeds of the fuzz targets of import, tests/fuzz/corpus/{gguf,safetensors,config}. Packages: numpy, gguf, safetensors."""
import json, os
import numpy as np
import gguf
from safetensors.numpy import save

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fuzz", "corpus")


def put(folder, name, data):
    os.makedirs(os.path.join(ROOT, folder), exist_ok=True)
    with open(os.path.join(ROOT, folder, name), "wb") as f:
        f.write(data)


NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "blk.0.attn_norm": "model.layers.0.input_layernorm",
         "blk.0.attn_q": "model.layers.0.self_attn.q_proj", "blk.0.attn_k": "model.layers.0.self_attn.k_proj",
         "blk.0.attn_v": "model.layers.0.self_attn.v_proj", "blk.0.attn_output": "model.layers.0.self_attn.o_proj",
         "blk.0.ffn_norm": "model.layers.0.post_attention_layernorm", "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj",
         "blk.0.ffn_up": "model.layers.0.mlp.up_proj", "blk.0.ffn_down": "model.layers.0.mlp.down_proj"}


def gguf_seed(name, width, kind, tokenizer, tied):
    path = os.path.join(ROOT, "gguf", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    w = gguf.GGUFWriter(path, "llama")
    for key, value, t in (("u8", 200, "uint8"), ("i16", -300, "int16"), ("u64", 1 << 40, "uint64"), ("f64", 2.25, "float64"), ("bool", True, "bool")):
        getattr(w, "add_" + t)("t." + key, value)
    w.add_array("t.n", [[1, 2], [3]])
    w.add_block_count(1); w.add_context_length(64); w.add_embedding_length(width); w.add_feed_forward_length(width)
    w.add_head_count(1); w.add_head_count_kv(1); w.add_layer_norm_rms_eps(1e-6); w.add_rope_dimension_count(width)
    if tokenizer:
        w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("smollm")
        w.add_token_list(["<e>", "a", "b", "ab"]); w.add_token_types([3, 1, 1, 1]); w.add_token_merges(["a b"])
        w.add_bos_token_id(0); w.add_eos_token_id(0); w.add_add_bos_token(False); w.add_chat_template("{{ x }}")
    for n in NAMES:
        shape = (4, width) if n == "token_embd" else (width,) if "norm" in n else (width, width)
        x = np.ones(shape, np.float32)
        if "norm" in n:
            w.add_tensor(n + ".weight", x)
        else:
            w.add_tensor(n + ".weight", gguf.quants.quantize(x, kind), raw_dtype=kind)
    if not tied:
        w.add_tensor("output.weight", np.ones((4, width), np.float32))
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()


T = gguf.GGMLQuantizationType
gguf_seed("f16", 2, T.F16, True, False)
gguf_seed("f32-tied", 2, T.F32, False, True)
gguf_seed("q4_0", 32, T.Q4_0, True, True)
gguf_seed("q8_0", 32, T.Q8_0, False, True)
put("gguf", "magic", b"GGUF\3\0\0\0")

full = {hf + ".weight": np.ones((2, 2) if "norm" not in hf else 2, np.float32) for hf in NAMES.values()}
put("safetensors", "tied", save(full))
put("safetensors", "whole", save({**full, "lm_head.weight": np.ones((2, 2), np.float16)}, {"format": "pt"}))
put("safetensors", "empty", save({}))

hf = {"model_type": "aquila", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 192,
      "vocab_size": 512, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False, "hidden_act": "silu",
      "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": None, "rope_scaling": {"type": "linear", "factor": 8.0}, "torch_dtype": "bfloat16"}
flagai = {"dim": 64, "multiple_of": 32, "n_heads": 4, "n_layers": 2, "norm_eps": 1e-5, "vocab_size": 512, "max_seq_len": 256,
          "initializer_range": 0.006, "flash_atten": True}
put("config", "hf", json.dumps(hf).encode())
put("config", "hf5", json.dumps({**hf, "rope_scaling": None, "rope_parameters": {"rope_type": "dynamic", "factor": 2, "rope_theta": 1e6}}).encode())
yarn = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16, "beta_slow": 2, "attention_factor": 1.2, "truncate": False, "original_max_position_embeddings": 8}
llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}
put("config", "yarn", json.dumps({**hf, "rope_scaling": yarn}).encode())
put("config", "llama3", json.dumps({**hf, "rope_scaling": llama3}).encode())
put("config", "flagai", json.dumps(flagai, indent=1).encode())
