"""Our networks in PyTorch, with random weights or with those of our model, and a beam search for the recurrent ones.

    rnn_attention         RecurrentTranslator     copy_translator copies the weights of a model of ours
    show_attend_and_tell  RecurrentCaptioner      copy_captioner; only with a MobileNet, batch normalization folded
    transformer_tiny      TransformerTranslator; in decoding MarianMTModel of transformers, see copy_transformer

The networks have the sizes and the numbers of parameters of ours, except for biases.
"""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np

sys.modules["triton"] = None  # with Triton, PyTorch and TensorFlow crash in the same process
import torch  # noqa: E402
from torch import nn  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Search:
    """The options of a beam search, as in `keras_attention.BeamSearch`, and the special tokens."""

    start: int
    end: int
    suppress_tokens: tuple[int, ...]
    num_beams: int
    length_penalty: float
    min_new_tokens: int
    max_new_tokens: int

    def normalize(self, log_prob: float, length: int) -> float:
        """Return the final score of a hypothesis; the length includes the end token."""
        return log_prob / ((5 + length) / 6) ** self.length_penalty


class AdditiveAttention(nn.Module):
    """context = softmax(v' tanh(W query + U memory)) memory."""

    def __init__(self, query_width: int, memory_width: int, units: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Linear(width, units, bias=False) for width in (query_width, memory_width))
        self.vector = nn.Linear(units, 1, bias=False)

    def forward(self, query, keys, memory, mask=None):
        """Return the context (B, M) and the scores (B, S) for a query (B, E)."""
        logits = self.vector(torch.tanh(self.query(query)[:, None] + keys)).squeeze(-1)
        scores = torch.softmax(logits if mask is None else logits.masked_fill(~mask, -1e30), -1)
        return torch.bmm(scores[:, None], memory).squeeze(1), scores


class RecurrentNetwork(nn.Module):
    """The loops over the steps of a decoder with an attention, in training and in a beam search.

    A subclass has `embed` (tokens -> embeddings), `begin` (inputs -> tensors that each step reads, and the states
    before the first step), `step` (one embedding (B, E), both results of `begin` -> output, states, attention scores)
    and `logits` (outputs -> logits). Axis 0 of each tensor is the batch.
    """

    def forward(self, targets, *inputs):
        """Return the logits (B, T, V) and the attention scores (B, T, S) for targets shifted right (B, T)."""
        (constants, states), outputs, attention_scores = self.begin(*inputs), [], []
        for word in self.dropout(self.embed(targets)).unbind(1):
            output, states, scores = self.step(word, constants, states)
            outputs.append(output)
            attention_scores.append(scores)
        return self.logits(self.dropout(torch.stack(outputs, 1))), torch.stack(attention_scores, 1)

    @torch.inference_mode()
    def generate(self, search: Search, *inputs) -> list[list[int]]:
        """Return the tokens of the best hypothesis of each row, without the end token."""
        constants, states = ([x.repeat_interleave(search.num_beams, 0) for x in part] for part in self.begin(*inputs))
        batch, beams, limit = len(states[0]) // search.num_beams, search.num_beams, search.max_new_tokens
        totals, tokens = torch.full((batch, beams), -1e9), torch.full((batch * beams, 1), search.start)
        totals[:, 0] = 0
        best: list[tuple[float, list[int]]] = [(-math.inf, [])] * batch
        for t in range(1, limit + 1):
            outputs, states, _ = self.step(self.embed(tokens[:, -1]), constants, states)
            log_probs = self._log_probs(outputs, search, t).view(batch, beams, -1) + totals[..., None]
            values, indices = log_probs.flatten(1).topk(2 * beams)
            parents, words = indices // log_probs.shape[-1], indices % log_probs.shape[-1]
            ends, rows = words == search.end, torch.arange(batch)[:, None] * beams + parents
            for b, k in torch.argwhere(ends[:, :beams]).tolist():
                score = search.normalize(float(values[b, k]), t)
                best[b] = max(best[b], (score, tokens[rows[b, k]].tolist()[1:]), key=lambda pair: pair[0])
            totals, order = values.masked_fill(ends, -2e9).topk(beams)
            selected = rows.gather(1, order).flatten()
            tokens = torch.cat([tokens[selected], words.gather(1, order).view(-1, 1)], 1)
            states = [state[selected] for state in states]
            bounds = [search.normalize(total, limit) for total in totals[:, 0].tolist()]
            if all(bound <= score for bound, (score, _) in zip(bounds, best, strict=True)):
                return [ids for _, ids in best]
        for b, bound in enumerate(bounds):  # a hypothesis of maximum length needs no end token
            best[b] = max(best[b], (bound, tokens[b * beams].tolist()[1:]), key=lambda pair: pair[0])
        return [ids for _, ids in best]

    def _log_probs(self, outputs, search: Search, t: int):
        log_probs = torch.log_softmax(self.logits(outputs), -1)
        log_probs[:, list(search.suppress_tokens)] = -1e9
        if t <= search.min_new_tokens:
            log_probs[:, search.end] = -1e9
        return log_probs


