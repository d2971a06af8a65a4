"""ResNet-18 and ReGP-NRF: a functional statement, names, sizes, receptive fields, refusals."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from audio_barlow_twins.model.resnet import ResNet18

STRIDES = {False: [2, 1, 2, 2, 2], True: [1, 1, 2, 2, (1, 2)]}
"""Of the stem and the four stages; (mel, time) where they differ."""
VARIANTS = pytest.mark.parametrize("regp_nrf", [False, True], ids=["resnet18", "regp-nrf"])


def random_resnet(regp_nrf: bool, n_mels: int = 64) -> ResNet18:
    """Build one in float64 with batch statistics that are not 0 and 1."""
    torch.manual_seed(2)
    resnet = ResNet18(n_mels, regp_nrf=regp_nrf).double().eval()
    for name, values in resnet.state_dict().items():
        if values.ndim == 1 and values.is_floating_point():
            values.uniform_(0.5, 1.5) if "bias" not in name else values.normal_()
    return resnet


def slow_embedding(x: Tensor, w: dict[str, Tensor], regp_nrf: bool) -> Tensor:
    """Embed [N, T, F] with functions alone."""

    def conv(x: Tensor, conv_name: str, norm_name: str, stride=1) -> Tensor:
        kernel = w[f"{conv_name}.weight"]
        y = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[2] // 2)
        mean, var, scale, shift = (
            w[f"{norm_name}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * scale + shift

    stem, *stages = STRIDES[regp_nrf]
    y = conv(x.mT[:, None], "conv1.0", "conv1.1", stem).relu()
    y = conv(y, "conv1.3", "conv1.4").relu()
    y = conv(y, "conv1.6", "conv1.7").relu()
    y = F.max_pool2d(y, 3, 2, 1)
    for stage, stride in enumerate(stages, start=1):
        for block in (0, 1):
            name, step = f"layer{stage}.{block}", stride if block == 0 else 1
            z = conv(y, f"{name}.conv1", f"{name}.bn1", step).relu()
            z = conv(z, f"{name}.conv2", f"{name}.bn2")
            if f"{name}.downsample.0.weight" in w:
                y = conv(y, f"{name}.downsample.0", f"{name}.downsample.1", step)
            y = (y + z).relu()
    if not regp_nrf:
        return y.mean((2, 3))
    frames = torch.stack([y[:, :, mel] for mel in range(y.shape[2])], dim=1).flatten(1, 2)
    return frames.mean(2) + frames.max(2).values


@VARIANTS
def test_embedding_equals_the_network_written_out_with_functions(regp_nrf: bool) -> None:
    resnet, x = random_resnet(regp_nrf), torch.randn(2, 50, 64, dtype=torch.float64)
    expected = slow_embedding(x, resnet.state_dict(), regp_nrf)
    torch.testing.assert_close(resnet(x), expected, rtol=1e-9, atol=1e-9)


@VARIANTS
def test_parameters_number_what_the_layers_written_out_add_up_to(regp_nrf: bool) -> None:
    total = 9 * (1 * 32 + 32 * 32 + 32 * 64) + 2 * (32 + 32 + 64)
    total += 4 * (9 * 64 * 64 + 2 * 64)
    for inputs, width in ((64, 128), (128, 256), (256, 512)):
        total += 9 * (inputs * width + 3 * width * width) + inputs * width + 5 * 2 * width
    resnet = ResNet18(regp_nrf=regp_nrf)
    assert sum(p.numel() for p in resnet.parameters()) == total == 11_195_168


@VARIANTS
def test_state_dict_has_the_authors_names(regp_nrf: bool) -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    pairs = [("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "conv1.7")]
    for stage in (1, 2, 3, 4):
        for block in (f"layer{stage}.0", f"layer{stage}.1"):
            pairs += [(f"{block}.conv{i}", f"{block}.bn{i}") for i in (1, 2)]
        if stage > 1:
            pairs.append((f"layer{stage}.0.downsample.0", f"layer{stage}.0.downsample.1"))
    names = {f"{conv}.weight" for conv, _ in pairs}
    names |= {f"{bn}.{name}" for _, bn in pairs for name in norm}
    assert ResNet18(regp_nrf=regp_nrf).state_dict().keys() == names


@pytest.mark.parametrize(
    ("regp_nrf", "n_mels", "frames", "maps"),
    [(False, 64, 96, (2, 3)), (True, 64, 96, (8, 6)), (True, 20, 7, (3, 1)), (False, 1, 1, (1, 1))],
)
def test_maps_and_embeddings_have_the_announced_sizes(
    regp_nrf: bool, n_mels: int, frames: int, maps: tuple[int, int]
) -> None:
    resnet, x = ResNet18(n_mels, regp_nrf=regp_nrf).eval(), torch.zeros(2, frames, n_mels)
    assert resnet.maps(x).shape == (2, 512, *maps)
    assert resnet(x).shape == (2, resnet.out_features)
    assert resnet.out_features == (512 * maps[0] if regp_nrf else 512)


@pytest.mark.parametrize(("regp_nrf", "expected"), [(False, 439), (True, 173)])
def test_the_variant_sees_fewer_mel_bins(regp_nrf: bool, expected: int) -> None:
    resnet = random_resnet(regp_nrf, n_mels=800)
    for values in resnet.parameters():  # nothing is cut off by a ReLU
        values.data.abs_()
    x = torch.rand(4, 8, 800, dtype=torch.float64, requires_grad=True)
    maps = resnet.maps(x)
    maps[:, :, maps.shape[2] // 2].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1)).nonzero()
    assert seen.max() - seen.min() + 1 == expected


@pytest.mark.parametrize("shape", [(2, 64, 96), (96, 64), (1, 1, 96, 64), (1, 0, 64)])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[N, T, 64\]"):
        ResNet18()(torch.zeros(shape))


def test_too_few_mel_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="n_mels=0"):
        ResNet18(n_mels=0)
