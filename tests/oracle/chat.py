#!/usr/bin/env python3
"""Writes what conversations become: by Jinja, by FlagAI's own code.

  pip install jinja2 tokenizers==0.23.3 gguf
  chat.py chatml SMOLLM2.gguf          tests/data/tokenizer/chatml.gz: SmolLM2's own chat template, and the ids of the results
  chat.py collect LLAMA.CPP E2E TEMPLATES
                                       tests/data/chat/templates.json.gz: chat templates of published checkpoints, from llama.cpp (models/templates,
                                       tests/test-chat-template.cpp), huggingface.js (packages/jinja/test/e2e.test.js), chujiezheng/chat_templates
  chat.py add NAME FILE                one more (some are only in documents that quote a tokenizer_config.json)
  chat.py forms                        tests/data/chat/forms.gz: each of them run by Jinja on random conversations; those that are not known here
                                       stand in it with an empty name and no conversation
  chat.py blocks                       frontend/chat/blocks.def: what the known ones are made of
  chat.py aquila CONVERSATION CYG      tests/data/chat/aquila.gz: the six Aquila templates, run by FlagAI's flagai/model/aquila2/conversation.py and
                                       examples/Aquila/Aquila-chat/cyg_conversation.py (bair_v1, and instructions)

Jinja runs as transformers' apply_chat_template runs it (trim_blocks, lstrip_blocks, add_generation_prompt). Formats, little-endian u32, texts as
length, bytes; see the functions that write them and tests/chat/test_chat.c, test_forms.c, which read them.
"""
import gzip
import importlib.util
import json
import os
import random
import re
import sys

from tokenizer import HERE, Texts, load, u32, write

ROLES = ["system", "user", "assistant"]
DATA = os.path.join(HERE, "..", "chat")


def jinja_of(template):
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message):
        raise TemplateError(message)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = lambda x, **more: json.dumps(x, ensure_ascii=False, indent=more.get("indent"))
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)


def text(s):
    b = s.encode()
    return u32(len(b)) + b


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


def write_chatml(gguf_path):
    """The template; number of cases; each: number of messages; each: role, text; then the text, count, ids."""
    from gguf import GGUFReader
    template = GGUFReader(gguf_path).fields["tokenizer.chat_template"].contents()
    jinja = jinja_of(template)
    texts, tokenizer = Texts(5), load("smollm2")
    texts.SPECIAL = ["<|im_", "<|", "</s>", "[CLS]"]  # what a user types is no control token with us, so it is left out here
    cases = list(conversations(texts))
    out = [text(template), u32(len(cases))]
    for c in cases:
        messages = [{"role": r, "content": t} for r, t in c]
        rendered = jinja.render(messages=messages, add_generation_prompt=True)
        ids = tokenizer.encode(rendered, add_special_tokens=False).ids
        out.append(u32(len(c)))
        for role, t in c:
            out += [u32(ROLES.index(role)), text(t)]
        out += [text(rendered), u32(len(ids)), u32(*ids)]
    write("chatml.gz", b"".join(out))


# ---- chat templates of published checkpoints ----

