#!/usr/bin/env python3
"""compare.py BENCH FOLDER TEXT...: speed of one thread on the same texts in the same run, MB/s: ours (the program BENCH), tiktoken and Hugging Face's
tokenizers, all on the vocabulary of FOLDER (vocab.json, merges.txt with GPT-2's pattern); the best of some rounds by CPU time, the three taken in turn.
The ids must be equal. pip install tiktoken==0.14.0 tokenizers==0.23.3"""
import json, os, subprocess, sys, time
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tiktoken
from tokenizers import Tokenizer, models, pre_tokenizers

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def load(folder):
    with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as f:
        vocab = json.load(f)
    with open(os.path.join(folder, "merges.txt"), encoding="utf-8") as f:
        merges = [tuple(l.split(" ")) for l in f.read().split("\n") if l and not l.startswith("#version")]
    fast = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    byte = {chr(c): c for c in printable}
    byte.update({chr(256 + i): c for i, c in enumerate(c for c in range(256) if c not in printable)})
    ranks = {bytes(byte[c] for c in k): i for k, i in vocab.items() if all(c in byte for c in k)}
    return tiktoken.Encoding("same", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}), fast


def best(rounds, run):
    low = 1e9
    for _ in range(rounds):
        start = time.process_time()
        result = run()
        low = min(low, time.process_time() - start)
    return result, low


def main():
    bench, folder, texts = sys.argv[1], sys.argv[2], sys.argv[3:]
    encoding, fast = load(folder)
    print("| text | bytes | ids | aquila MB/s | tiktoken MB/s | ratio | tokenizers MB/s |\n|---|---|---|---|---|---|---|")
    for path in texts:
        with open(path, encoding="utf-8", newline="") as f:
            text = f.read()
        n = len(text.encode())
        ids, seconds = best(3, lambda: encoding.encode_ordinary(text))
        count, speed = subprocess.run([bench, folder, path], check=True, capture_output=True, text=True).stdout.split(" ")[-2:]
        other, slow = best(1, lambda: fast.encode(text).ids)
        assert len(ids) == int(count) and ids == other, path
        print(f"| {os.path.basename(path)} | {n} | {len(ids)} | {speed.strip()} | {n / seconds / 1e6:.1f} | {float(speed) * seconds * 1e6 / n:.1f} | {n / slow / 1e6:.1f} |")


if __name__ == "__main__":
    main()
