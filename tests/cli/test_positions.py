"""test_positions.py: how a model stretches its positions, as users see it: figures in show, memory beyond the original length, the attributes of rope in
the graph, notes where another program would answer otherwise. The folders are tests/oracle/rope_forms.py's. AQ_PROGRAM names the program."""
import json, os, subprocess, sys, tempfile, unittest

PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
FORMS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "forms")
IDS = ",".join(str(i % 32) for i in range(1, 61))


def aquila(*args, status=0):
    r = subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, env={**os.environ, "AQ_CACHE": "none"})
    assert r.returncode == status, (args, r.returncode, r.stderr)
    return r


class Positions(unittest.TestCase):
    def config(self, name):
        return json.loads(aquila("show", "--json", os.path.join(FORMS, name)).stdout)["config"]

    def test_show_has_the_figures(self):
        keys = ("rope_scaling", "rope_factor", "rope_original", "rope_low", "rope_high", "rope_gain")
        for name in ("rope-llama3", "rope-llama3.gguf"):  # the second holds a tensor of factors instead: the figures are found again
            self.assertEqual([self.config(name)[k] for k in keys], ["llama3", 8, 32, 1, 4, 1])
        for name in ("rope-yarn-betas", "rope-yarn-betas.gguf"):
            c = self.config(name)
            self.assertEqual([round(c[k], 6) if k != "rope_scaling" else c[k] for k in keys], ["yarn", 4, 32, 0.3, 4, 1.3])
        self.assertIn("scaling llama3 by 8 from 32 tokens, between 1 and 4 turns", aquila("show", os.path.join(FORMS, "rope-llama3")).stdout)

    def test_gguf_means_linear_where_it_says_no_type(self):
        sys.path.insert(0, os.path.join(FORMS, "..", "..", "bad"))
        from small import F32, STRING, Gguf, string
        for keys, scaling, factor in (({}, "none", 1), ({"scaling.factor": 4}, "linear", 4), ({"scale_linear": 2}, "linear", 2), ({"scaling.factor": 0}, "none", 1),
                                      ({"scaling.factor": 4, "scaling.type": "none"}, "none", 1), ({"scaling.type": "linear"}, "none", 1)):
            g = Gguf()
            for key, value in keys.items():
                if isinstance(value, str):
                    g.keys["llama.rope." + key] = (STRING, string(value))
                else:
                    g.set("llama.rope." + key, F32, value)
            with tempfile.TemporaryDirectory() as d:
                c = json.loads(aquila("show", "--json", g.save(d)).stdout)["config"]
            self.assertEqual((c["rope_scaling"], c["rope_factor"]), (scaling, factor), keys)

    def test_the_graph_has_them_where_the_model_has(self):
        opt = lambda name: aquila("opt", os.path.join(FORMS, "..", "..", "..", "models/aquila/aquila.aq"), "--config", os.path.join(FORMS, name), "--passes=expand").stdout
        self.assertRegex(opt("rope-llama3.gguf"), r"rope .* \{theta=10000, factor=8, low=0.196\d*, high=0.785\d*, ramp=0\}")
        self.assertRegex(opt("rope-yarn-betas"), r"rope .* \{theta=10000, factor=4, low=[^,]*, high=1, ramp=1, gain=1.3\}")
        self.assertRegex(opt("rope-none"), r"rope .* \{theta=10000, factor=1\}")

    def test_beyond_the_model_s_length(self):
        for name in ("rope-llama3.gguf", "rope-yarn"):
            folder = os.path.join(FORMS, name)
            self.assertEqual(json.loads(aquila("memory", folder, "--context", "500", "--json").stdout)["context"], 500)
            r = aquila("score", folder, "--prompt-ids", IDS, "--context", "500", "--target", "ref")
            self.assertIn("beyond the 128 positions", r.stderr)

    def test_dynamic_says_what_its_base_is_for(self):
        score = lambda *more: aquila("score", os.path.join(FORMS, "hf-dynamic"), "--prompt-ids", IDS, "--target", "ref", "--json", *more)
        plain, same, longer = score(), score("--context", "64"), score("--context", "256")
        self.assertEqual(plain.stdout, same.stdout)
        self.assertNotEqual(plain.stdout, longer.stdout)
        self.assertNotIn("dynamic", same.stderr)
        self.assertIn("turned as one of 256 positions", longer.stderr)

    def test_convert_says_what_llama_cpp_does_not_read(self):
        with tempfile.TemporaryDirectory() as d:
            r = aquila("convert", os.path.join(FORMS, "rope-yarn-betas"), "-o", os.path.join(d, "m.gguf"))
            self.assertIn("llama.cpp does not read them", r.stdout + r.stderr)
            r = aquila("convert", os.path.join(FORMS, "rope-yarn"), "-o", os.path.join(d, "usual.gguf"))
            self.assertNotIn("llama.cpp does not read them", r.stdout + r.stderr)


if __name__ == "__main__":
    unittest.main()
