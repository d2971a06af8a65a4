"""Checkpoints of BYOL-A and of the paper's authors, in layouts written out here; no file of theirs.

The networks of the tests are built from the published description, layer by layer, in its order.
"""

from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor, nn

from audio_barlow_twins.model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    restore_encoder,
    save_checkpoint,
)
from audio_barlow_twins.model.foreign import load_any_checkpoint, load_foreign
from audio_barlow_twins.shards.stored.front_end import FrontEnd

F64_EPS = 2.220446049250313e-16


class PublishedAudioNTT(nn.Module):
    """AudioNTT as BYOL-A describes it: [N, 1, F, T] in, ReLU before pooling."""

    def __init__(self, blocks: int, hidden: int, width: int, stack: bool) -> None:
        super().__init__()
        torch.manual_seed(blocks)
        layers: list[nn.Module] = []
        for i in range(blocks):
            conv = nn.Conv2d(64 if i else 1, 64, 3, stride=1, padding=1)
            layers += [conv, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2, stride=2)]
        self.features = nn.Sequential(*layers)
        first, last = nn.Linear(64 * (64 >> blocks), hidden), nn.Linear(hidden, width)
        self.fc = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.3), last, nn.ReLU())
        self.stack = stack
        for name, values in self.state_dict().items():
            if "running" in name:
                values.uniform_(0.5, 1.5)
            elif name.endswith("num_batches_tracked"):
                values.fill_(1234)

    def forward(self, x: Tensor) -> Tensor:
        """Embed clips."""
        maps = self.features(x)
        frames = torch.stack([maps[..., t].mT.flatten(1) for t in range(maps.shape[3])], dim=1)
        outputs = self.fc(frames)
        if self.stack:
            outputs = torch.cat([frames, outputs], dim=2)
        return outputs.max(dim=1).values + outputs.mean(dim=1)


def saved(folder: Path, content: object, **options: bool) -> Path:
    """Write a file."""
    torch.save(content, folder / "weights.pth", **options)
    return folder / "weights.pth"


def authors_file(
    weights: dict[str, Tensor], prefix: str = "backbone.encoder.", **arguments
) -> dict:
    """Lay out a training checkpoint as the authors' code does."""
    width = weights.pop("projector width", torch.zeros(8, 3072))
    model = {prefix + name: values for name, values in weights.items()}
    model |= {"head.projector.0.weight": width, "head.projector.1.num_batches_tracked": TRACKED}
    content = {"model": model, "predictor": {}, "optimizer": {"state": {}}, "epoch": 100}
    return content | ({"args": Namespace(**arguments)} if arguments else {})


TRACKED = torch.tensor(7)


@pytest.mark.parametrize("width", [512, 1024, 2048])
def test_byol_a_v1_embeds_as_published(tmp_path: Path, width: int) -> None:
    published = PublishedAudioNTT(blocks=3, hidden=width, width=width, stack=False).eval()
    checkpoint = load_foreign(saved(tmp_path, published.state_dict()))
    x = torch.randn(2, 96, 64)
    torch.testing.assert_close(restore_encoder(checkpoint)(x), published(x.mT[:, None]))
    assert (checkpoint.encoder, checkpoint.fingerprint) == (
        f"audiontt2020-{width}",
        "unknown (BYOL-A v1)",
    )


@pytest.mark.parametrize(("hidden", "width"), [(1024, 1024), (2048, 1024), (2048, 2048)])
def test_byol_a_v2_embeds_as_published(tmp_path: Path, hidden: int, width: int) -> None:
    published = PublishedAudioNTT(blocks=2, hidden=hidden, width=width, stack=True).eval()
    checkpoint = load_foreign(saved(tmp_path, published.state_dict()))
    encoder, x = restore_encoder(checkpoint), torch.randn(2, 96, 64)
    torch.testing.assert_close(encoder(x), published(x.mT[:, None]))
    assert encoder.out_features == 1024 + width
    assert (checkpoint.encoder, checkpoint.fingerprint) == ("audiontt", "unknown (BYOL-A v2)")


def test_byol_a_v1_brings_its_front_end_and_statistics(tmp_path: Path) -> None:
    weights = PublishedAudioNTT(blocks=3, hidden=512, width=512, stack=False).state_dict()
    checkpoint = load_foreign(saved(tmp_path, weights))
    wanted = FrontEnd(mel_scale="slaney", mel_norm="slaney", power_eps=F64_EPS)
    assert FrontEnd.from_parameters(checkpoint.front_end) == wanted
    assert (checkpoint.mean, checkpoint.std) == (-5.4919195, 5.0389895)


