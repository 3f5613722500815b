#!/usr/bin/env python3
"""Writes tests/data/tokenizer/chatml.gz: conversations, what SmolLM2's own chat template makes of them, and the ids.

  pip install jinja2 tokenizers==0.23.3 gguf
  chat.py SMOLLM2.gguf

Jinja runs as transformers' apply_chat_template runs it (trim_blocks, lstrip_blocks, add_generation_prompt). Format, little-endian u32:
the template as length, bytes; number of cases; each: number of messages; each: role (0 system, 1 user, 2 assistant), length, bytes;
then the text as length, bytes, and count, ids.
"""
import sys

from gguf import GGUFReader
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tokenizer import Texts, load, u32, write

ROLES = ["system", "user", "assistant"]


def conversations(texts):
    r = texts.r
    yield [("user", "What is the capital of France?")]
    yield [("system", "Answer in one word."), ("user", "What is the capital of France?")]
    yield [("user", "Hi"), ("assistant", "Hello! How can I help?"), ("user", " two spaces before\n\n"), ("assistant", ""), ("user", "?")]
    yield [("system", ""), ("user", "x"), ("system", "From now on be brief."), ("user", "")]
    for _ in range(60):
        c = [("system", texts.text())] if r.randrange(3) == 0 else []
        for i in range(r.randrange(1, 4) * 2 - 1):
            c.append((ROLES[1 + i % 2], texts.text()))
        yield c


def main():
    template = GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"].contents()
    jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    texts, tokenizer = Texts(5), load("smollm2")
    texts.SPECIAL = ["<|im_", "<|", "</s>", "[CLS]"]  # what a user types is no control token with us, so it is left out here
    cases = list(conversations(texts))
    out = [u32(len(template.encode())), template.encode(), u32(len(cases))]
    for c in cases:
        messages = [{"role": r, "content": t} for r, t in c]
        text = jinja.render(messages=messages, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        out.append(u32(len(c)))
        for role, t in c:
            out += [u32(ROLES.index(role), len(t.encode())), t.encode()]
        out += [u32(len(text.encode())), text.encode(), u32(len(ids)), u32(*ids)]
    write("chatml.gz", b"".join(out))


if __name__ == "__main__":
    main() if len(sys.argv) == 2 else sys.exit(__doc__)