class RecurrentTranslator(RecurrentNetwork):
    """`rnn_attention`: a bidirectional LSTM, and an LSTM cell with input feeding and additive attention."""

    def __init__(self, vocabulary_size: int, embedding_dim: int, units: int, dropout: float) -> None:
        super().__init__()
        memory = units + embedding_dim  # the output of the encoder and the embedding of each token
        self.source, self.target = (nn.Embedding(vocabulary_size, embedding_dim) for _ in range(2))
        self.encoder = nn.LSTM(embedding_dim, units // 2, bidirectional=True, batch_first=True)
        self.bridge = nn.ModuleList([nn.Linear(units, units) for _ in range(2)])
        self.cell = nn.LSTMCell(2 * embedding_dim, units)
        self.attention = AdditiveAttention(units, memory, units)
        self.output = nn.Linear(units + memory, embedding_dim)
        self.dropout = nn.Dropout(dropout)

    def embed(self, tokens):
        return self.target(tokens)

    def begin(self, ids, mask):
        embedded = self.source(ids)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(embedded), mask.sum(1), batch_first=True, enforce_sorted=False
        )
        outputs, final = self.encoder(packed)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=ids.shape[1])
        memory = torch.cat([self.dropout(outputs), embedded], -1)
        both = [torch.cat([state[0], state[1]], -1) for state in final]
        hidden, cell = (torch.tanh(bridge(state)) for bridge, state in zip(self.bridge, both, strict=True))
        feed = torch.zeros(len(ids), embedded.shape[-1])
        return (self.attention.key(memory), memory, mask), (hidden, cell, feed)

    def step(self, word, constants, states):
        hidden, cell, feed = states
        hidden, cell = self.cell(torch.cat([word, feed], -1), (hidden, cell))
        context, scores = self.attention(hidden, *constants)
        feed = torch.tanh(self.output(torch.cat([hidden, context], -1)))
        return feed, (hidden, cell, feed), scores

    def logits(self, outputs):
        return outputs @ self.target.weight.T


