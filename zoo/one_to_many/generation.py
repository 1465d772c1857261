"""From prompts to text: what the text generator and its n-gram baseline share."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from zoo.data.length_batches import evaluation_batches, pad
from zoo.data.tokenizer import TextTokenizer
from zoo.decoding import BeamOptions, Sampler, SamplingOptions, Stepper, beam_search, rows_at_once
from zoo.pretrained import evaluating

# Tokens that stand before a new one when it is turned into text: enough for any decoder's spacing, and for the
# bytes of one character of a byte-level vocabulary.
DECODING_CONTEXT = 8

# Prompts are continued so many of their tokens, padding included, at a time.
BATCH_TOKENS = 16_384


class _Row:
    """One text in the making: what of it was not handed out yet, and whether it has ended.

    Nothing that is kept grows with the text, which may have no end.
    """

    def __init__(self, tokenizer: TextTokenizer, prompt: list[int], stop: Sequence[str], max_new_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        self.left = max_new_tokens
        self.before = prompt[-DECODING_CONTEXT:]  # the last tokens whose text is complete
        self.unshown: list[int] = []  # tokens whose text is not complete yet
        self.text = ""  # complete, and not handed out
        self.ended = max_new_tokens == 0

    def add(self, token: int) -> None:
        self.unshown.append(token)
        self.left -= 1
        # U+FFFD at the end may be a character whose last bytes are yet to come.
        piece = _continuation(self.tokenizer, self.before, self.unshown)
        if not piece.endswith("\ufffd") or self.left == 0:
            self._show(piece, len(self.unshown))
        elif len(self.unshown) > DECODING_CONTEXT:
            # Bytes that are no text, but for those of one last character, three at most, that may become some.
            complete = self.unshown[:-3]
            self._show(_continuation(self.tokenizer, self.before, complete), len(complete))
        self.ended = self.ended or self.left == 0

    def take(self) -> str:
        """What can be handed out for good: all but an end that may turn out to begin a stop string."""
        end = len(self.text)
        if not self.ended:
            end -= max((_overlap(self.text, stop) for stop in self.stop), default=0)
        piece, self.text = self.text[:end], self.text[end:]
        return piece

    def _show(self, piece: str, tokens: int) -> None:
        # No stop string begins in what was handed out: its end would have been held back.
        self.text += piece
        self.before = [*self.before, *self.unshown[:tokens]][-DECODING_CONTEXT:]
        self.unshown = self.unshown[tokens:]
        found = [at for stop in self.stop if (at := self.text.find(stop)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.ended = True


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without completing it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def generate_text(
    model: Stepper,
    tokenizer: TextTokenizer,
    prompt: str | Sequence[str] = "",
    *,
    num_return: int | None = None,
    **options: Any,
) -> Any:
    """Continue one prompt or several, of any lengths.

    Args:
        model: the decoder.
        tokenizer: its tokenizer.
        prompt: a text, or a list of texts.
        num_return: that many different continuations of each prompt, as a list.
        options: those of `stream_text`.

    Returns:
        The continuation without the prompt; for a list of prompts a list; with `num_return` a list in its place.
        A prompt's continuation does not depend on what other prompts there are: with a seed equal prompts have equal
        ones, while without one each is drawn anew.

    Raises:
        ValueError: `num_return` is below 1, or what `stream_text` raises.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if num_return is not None and num_return < 1:
        raise ValueError(f"num_return is {num_return}, but must be at least 1")
    samples = num_return or 1
    repeated = [text for text in prompts for _ in range(samples)]
    texts = [""] * len(repeated)
    for row, piece in _generate(model, tokenizer, repeated, samples, **options):
        texts[row] += piece
    if num_return is None:
        return texts[0] if isinstance(prompt, str) else texts
    grouped = [texts[start : start + samples] for start in range(0, len(texts), samples)]
    return grouped[0] if isinstance(prompt, str) else grouped


def stream_text(model: Stepper, tokenizer: TextTokenizer, prompt: str = "", **options: Any) -> Iterator[str]:
    """Continue one prompt, piece by piece as it is made. The pieces joined are what `generate_text` returns.

    Args:
        model: the decoder.
        tokenizer: its tokenizer.
        prompt: the text to continue. Parts that the tokenizer does not know are read as its unknown token.
        options:
            max_new_tokens: how many tokens to add at most.
            temperature, top_k, top_p, min_p, repetition_penalty: see `SamplingOptions`.
            stop: a string, or several, before the first of which the text ends.
            seed: the same seed gives the same text; None takes one by chance, another for every text.

    Raises:
        ValueError: an option outside its range.
    """
    return (piece for _, piece in _generate(model, tokenizer, [prompt], 1, **options))


