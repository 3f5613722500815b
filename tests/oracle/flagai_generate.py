#!/usr/bin/env python3
"""flagai_generate.py: answers of FlagAI's own code, from the prompt to the cut text, beside those of the program, on a small random model with Aquila's
vocabulary. Greedy, because the random numbers differ; what sampling keeps is in sampling.py.

  pip install --no-deps flagai==1.8.4; pip install torch accelerate einops ftfy jieba regex requests six tqdm safetensors
  for `predict`: pip install transformers==4.34.1 (the last years' have no sample(), which it calls)
  flagai_generate.py v1 AQUILA SERVER.py CYG.py N    aquila_generate (flagai/model/predictor/aquila.py) on plain texts, and the chat server: history by
                                     covert_prompt_to_input_ids_with_history of CYG, the answer by predict of SERVER, which calls
                                     aquila_generate_by_ids (examples/Aquila/Aquila-server/{aquila_server,cyg_conversation}.py of the repository)
  flagai_generate.py predict AQUILA N                Aquila2's predict (flagai/model/aquila2/modeling_aquila.py) with its five templates and a history

Compared: the prompt's ids, and the text. Rows of the output matrix of tokens that end or cut an answer are large, so that they come.

Run with flagai 1.8.4 and the repository at 9a885f33. Known to differ, and counted apart:
  ###      predict cuts every answer there, we where the template says so (a heading must survive)
  end      predict goes on after <|endoftext|>, we stop where the template names it, or where it is the unknown token
"""
import ast, contextlib, importlib.util, json, os, random, subprocess, sys, tempfile
os.environ["ENV_TYPE"] = "pytorch"
import torch

NEW = 24
WORDS = ["hi", "The quick brown fox", "你好，世界", "\n\n", "  two", "1+1=", "é😀", "def f(x):\n\treturn x", "it's", "北京为什么是中国的首都？", "###", ":", "Human"]


def words(r, least=1):
    return "".join(r.choice(WORDS) + r.choice(["", " ", "。", ", "]) for _ in range(r.randrange(least, 6)))


def loud(folder, pieces):
    """The model with some rows of its output matrix large."""
    from safetensors.torch import load_file, save_file
    path = os.path.join(folder, "model.safetensors")
    state = load_file(path)
    g = torch.Generator().manual_seed(5)
    state["lm_head.weight"][torch.randint(0, 100000, (400,), generator=g)] *= 3
    state["lm_head.weight"][torch.tensor(sorted(set(pieces)))] *= 6
    state["model.embed_tokens.weight"] *= 4  # else all prompts look alike to a model of one layer
    save_file(state, path, metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(dict(config, max_position_embeddings=512), f)


def answers(program, folder, requests, *options):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
        f.write("".join(json.dumps(x) + "\n" for x in requests))
        f.flush()
        p = subprocess.run([program, "run", folder, "--prompts-file", f.name, "-n", str(NEW), "--temperature", "0", "--target", "ref", "--cache", "none", "--context",
                            "512", "--json", *options], capture_output=True)
    if p.returncode:
        sys.exit(p.stderr.decode())
    return json.loads(p.stdout)["answers"]


def report(what, rows):
    """rows: (request, ours, ids that the original feeds or None, its text, whether a known difference may show)."""
    ids = sum(want is not None and want != ours["prompt_tokens"] for _, ours, want, _, _ in rows)
    known = sum(text != ours["text"] and may for _, ours, _, text, may in rows)
    other = [(q, ours["text"], text) for q, ours, _, text, may in rows if text != ours["text"] and not may]
    for q, a, b in other[:4]:
        print("  ", json.dumps(q, ensure_ascii=False)[:300], "\n    ours  ", repr(a), "\n    theirs", repr(b))
    ends = {k: sum(ours["stop_reason"] == k for _, ours, *_ in rows) for k in ("eos", "stop", "length")}
    print(f"{what}: {len(rows)} answers ({ends}), prompts that differ {ids}, texts that differ: as known {known}, otherwise {len(other)}")


def history_of(r):
    turns = []
    for _ in range(r.randrange(0, 4)):
        turns += [("USER", words(r)), ("ASSISTANT", words(r))]
    return turns


def messages(history, text):
    role = {"USER": "user", "ASSISTANT": "assistant"}
    return {"messages": [{"role": role[a], "content": b} for a, b in history] + [{"role": "user", "content": text}]}


def prepare(folder):
    from flagai_logits import hugging_face
    hugging_face(folder)


def v1(program, server, cyg, n):
    from flagai.model.aquila_model import AQUILAModel
    from flagai.model.predictor.aquila import aquila_generate
    from flagai.model.predictor.aquila_server import aquila_generate_by_ids
    from flagai_tokenizer import original
    torch.Tensor.cuda = lambda self: self
    torch.cuda.device = lambda _: contextlib.nullcontext()
    spec = importlib.util.spec_from_file_location("cyg", cyg)
    conversation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conversation)
    r = random.Random(1)
    with tempfile.TemporaryDirectory() as t:
        source, folder = os.path.join(t, "hf"), os.path.join(t, "flagai")
        prepare(source)
        loud(source, [0, 100000, 100001, 100004, 100006, 100007, *hashes(program, source)])
        subprocess.run([program, "convert", source, "-o", folder, "--to", "flagai"], check=True, capture_output=True)
        tokenizer = original(folder)
        model = AQUILAModel.init_from_json(os.path.join(folder, "config.json"), use_cache=True)
        model.load_weights(os.path.join(folder, "pytorch_model.bin"))
        model = model.float().eval()

        # plain completion: FlagAI's tokenizer, special tokens in the text and all
        from flagai_tokenizer import Special
        special = Special(3)
        prompts = [p for p in (words(r) + special.some(special.SPACE, 3) + r.choice(special.SPECIAL) + words(r) for _ in range(n)) if tokenizer.encode(p)]
        got = answers(program, folder, [{"prompt": p} for p in prompts], "--tokenizer", "flagai-v1", "--template", "none")
        with torch.no_grad():
            rows = [(p, a, tokenizer.encode(p), aquila_generate(tokenizer, model, [p], NEW, temperature=0), False) for p, a in zip(prompts, got)]
        report("aquila_generate", rows)

        # the chat server
        scope = dict(torch=torch, re=__import__("re"), time=__import__("time"), sys=type("argv", (), {"argv": ["", "0"]}), device="cpu",
                     aquila_generate_by_ids=aquila_generate_by_ids, id2word={v: k for k, v in tokenizer.get_vocab().items()})
        tree = ast.parse(open(server, encoding="utf-8").read())
        tree.body = [x for x in tree.body if isinstance(x, ast.FunctionDef) and x.name == "predict"]
        exec(compile(tree, server, "exec"), scope)
        cases = [(history_of(r), words(r)) for _ in range(n)]
        got = answers(program, folder, [messages(*c) for c in cases], "--tokenizer", "flagai-v1", "--template", "aquila-chat")
        rows = []
        for (history, text), a in zip(cases, got):
            with contextlib.redirect_stdout(None):
                ids = conversation.covert_prompt_to_input_ids_with_history(text, list(history), tokenizer, 2000)
            out = scope["predict"](tokenizer, model, text, max_gen_len=NEW, prompts_tokens=ids, temperature=0)[0]
            rows.append(((history, text), a, ids, out, False))
        report("the chat server", rows)


