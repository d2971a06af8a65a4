"""The registry of encoders: names, promises that all keep, options from text."""

from pathlib import Path

import pytest
import torch
from torch.export import Dim, export

from audio_barlow_twins.model.checkpoint import (
    Checkpoint,
    load_checkpoint,
    restore_encoder,
    save_checkpoint,
)
from audio_barlow_twins.model.encoders import (
    ENCODERS,
    Size,
    build_encoder,
    default_options,
    encoder_options,
    option_kinds,
)
from audio_barlow_twins.model.tracing import open_sizes

PATCHES = ("16x8", "16x16", "8x8", "64x2")
# One of each kind, shallow.
KINDS: list[tuple[str, dict[str, Size]]] = [
    ("audiontt", {"width": 32, "channels": 8}),
    ("audiontt2020-512", {"channels": 8}),
    ("vitc-t-16x8", {"depth": 1}),
    ("vitc-t-64x2", {"depth": 1, "pool": "mean"}),
    ("vitc-t-16x16", {"depth": 1, "positions": "interpolated"}),
    ("vit-t-8x8", {"depth": 1, "projection": "frozen"}),
    ("resnet18", {}),
    ("resnet18-regp-nrf", {}),
]
EACH_KIND = pytest.mark.parametrize(("name", "sizes"), KINDS, ids=[name for name, _ in KINDS])


def test_every_network_of_the_paper_and_of_its_report_has_a_name() -> None:
    names = {"audiontt", "resnet18", "resnet18-regp-nrf"}
    names |= {f"audiontt2020-{width}" for width in (512, 1024, 2048)}
    names |= {f"{v}-{s}-{p}" for v in ("vit", "vitc") for s in "bst" for p in PATCHES}
    assert set(ENCODERS) == names


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_gives_embeddings_of_the_announced_size(name: str) -> None:
    with torch.device("meta"):
        encoder = build_encoder(name, {"n_mels": 64}).eval()
        assert encoder(torch.empty(2, 96, 64)).shape == (2, encoder.out_features)
        assert encoder(torch.empty(1, 1001, 64)).shape == (1, encoder.out_features)


@pytest.mark.parametrize(
    ("letter", "width", "heads"), [("b", 768, 12), ("s", 384, 6), ("t", 192, 3)]
)
def test_the_letters_stand_for_the_sizes_of_the_paper(letter: str, width: int, heads: int) -> None:
    with torch.device("meta"):
        vit = build_encoder(f"vitc-{letter}-16x8", {})
    blocks = list(vit.blocks)  # type: ignore[arg-type]
    assert (len(blocks), vit.out_features, blocks[0].attn.heads) == (11, width, heads)


def test_a_convolutional_stem_takes_the_place_of_a_block() -> None:
    with torch.device("meta"):
        blocks = {stem: build_encoder(f"{stem}-t-16x8", {}).blocks for stem in ("vit", "vitc")}
    assert {stem: len(list(found)) for stem, found in blocks.items()} == {  # type: ignore[arg-type]
        "vit": 12,
        "vitc": 11,
    }


@pytest.mark.parametrize(
    ("options", "frozen"),
    [
        ({}, {"patch_embed.proj.weight", "patch_embed.proj.bias"}),
        ({"projection": "frozen"}, {"patch_embed.proj.weight", "patch_embed.proj.bias"}),
        ({"projection": "trained"}, set()),
    ],
)
def test_a_plain_vit_trains_its_projection_only_if_told(
    options: dict[str, Size], frozen: set[str]
) -> None:
    with torch.device("meta"):
        vit = build_encoder("vit-t-16x8", options)
        stem = build_encoder("vitc-t-16x8", {})
    assert {name for name, p in vit.named_parameters() if not p.requires_grad} == frozen
    assert all(p.requires_grad for p in stem.parameters())


@EACH_KIND
def test_embedding_of_a_clip_ignores_its_neighbours_in_evaluation(
    name: str, sizes: dict[str, Size]
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, sizes).eval()
    x = torch.randn(3, 120, 64)
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), atol=1e-4, rtol=1e-4)


@EACH_KIND
def test_memory_format_changes_nothing(name: str, sizes: dict[str, Size]) -> None:
    torch.manual_seed(0)
    encoder, x = build_encoder(name, sizes).eval(), torch.randn(2, 96, 64)
    before = encoder(x)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(encoder(x), before, atol=1e-4, rtol=1e-4)


