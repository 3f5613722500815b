"""test_forms.py: forms that other programs write and no stored file of tests/data shows: a GGUF model in several files, matrices saved as their
transposes, adapters that replace weights, several ids that end an answer. The models are those of
tests/bad/small.py with random weights. AQ_PROGRAM names the program."""
import json, os, random, struct, subprocess, sys, tempfile, unittest

PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bad"))
sys.dont_write_bytecode = True
from small import I32, U16, Gguf, Hf, put


def aquila(*args, status=0):
    r = subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, env={**os.environ, "AQ_CACHE": "none"})
    assert r.returncode == status, (args, r.returncode, r.stderr)
    return r


def score(path, *more):
    return json.loads(aquila("score", path, "--prompt-ids", "1,2,3,4", "--top-logits", "6", "--target", "ref", "--json", *more).stdout)


def random_gguf():
    g, r = Gguf(), random.Random(3)
    for name, t in g.tensors.items():
        n = len(t[2]) // (4 if "norm" in name else 2)
        t[2] = struct.pack(f"<{n}{'f' if 'norm' in name else 'e'}", *(1 + r.uniform(-.5, .5) if "norm" in name else r.uniform(-.3, .3) for _ in range(n)))
    return g


class Parts(unittest.TestCase):
    def split(self, folder, groups):
        """As llama-gguf-split writes them: all keys in the first."""
        whole, names = random_gguf(), []
        for i, group in enumerate(groups):
            g = random_gguf()
            g.keys = dict(whole.keys) if i == 0 else {}
            g.tensors = {k: whole.tensors[k] for k in group}
            for key, kind, value in (("no", U16, i), ("count", U16, len(groups)), ("tensors.count", I32, len(whole.tensors))):
                g.set("split." + key, kind, value)
            names.append(put(os.path.join(folder, f"m-{i + 1:05d}-of-{len(groups):05d}.gguf"), g.data()))
        return whole.save(folder), names

    def test_a_model_in_parts_is_the_whole_one(self):
        names = list(random_gguf().tensors)
        for groups in ([names[:4], names[4:]], [[], names[6:], names[:1], names[1:6]]):  # the second: --no-tensor-first-split
            with tempfile.TemporaryDirectory() as d:
                whole, parts = self.split(d, groups)
                want, text = score(whole), put(os.path.join(d, "text"), "abba")
                for part in parts:  # any of them names the model
                    self.assertEqual(score(part), want)
                    self.assertEqual(json.loads(aquila("show", "--json", part).stdout)["config"], json.loads(aquila("show", "--json", whole).stdout)["config"])
                    self.assertEqual(aquila("tokenize", part, "--file", text).stdout, aquila("tokenize", whole, "--file", text).stdout)
                bytes_of = lambda path: {k: v for k, v in json.loads(aquila("memory", path, "--json").stdout).items() if k.endswith("_bytes") and k != "free_bytes"}
                self.assertEqual(bytes_of(parts[0]), bytes_of(whole))
                joined = os.path.join(d, "joined.gguf")
                aquila("convert", parts[-1], "-o", joined)
                self.assertEqual(score(joined), want)


class Torch(unittest.TestCase):
    def test_a_tied_matrix_may_stand_transposed_under_two_names(self):
        import make_torch as m
        with tempfile.TemporaryDirectory() as d:
            h, r, pairs, entries = Hf(), random.Random(5), [], []
            h.config["vocab_size"] = 600  # most of the file
            for name, t in h.tensors.items():
                rows, columns = (600 if "embed" in name else t[1][0]), (t[1] + [1])[1]
                t[1][0] = rows
                values = [r.uniform(.5, 1.5) if "norm" in name else r.uniform(-.3, .3) for _ in range(rows * columns)]
                t[2] = struct.pack(f"<{len(values)}e", *values)
                turned = [values[i * columns + k] for k in range(columns) for i in range(rows)]
                entries.append(m.Entry(f"a/data/{len(entries)}", struct.pack(f"<{len(values)}e", *turned)))
                record = m.tensor(m.storage(key=str(len(entries) - 1), n=len(values)), 0, t[1], (1, rows) if columns > 1 else (1,))
                pairs += [m.text(n) + record for n in ([name, "lm_head.weight"] if "embed" in name else [name])]
            want = score(h.save(os.path.join(d, "plain")))
            h.weights = None
            h.files["pytorch_model.bin"] = m.archive([m.Entry("a/data.pkl", m.state(*pairs)), *entries])
            self.assertEqual(score(h.save(os.path.join(d, "turned"))), want)