class RecurrentCaptioner(RecurrentNetwork):
    """`show_attend_and_tell`: convolutions, and an LSTM cell after an additive attention to the regions.

    With cached regions instead of images, `begin` does not run the convolutions.
    """

    def __init__(
        self, convolutions, channels: int, vocabulary_size: int, embedding_dim: int, units: int, dropout
    ) -> None:
        super().__init__()
        self.convolutions, self.embedding = convolutions, nn.Embedding(vocabulary_size, embedding_dim)
        self.bridge = nn.ModuleList([nn.Linear(channels, units) for _ in range(2)])
        self.attention, self.gate = AdditiveAttention(embedding_dim + units, channels, units), nn.Linear(units, 1)
        self.cell = nn.LSTMCell(embedding_dim + channels, units)
        self.output = nn.Linear(embedding_dim + units + channels, embedding_dim)
        self.logits = nn.Linear(embedding_dim, vocabulary_size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def embed(self, tokens):
        return self.embedding(tokens)

    def begin(self, images):
        regions = images
        if images.ndim == 4:
            grid = self.convolutions((images / 127.5 - 1).permute(0, 3, 1, 2))
            regions = grid.flatten(2).transpose(1, 2)
        hidden, cell = (torch.tanh(bridge(regions.mean(1))) for bridge in self.bridge)
        return (self.attention.key(regions), regions), (hidden, cell)

    def step(self, word, constants, states):
        hidden, cell = states
        context, scores = self.attention(torch.cat([word, hidden], -1), *constants)
        context = context * torch.sigmoid(self.gate(hidden))
        hidden, cell = self.cell(torch.cat([word, context], -1), (hidden, cell))
        return torch.tanh(self.output(torch.cat([word, hidden, context], -1))), (hidden, cell), scores


class TransformerTranslator(nn.Module):
    """`transformer_tiny`, for sequences of one length."""

    def __init__(self, vocabulary_size: int, length: int, width: int, num_heads: int, num_layers: int, *sizes) -> None:
        super().__init__()
        self.width, dropout = width, sizes[-1]
        self.embedding, self.dropout = nn.Embedding(vocabulary_size, width), nn.Dropout(dropout)
        self.transformer = nn.Transformer(width, num_heads, num_layers, num_layers, *sizes, batch_first=True)
        angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
        self.positions = torch.cat([angles.sin(), angles.cos()], 1)
        self.causal = nn.Transformer.generate_square_subsequent_mask(length, dtype=torch.bool)

    def embed(self, ids):
        return self.dropout(self.embedding(ids) * self.width**0.5 + self.positions)

    def forward(self, targets, ids, mask):
        masks = {"src_key_padding_mask": ~mask, "memory_key_padding_mask": ~mask, "tgt_mask": self.causal}
        outputs = self.transformer(self.embed(ids), self.embed(targets), **masks, tgt_is_causal=True)
        return outputs @ self.embedding.weight.T, None


def copy_translator(model) -> RecurrentTranslator:
    """Return the network of a `Translator` with the config of `rnn_attention`."""
    config, decoder = model.config, model.decoder
    network = RecurrentTranslator(
        config.target_vocabulary_size, config.embedding_dim, config.units, config.dropout
    ).eval()
    for ours, other in ((model.source_embedding, network.source), (model.target_embedding, network.target)):
        other.weight = _parameter(ours.embeddings)
    both = model.encoder.recurrent_layers[0]
    _copy_cell(both.forward_layer.cell, network.encoder, "_l0")
    _copy_cell(both.backward_layer.cell, network.encoder, "_l0_reverse")
    _copy_decoder(decoder, network)
    return network


def copy_captioner(model) -> RecurrentCaptioner:
    """Return the network of a `Captioner` with a MobileNet and the config of `show_attend_and_tell`."""
    config, encoder = model.config, model.image_encoder
    sizes = (encoder.channels, config.vocabulary_size, config.embedding_dim, config.units, config.dropout)
    network = RecurrentCaptioner(_mobilenet(encoder.network), *sizes).eval()
    embedding = model.embedding
    network.embedding.weight = _parameter(embedding.embeddings)
    tied = network.embedding.weight if config.tie_weights else _parameter(np.array(embedding.reverse_embeddings).T)
    network.logits.weight = tied
    _copy_dense(model.decoder.gate, network.gate)
    _copy_decoder(model.decoder, network)
    return network


def copy_transformer(model):
    """Return the network of a `Translator` with the config of `transformer_tiny`, as a model of transformers."""
    import transformers

    config = model.config
    sides = {"layers": config.num_layers, "attention_heads": config.num_heads, "ffn_dim": config.intermediate_dim}
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sides.items()}
    network = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=config.target_vocabulary_size,
            d_model=config.width,
            activation_function=config.activation,
            max_position_embeddings=config.max_length,
            pad_token_id=0,
            eos_token_id=0,
            decoder_start_token_id=0,
            scale_embedding=True,
            share_encoder_decoder_embeddings=True,
            tie_word_embeddings=True,
            forced_eos_token_id=None,
            **sizes,
        )
    ).eval()
    network.model.shared.weight.data = _parameter(model.target_embedding.embeddings).data
    for ours, other in ((model.encoder, network.model.encoder), (model.decoder, network.model.decoder)):
        for block, layer in zip(ours.blocks, other.layers, strict=True):
            _copy_block(block, layer)
    return network


