"""Text encoders: T5 as Open-Sora uses it, and a frozen table of seeded word vectors.

Both are pure functions of the text (nothing in them is trained), so their outputs can be stored.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.keys import generator
from kinetoscope.models.dtypes import as_told
from kinetoscope.models.text.config import SeededTableConfig, T5Config, TextEncoderConfig
from kinetoscope.models.text.t5_folder import MODEL_FILES_HINT

_POSITION_SCALE = 0.2

# Texts are padded to a length that suits GPUs, never beyond max_tokens.
_TOKEN_MULTIPLE = 8
# Of the largest T5's scores, 64 heads of 300 x 300, these take a GiB.
_TEXTS_AT_ONCE = 32


class TextEncoder(Protocol):
    """Turns texts into token embeddings."""

    @property
    def width(self) -> int:
        """Width of a token's embedding."""
        ...

    @property
    def max_tokens(self) -> int:
        """Length to which every text is padded or cut."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, those beyond ``max_tokens`` too."""
        ...

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings ``BSD`` and a bool mask ``BS``, True at a text's own tokens (>= 1).

        Embeddings are float32, and zero after a text's end.
        """
        ...


def build_text_encoder(
    config: TextEncoderConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TextEncoder:
    """Return the encoder that the config names, with its weights and outputs on ``device``.

    Args:
        config: of the encoder.
        device: where it computes.
        dtype: of a pretrained encoder's weights; not float16, in which T5 overflows.

    Raises:
        ConfigError: a pretrained encoder's folder is missing or does not fit the config.
    """
    if isinstance(config, SeededTableConfig):
        return SeededTableEncoder(config, device=device)
    return T5TextEncoder(config, device=device, dtype=dtype)


class SeededTableEncoder:
    """Each word is a standard normal vector drawn from the seed and the word itself.

    A small vector per position tells orders of words apart. Words are runs of Latin letters and
    digits, lower-cased; any other letter or symbol is a token of its own, so scripts without spaces
    work too. The empty text is one token with a vector of its own.
    """

    def __init__(self, config: SeededTableConfig, *, device: torch.device | str = "cpu") -> None:
        self._config = config
        self._device = device
        self._vectors: dict[str, npt.NDArray[np.float32]] = {}
        self._positions = np.stack(
            [self._draw("position", str(index)) for index in range(config.max_tokens)]
        )

    @property
    def width(self) -> int:
        """Width of a token's embedding."""
        return self._config.width

    @property
    def max_tokens(self) -> int:
        """Length to which every text is padded or cut."""
        return self._config.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, those beyond ``max_tokens`` too."""
        return [max(1, len(split_words(text))) for text in texts]

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings ``BSD``, zero after a text's end, and a bool mask ``BS``."""
        embeddings = np.zeros((len(texts), self.max_tokens, self.width), dtype=np.float32)
        mask = np.zeros((len(texts), self.max_tokens), dtype=np.bool_)
        for row, text in enumerate(texts):
            words = split_words(text)[: self.max_tokens] or [""]
            vectors = np.stack([self._vector(word) for word in words])
            embeddings[row, : len(words)] = (
                vectors + _POSITION_SCALE * self._positions[: len(words)]
            )
            mask[row, : len(words)] = True
        return (
            torch.from_numpy(embeddings).to(self._device),
            torch.from_numpy(mask).to(self._device),
        )

    def _vector(self, word: str) -> npt.NDArray[np.float32]:
        if word not in self._vectors:
            self._vectors[word] = self._draw("word", word)
        return self._vectors[word]

    def _draw(self, kind: str, name: str) -> npt.NDArray[np.float32]:
        draws = generator("text", self._config.seed, kind, name)
        return draws.standard_normal(self.width).astype(np.float32)


def split_words(text: str) -> list[str]:
    """Return the text's tokens: Latin words and numbers, other letters and symbols one by one."""
    words: list[str] = []
    run = ""
    characters = unicodedata.normalize("NFKC", text).lower()
    for index, character in enumerate(characters):
        following = characters[index + 1 : index + 2]
        decimal_point = character == "." and run.isdecimal() and following.isdecimal()
        if _in_word(character) or decimal_point:
            run += character
            continue
        if run:
            words.append(run)
            run = ""
        if unicodedata.category(character)[0] in "LMNS":
            words.append(character)
    return [*words, run] if run else words


def _in_word(character: str) -> bool:
    if character.isascii():
        return character.isalnum()
    return character.isalpha() and unicodedata.name(character, "").startswith("LATIN")


class T5TextEncoder:
    """The encoder half of T5 (Raffel et al. 2020), read from a local folder and never trained."""

    def __init__(
        self,
        config: T5Config,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        folder = Path(config.path)
        if not (folder / "config.json").is_file():
            raise ConfigError(f"no T5 encoder in {folder}: no config.json", hint=MODEL_FILES_HINT)
        # costs seconds, and most runs need no T5
        from transformers import AutoTokenizer, T5EncoderModel

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = T5EncoderModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"can't read the T5 encoder in {folder}: {error}", hint=MODEL_FILES_HINT
            ) from error
        if model.config.d_model != config.width:
            raise ConfigError(
                f"text encoder width={config.width}, but T5 in {folder} has {model.config.d_model}",
                hint=f"set width to {model.config.d_model}",
            )
        self._config = config
        self._device = device
        module: nn.Module = model
        self._model = module.to(device).eval().requires_grad_(False)

    @property
    def width(self) -> int:
        """Width of a token's embedding."""
        return self._config.width

    @property
    def max_tokens(self) -> int:
        """Length to which every text is padded or cut."""
        return self._config.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has with its end mark, also beyond ``max_tokens``."""
        return [len(ids) for ids in self._tokenizer(list(texts), verbose=False).input_ids]

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings ``BSD``, zero after a text's end, and a bool mask ``BS``.

        Some texts are encoded at a time, and only as many tokens as the longest of these has.
        """
        parts = [
            self._encode_at_once(texts[start : start + _TEXTS_AT_ONCE])
            for start in range(0, len(texts), _TEXTS_AT_ONCE)
        ]
        embeddings, masks = zip(*parts, strict=True)
        return torch.cat(embeddings), torch.cat(masks)

    def _encode_at_once(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = self._tokenizer(
            list(texts),
            max_length=self.max_tokens,
            padding="longest",
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        longest = tokens.input_ids.shape[1]
        length = min(-(-longest // _TOKEN_MULTIPLE) * _TOKEN_MULTIPLE, self.max_tokens)
        pad = nn.functional.pad
        # Which token pads is all the same: no token of a text attends to it.
        ids = pad(tokens.input_ids, (0, length - longest)).to(self._device)
        mask = pad(tokens.attention_mask, (0, length - longest)).to(self._device)
        # What a text is to the models is no matter of the context in which it is encoded.
        with as_told(mask.device.type):
            output = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        embeddings = output.float() * mask[..., None]
        rest = self.max_tokens - length
        return pad(embeddings, (0, 0, 0, rest)), pad(mask.bool(), (0, rest))
