#!/usr/bin/env python3
"""flagai_logits.py: tiny models in FlagAI's form, made, trained and saved by FlagAI's own code (flagai 1.8.4: model/aquila_model.py, its layers, and
save_checkpoint of utils.py), and the logits that this code computes in f64.

  pip install --no-deps flagai==1.8.4; pip install torch transformers accelerate einops ftfy jieba regex requests six tqdm safetensors
  flagai_logits.py                 writes tests/data/forms/flagai-own-NAME/ and tests/data/forms_flagai.json, read by tests/engine/test_forms.c
  flagai_logits.py try AQUILA N    N more of random shapes, in a temporary folder, against the program (score --top-logits on ref and cpu)
  flagai_logits.py read AQUILA     the other way: what `convert --to flagai` writes of a folder in Hugging Face's form, and of a GGUF file of it, is read
                                   by FlagAI's model and tokenizer: logits and ids as the program has them of the first

  flagai-own-half     odd sizes; model.half(), then torch.save of the bare state
  flagai-own-trained  after three steps of AdamW on FlagAI's own loss, saved by save_checkpoint: the state under "module", beside it the optimizer, the
                      schedule and four generators' states
  flagai-own-lora     the first with an adapter of FlagAI's own LoRA (model/tools/peft) on wq and wv, in flagai-own-lora/lora, saved by save_pretrained

The forward pass is run twice, whole and with FlagAI's cache token by token; both must agree. Only rope is f32 there (apply_rotary_pos_emb calls
float()). Not run: fused Wqkv (flash_atten_aquila_style), which needs flash_attn, and whose forward in 1.8.4 uses xq before it has one; its rows are
'(three h d)', which flagai-fused-module of torch_forms.py has. config.json is as FlagAI publishes it; its own save_config writes {}.
"""
import json, os, random, shutil, subprocess, sys, tempfile
os.environ["ENV_TYPE"] = "pytorch"
import numpy as np
import torch
from flagai.model.aquila_model import AQUILAModel
from flagai.model.tools.peft import LoraConfig, get_peft_model
from flagai.schedulers import AnnealingLR
from flagai.utils import save_checkpoint

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")


def make(folder, seed, dtype, **figures):
    """A model whose weights are exact in dtype, with config.json in folder."""
    config = dict(dim=24, multiple_of=7, n_heads=3, n_layers=2, norm_eps=1e-5, vocab_size=40, max_seq_len=64, initializer_range=0.006, flash_atten=False)
    config.update(figures)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    path = os.path.join(folder, "config.json")
    with open(path, "w") as f:
        json.dump(config, f, indent=2)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    model = AQUILAModel.init_from_json(path)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((torch.randn(p.shape) * (0.2 if p.dim() == 1 else 0.2) + (1 if p.dim() == 1 else 0)).to(dtype).float())
    return model


def train(model, vocab, length):
    """Three real steps; the optimizer and the schedule are part of the checkpoint then."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = AnnealingLR(optimizer, start_lr=1e-3, warmup_iter=2, num_iters=10, decay_style="cosine")
    for _ in range(3):
        ids = torch.randint(0, vocab, (2, length))
        loss = model(ids, labels=ids)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return optimizer, schedule


def logits_of(model, folder, ids):
    """Of the last position, in f64; with and without FlagAI's cache."""
    twin = AQUILAModel.init_from_json(os.path.join(folder, "config.json"), use_cache=True)
    twin.load_state_dict(model.state_dict())
    twin, whole, x = twin.double().eval(), model.double().eval(), torch.tensor([ids])
    with torch.no_grad():
        want = whole(x, labels=x)["logits"][0]
        for i in range(len(ids)):
            got = twin(x[:, i:i + 1], start_pos=i)["logits"][0].double()
            assert torch.linalg.norm(got - want[i]) < 1e-5 * torch.linalg.norm(want[i]), (folder, i)
    return [float("%.9g" % v) for v in want[-1]]


