#!/usr/bin/env python3
"""rope_gguf.py: scaled rotary positions through GGUF, beside llama.cpp and transformers. Packages: torch, transformers 5, safetensors, numpy, gguf.

    rope_gguf.py PROGRAM LLAMA_CPP    LLAMA_CPP: its source, with build/bin/libllama.so; a C compiler as cc

For each kind of rope_forms.py that GGUF can hold:
  1 llama.cpp's convert_hf_to_gguf.py makes a bf16 file of the folder: stored as tests/data/forms/rope-NAME.gguf, with transformers' logits in rope.json,
    for those of STORED (it loses mscale, truncate, and an original length that stands beside the others)
  2 llama.cpp runs that file in f32, and the file that `PROGRAM convert` makes of the folder, which says that it has no tokenizer: relative L2 of its logits to transformers' (llama.cpp keeps
    beta_slow, beta_fast, attention_factor and truncate of architecture llama at their usual values: of its own converter's file they may be far off)
  3 `PROGRAM convert` makes a folder of the file of 1: transformers' logits of it
"""
import ctypes, json, logging, os, subprocess, sys, tempfile
import numpy as np
import torch
from transformers import LlamaForCausalLM

from rope_forms import KINDS
from torch_forms import DATA, FORMS, ids_of

STORED = ("llama3", "llama3-wide", "llama3-new", "yarn", "yarn-betas")
RUN = r"""
#include "llama.h"
#include <stdio.h>
#include <stdlib.h>
static void quiet(enum ggml_log_level l, const char *t, void *u) { (void)u; if (l == GGML_LOG_LEVEL_ERROR) fputs(t, stderr); }
int main(int n_args, char **args) {
    llama_log_set(quiet, NULL);
    struct llama_model_params m = llama_model_default_params();
    struct llama_model *model = llama_model_load_from_file(args[1], m);
    struct llama_context_params c = llama_context_default_params();
    c.n_ctx = 128, c.n_batch = c.n_ubatch = 128, c.n_threads = 1, c.type_k = c.type_v = GGML_TYPE_F32, c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *context = model ? llama_init_from_model(model, c) : NULL;
    llama_token ids[128];
    int n = n_args - 2;
    for (int i = 0; i < n; i++)
        ids[i] = atoi(args[i + 2]);
    if (!context || llama_decode(context, llama_batch_get_one(ids, n)))
        return 1;
    for (int i = 0; i < 32; i++)
        printf("%.9g\n", llama_get_logits_ith(context, n - 1)[i]);
    return 0;
}
"""


def converted(source, folder, out, kind):
    """convert_hf_to_gguf.py without a tokenizer."""
    import gguf
    logging.disable(logging.CRITICAL)
    from conversion.llama import LlamaModel
    class Plain(LlamaModel):
        model_arch = gguf.MODEL_ARCH.LLAMA
        def set_vocab(self):
            self.gguf_writer.add_tokenizer_model("no_vocab")
            self.gguf_writer.add_vocab_size(32)
    from pathlib import Path
    with torch.inference_mode():
        Plain(Path(folder), kind, Path(out), hparams=None).write()


def llama_cpp(run, path, ids):
    r = subprocess.run([run, path, *map(str, ids)], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"llama.cpp on {path}: {r.stderr}")
    return np.array([float(x) for x in r.stdout.split()])


def transformers(folder, ids):
    model = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).double().eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].numpy()


def main(program, source):
    sys.path[:0] = [source, os.path.join(source, "gguf-py")]
    import gguf
    reference = json.load(open(os.path.join(DATA, "rope.json")))
    with tempfile.TemporaryDirectory() as d:
        run, lib = os.path.join(d, "run"), os.path.join(source, "build/bin")
        subprocess.run(["cc", "-x", "c", "-", "-o", run, "-I", os.path.join(source, "include"), "-I", os.path.join(source, "ggml/include"), "-L", lib, "-lllama", "-lggml", "-lggml-base",
                        f"-Wl,-rpath,{lib}", f"-Wl,-rpath-link,{lib}"], input=RUN, text=True, check=True)
        for name, (keys, n) in KINDS.items():
            folder, stored = os.path.join(FORMS, "rope-" + name), os.path.join(FORMS, f"rope-{name}.gguf")
            want, ids = np.array(reference[name]["logits"]), ids_of(n, 32)
            error = lambda x: np.linalg.norm(x - want) / np.linalg.norm(want)
            paths = {k: os.path.join(d, f"{name}-{k}") for k in ("theirs.gguf", "ours.gguf", "back")}
            if (keys.get("rope_parameters") or {}).get("factor", 1) is None:  # the converter leaves it out then
                continue
            if name in STORED:
                converted(source, folder, stored, gguf.LlamaFileType.MOSTLY_BF16)
                reference[name + ".gguf"] = {**reference[name], "folder": f"rope-{name}.gguf"}
            converted(source, folder, paths["theirs.gguf"], gguf.LlamaFileType.ALL_F32)
            subprocess.run([program, "convert", folder, "-o", paths["ours.gguf"], "--weights-type", "f32"], check=True, capture_output=True)
            subprocess.run([program, "convert", paths["theirs.gguf"], "-o", paths["back"]], check=True, capture_output=True)
            print(f"{name:12} llama.cpp on its file {error(llama_cpp(run, paths['theirs.gguf'], ids)):.1e}, on ours {error(llama_cpp(run, paths['ours.gguf'], ids)):.1e}; "
                  f"transformers on the folder that is made of its file {error(transformers(paths['back'], ids)):.1e}")
    with open(os.path.join(DATA, "rope.json"), "w") as f:
        json.dump(reference, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
