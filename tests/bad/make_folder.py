"""make_folder.py: cases of make.py's kind: files and folders (800 to 819 of frontend/reasons.def)."""
import os, struct

from make import hf

INDEX = "model.safetensors.index.json"


def sharded(change=lambda index: None):
    """The folder with its weights in one shard and an index, which change(index) edits."""
    def make(m):
        index = {"weight_map": {name: "a.safetensors" for name in m.tensors}}
        change(index)
        m.weights = "a.safetensors"
        m.files[INDEX] = index
    return make


def many_shards(m):
    m.weights = None
    empty = struct.pack("<Q", 2) + b"{}"
    m.files.update({f"{i}.safetensors": empty for i in range(1001)})
    m.files[INDEX] = {"weight_map": {str(i): f"{i}.safetensors" for i in range(1001)}}


def twice(m):
    sharded()(m)
    m.files[INDEX] = '{"weight_map": {"a": "a.safetensors", "a": "a.safetensors"}}'


def make_801(d): return ["show", "--json", os.path.join(d, "no.gguf")]
def make_802(d): return ["show", "--json", "/dev/null"]
def make_803(d): return hf(d, lambda m: setattr(m, "config", None))
def make_804(d): return hf(d, lambda m: setattr(m, "weights", None))
def make_805(d): return hf(d, lambda m: m.files.update({"tokenizer.json": {
    "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate("abcdefg")}, "merges": []}, "pre_tokenizer": {"type": "ByteLevel"}}}))
def make_806(d): return hf(d, lambda m: (os.mkdir(os.path.join(d, "model.safetensors")), setattr(m, "weights", None)))
def make_807(d): return hf(d, lambda m: (os.mkfifo(os.path.join(d, "config.json")), setattr(m, "config", None)))
def make_811(d): return hf(d, sharded(lambda i: i.pop("weight_map")))
def make_812(d): return hf(d, sharded(lambda i: i["weight_map"].update({"model.norm.weight": "../../etc/passwd"})))
def make_813(d): return hf(d, sharded(lambda i: i["weight_map"].clear()))
def make_814(d): return hf(d, twice)
def make_815(d): return hf(d, sharded(lambda i: i["weight_map"].pop("model.norm.weight")))
def make_816(d): return hf(d, sharded(lambda i: i["weight_map"].update(more="a.safetensors")))
def make_817(d): return hf(d, many_shards)