def form(name, folder, ids, model):
    return {"folder": name, "context": 64, "ids": ids, "logits": logits_of(model, folder, ids)}


def half(folder, seed, **figures):
    model = make(folder, seed, torch.float16, **figures)
    torch.save(model.half().state_dict(), os.path.join(folder, "pytorch_model.bin"))
    return model


def trained(folder, seed, **figures):
    model = make(folder, seed, torch.float32, **figures)
    optimizer, schedule = train(model, model.config.vocab_size, 9)
    torch.cuda.get_rng_state = torch.get_rng_state  # of the machine's card, which there need not be
    with tempfile.TemporaryDirectory() as out:
        save_checkpoint(3, 3, model, optimizer, schedule, save_dir=out)
        shutil.move(os.path.join(out, "3", "pytorch_model.bin"), os.path.join(folder, "pytorch_model.bin"))
    return model


def lora(folder, of):
    """The form of a model with an adapter, whose base is the folder `of`."""
    model = AQUILAModel.init_from_json(os.path.join(DATA, "forms", of, "config.json"))
    model.load_weights(os.path.join(DATA, "forms", of, "pytorch_model.bin"))
    torch.manual_seed(7)
    # task_type CAUSAL_LM, which FlagAI's trainer asks for, only wraps generate(); without it the class asks the model for nothing that it lacks
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules=["wq", "wv"], lora_dropout=0.05, bias="none"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_((torch.randn(p.shape) * 0.2).half().float())
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        config = json.load(f)
    with open(path, "w") as f:
        json.dump(config, f, indent=1, sort_keys=True)
        f.write("\n")
    ids = [3, 39, 0, 17, 17, 2, 8]
    with torch.no_grad():
        want = model.double().eval()(torch.tensor([ids]), labels=torch.tensor([ids]))["logits"][0, -1]
    return {"folder": of, "lora": "tests/data/forms/flagai-own-lora", "context": 64, "ids": ids, "logits": [float("%.9g" % v) for v in want]}


def store():
    forms = {}
    for name, how, seed, ids, figures in (
            ("flagai-own-half", half, 1, [3, 39, 0, 17, 17, 2, 8, 31, 5, 22, 1], dict()),
            ("flagai-own-trained", trained, 2, list(range(12)), dict(dim=12, n_heads=2, n_layers=1, multiple_of=1, vocab_size=17, norm_eps=1e-6))):
        folder = os.path.join(DATA, "forms", name)
        forms[name] = form(name, folder, ids, how(folder, seed, **figures))
        print(name, os.path.getsize(os.path.join(folder, "pytorch_model.bin")), "bytes")
    forms["flagai-own-lora"] = lora(os.path.join(DATA, "forms", "flagai-own-lora"), "flagai-own-half")
    with open(os.path.join(DATA, "forms_flagai.json"), "w") as f:
        json.dump(forms, f, separators=(",", ":"))
        f.write("\n")


def ours(program, folder, ids, vocab, target):
    p = subprocess.run([program, "score", folder, "--prompt-ids", ",".join(map(str, ids)), "--top-logits", str(vocab), "--target", target, "--cache", "none",
                        "--json"], capture_output=True)
    if p.returncode:
        sys.exit(f"{folder}: {p.stderr.decode()}")
    got = torch.zeros(vocab).double()
    for x in json.loads(p.stdout)["top_logits"]:
        got[x["id"]] = x["logit"]
    return got


def attempt(program, n):
    r, worst = random.Random(os.urandom(8)), {"ref": 0, "cpu": 0}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n):
            heads, vocab = r.randrange(1, 6), r.randrange(5, 70)
            figures = dict(dim=heads * 2 * r.randrange(1, 17), n_heads=heads, n_layers=r.randrange(1, 4), multiple_of=r.choice([1, 3, 32, 256]), vocab_size=vocab,
                           norm_eps=r.choice([1e-5, 1e-6]))
            model = r.choice([half, trained])(folder, r.randrange(1 << 20), **figures)
            ids = [r.randrange(vocab) for _ in range(r.randrange(2, 60))]
            want = torch.tensor(logits_of(model, folder, ids)).double()
            for target in worst:
                got = ours(program, folder, ids, vocab, target)
                worst[target] = max(worst[target], float(torch.linalg.norm(got - want) / torch.linalg.norm(want)))
    print(f"{n} models, largest relative L2 error of the logits: {worst}")


