"""small.py: whole small models, written by hand so that each part can be wrong: a GGUF file, a safetensors file, a Hugging Face folder, for make.py.
Width 32, one layer, two heads, ffn 32, six tokens. Standard library only."""
import json, os, struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMAT = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
WIDTH, TOKENS = 32, 6
LAYER = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}


def put(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return path


def string(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(s)) + s


def strings(*texts):
    return (ARRAY, struct.pack("<IQ", STRING, len(texts)) + b"".join(map(string, texts)))


class Gguf:
    """keys: name -> (type, bytes); tensors: name -> [dims, the fastest first; type; bytes; offset or None]. Everything may be changed before save."""

    def __init__(self):
        self.magic, self.version, self.alignment, self.tail, self.extra_keys, self.n_keys, self.n_tensors = b"GGUF", 3, 32, b"", b"", None, None
        self.cut, self.after_header = None, None
        self.keys = {"general.architecture": (STRING, string("llama")), "general.name": (STRING, string("small"))}
        for key, value in (("block_count", 1), ("context_length", 64), ("embedding_length", WIDTH), ("feed_forward_length", WIDTH),
                           ("attention.head_count", 2), ("attention.head_count_kv", 2)):
            self.set("llama." + key, U32, value)
        self.set("llama.attention.layer_norm_rms_epsilon", F32, 1e-6)
        for key, value in (("model", "gpt2"), ("pre", "gpt-2")):
            self.keys["tokenizer.ggml." + key] = (STRING, string(value))
        self.keys["tokenizer.ggml.tokens"] = strings("<end>", "a", "b", "ab", "[PAD4]", "two words")
        self.keys["tokenizer.ggml.token_type"] = (ARRAY, struct.pack("<IQ6i", I32, 6, 3, 1, 1, 1, 5, 4))
        self.keys["tokenizer.ggml.merges"] = strings("a b")
        for key in ("bos", "eos"):
            self.set(f"tokenizer.ggml.{key}_token_id", U32, 0)
        self.tensors = {}
        for name in ["token_embd", "output_norm"] + ["blk.0." + n for n in LAYER]:
            dims = [WIDTH, TOKENS] if name == "token_embd" else [WIDTH] if "norm" in name else [WIDTH, WIDTH]
            kind, size = (0, 4) if "norm" in name else (1, 2)
            n = 1
            for d in dims:
                n *= d
            self.tensors[name + ".weight"] = [dims, kind, bytes(n * size), None]

    def set(self, key, kind, value):
        self.keys[key] = (kind, struct.pack("<" + FORMAT[kind], value))

    def data(self):
        out = self.magic + struct.pack("<IQQ", self.version, len(self.tensors) if self.n_tensors is None else self.n_tensors,
                                       len(self.keys) if self.n_keys is None else self.n_keys)
        if self.after_header is not None:
            return out + self.after_header
        out += b"".join(string(key) + struct.pack("<I", kind) + value for key, (kind, value) in self.keys.items()) + self.extra_keys
        at, body = 0, b""
        for name, (dims, kind, data, offset) in self.tensors.items():
            out += string(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
            out += struct.pack("<IQ", kind, at if offset is None else offset)
            body += data + bytes(-len(data) % self.alignment)
            at = len(body)
        out += bytes(-len(out) % self.alignment) + body
        return out[:self.cut]

    def save(self, folder):
        return put(os.path.join(folder, "small.gguf"), self.data())


class Hf:
    """A Hugging Face folder. config: keys; tensors: name -> [dtype, shape, bytes]; files: name -> bytes, beside them. header, data, size: what is
    written in place of the right ones. save gives the folder."""

    def __init__(self, naming="hf"):
        self.config = {"model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
                       "intermediate_size": WIDTH, "vocab_size": TOKENS, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu",
                       "tie_word_embeddings": True}
        self.tensors, self.files, self.header, self.size, self.weights = {}, {}, None, None, "model.safetensors"
        for name in ["model.embed_tokens", "model.norm"] + ["model.layers.0." + n for n in LAYER.values()]:
            shape = [TOKENS, WIDTH] if "embed" in name else [WIDTH] if "norm" in name else [WIDTH, WIDTH]
            n = 1
            for d in shape:
                n *= d
            self.tensors[name + ".weight"] = ["F16", shape, bytes(2 * n)]

    def safetensors(self, names=None):
        """The bytes of a file with these tensors; self.change(header) may edit the header's object, self.header replaces its text."""
        header, body = {}, bytearray()
        for name in names if names is not None else self.tensors:
            kind, shape, data = self.tensors[name]
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
            body += data
        self.change(header)
        text = self.header if self.header is not None else json.dumps(header)
        text = (text + " " * (-len(text) % 8)).encode()
        return struct.pack("<Q", len(text) if self.size is None else self.size) + text + body

    def change(self, header):
        pass

    def save(self, folder):
        if self.config is not None:
            put(os.path.join(folder, "config.json"), self.config if isinstance(self.config, (str, bytes)) else json.dumps(self.config))
        if self.weights:
            put(os.path.join(folder, self.weights), self.safetensors())
        for name, data in self.files.items():
            put(os.path.join(folder, name), data if isinstance(data, (str, bytes)) else json.dumps(data))
        return folder
