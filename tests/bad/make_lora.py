"""make_lora.py: cases of make.py's kind: adapters (700 to 799 of frontend/reasons.def) to the model tests/data/tiny-hf."""
import json, os, struct

from small import STRING, Gguf, put, string

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WQ = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


def case(d, tensors=None, config=None, weights="adapter_model.safetensors", **settings):
    """tensors: name -> shape, or (shape, dtype); settings: of adapter_config.json, which config replaces (None there: no file)."""
    tensors = {WQ + "A.weight": [4, 64], WQ + "B.weight": [64, 4]} if tensors is None else tensors
    header, at = {}, 0
    for name, shape in tensors.items():
        shape, kind = shape if isinstance(shape, tuple) else (shape, "F32")
        size = {"F32": 4, "I32": 4}[kind]
        for n in shape:
            size *= n
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if weights:
        put(os.path.join(d, weights), struct.pack("<Q", len(text)) + text + bytes(at))
    put(os.path.join(d, "adapter_config.json"), config if config is not None else json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8, **settings}))
    return ["score", os.path.join(ROOT, "tests/data/tiny-hf"), "--target", "ref", "--prompt-ids", "1", "--lora", d]


def pair(module, a=(4, 64), b=(64, 4)):
    return {f"base_model.model.{module}.lora_A.weight": list(a), f"base_model.model.{module}.lora_B.weight": list(b)}


def torch_lora(d, times):
    """The model's own embedding (tests/data/tiny-hf), `times` times by one name, out of one storage: ten bytes a time."""
    import make_torch as t
    with open(os.path.join(ROOT, "tests/data/tiny-hf/model.safetensors"), "rb") as f:
        n, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(n))
        begin, end = header["model.embed_tokens.weight"]["data_offsets"]
        f.seek(8 + n + begin)
        data = f.read(end - begin)
    size = len(data) // 2
    put_both = t.text("base_model.model.model.embed_tokens.base_layer.weight") + b"q\0" + t.tensor(t.storage("BFloat16Storage", n=size), 0, (size // 64, 64), (64, 1)) + b"q\1"
    args = case(d, weights=None)
    put(os.path.join(d, "adapter_model.bin"), t.archive([t.Entry("a/data.pkl", t.pickle(b"}(" + put_both + b"h\0h\1" * (times - 1) + b"u")), t.Entry("a/data/0", data)]))
    return args


def no_config(d):
    args = case(d)
    os.remove(os.path.join(d, "adapter_config.json"))
    return args


def make_701(d): return case(d, weights=None)
def make_702(d): return no_config(d)
def make_703(d): return case(d, config="[]")
def make_704(d): return case(d, peft_type="ADALORA")
def make_705(d): return case(d, use_dora=True)
def make_706(d): return case(d, init_lora_weights="pissa")
def make_707(d): return case(d, lora_alpha=None)
def make_708(d): return case(d, {WQ + "C.weight": [4, 64]})
def make_709(d): return case(d, pair("model.layers.0.self_attn.qq_proj"))
def make_710(d): return case(d, pair("model.layers.2.self_attn.q_proj"))
def make_711(d): return case(d, {WQ + "A.weight": ([4, 64], "I32")})
def make_712(d): return case(d, {WQ + "A.weight": [4, 63]})
def make_713(d): return case(d, {WQ + "A.weight": [4, 64], WQ + "A.default.weight": [4, 64]})
def make_714(d): return case(d, pair("layers.0.attention.Wqkv", b=(127, 4)))
def make_715(d): return case(d, {})
def make_716(d): return case(d, {WQ + "A.weight": [4, 64]})
def make_717(d): return case(d, pair("model.layers.0.self_attn.q_proj", b=(64, 5)))
def make_721(d): return torch_lora(d, 2)
def make_722(d): return case(d, modules_to_save=["a"] * 4097)
def make_718(d): return case(d, {"base_model.model.lm_head.base_layer.weight": [512, 64]})
def make_719(d): return case(d, alpha_pattern={"layers.(0|1).self_attn.q_proj": 4})


def make_720(d):
    g = Gguf()
    g.keys = {"general.type": (STRING, string("model"))}
    return [*case(d)[:-1], g.save(d)]
