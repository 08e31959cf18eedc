#!/usr/bin/env python3
"""A small encoder of the BERT kind with random weights and a WordPiece vocabulary, and what it says of a text by numpy alone.

    tests/models/tiny_bert.py FILE.gguf mean|cls

The same weights every time.
"""

import sys
import unicodedata

import gguf
import numpy

EMBD, LAYERS, HEADS, FF, CONTEXT, EPS = 64, 2, 4, 128, 128, 1e-12
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
WORDS = ["the", "ship", "dog", "runs", "walk", "park", "market", "fell", "quick", "##ing", "##ed", "##ly", ".", ",", "?", "!", "'"]
TOKENS = SPECIAL + list(LETTERS) + ["##" + letter for letter in LETTERS] + WORDS
IDS = {token: at for at, token in enumerate(TOKENS)}


def pieces(text):
    """WordPiece as its authors wrote it: lower case without accents, cut at blanks and signs, the longest pieces first."""
    text = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    spread = "".join(f" {c} " if not c.isalnum() and not c.isspace() else c for c in text)
    out = [IDS["[CLS]"]]
    for word in spread.split():
        found, at = [], 0
        while at < len(word):
            end = next((end for end in range(len(word), at, -1) if ("##" if at else "") + word[at:end] in IDS), None)
            if end is None:
                found = [IDS["[UNK]"]]
                break
            found.append(IDS[("##" if at else "") + word[at:end]])
            at = end
        out += found
    return out + [IDS["[SEP]"]]


def weights():
    random = numpy.random.default_rng(5)
    tensors = {}

    def add(name, *shape):
        tensors[name] = (random.standard_normal(shape) / numpy.sqrt(shape[-1])).astype(numpy.float32)

    def norm(name):
        tensors[name + ".weight"] = (1 + 0.1 * random.standard_normal(EMBD)).astype(numpy.float32)
        tensors[name + ".bias"] = (0.1 * random.standard_normal(EMBD)).astype(numpy.float32)

    add("token_embd.weight", len(TOKENS), EMBD)
    add("token_types.weight", 2, EMBD)
    add("position_embd.weight", CONTEXT, EMBD)
    norm("token_embd_norm")
    for layer in range(LAYERS):
        for part, rows, columns in (("attn_q", EMBD, EMBD), ("attn_k", EMBD, EMBD), ("attn_v", EMBD, EMBD), ("attn_output", EMBD, EMBD),
                                    ("ffn_up", FF, EMBD), ("ffn_down", EMBD, FF)):
            add(f"blk.{layer}.{part}.weight", rows, columns)
            add(f"blk.{layer}.{part}.bias", rows)
        norm(f"blk.{layer}.attn_output_norm")
        norm(f"blk.{layer}.layer_output_norm")
    return tensors


def vector(tokens, pooling):
    """Of length one, as an encoder with these weights gives it."""
    t = weights()

    def norm(x, name):
        return (x - x.mean(-1, keepdims=True)) / numpy.sqrt(x.var(-1, keepdims=True) + EPS) * t[name + ".weight"] + t[name + ".bias"]

    def linear(x, name):
        return x @ t[name + ".weight"].T + t[name + ".bias"]

    def heads(x):
        return x.reshape(len(tokens), HEADS, EMBD // HEADS).transpose(1, 0, 2)

    x = norm(t["token_embd.weight"][tokens] + t["token_types.weight"][0] + t["position_embd.weight"][: len(tokens)], "token_embd_norm")
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        q, k, v = (heads(linear(x, name + part)) for part in ("attn_q", "attn_k", "attn_v"))
        scores = q @ k.transpose(0, 2, 1) / numpy.sqrt(EMBD // HEADS)
        scores = numpy.exp(scores - scores.max(-1, keepdims=True))
        seen = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(tokens), EMBD)
        x = norm(x + linear(seen, name + "attn_output"), name + "attn_output_norm")
        up = linear(x, name + "ffn_up")
        up = 0.5 * up * (1 + numpy.tanh(numpy.sqrt(2 / numpy.pi) * (up + 0.044715 * up**3)))
        x = norm(x + linear(up, name + "ffn_down"), name + "layer_output_norm")
    pooled = x.mean(0) if pooling == "mean" else x[0]
    return pooled / numpy.linalg.norm(pooled)


def write(path, pooling):
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBD)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(EPS)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN if pooling == "mean" else gguf.PoolingType.CLS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("bert")
    # In GGUF a piece that begins a word has a mark and one that goes on has none: the other way about.
    writer.add_token_list([token if token in SPECIAL else token[2:] if token.startswith("##") else "\u2581" + token for token in TOKENS])
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in TOKENS])
    writer.add_token_type_count(2)
    for name, token in (("unk", "[UNK]"), ("sep", "[SEP]"), ("pad", "[PAD]"), ("bos", "[CLS]"), ("mask", "[MASK]")):
        getattr(writer, f"add_{name}_token_id")(IDS[token])
    for name, tensor in weights().items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in ("mean", "cls"):
        sys.exit(__doc__)
    write(*sys.argv[1:])
