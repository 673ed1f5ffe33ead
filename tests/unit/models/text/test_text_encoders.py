from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from kinetoscope.core.errors import ConfigError
from kinetoscope.models.text.config import SeededTableConfig, T5Config
from kinetoscope.models.text.encoders import (
    SeededTableEncoder,
    T5TextEncoder,
    build_text_encoder,
    split_words,
)
from kinetoscope.models.text.t5_folder import check_t5_folder

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "circle", "moving", "left"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red circle, moving LEFT!", ["a", "red", "circle", "moving", "left"]),
        (
            "aesthetic score: 5.5, motion score: 12.",
            ["aesthetic", "score", "5.5", "motion", "score", "12"],
        ),
        ("Café naïve x2", ["café", "naïve", "x2"]),
        ("红色的圆 moving", ["红", "色", "的", "圆", "moving"]),
        ("жди", ["ж", "д", "и"]),
        ("cat 🐱", ["cat", "🐱"]),
        ("\uff21\uff22", ["ab"]),
        (" ,.\n", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_table_is_a_function_of_seed_and_text() -> None:
    texts = ["a red circle moving left", "红色的圆"]
    embeddings, mask = SeededTableEncoder(SeededTableConfig()).encode(texts)
    again, _ = SeededTableEncoder(SeededTableConfig()).encode([texts[1], texts[0]])
    other, _ = SeededTableEncoder(SeededTableConfig(seed=1)).encode(texts)

    assert embeddings.shape == (2, 16, 64)
    assert embeddings.dtype == torch.float32
    assert mask.sum(dim=1).tolist() == [5, 4]
    assert not embeddings[~mask].any()
    assert torch.equal(embeddings, again.flip(0))
    assert not torch.allclose(embeddings, other)
    assert embeddings[mask].std().item() == pytest.approx(1, abs=0.1)


def test_table_gives_a_word_the_same_vector_up_to_its_position() -> None:
    embeddings, _ = SeededTableEncoder(SeededTableConfig()).encode(["red circle", "circle red"])
    same = torch.cosine_similarity(embeddings[0, 0], embeddings[1, 1], dim=0)
    different = torch.cosine_similarity(embeddings[0, 0], embeddings[1, 0], dim=0)
    assert same > 0.9
    assert different < 0.5
    assert not torch.allclose(embeddings[0, :2].mean(0), embeddings[0, 0])
    assert not torch.equal(embeddings[0, 0], embeddings[1, 1])


def test_table_gives_every_text_a_token_and_cuts_long_ones() -> None:
    encoder = SeededTableEncoder(SeededTableConfig(max_tokens=3, width=8))
    embeddings, mask = encoder.encode(["", "one two three four five"])
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert embeddings[0, 0].any()


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    folder = tmp_path_factory.mktemp("t5")
    words = Tokenizer(
        WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>")  # noqa: S106
    )
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers
        tokenizer_object=words,
        pad_token="<pad>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(WORDS),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    T5EncoderModel(config).save_pretrained(folder)
    return folder


def test_t5_encodes_texts_to_masked_tokens(t5_folder: Path) -> None:
    encoder = build_text_encoder(T5Config(path=str(t5_folder), width=16, max_tokens=6))
    assert isinstance(encoder, T5TextEncoder)
    texts = ["a red circle", "", "a red circle moving left left left"]
    embeddings, mask = encoder.encode(texts)

    assert embeddings.shape == (3, 6, 16)
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [4, 1, 6]
    assert not embeddings.requires_grad
    alone, _ = encoder.encode(texts[:1])
    torch.testing.assert_close(embeddings[:1][mask[:1]], alone[mask[:1]])
    assert not torch.allclose(embeddings[0, :3], encoder.encode(["circle red a"])[0][0, :3])


def test_t5_runs_in_bf16_if_asked_and_in_no_other_precision(t5_folder: Path) -> None:
    config = T5Config(path=str(t5_folder), width=16, max_tokens=6)
    exact, mask = T5TextEncoder(config).encode(["a red circle"])
    rough, _ = T5TextEncoder(config, dtype=torch.bfloat16).encode(["a red circle"])
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough[mask], exact[mask], atol=0.1, rtol=0.1)
    assert not torch.equal(rough, exact)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(T5TextEncoder(config).encode(["a red circle"])[0], exact)


@contextmanager
def _shapes_given_to_layers() -> Iterator[set[torch.Size]]:
    """Gather the shapes of what linear layers are called with."""
    shapes: set[torch.Size] = set()

    def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Linear):
            shapes.add(args[0].shape)

    handle = register_module_forward_pre_hook(see)
    try:
        yield shapes
    finally:
        handle.remove()


@pytest.mark.parametrize("max_tokens", [20, 10, 6])
def test_t5_computes_no_more_tokens_than_the_longest_text_has(
    t5_folder: Path, max_tokens: int
) -> None:
    encoder = T5TextEncoder(T5Config(path=str(t5_folder), width=16, max_tokens=max_tokens))
    with _shapes_given_to_layers() as shapes:
        embeddings, mask = encoder.encode(["a red circle", "a red circle moving left left"])
    assert {shape[1] for shape in shapes} == {min(8, max_tokens)}
    assert embeddings.shape == (2, max_tokens, 16)
    assert mask.sum(dim=1).tolist() == [4, min(7, max_tokens)]
    assert not embeddings[~mask].any()


def test_t5_computes_some_texts_at_a_time(t5_folder: Path) -> None:
    encoder = T5TextEncoder(T5Config(path=str(t5_folder), width=16, max_tokens=20))
    texts = ["a red circle moving left" + " left" * (index % 9) for index in range(70)]
    with _shapes_given_to_layers() as shapes:
        embeddings, mask = encoder.encode(texts)
    assert {shape[0] for shape in shapes} == {32, 70 - 64}
    for index in (0, 33, 69):
        alone, alone_mask = encoder.encode(texts[index : index + 1])
        assert torch.equal(mask[index], alone_mask[0])
        torch.testing.assert_close(embeddings[index], alone[0])


def test_missing_t5_is_a_config_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no T5 encoder in .*nowhere") as caught:
        build_text_encoder(T5Config(path=str(tmp_path / "nowhere")))
    assert caught.value.hint is not None
    assert "save_pretrained" in caught.value.hint


def test_the_folder_of_a_t5_is_looked_at_without_loading_it(
    t5_folder: Path, tmp_path: Path
) -> None:
    check_t5_folder(t5_folder, 16)
    with pytest.raises(ConfigError, match=r"width=4096, but T5 in .* has 16"):
        check_t5_folder(t5_folder, 4096)
    for part, told in (
        ("model.safetensors", "no safetensors weights"),
        ("tokenizer.json", "no tokenizer"),
        ("config.json", "no config.json"),
    ):
        folder = tmp_path / part
        shutil.copytree(t5_folder, folder)
        (folder / part).unlink()
        with pytest.raises(ConfigError, match=told):
            check_t5_folder(folder, 16)
    cut = tmp_path / "model.safetensors" / "model.safetensors"
    cut.write_bytes((t5_folder / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(ConfigError, match="was cut short"):
        check_t5_folder(cut.parent, 16)


def test_t5_without_safetensors_is_a_config_error(t5_folder: Path, tmp_path: Path) -> None:
    for file in t5_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="can't read the T5 encoder"):
        build_text_encoder(T5Config(path=str(tmp_path), width=16))


def test_t5_of_another_width_is_a_config_error(t5_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"width=32.* has 16"):
        build_text_encoder(T5Config(path=str(t5_folder), width=32))