def test_byol_a_v2_brings_its_front_end_and_statistics(tmp_path: Path) -> None:
    weights = PublishedAudioNTT(blocks=2, hidden=2048, width=2048, stack=True).state_dict()
    checkpoint = load_foreign(saved(tmp_path, weights))
    wanted = FrontEnd(mel_scale="slaney", mel_norm="slaney")
    assert FrontEnd.from_parameters(checkpoint.front_end) == wanted
    assert (checkpoint.mean, checkpoint.std) == (-9.660292, 4.7219563)


@pytest.mark.parametrize("prefix", ["backbone.encoder.", "module.backbone.encoder."])
def test_the_authors_audiontt_embeds_as_published(tmp_path: Path, prefix: str) -> None:
    published = PublishedAudioNTT(blocks=2, hidden=2048, width=2048, stack=True).eval()
    file = authors_file(dict(published.state_dict()), prefix)
    checkpoint = load_foreign(saved(tmp_path, file))
    x = torch.randn(2, 96, 64)
    torch.testing.assert_close(restore_encoder(checkpoint)(x), published(x.mT[:, None]))
    assert checkpoint.encoder == "audiontt"


@pytest.mark.parametrize(
    ("arguments", "mean", "std"),
    [
        ({}, -0.8294, 4.6230),
        ({"dataset": "audioset"}, -0.8294, 4.6230),
        ({"dataset": "fsd50k"}, -4.950, 5.855),
        ({"dataset": "librispeech"}, -3.332, 4.205),
    ],
)
def test_the_authors_front_end_is_the_papers_with_the_statistics_of_their_data(
    tmp_path: Path, arguments: dict[str, str], mean: float, std: float
) -> None:
    weights = PublishedAudioNTT(blocks=2, hidden=2048, width=2048, stack=True).state_dict()
    checkpoint = load_foreign(saved(tmp_path, authors_file(dict(weights), **arguments)))
    assert checkpoint.front_end == FrontEnd().parameters()
    assert (checkpoint.mean, checkpoint.std) == (mean, std)


def vit_weights(dim: int, patches: int, stem: list[tuple[int, int]], depth: int = 2) -> dict:
    """Draw the weights of a ViT of the authors; `stem` has channels and kernel of each layer."""
    torch.manual_seed(dim)
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 1 + patches, dim)}
    inputs = 1
    for i, (channels, kernel) in enumerate(stem):
        shapes[f"patch_embed.proj.{3 * i}.weight"] = (channels, inputs, kernel, kernel)
        if i < len(stem) - 1:
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"patch_embed.proj.{3 * i + 1}.{name}"] = (channels,)
            shapes[f"patch_embed.proj.{3 * i + 1}.num_batches_tracked"] = ()
        else:
            shapes[f"patch_embed.proj.{3 * i}.bias"] = (dim,)
        inputs = channels
    for i in range(depth):
        block = f"blocks.{i}."
        for name, shape in {
            "norm1.weight": (dim,), "norm1.bias": (dim,), "norm2.weight": (dim,),
            "norm2.bias": (dim,), "attn.qkv.weight": (3 * dim, dim), "attn.q_bias": (dim,),
            "attn.v_bias": (dim,), "attn.proj.weight": (dim, dim), "attn.proj.bias": (dim,),
            "mlp.fc1.weight": (4 * dim, dim), "mlp.fc1.bias": (4 * dim,),
            "mlp.fc2.weight": (dim, 4 * dim), "mlp.fc2.bias": (dim,),
        }.items():  # fmt: skip
            shapes[block + name] = shape
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    return {
        name: TRACKED if name.endswith("tracked") else torch.rand(shape)
        for name, shape in shapes.items()
    }


