"""From crops of waveforms to two views of log-mel: all of it on the device."""

import torch
from torch import Tensor, nn

from audio_barlow_twins.shards.stored.front_end import PCM16_SCALE, FrontEnd
from audio_barlow_twins.shards.stored.logmel import LogMel

from .bank import Bank
from .base import Setting
from .draws import Draws
from .norm import RunningNorm, SetNorm
from .pipeline import Views
from .wave_views import Chain, make_views


class WaveViews(nn.Module):
    """Augment waveforms, make their log-mel, augment that.

    Args:
        chain: views of waveforms, in their order.
        views: what follows on the log-mel.
        front_end: the log-mel.
        n_out: samples of a view.
        bank: number of last clips that serve as background.
        device: where the clips lie.
    """

    def __init__(
        self,
        chain: Chain,
        views: Views,
        front_end: FrontEnd,
        n_out: int,
        bank: int,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.chain, self.views, self.n_out = chain, views, n_out
        self.log_mel = LogMel(front_end).to(device)
        self.bank = Bank(bank if "background" in chain else 1, (n_out,), device)
        self.setting = Setting(
            sample_rate=front_end.sample_rate,
            n_out=n_out,
            bank=self.bank if "background" in chain else None,
        )

    @torch.no_grad()
    def forward(self, crops: Tensor, keys_a: Tensor, keys_b: Tensor) -> tuple[Tensor, Tensor]:
        """Make both views, then store the clips in the banks.

        Args:
            crops: int16 PCM [N, samples], as many samples as `needed_samples` says.
            keys_a, keys_b: keys of the random streams, see `Views.forward`.

        Returns:
            Views A and B, normalised log-mel, each float32 [N, T, F].
        """
        x = crops.float().div_(PCM16_SCALE)
        draws = Draws(torch.cat([keys_a, keys_b]))
        with torch.autocast(x.device.type, enabled=False):
            waves, _ = make_views(self.chain, torch.cat([x, x]), draws, self.setting)
            plain = self.log_mel(x[:, : self.n_out]) if self.views.learns else None
            made = self.views.make(self.log_mel(waves), plain, draws)
        self._keep(x[:, : self.n_out], plain)
        view_a, view_b = made.split(len(x))
        return view_a, view_b

    def remember(self, crops: Tensor) -> None:
        """Store a batch of crops, int16 PCM [N, samples], in the banks."""
        x = crops[:, : self.n_out].float().div_(PCM16_SCALE)
        self._keep(x, self.log_mel(x) if self.views.learns else None)

    @property
    def norm(self) -> SetNorm | RunningNorm:
        """How log-mel is normalised."""
        return self.views.norm

    @property
    def memory(self) -> int:
        """Number of last clips that the next views depend on."""
        background = self.bank.capacity if self.setting.bank is not None else 0
        return max(background, self.views.memory)

    def _keep(self, x: Tensor, plain: Tensor | None) -> None:
        if self.setting.bank is not None:
            self.bank.push(self.views.gather(x))
        if plain is not None:
            self.views.remember(plain)