class Ends(unittest.TestCase):
    def run_of(self, model):
        return json.loads(aquila("run", model, "--prompt-ids", "1", "--temperature", "0", "-n", "40", "--target", "ref", "--json").stdout)

    def test_every_id_that_the_files_name_ends_an_answer(self):
        """A list in config.json, generation_config.json (unless it only repeats config.json), eot and eom of GGUF; and what convert makes of them."""
        def model(seed):
            h, r = Hf(), random.Random(seed)
            for t in h.tensors.values():
                t[2] = struct.pack(f"<{len(t[2]) // 2}e", *(r.uniform(-1, 1) for _ in range(len(t[2]) // 2)))
            return h

        def saved(d, config=None, generation=None):
            h = model(seed)
            h.config.update({"eos_token_id": 0, **(config or {})})
            if generation:
                h.files["generation_config.json"] = generation
            return h.save(tempfile.mkdtemp(dir=d))
        with tempfile.TemporaryDirectory() as d:
            for seed in range(100):
                tokens = self.run_of(saved(d, {"eos_token_id": 7}))["tokens"]
                if len(set(tokens)) > 2:
                    break
            end = next(t for t in tokens if t != tokens[0] and t != 7)
            want = tokens[:tokens.index(end)]
            for folder in (saved(d, {"eos_token_id": [7, end]}), saved(d, {"eos_token_id": [end, 7]}), saved(d, {"eos_token_id": 7}, {"eos_token_id": [3 if end != 3 else 9, end]}),
                           saved(d, {"eos_token_id": 7}, {"eos_token_id": end})):
                gguf, back = os.path.join(folder, "m.gguf"), os.path.join(d, "back")
                aquila("convert", folder, "-o", gguf)
                aquila("convert", gguf, "-o", back)
                for path in (folder, gguf, back):
                    got = self.run_of(path)
                    self.assertEqual((got["tokens"], got["stop_reason"]), (want, "eos"), path)
            self.assertEqual(self.run_of(saved(d, {"eos_token_id": 7}, {"eos_token_id": end, "_from_model_config": True}))["tokens"], tokens)


class Configs(unittest.TestCase):
    def test_heads_that_do_not_divide_the_width_are_written_as_mistral(self):
        """transformers refuses such a LlamaConfig; a mistral without a window is the same architecture. What is read back is the same model."""
        h, r = Hf(), random.Random(4)
        h.config.update({"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16})
        for name, rows in (("q_proj", 48), ("k_proj", 16), ("v_proj", 16), ("o_proj", 32)):
            h.tensors[f"model.layers.0.self_attn.{name}.weight"][1] = [rows, 48 if name == "o_proj" else 32]
        for t in h.tensors.values():
            n = t[1][0] * (t[1] + [1])[1]
            t[2] = struct.pack(f"<{n}e", *(r.uniform(-1, 1) for _ in range(n)))
        with tempfile.TemporaryDirectory() as d:
            model, out = h.save(os.path.join(d, "in")), os.path.join(d, "out")
            aquila("convert", model, "-o", out)
            with open(os.path.join(out, "config.json")) as f:
                c = json.load(f)
            self.assertEqual([c.get(k, 1) for k in ("model_type", "architectures", "sliding_window")], ["mistral", ["MistralForCausalLM"], None])
            self.assertEqual(score(out), score(model))


class Adapters(unittest.TestCase):
    def test_what_modules_to_save_replaces_in_a_tied_model(self):
        """Embedding and output part then, as in PEFT: what is not replaced keeps its value."""
        def fill(h, seed):
            r = random.Random(seed)
            for name, t in h.tensors.items():
                t[2] = struct.pack(f"<{len(t[2]) // 2}e", *((1 if "norm" in name else 0) + r.uniform(-.4, .4) for _ in range(len(t[2]) // 2)))
            return h
        embed, output = "model.embed_tokens.weight", "lm_head.weight"
        tied, other = fill(Hf(), 1), fill(Hf(), 2)
        for saved in ([embed], [output], [embed, output]):
            want, adapter = fill(Hf(), 1), Hf()
            want.config["tie_word_embeddings"] = False
            want.tensors[output] = list(want.tensors[embed])
            adapter.tensors = {}
            for name in saved:
                want.tensors[name] = adapter.tensors["base_model.model." + name] = other.tensors[embed]
            adapter.config, adapter.weights = None, "adapter_model.safetensors"
            adapter.files["adapter_config.json"] = {"peft_type": "LORA", "lora_alpha": 8, "modules_to_save": [n.split(".")[-2] for n in saved]}
            with tempfile.TemporaryDirectory() as d:
                model, plain, lora = (h.save(os.path.join(d, n)) for h, n in ((tied, "tied"), (want, "want"), (adapter, "adapter")))
                self.assertEqual(score(model, "--lora", lora), score(plain))
                self.assertNotEqual(score(model), score(plain))


if __name__ == "__main__":
    unittest.main()
