#!/usr/bin/env python3
"""Writes small models with random weights, one for each way of remembering that the prefix cache has to know.

    tests/models/make_tiny_models.py FOLDER

full.gguf       plain attention (llama)
swa.gguf        sliding windows of 128 tokens in three layers of four (gemma3)
recurrent.gguf  a state instead of attention (mamba)
hybrid.gguf     both (lfm2)

They know bytes for tokens and talk nonsense, but what they say depends on every token before it. The same weights every time.
"""

import sys
from pathlib import Path

import gguf
import numpy

EMBD, LAYERS, HEADS, KV_HEADS, FF, CONTEXT = 64, 4, 4, 2, 128, 4096
HEAD = EMBD // HEADS


def vocabulary(writer):
    tokens = ["<unk>", "<s>", "</s>", "\u2581"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.NORMAL] + [gguf.TokenType.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    return len(tokens)


class Model:
    def __init__(self, path, arch, seed):
        self.random = numpy.random.default_rng(seed)
        self.writer = gguf.GGUFWriter(path, arch)
        self.writer.add_block_count(LAYERS)
        self.writer.add_context_length(CONTEXT)
        self.writer.add_embedding_length(EMBD)
        self.writer.add_feed_forward_length(FF)
        self.writer.add_layer_norm_rms_eps(1e-5)
        self.writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        self.vocab = vocabulary(self.writer)
        self.add("token_embd.weight", self.vocab, EMBD, scale=1.0)

    def add(self, name, *shape, scale=None):
        scale = scale or 1.5 / numpy.sqrt(shape[-1])
        self.writer.add_tensor(name, (self.random.standard_normal(shape) * scale).astype(numpy.float32))

    def ones(self, name, *shape, value=1.0):
        self.writer.add_tensor(name, numpy.full(shape, value, dtype=numpy.float32))

    def attention(self, layer, norms):
        self.add(f"blk.{layer}.attn_q.weight", EMBD, EMBD, scale=3 / numpy.sqrt(EMBD))
        self.add(f"blk.{layer}.attn_k.weight", KV_HEADS * HEAD, EMBD, scale=3 / numpy.sqrt(EMBD))
        self.add(f"blk.{layer}.attn_v.weight", KV_HEADS * HEAD, EMBD)
        self.add(f"blk.{layer}.attn_output.weight", EMBD, EMBD)
        if norms:
            self.ones(f"blk.{layer}.attn_q_norm.weight", HEAD)
            self.ones(f"blk.{layer}.attn_k_norm.weight", HEAD)

    def feed_forward(self, layer):
        self.ones(f"blk.{layer}.ffn_norm.weight", EMBD)
        self.add(f"blk.{layer}.ffn_gate.weight", FF, EMBD)
        self.add(f"blk.{layer}.ffn_up.weight", FF, EMBD)
        self.add(f"blk.{layer}.ffn_down.weight", EMBD, FF)

    def heads(self, kv_heads=KV_HEADS):
        self.writer.add_head_count(HEADS)
        self.writer.add_head_count_kv(kv_heads)
        self.writer.add_key_length(HEAD)
        self.writer.add_value_length(HEAD)
        self.writer.add_rope_dimension_count(HEAD)
        self.writer.add_rope_freq_base(10000.0)

    def write(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def full(path):
    model = Model(path, "llama", 1)
    model.heads()
    model.writer.add_vocab_size(model.vocab)
    model.ones("output_norm.weight", EMBD)
    model.add("output.weight", model.vocab, EMBD)
    for layer in range(LAYERS):
        model.ones(f"blk.{layer}.attn_norm.weight", EMBD)
        model.attention(layer, norms=False)
        model.feed_forward(layer)
    model.write()


def swa(path):
    model = Model(path, "gemma3", 2)
    model.heads()
    model.writer.add_sliding_window(128)
    model.ones("output_norm.weight", EMBD)
    for layer in range(LAYERS):
        model.ones(f"blk.{layer}.attn_norm.weight", EMBD)
        model.ones(f"blk.{layer}.post_attention_norm.weight", EMBD)
        model.ones(f"blk.{layer}.post_ffw_norm.weight", EMBD)
        model.attention(layer, norms=True)
        model.feed_forward(layer)
    model.write()


def recurrent(path):
    inner, state, rank, kernel = 2 * EMBD, 16, 4, 4
    model = Model(path, "mamba", 3)
    model.writer.add_head_count(0)
    model.writer.add_ssm_conv_kernel(kernel)
    model.writer.add_ssm_inner_size(inner)
    model.writer.add_ssm_state_size(state)
    model.writer.add_ssm_time_step_rank(rank)
    model.ones("output_norm.weight", EMBD)
    model.add("output.weight", model.vocab, EMBD)
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        model.ones(name + "attn_norm.weight", EMBD)
        model.add(name + "ssm_in.weight", 2 * inner, EMBD)
        model.add(name + "ssm_conv1d.weight", inner, kernel)
        model.add(name + "ssm_conv1d.bias", inner, scale=0.1)
        model.add(name + "ssm_x.weight", rank + 2 * state, inner)
        model.add(name + "ssm_dt.weight", inner, rank)
        model.add(name + "ssm_dt.bias", inner, scale=0.1)
        model.ones(name + "ssm_a", inner, state, value=-0.05)
        model.ones(name + "ssm_d", inner)
        model.add(name + "ssm_out.weight", EMBD, inner)
    model.write()


def hybrid(path):
    model = Model(path, "lfm2", 4)
    model.heads([0, KV_HEADS, 0, KV_HEADS])
    model.writer.add_shortconv_l_cache(3)
    model.writer.add_vocab_size(model.vocab)
    model.ones("token_embd_norm.weight", EMBD)
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        model.ones(name + "attn_norm.weight", EMBD)
        model.feed_forward(layer)
        if layer % 2:
            model.attention(layer, norms=True)
        else:
            model.add(name + "shortconv.conv.weight", EMBD, 3)
            model.add(name + "shortconv.in_proj.weight", 3 * EMBD, EMBD)
            model.add(name + "shortconv.out_proj.weight", EMBD, EMBD)
    model.write()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (full, swa, recurrent, hybrid):
        make(str(folder / f"{make.__name__}.gguf"))


main()