def conv_stem(dim: int, convolutions: int) -> list[tuple[int, int]]:
    """List channels and kernels of the authors' stem."""
    widths = [dim // 8, dim // 4, dim // 2, dim, dim, dim][:convolutions]
    return [*((width, 3) for width in widths), (dim, 1)]


@pytest.mark.parametrize(
    ("dim", "patches", "convolutions", "name"),
    [
        (768, 48, 4, "vitc-b-16x8"),
        (384, 24, 4, "vitc-s-16x16"),
        (192, 96, 4, "vitc-t-8x8"),
        (192, 48, 6, "vitc-t-64x2"),
    ],
)
def test_the_authors_vit_c_is_told_by_its_positions(
    tmp_path: Path, dim: int, patches: int, convolutions: int, name: str
) -> None:
    weights = vit_weights(dim, patches, conv_stem(dim, convolutions))
    file = authors_file(weights, "backbone.encoder.encoder.", dataset="audioset")
    checkpoint = load_foreign(saved(tmp_path, file))
    assert (checkpoint.encoder, checkpoint.sizes) == (name, {"n_mels": 64, "depth": 2})
    restored = restore_encoder(checkpoint).state_dict()
    assert restored.keys() == weights.keys()
    assert all(torch.equal(restored[key], values) for key, values in weights.items())


@pytest.mark.parametrize(
    ("patches", "kernel", "name"),
    [(48, (16, 8), "vit-t-16x8"), (48, (64, 2), "vit-t-64x2"), (96, (8, 8), "vit-t-8x8")],
)
def test_the_authors_plain_vit_is_told_by_its_kernel(
    tmp_path: Path, patches: int, kernel: tuple[int, int], name: str
) -> None:
    weights = vit_weights(192, patches, [])
    stem = {"weight": torch.rand(192, 1, *kernel), "bias": torch.rand(192)}
    weights |= {f"patch_embed.proj.{key}": values for key, values in stem.items()}
    checkpoint = load_foreign(saved(tmp_path, authors_file(weights, "backbone.encoder.encoder.")))
    assert checkpoint.encoder == name
    assert checkpoint.sizes == {"n_mels": 64, "depth": 2, "projection": "frozen"}
    assert restore_encoder(checkpoint)(torch.randn(1, 96, 64)).shape == (1, 192)


def test_mean_pooling_of_the_authors_arguments_is_kept(tmp_path: Path) -> None:
    weights = vit_weights(192, 48, conv_stem(192, 4))
    file = authors_file(weights, "backbone.encoder.encoder.", use_mean_pool=True)
    assert load_foreign(saved(tmp_path, file)).sizes["pool"] == "mean"


def resnet_weights(projector: int) -> dict[str, Tensor]:
    """Draw the weights of a ResNet-18 of the authors, and their projector's first layer."""
    shapes = {"conv1.0": (32, 1, 3), "conv1.3": (32, 32, 3), "conv1.6": (64, 32, 3)}
    norms = {"conv1.1": 32, "conv1.4": 32, "conv1.7": 64}
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (f"layer{stage}.0", f"layer{stage}.1"):
            shapes |= {f"{block}.conv1": (width, inputs, 3), f"{block}.conv2": (width, width, 3)}
            norms |= {f"{block}.bn1": width, f"{block}.bn2": width}
            if inputs != width:
                shapes[f"{block}.downsample.0"] = (width, inputs, 1)
                norms[f"{block}.downsample.1"] = width
            inputs = width
    weights = {f"{k}.weight": torch.randn(o, i, s, s) for k, (o, i, s) in shapes.items()}
    for key, width in norms.items():
        for name in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{key}.{name}"] = torch.rand(width)
        weights[f"{key}.num_batches_tracked"] = TRACKED
    return weights | {"projector width": torch.zeros(8, projector)}


@pytest.mark.parametrize(("width", "name"), [(512, "resnet18"), (4096, "resnet18-regp-nrf")])
def test_the_authors_resnets_are_told_apart_by_their_projector(
    tmp_path: Path, width: int, name: str
) -> None:
    checkpoint = load_foreign(saved(tmp_path, authors_file(resnet_weights(width))))
    assert checkpoint.encoder == name
    assert restore_encoder(checkpoint)(torch.randn(1, 96, 64)).shape == (1, width)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_old_and_new_torch_are_read(tmp_path: Path, zipped: bool) -> None:
    weights = PublishedAudioNTT(blocks=3, hidden=512, width=512, stack=False).state_dict()
    path = saved(tmp_path, weights, _use_new_zipfile_serialization=zipped)
    checkpoint = load_any_checkpoint(path)
    assert all(torch.equal(checkpoint.state[name], weights[name]) for name in weights)


def test_a_checkpoint_from_elsewhere_can_be_kept_as_one_of_ours(tmp_path: Path) -> None:
    weights = PublishedAudioNTT(blocks=2, hidden=2048, width=1024, stack=True).state_dict()
    foreign = load_any_checkpoint(saved(tmp_path, weights))
    save_checkpoint(tmp_path / "ours.pt", foreign)
    ours = load_checkpoint(tmp_path / "ours.pt")
    x = torch.randn(1, 40, 64)
    assert torch.equal(restore_encoder(ours)(x), restore_encoder(foreign)(x))
    again = load_any_checkpoint(tmp_path / "ours.pt")
    assert (again.front_end, again.mean) == (foreign.front_end, foreign.mean)


class TestRefusals:
    """What is not known gives one line that names the file, what was found and what is wanted."""

    def refuse(self, path: Path, match: str) -> None:
        """Check that loading fails with one line, in either way."""
        for load in (load_foreign, load_any_checkpoint):
            with pytest.raises(CheckpointError, match=match) as caught:
                load(path)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            ([1], "holds a list; wanted a dictionary"),
            ({"epoch": 3}, "holds 'epoch', a int; wanted a state dict"),
            ({"a": torch.zeros(1)}, r"holds a; wanted weights of BYOL-A .*backbone\.encoder"),
            ({}, "holds nothing; wanted weights of BYOL-A"),
            ({"model": {"a": torch.zeros(1)}}, r"model holds a; wanted backbone\.encoder"),
        ],
    )
    def test_another_programs_file(self, tmp_path: Path, content: object, match: str) -> None:
        self.refuse(saved(tmp_path, content), match)

    def test_a_width_that_nobody_published(self, tmp_path: Path) -> None:
        weights = PublishedAudioNTT(blocks=3, hidden=300, width=300, stack=False).state_dict()
        self.refuse(saved(tmp_path, weights), "AudioNTT2020 of width 300; published are 512, 1024")

    def test_weights_that_are_missing_surplus_or_misshapen(self, tmp_path: Path) -> None:
        weights = PublishedAudioNTT(blocks=2, hidden=64, width=64, stack=True).state_dict()
        lacking = {name: values for name, values in weights.items() if name != "fc.0.bias"}
        self.refuse(saved(tmp_path, lacking), r"audiontt lacks fc\.0\.bias$")
        surplus = weights | {"features.9.excitation.0.weight": torch.zeros(1)}
        self.refuse(saved(tmp_path, surplus), r"has no place for features\.9\.excitation")
        wrong = weights | {"fc.0.bias": torch.zeros(3)}
        self.refuse(saved(tmp_path, wrong), r"shape of fc\.0\.bias is \[3\], wanted \[64\]")

    @pytest.mark.parametrize("key", ["features.0.weight", "fc.0.weight", "fc.3.weight"])
    def test_weights_without_the_dimensions_that_tell_sizes(self, tmp_path: Path, key: str) -> None:
        weights = PublishedAudioNTT(blocks=2, hidden=64, width=64, stack=True).state_dict()
        self.refuse(saved(tmp_path, weights | {key: torch.zeros(3)}), rf"{key} is \[3\]; wanted")

    def test_weights_for_another_number_of_mel_bins(self, tmp_path: Path) -> None:
        weights = PublishedAudioNTT(blocks=2, hidden=64, width=64, stack=True).state_dict()
        more = weights | {"fc.0.weight": torch.zeros(64, 1280)}
        self.refuse(saved(tmp_path, more), r"fc\.0\.weight is \[64, 1280\], wanted \[64, 1024\]")

    def test_a_data_set_of_unknown_statistics(self, tmp_path: Path) -> None:
        weights = PublishedAudioNTT(blocks=2, hidden=64, width=64, stack=True).state_dict()
        file = authors_file(dict(weights), dataset="cifar10")
        self.refuse(saved(tmp_path, file), "'cifar10'; statistics are known of audioset, fsd50k")

    def test_a_resnet_without_its_projector(self, tmp_path: Path) -> None:
        file = authors_file(resnet_weights(512))
        del file["model"]["head.projector.0.weight"]
        self.refuse(saved(tmp_path, file), r"projectors of width \[\]; wanted one")

    def test_a_vit_of_another_grid(self, tmp_path: Path) -> None:
        file = authors_file(vit_weights(192, 50, conv_stem(192, 4)), "backbone.encoder.encoder.")
        self.refuse(saved(tmp_path, file), "width 192 with 50 patches and kernels 3x3, ")

    def test_an_object_of_another_class_is_not_run(self, tmp_path: Path) -> None:
        self.refuse(saved(tmp_path, {"model": {}, "args": Path()}), "not a checkpoint, or damaged")

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("share", [0.001, 0.1, 0.9])
    def test_a_file_that_was_cut_short(self, tmp_path: Path, zipped: bool, share: float) -> None:
        weights = PublishedAudioNTT(blocks=2, hidden=64, width=64, stack=True).state_dict()
        path = saved(tmp_path, weights, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        self.refuse(path, "cut short|damaged")

    @pytest.mark.parametrize("seed", range(40))
    def test_an_old_file_with_a_changed_byte_is_read_or_refused(
        self, tmp_path: Path, seed: int
    ) -> None:
        weights = PublishedAudioNTT(blocks=2, hidden=8, width=8, stack=True).state_dict()
        path = saved(tmp_path, weights, _use_new_zipfile_serialization=False)
        content = bytearray(path.read_bytes())
        random = Random(seed)
        content[random.randrange(20, 2000)] = random.randrange(256)
        path.write_bytes(content)
        with suppress(CheckpointError):
            assert load_foreign(path).encoder == "audiontt"
