"""make_chat.py: conversations and chat templates that are refused (600)."""
import json, os

from small import *


def said(messages, template="chatml"):
    """Arguments that render these messages (an object, or the file's text) and no more."""
    def make(folder):
        path = os.path.join(folder, "m.json")
        put(path, messages if isinstance(messages, bytes) else json.dumps(messages).encode())
        return ["run", "tests/data/micro_gguf.bin", "--messages", path, "-n", "0", "--template", template]
    return make


def turns(*roles):
    return [{"role": r, "content": "x"} for r in roles]


def make_601(d):
    g = Gguf()
    g.keys["tokenizer.chat_template"] = (STRING, string("{{ messages }}"))
    return ["run", g.save(d), "x", "-n", "0"]


make_602 = said(turns("system", "user"), "mistral-v0.2")
make_603 = said(turns("user", "system", "user"), "aquila")
make_604 = said(turns("user", "user"), "llama-2")
make_605 = said(turns("user", "user"), "none")
make_610 = said(b'[{"role": "user", "content": "\xff"}]')
make_611 = said(b'[{"role": "user", "content": "a\\u0000b"}]')
make_612 = said(b"[" + b"1," * 400000 + b"1]")
make_613 = said({"messages": []})
make_614 = said([])
make_615 = said([1])
make_616 = said(b'[{"role": "user", "content": "x", "content": "y"}]')
make_617 = said(turns("tool"))
make_618 = said([{"role": "assistant", "content": None, "tool_calls": []}])
