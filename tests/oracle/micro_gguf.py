#!/usr/bin/env python3
"""micro_gguf.py: makes tests/data/micro_gguf.bin: a small GGUF file as the gguf package writes it, with every metadata value type in it.
Packages: numpy, gguf 0.17 or newer. Width 32, 1 layer, 2 heads, 2 kv heads, ffn 32, 6 tokens; tensor k is filled with (i % 7 - 3) * 2^-k."""
import sys
import numpy as np
import gguf

w = gguf.GGUFWriter(sys.argv[1] if len(sys.argv) > 1 else "tests/data/micro_gguf.bin", "llama")
w.add_name("from the package")
for key, value, kind in (("u8", 200, "uint8"), ("i8", -5, "int8"), ("u16", 60000, "uint16"), ("i16", -300, "int16"), ("u32", 4000000000, "uint32"),
                         ("i32", -70000, "int32"), ("u64", 1 << 40, "uint64"), ("i64", -(1 << 40), "int64"), ("f32", 1.5, "float32"),
                         ("f64", 2.25, "float64"), ("bool", True, "bool"), ("text", "Stra\u00dfe", "string")):
    getattr(w, "add_" + kind)("test." + key, value)
w.add_array("test.numbers", [1, 2, 3])
w.add_array("test.texts", ["one", "", "three"])
w.add_array("test.nested", [[1, 2], [3, 4]])
w.add_block_count(1); w.add_context_length(64); w.add_embedding_length(32); w.add_feed_forward_length(32)
w.add_head_count(2); w.add_head_count_kv(2); w.add_layer_norm_rms_eps(1e-6); w.add_rope_freq_base(500.0); w.add_rope_dimension_count(16)
w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR); w.add_rope_scaling_factor(4.0)
w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("gpt-2")
w.add_token_list(["<|endoftext|>", "a", "b", "ab", "[PAD4]", "two words"])
w.add_token_types([3, 1, 1, 1, 5, 4])
w.add_token_merges(["a b"])
w.add_bos_token_id(0); w.add_eos_token_id(0); w.add_add_bos_token(False)
w.add_chat_template("{{ x }}")
names = ["token_embd", "output_norm", "blk.0.attn_norm", "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output", "blk.0.ffn_norm",
         "blk.0.ffn_gate", "blk.0.ffn_up", "blk.0.ffn_down"]
for k, name in enumerate(names):
    shape = (6, 32) if k == 0 else (32,) if "norm" in name else (32, 32)
    x = ((np.arange(np.prod(shape)) % 7 - 3) * 2.0 ** -k).astype(np.float32).reshape(shape)
    kind = np.float32 if "norm" in name else np.float16
    w.add_tensor(name + ".weight", x.astype(kind))
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
