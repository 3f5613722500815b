#!/usr/bin/env python3
"""tokenizer_convert.py: SentencePiece tokenizers through `convert`, beside Hugging Face's tokenizers. Packages: tokenizers, transformers 5, torch.

    tokenizer_convert.py PROGRAM [TEXTS]      default 2000 texts

Each model of tests/data/tokenizer with each of the settings that tokenizer_config.json can have for it: made a folder, and a GGUF file and then a
folder. Prints of how many texts `tokenizers`, reading the folder's tokenizer.json, and PROGRAM, reading the folder, give other ids than PROGRAM gives
on what was converted. Expected: 0, but for the model with user-defined symbols as a folder (who reads tokenizer.json looks for them in the text
before it is normalised, SentencePiece among its pieces: convert says so); GGUF has no word for "legacy": false, so that is refused."""
import gzip, json, os, random, shutil, subprocess, sys, tempfile
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizer import HERE, Texts

SETTINGS = {"nothing": None, "empty": {}, "legacy": {"legacy": True}, "new": {"legacy": False}, "no space": {"add_prefix_space": False},
            "new, no space": {"add_prefix_space": False, "legacy": False}}


def model_of(folder, size=1000):
    from transformers import LlamaConfig, LlamaForCausalLM
    LlamaForCausalLM(LlamaConfig(vocab_size=size, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                                 max_position_embeddings=64, tie_word_embeddings=True)).save_pretrained(folder)


def ids_of(program, model, texts):
    r = subprocess.run([program, "tokenize", model, "--batch"], input="".join(json.dumps({"text": t}) + "\n" for t in texts), capture_output=True, text=True, check=True)
    return [json.loads(line)["ids"] for line in r.stdout.splitlines()]


def made_texts(n):
    r, texts = random.Random(5), Texts(31)
    part = lambda: r.choice([r.choice(["<s>", "</s>", "<unk>"]), " " * r.randrange(3), texts.part(), "\u2581"])
    first = ["", " ", "  a", "\u2581a", "<s>a", "<s> a", "a<s>b </s> c", " <s>", "<0x41>"]
    return first + ["".join(part() for _ in range(r.randrange(8))) for _ in range(n - len(first))]


def main(program, n=2000):
    from tokenizers import Tokenizer
    texts = made_texts(int(n))
    with tempfile.TemporaryDirectory() as d:
        base = os.path.join(d, "base")
        model_of(base)
        for name in ("spm", "spm_user"):
            for setting, config in SETTINGS.items():
                source = os.path.join(d, f"{name} {setting}")
                shutil.copytree(base, source)
                with open(os.path.join(source, "tokenizer.model"), "wb") as f:
                    f.write(gzip.open(os.path.join(HERE, name + ".model.gz")).read())
                if config is not None:
                    with open(os.path.join(source, "tokenizer_config.json"), "w") as f:
                        json.dump(config, f)
                for way in ("folder", "GGUF, folder"):
                    out = source + way
                    if way != "folder":
                        r = subprocess.run([program, "convert", source, "-o", source := out + ".gguf"], capture_output=True, text=True)
                        if r.returncode:
                            print(f"{name:9} {setting:14} {way:13} refused {r.stderr.rstrip()[-6:]}")
                            continue
                    subprocess.run([program, "convert", source, "-o", out], capture_output=True, check=True)
                    want, back = ids_of(program, source, texts), ids_of(program, out, texts)
                    theirs = Tokenizer.from_file(os.path.join(out, "tokenizer.json"))
                    got = [theirs.encode(t, add_special_tokens=False).ids for t in texts]
                    print(f"{name:9} {setting:14} {way:13} tokenizers: {sum(x != y for x, y in zip(want, got))} of {len(texts)} texts differ, here {sum(x != y for x, y in zip(want, back))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
