"""A language model over `torch.nn.LSTM` as tutorials write it, and the loops that they decode it with."""

import torch
from torch import Tensor, nn

from zoo.core import RecurrentDecoder
from zoo.decoding import SamplingOptions

PlainState = tuple[Tensor, Tensor]


class PlainLanguageModel(nn.Module):
    """Embedding → `nn.LSTM` → linear, with the weights of a `RecurrentDecoder` of `lstm` without anything more."""

    def __init__(self, decoder: RecurrentDecoder) -> None:
        super().__init__()
        core = decoder.core
        self.embedding = nn.Embedding.from_pretrained(decoder.embedding.tokens.weight.detach())
        self.lstm = nn.LSTM(core.input_size, core.hidden_size, core.num_layers, batch_first=True)
        self.lstm.load_state_dict(core.state_dict())
        self.output = nn.Linear(core.hidden_size, decoder.vocab_size)
        self.output.load_state_dict(decoder.output.state_dict())

    def forward(self, tokens: Tensor, state: PlainState | None = None) -> tuple[Tensor, PlainState]:
        """Tokens (B, T) -> logits of what follows the last, (B, V), state."""
        outputs, state = self.lstm(self.embedding(tokens), state)
        return self.output(outputs[:, -1]), state


@torch.inference_mode()
def generate(model: PlainLanguageModel, prompts: Tensor, count: int, options: SamplingOptions) -> Tensor:
    """Prompts (B, T) -> (B, count) tokens drawn."""
    logits, state = model(prompts)
    drawn = [draw(logits, options)]
    for _ in range(count - 1):
        logits, state = model(drawn[-1], state)
        drawn.append(draw(logits, options))
    return torch.cat(drawn, dim=1)


def draw(logits: Tensor, options: SamplingOptions) -> Tensor:
    """Logits (B, V) -> tokens (B, 1); filters set what they leave out to -inf, over the whole vocabulary."""
    if options.temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits / options.temperature
    if options.top_k is not None:
        worst = logits.topk(min(options.top_k, logits.shape[1])).values[:, -1:]
        logits = logits.masked_fill(logits < worst, -torch.inf)
    if options.top_p < 1:
        ordered, tokens = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        outside = probabilities.cumsum(dim=-1) - probabilities >= options.top_p
        logits = logits.masked_fill(outside.scatter(1, tokens, outside), -torch.inf)
    return torch.multinomial(logits.softmax(dim=-1), 1)


@torch.inference_mode()
def beam_search(model: PlainLanguageModel, prompt: Tensor, count: int, num_beams: int) -> tuple[Tensor, float]:
    """One prompt, (1, T) -> the likeliest continuation of `count` tokens that K beams find, (count,), and its log P."""
    logits, state = model(prompt)
    best, tokens = logits.log_softmax(dim=-1)[0].topk(num_beams)
    state = tuple(part.expand(-1, num_beams, -1).contiguous() for part in state)
    found = tokens[:, None]
    for _ in range(count - 1):
        logits, state = model(tokens[:, None], state)
        scores = best[:, None] + logits.log_softmax(dim=-1)
        best, place = scores.flatten().topk(num_beams)
        parent, tokens = place // scores.shape[1], place % scores.shape[1]
        state = tuple(part[:, parent] for part in state)
        found = torch.cat([found[parent], tokens[:, None]], dim=1)
    return found[0], float(best[0])