def hugging_face(folder):
    """A folder with Aquila's vocabulary and small matrices."""
    from flagai_tokenizer import make_folder
    from safetensors.torch import save_file
    vocab, d, f, torch_dtype = 100008, 16, 64, "float16"  # a width that FlagAI's rule can give
    os.makedirs(folder)
    make_folder(folder)
    special = ["<|startofpiece|>", "<|endofpiece|>", "<|LDWANG|>", "[MASK]", "[gMASK]", "[sMASK]", "[CLS]", "</s>"]
    roles = dict(bos_token="[CLS]", eos_token="</s>", unk_token="<|endoftext|>", pad_token="<|endoftext|>")
    figures = dict(model_type="aquila", hidden_size=d, intermediate_size=f, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5,
                   max_position_embeddings=64, tie_word_embeddings=False, vocab_size=vocab, bos_token_id=100006, eos_token_id=100007, torch_dtype=torch_dtype)
    for name, value in (("added_tokens.json", {s: 100000 + i for i, s in enumerate(special)}), ("special_tokens_map.json", roles),
                        ("tokenizer_config.json", dict(roles, tokenizer_class="GPT2Tokenizer", add_prefix_space=False)), ("config.json", figures)):
        with open(os.path.join(folder, name), "w") as out:
            json.dump(value, out)
    shapes = {"model.embed_tokens": (vocab, d), "lm_head": (vocab, d), "model.norm": (d,), "model.layers.0.input_layernorm": (d,),
              "model.layers.0.post_attention_layernorm": (d,), **{f"model.layers.0.self_attn.{k}_proj": (d, d) for k in "qkvo"},
              "model.layers.0.mlp.gate_proj": (f, d), "model.layers.0.mlp.up_proj": (f, d), "model.layers.0.mlp.down_proj": (d, f)}
    torch.manual_seed(3)
    save_file({k + ".weight": (torch.randn(s) * 0.3).half() for k, s in shapes.items()}, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    return vocab


def read(program):
    from flagai_tokenizer import Special, ask, original
    with tempfile.TemporaryDirectory() as t:
        source, gguf = os.path.join(t, "hf"), os.path.join(t, "m.gguf")
        vocab, ids = hugging_face(source), [100006, 5, 77, 99999, 1234, 0, 100001]
        want = ours(program, source, ids, vocab, "ref")
        subprocess.run([program, "convert", source, "-o", gguf], check=True, capture_output=True)
        for name, of in (("from-hf", source), ("from-gguf", gguf)):
            folder = os.path.join(t, name)
            subprocess.run([program, "convert", of, "-o", folder, "--to", "flagai"], check=True, capture_output=True)
            model = AQUILAModel.init_from_json(os.path.join(folder, "config.json"))
            model.load_weights(os.path.join(folder, "pytorch_model.bin"))
            got = torch.tensor(logits_of(model, folder, ids)).double()
            texts, tokenizer = Special(11), original(folder)
            strings = [texts.text() for _ in range(300)]
            wrong = sum(x["ids"] != tokenizer.encode(s) for s, x in zip(strings, ask(program, folder, [{"text": s} for s in strings])))
            print(f"{name}: relative L2 of the logits {float(torch.linalg.norm(got - want) / torch.linalg.norm(want)):.1e}, of 300 texts {wrong} have other ids")


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"] and len(sys.argv) == 3:
        read(sys.argv[2])
    elif len(sys.argv) == 1:
        store()
    elif sys.argv[1] == "try" and len(sys.argv) == 4:
        attempt(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(__doc__)