def _copy_block(block, layer: nn.Module) -> None:
    """Copy a block of a Transformer; Marian's projections have biases."""
    pairs = [(block.hidden, layer.fc1), (block.output_projection, layer.fc2)]
    norms = [(block.attention_norm, layer.self_attn_layer_norm), (block.feed_forward_norm, layer.final_layer_norm)]
    attentions = [(block.attention, layer.self_attn)]
    if block.cross_attention is not None:
        attentions.append((block.cross_attention, layer.encoder_attn))
        norms.append((block.cross_norm, layer.encoder_attn_layer_norm))
    for ours, other in attentions:
        pairs += [(ours.query_projection, other.q_proj), (ours.key_projection, other.k_proj)]
        pairs += [(ours.value_projection, other.v_proj), (ours.output_projection, other.out_proj)]
    for ours, other in pairs:
        other.bias.data.zero_()
        _copy_dense(ours, other)
    for ours, other in norms:
        gamma, beta = ours.get_weights()
        other.weight, other.bias, other.eps = _parameter(gamma), _parameter(beta), ours.epsilon


def _copy_decoder(decoder, network: RecurrentNetwork) -> None:
    for ours, other in zip(decoder.state_projections, network.bridge, strict=True):
        _copy_dense(ours, other)
    _copy_cell(decoder.cells[0], network.cell)
    _copy_dense(decoder.attention.query_projection, network.attention.query)
    _copy_dense(decoder.attention.key_projection, network.attention.key)
    network.attention.vector.weight = _parameter(np.array(decoder.attention.vector)[None])
    _copy_dense(decoder.output_projection, network.output)


def _copy_cell(cell, module: nn.Module, suffix: str = "") -> None:
    """Copy an LSTM; PyTorch has two biases, which it adds."""
    kernel, recurrent, bias = cell.get_weights()
    values = {"weight_ih": kernel.T, "weight_hh": recurrent.T, "bias_ih": bias, "bias_hh": np.zeros_like(bias)}
    for name, value in values.items():
        setattr(module, name + suffix, _parameter(value))


def _copy_dense(layer, linear: nn.Linear) -> None:
    kernel, *bias = layer.get_weights()
    linear.weight = _parameter(kernel.T)
    if bias:
        linear.bias = _parameter(bias[0])


def _parameter(value) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(value, "float32", order="C")))


def _mobilenet(network) -> nn.Sequential:
    """Return a Keras MobileNet as a PyTorch module, with batch normalization folded into the convolutions."""
    parts = []
    for layer in network.layers:
        kind = type(layer).__name__
        if kind == "ZeroPadding2D":
            parts.append(nn.ZeroPad2d((0, 1, 0, 1)))
        elif kind in ("DepthwiseConv2D", "Conv2D"):
            kernel, stride, same = layer.get_weights()[0], layer.strides[0], layer.padding == "same"
            depthwise = kind == "DepthwiseConv2D"
            kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
            groups, size = (len(kernel) if depthwise else 1), kernel.shape[-1]
            padding = size // 2 if same or layer.name == "conv1" else 0
            convolution = nn.Conv2d(kernel.shape[1] * groups, len(kernel), size, stride, padding, groups=groups)
            if layer.name == "conv1":  # Keras pads an even image only on the right and at the bottom
                parts.append(nn.ZeroPad2d((0, 1, 0, 1)))
                convolution.padding = (0, 0)
            convolution.weight = _parameter(kernel)
            parts.append(convolution)
        elif kind == "BatchNormalization":
            gamma, beta, mean, variance = layer.get_weights()
            scale = torch.from_numpy(gamma / np.sqrt(variance + layer.epsilon))
            parts[-1].weight.data *= scale[:, None, None, None]
            parts[-1].bias.data = torch.from_numpy(beta) - torch.from_numpy(mean) * scale
        elif kind == "ReLU":
            parts.append(nn.ReLU6())
    return nn.Sequential(*parts)