def hashes(program, folder):
    """The tokens that spell what answers are cut at."""
    p = subprocess.run([program, "tokenize", "--ordinary", folder], input="### </s> [UNK]".encode(), capture_output=True, check=True)
    return [int(x) for x in p.stdout.split()]


def predict(program, n):
    from transformers import AutoTokenizer
    from flagai.model.aquila2 import modeling_aquila, utils
    from flagai.model.aquila2.modeling_aquila import AquilaForCausalLM
    fed, convert = [], utils.covert_prompt_to_input_ids_with_history

    def watched(*a, **more):
        fed.append(convert(*a, **more))
        return fed[-1]
    modeling_aquila.covert_prompt_to_input_ids_with_history = watched
    r = random.Random(2)
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.join(folder, "hf")
        prepare(folder)
        loud(folder, [0, 100000, 100001, 100006, 100007, *hashes(program, folder)])
        tokenizer = AutoTokenizer.from_pretrained(folder, clean_up_tokenization_spaces=False)
        model = AquilaForCausalLM.from_pretrained(folder).float().eval()
        for template in ("aquila-chat", "aquila", "aquila-legacy", "aquila-v1", "aquila-v2"):
            cases = [(history_of(r), words(r)) for _ in range(n)]
            got = answers(program, folder, [messages(*c) for c in cases], "--sampling", "aquila2", "--template", template)
            rows = []
            for (history, text), a in zip(cases, got):
                raw = []
                decode = tokenizer.decode
                tokenizer.decode = lambda ids, **more: raw.append(decode(ids, **more)) or raw[-1]
                with contextlib.redirect_stdout(None):
                    out = model.predict(text, tokenizer=tokenizer, max_gen_len=NEW, temperature=0, convo_template=template, history=list(history), device="cpu")
                tokenizer.decode = decode
                may = "<|endoftext|>" in raw[-1] or ("###" in raw[-1] and template != "aquila-chat")
                rows.append(((history, text), a, fed[-1], out, may))
            report(template, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["v1"] and len(sys.argv) == 6:
        v1(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    elif sys.argv[1:2] == ["predict"] and len(sys.argv) == 4:
        predict(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(__doc__)