@EACH_KIND
def test_an_encoder_compiles_as_one_graph(name: str, sizes: dict[str, Size]) -> None:
    torch.manual_seed(0)
    encoder, x = build_encoder(name, sizes).eval(), torch.randn(2, 100, 64)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), encoder(x))


@EACH_KIND
def test_an_encoder_exports_with_any_batch_and_length(name: str, sizes: dict[str, Size]) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, sizes).eval()
    axes = {0: Dim("clips", min=1, max=256), 1: Dim("frames", min=17, max=6000)}
    with open_sizes():
        program = export(encoder, (torch.randn(3, 1001, 64),), dynamic_shapes=(axes,)).module()
    for clips, frames in ((1, 96), (4, 97), (2, 20)):
        x = torch.randn(clips, frames, 64)
        torch.testing.assert_close(program(x), encoder(x), atol=1e-4, rtol=1e-4)


@EACH_KIND
def test_a_checkpoint_restores_an_encoder_with_its_options(
    name: str, sizes: dict[str, Size], tmp_path: Path
) -> None:
    encoder, x = build_encoder(name, sizes).eval(), torch.randn(1, 130, 64)
    saved = Checkpoint(
        encoder=name,
        sizes=sizes,
        state=encoder.state_dict(),
        front_end={},
        mean=0.0,
        std=1.0,
        fingerprint="",
        step=0,
    )
    save_checkpoint(tmp_path / "a.pt", saved)
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert loaded.sizes == sizes
    assert torch.equal(restore_encoder(loaded)(x), encoder(x))


def test_options_are_read_as_the_constructor_wants_them() -> None:
    texts = ["pool=mean", "depth=3", "unit_frames=48"]
    options = encoder_options("vitc-t-16x8", texts)
    assert options == {"pool": "mean", "depth": 3, "unit_frames": 48}
    assert build_encoder("vitc-t-16x8", options).out_features == 192
    assert encoder_options("audiontt", ["dropout=0.1"]) == {"dropout": 0.1}
    assert encoder_options("resnet18", []) == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vit-b-8x8", "pool=max", r"option pool of vit-b-8x8 is 'max'; wanted cls\|mean$"),
        ("vit-b-8x8", "depth=few", "option depth of vit-b-8x8 is 'few'; wanted int of 1 or more$"),
        ("vit-b-8x8", "depth=0", "option depth of vit-b-8x8 is '0'; wanted int of 1 or more$"),
        ("audiontt", "dropout=x", "option dropout of audiontt is 'x'; wanted float$"),
        ("audiontt", "pool=mean", "'pool=mean'; audiontt takes width=int, channels=int, dropout"),
        ("audiontt", "width", "'width'; audiontt takes width=int"),
        ("resnet18", "n_mels=80", "'n_mels=80'; resnet18 takes none"),
        ("vitc-t-16x8", "dim=5", "'dim=5'; vitc-t-16x8 takes depth=int"),
        ("vitc-t-16x8", "projection=frozen", "'projection=frozen'; vitc-t-16x8 takes depth=int"),
        ("vit-t-16x8", "projection=no", r"is 'no'; wanted frozen\|trained$"),
        ("vit", "pool=mean", "no encoder is called 'vit'; choose from audiontt, "),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_one_line(
    name: str, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        encoder_options(name, [text])
    assert "\n" not in str(caught.value)


def test_the_kinds_of_all_options_can_be_listed() -> None:
    assert option_kinds("vitc-b-16x8") == {
        "depth": "int",
        "unit_frames": "int",
        "pool": "cls|mean",
        "positions": "units|interpolated",
    }
    assert option_kinds("vit-b-16x8") == option_kinds("vitc-b-16x8") | {
        "projection": "frozen|trained"
    }


def test_the_defaults_of_all_options_can_be_named() -> None:
    options = {"unit_frames": 96, "pool": "cls", "positions": "units"}
    assert default_options("vitc-b-16x8") == options | {"depth": 11}
    assert default_options("vit-b-16x8") == options | {"depth": 12, "projection": "frozen"}
    assert default_options("audiontt") == {"width": 2048, "channels": 64, "dropout": 0.3}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_named_defaults_is_the_one_without(name: str) -> None:
    with torch.device("meta"):
        bare, named = (build_encoder(name, sizes) for sizes in ({}, default_options(name)))
    shapes = [
        {key: (p.shape, p.requires_grad) for key, p in e.named_parameters()} for e in (bare, named)
    ]
    assert shapes[0] == shapes[1]