def pieces_of(model: nn.Module, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces of `stream_text`, `model` in evaluation mode while one is made and in its own between two.

    Meanwhile another stream may begin or end, or the model be trained.
    """
    while True:
        with evaluating(model):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


@torch.inference_mode()
def search_text(
    model: Stepper,
    tokenizer: TextTokenizer,
    prompt: str | Sequence[str] = "",
    *,
    max_new_tokens: int = 50,
    num_beams: int = 5,
    no_repeat_ngram_size: int | None = None,
) -> Any:
    """The likeliest continuation of that many tokens that beam search finds, of one prompt or of several.

    Likely text repeats itself and is duller than what people write (Holtzman et al., "The curious case of neural text
    degeneration", 2020), so this is to ask what the model knows; to write, draw with `generate_text`.

    Args:
        model: the decoder.
        tokenizer: its tokenizer.
        prompt: a text, or a list of texts.
        max_new_tokens: how many tokens to add.
        num_beams, no_repeat_ngram_size: see `zoo.decoding.BeamOptions`.

    Returns:
        The continuation without the prompt; for a list of prompts a list.

    Raises:
        ValueError: an option outside its range.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    beams = BeamOptions(num_beams=num_beams, no_repeat_ngram_size=no_repeat_ngram_size)
    ids = _prompt_ids(tokenizer, prompts)
    texts = [""] * len(ids)
    for numbers in _batches(ids, tokenizer, num_beams):
        tokens, lengths = (part.to(_device(model)) for part in pad([torch.tensor(ids[n]) for n in numbers]))
        found = beam_search(
            model,
            *model.prefill(tokens, lengths),
            end_id=None,
            max_new_tokens=max_new_tokens,
            options=beams,
            banned=tokenizer.never_generated,
        )
        for number, (best,) in zip(numbers, found, strict=True):
            texts[number] = _continuation(tokenizer, ids[number], best.tokens)
    return texts[0] if isinstance(prompt, str) else texts


@torch.inference_mode()
def _generate(
    model: Stepper,
    tokenizer: TextTokenizer,
    prompts: Sequence[str],
    samples: int,
    *,
    max_new_tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
    seed: int | None = None,
) -> Iterator[tuple[int, str]]:
    """Yields (row, piece of its text). Rows n·samples and on are the samples of one prompt."""
    options = SamplingOptions(temperature, top_k, top_p, min_p, repetition_penalty)
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}, but must be at least 0")
    stops = [stop] if isinstance(stop, str) else list(stop)
    if not all(stops):
        raise ValueError("a stop string is empty; it would end every text before it begins")
    if max_new_tokens == 0 or not prompts:
        return
    ids = _prompt_ids(tokenizer, prompts)
    for numbers in _batches(ids, tokenizer):
        rows = [_Row(tokenizer, ids[n], stops, max_new_tokens) for n in numbers]
        # By its number among its prompt's samples, not by its place in the batch.
        seeds = [secrets.randbits(63) if seed is None else (seed * 1_000_003 + n % samples) % 2**63 for n in numbers]
        few = [ids[n] for n in numbers]
        sampler = Sampler(model, few, options, seeds, tokenizer.never_generated, _device(model))
        for drawn in sampler:
            for place, token in drawn:
                row = rows[place]
                row.add(token)
                if row.ended:
                    sampler.end(place)
                if piece := row.take():
                    yield numbers[place], piece


def _device(model: Stepper) -> torch.device:
    return next(model.parameters()).device if isinstance(model, nn.Module) else torch.device("cpu")


def _prompt_ids(tokenizer: TextTokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """The ids of each prompt. A new line, if the vocabulary has one, stands in for a prompt that has none."""
    known = [token for token in (tokenizer.newline_id, tokenizer.unknown_id) if token is not None]
    start = known[0] if known else 0
    return [tokenizer.encode(prompt) or [start] for prompt in prompts]


def _batches(ids: Sequence[list[int]], tokenizer: TextTokenizer, num_beams: int = 1) -> Iterator[list[int]]:
    """Numbers of the prompts of each batch, so that the memory has room for their tokens and for their scores."""
    return evaluation_batches([len(row) for row in ids], BATCH_TOKENS, rows_at_once(tokenizer.vocab_size, num_beams))


def _continuation(tokenizer: TextTokenizer, before: list[int], tokens: Sequence[int]) -> str:
    """The text that `tokens` add to that of the tokens `before` them."""
    context = before[-DECODING_CONTEXT:]
    return tokenizer.decode([*context, *tokens])[len(tokenizer.decode(context)) :]