# Which of them are known here; all others must be refused. Names as the places that they come from give them.
KNOWN = {
    "_base": "chatml", "teknium/OpenHermes-2.5-Mistral-7B": "chatml", "Qwen/Qwen1.5-72B-Chat": "chatml", "cognitivecomputations/dolphin-2.5-mixtral-8x7b": "chatml",
    "Qwen-Qwen2.5-7B-Instruct": "chatml", "MiMo-VL": "chatml",
    "llama": "llama-2", "Llama-3": "llama-3",
    "meta-llama-Llama-3.1-8B-Instruct": "llama-3.1", "meta-llama-Llama-3.2-3B-Instruct": "llama-3.1", "meta-llama-Llama-3.3-70B-Instruct": "llama-3.1",
    "TheBloke/Mistral-7B-Instruct-v0.1-GPTQ": "mistral-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1": "mistral-v0.2",
    "mistralai/Mistral-7B-Instruct-v0.2 (NOTE: Old pre-v1 without a system prompt)": "mistral-v0.2",
    "mistralai/Mistral-7B-Instruct-v0.2 (mistralai 'v1' template with a system prompt)": "mistral-v1",
    "Mistral-Large-Instruct-2407 (mistralai 'v3' template; modified to have system prompt at start)": "mistral-v3",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral-tekken", "mistralai/Mistral-Nemo-Instruct-2407": "mistral-tekken",
    "Mistral-Nemo-Instruct-2407 (mistralai 'v3-tekken' template; modified to have system prompt at start)": "mistral-tekken",
    "mistralai/Mistral-Large-Instruct-2411 (mistralai 'v7' template)": "mistral-v7",
    "HuggingFaceH4/zephyr-7b-beta (add_generation_prompt=true)": "zephyr",
    "speakleash/Bielik-11B-v2.3-Instruct": "chatml-bos", "allenai/tulu": "tulu", "allenai/OLMo-2": "tulu-bos",
    "deepseek-ai/DeepSeek-R1 (January 2025)": "deepseek-r1-plain", "deepseek-ai/DeepSeek-R1": "deepseek-r1-plain",
    "vicuna": "vicuna", "alpaca": "alpaca", "openchat/openchat-3.5-0106": "openchat", "upstage/SOLAR-10.7B-Instruct-v1.0": "solar",
    "deepseek-ai/deepseek-llm-7b-chat": "deepseek", "DeepSeek-V2": "deepseek", "deepseek-ai/deepseek-coder-33b-instruct": "deepseek-coder",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "deepseek-r1", "Infinigence/Megrez-3B-Instruct": "megrez",
    "meta-llama/Llama-2-7b-chat-hf": "llama-2", "meta-llama/Meta-Llama-3-8B-Instruct": "llama-3", "HuggingFaceTB/SmolLM2-135M-Instruct": "chatml",
    "Qwen/Qwen2-7B-Instruct": "chatml", "internlm2": "chatml-bos",
}
TOKENS = {"llama-3": ("<|begin_of_text|>", "<|eot_id|>"), "llama-3.1": ("<|begin_of_text|>", "<|eot_id|>"),
          "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), "deepseek-coder": ("<｜begin▁of▁sentence｜>", "<|EOT|>"),
          "deepseek-r1-plain": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
          "deepseek-r1": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")}


def stored_templates():
    path = os.path.join(DATA, "templates.json.gz")
    return json.load(gzip.open(path)) if os.path.exists(path) else {}


def store(templates):
    with gzip.GzipFile(os.path.join(DATA, "templates.json.gz"), "wb", mtime=0) as f:
        f.write(json.dumps(templates, ensure_ascii=False, indent=0).encode())
    print(len(templates), "templates")


def add_template(name, path):
    store({**stored_templates(), name: open(path, encoding="utf-8").read()})


def collect(llama_cpp, e2e, folder):
    found = stored_templates()
    source = open(os.path.join(llama_cpp, "tests/test-chat-template.cpp"), encoding="utf-8").read()
    for m in re.finditer(r'/\* \.name= \*/ "((?:[^"\\]|\\.)*)",\s*/\* \.template_str=? \*/ (?:U8C\()?((?:\s*(?:u8)?"(?:[^"\\]|\\.)*")+)', source):
        parts = re.findall(r'"((?:[^"\\]|\\.)*)"', m[2])
        found[m[1]] = "".join(json.loads('"' + p.replace("\\'", "'") + '"') for p in parts)
    for m in re.finditer(r'^\t"?([^"\n:]+|[^"\n]+)"?: \{\n(?:\t\t//[^\n]*\n)*\t\tchat_template: ?`((?:[^`\\]|\\.)*)`', open(e2e, encoding="utf-8").read(), flags=re.M):
        found.setdefault(m[1], re.sub(r"\\(.)", lambda x: {"n": "\n", "t": "\t"}.get(x[1], x[1]), m[2], flags=re.S))
    for path, strip in ((os.path.join(llama_cpp, "models/templates"), False), (folder, True)):
        for name in sorted(os.listdir(path)):
            if name.endswith(".jinja"):
                t = open(os.path.join(path, name), encoding="utf-8").read()
                found.setdefault(name[:-6], t.replace("    ", "").replace("\n", "") if strip else t)  # that folder's README says to do so
    if set(KNOWN) - set(found):
        sys.exit(f"not found: {set(KNOWN) - set(found)}; there are {list(found)}")
    known = {found[n] for n in KNOWN}
    keep = {n: t for n, t in found.items() if n in KNOWN or (len(t) < 4000 and t not in known)}
    store(keep)


def short_text(r):
    """Words, ends of white space, Chinese, what looks like a template's own marks."""
    parts = ["hi", "The quick brown fox", "你好，世界", "\n\n", "  ", "\t", "\u3000", "\u00a0", "[INST]", "</think>", "<think>hm</think>", "{{ x }}", "'\"\\", "é", "😀",
             "<<SYS>>", "### Response:", "a\nb", "system", "\u2028", "\x1c"]
    return "".join(r.choice(parts) for _ in range(r.randrange(0, 5)))


def plain_conversation(r):
    c = [("system", short_text(r))] if r.randrange(2) else []
    for i in range(r.randrange(1, 6)):
        role = ROLES[1 + i % 2] if r.randrange(12) else r.choice(ROLES)
        c.append((role, short_text(r) or ("x" if role == "assistant" else "")))
    if c[-1][0] == "assistant":
        c.append(("user", short_text(r)))
    return c


def write_forms():
    """Number of templates; each: its name here, its own name, its text, bos, eos, number of cases; each: messages (number; role, text), then 1
    and the text, or 0 where the template raises an error."""
    from jinja2.exceptions import TemplateError
    r = random.Random(11)
    stored = stored_templates()
    out = [u32(len(stored))]
    for own, template in stored.items():
        name = KNOWN.get(own, "")
        bos, eos = TOKENS.get(name, ("<s>", "</s>"))
        cases = [plain_conversation(r) for _ in range(24)] if name else []
        out += [text(name), text(own), text(template), text(bos), text(eos), u32(len(cases))]
        jinja = jinja_of(template) if name else None
        for c in cases:
            out.append(u32(len(c)))
            for role, t in c:
                out += [u32(ROLES.index(role)), text(t)]
            messages = [{"role": role, "content": t} for role, t in c]
            try:
                rendered = jinja.render(messages=messages, add_generation_prompt=True, bos_token=bos, eos_token=eos, USE_DEFAULT_PROMPT=False)
                out += [u32(1), text(rendered)]
            except TemplateError:
                out.append(u32(0))
    write("../chat/forms.gz", b"".join(out))


# ---- the blocks that a template may be made of ----

BLOCK = r"\{\{(?:'(?:\\.|[^'\\])*'|(?!\}\}).)*\}\}|\{%(?:'(?:\\.|[^'\\])*'|(?!%\}).)*%\}|(?:(?!\{[{%]).)+"


def spelling(template):
    """As frontend/chat/recognise.c brings a template to one spelling."""
    out, at = "", 0
    while at < len(template):
        kind = template[at + 1:at + 2]
        if template[at] != "{" or kind not in ("{", "%", "#"):
            out, at = out + template[at], at + 1
            continue
        minus = template[at + 2:at + 3] == "-"
        if minus:
            out = out.rstrip()
        elif kind != "{":
            out = re.sub(r"(^|\n)[ \t]*\Z", r"\1", out)
        at += 2 + (minus or template[at + 2:at + 3] == "+")
        close = {"{": "}}", "%": "%}", "#": "#}"}[kind]
        m = re.compile(r"((?:.)*?)(-?)#\}" if kind == "#" else r"((?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^'\"])*?)(-?)" + close, flags=re.S).match(template, at)
        out, at = out + ("" if kind == "#" else "{" + kind + respell(m[1]) + close), m.end()
        if m[2]:
            at += len(template[at:]) - len(template[at:].lstrip())
        elif kind != "{" and template[at:at + 1] == "\n":
            at += 1
    return out


def respell(code):
    out = ""
    for m in re.finditer(r"\[(['\"])(\w+)\1\]|(['\"])((?:\\.|(?!\3).)*)\3|\s+|.", code, flags=re.S):
        if m[2]:
            out += "." + m[2]
        elif m[3]:
            out += "'" + re.sub(r"\\.|'|\n", lambda x: {"'": "\\'", "\n": "\\n"}.get(x[0], x[0]), m[4], flags=re.S) + "'"
        elif not m[0].isspace():
            out += m[0]
    return out


def write_blocks():
    """Which blocks stand in the known templates, by template; those that print nothing and stand in several go for all."""
    of = {}
    for own, template in stored_templates().items():
        for block in re.findall(BLOCK, spelling(template), flags=re.S) if own in KNOWN else []:
            if not re.fullmatch(r"\{\{(?:raise_exception\('(?:\\.|[^'\\])*'\)|'<\|im_start\|>system\\n(?:\\.|[^'\\])+')\}\}", block):
                of.setdefault(block, set()).add(KNOWN[own])
    rows = {}
    for block, names in of.items():
        for name in [""] if block.startswith("{%") and len(names) > 1 else names:
            rows.setdefault(name, []).append(json.dumps(block, ensure_ascii=False))
    text = ("/* blocks.def: the blocks that chat templates of checkpoints are made of, in the spelling of recognise.c, by the template that they are known to\n"
            " * be; those under \"\" print nothing and may stand in any. Made by tests/oracle/chat.py blocks from the templates that it collected. */\n")
    for name in sorted(rows):
        line = f'BLOCKS({json.dumps(name)},'
        for block in sorted(rows[name]):
            if len(line) + len(block) > 180:
                text += line + "\n"
                line = "      "
            line += " " + block + ","
        text += line[:-1] + ")\n"
    with open(os.path.join(HERE, "..", "..", "..", "frontend", "chat", "blocks.def"), "w", encoding="utf-8") as f:
        f.write(text + "#undef BLOCKS\n")


# ---- the Aquila templates ----

def module_of(path):
    spec = importlib.util.spec_from_file_location("conversation", path)
    m = importlib.util.module_from_spec(spec)
    sys.modules["conversation"] = m
    spec.loader.exec_module(m)
    return m


def write_aquila(conversation, cyg):
    """Number of cases; each: template, 1 and the system text or 0, 1 and the instruction or 0, messages (number; role, text), the text. A system
    text takes the place of the template's own sentences: the two line ends behind those, which FlagAI counts to them, stay."""
    two, one = module_of(conversation), module_of(cyg)
    r, out, n = random.Random(7), [], 0
    for name in ("aquila-chat", "aquila", "aquila-legacy", "aquila-v1", "aquila-v2", "bair_v1"):
        for turns in list(range(6)) * 8:
            old = name == "bair_v1" or (name == "aquila-chat" and r.randrange(2))
            c = one.conv_templates["bair_v1" if name == "bair_v1" else "v1"].copy() if old else two.get_conv_template(name)
            system = short_text(r) if r.randrange(3) == 0 else ""
            instruction = short_text(r) if old and r.randrange(2) else ""
            if system and old:
                c.system = system
            elif system:
                c.system_message = system + ("\n\n" if name in ("aquila-legacy", "aquila-v2") else "")
            if instruction:
                c.instruction = instruction
            first = r.randrange(6) == 0  # an answer may come first: separators go by position
            messages = [(1 + (i + first) % 2, short_text(r)) for i in range(turns)]
            for role, t in messages:
                c.append_message(c.roles[role - 1], t)
            if not messages or messages[-1] != (2, ""):
                c.append_message(c.roles[1], None)
            n += 1
            out.append(text(name))
            out += [u32(1), text(system)] if system else [u32(0)]
            out += [u32(1), text(instruction)] if instruction else [u32(0)]
            out.append(u32(len(messages)))
            for role, t in messages:
                out += [u32(role), text(t)]
            out.append(text(c.get_prompt()))
    write("../chat/aquila.gz", u32(n) + b"".join(out))


if __name__ == "__main__":
    does = {"chatml": (write_chatml, 1), "collect": (collect, 3), "add": (add_template, 2), "forms": (write_forms, 0), "blocks": (write_blocks, 0), "aquila": (write_aquila, 2)}
    if len(sys.argv) < 2 or sys.argv[1] not in does or len(sys.argv) - 2 != does[sys.argv[1]][1]:
        sys.exit(__doc__)
    does[sys.argv[1]][0](*sys.argv[2:])
