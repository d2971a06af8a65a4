"""A batch of crops in, two augmented views of each out, on the device and without waiting for it.

            wave shards                                  log-mel shards
    crops   int16 [N, samples]                           float16 [N, T, F]
              |  to float32, each crop twice               |  to float32, each crop twice
            [2N, samples]                                  |
              |  views of waveforms  <-  wave bank         |
            [2N, n_out]                                    |
              |  log-mel                                   |
            [2N, T, F] <-----------------------------------'
              |  normalise
              |  views of log-mel    <-  bank
              |  PPN normalises again
    views   float32 [N, T, F] and float32 [N, T, F]

A bank holds the last clips before their augmentation, for views that mix them in. Every process
holds the clips of all, in the order of the global batch, so what is mixed in does not depend on the
number of processes. Every view has its own random streams: dropping one does not change the numbers
of the others.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from audio_barlow_twins.shards.stored.front_end import PCM16_SCALE, FrontEnd, LogMelBackend
from audio_barlow_twins.shards.stored.logmel import LogMel

from .bank import Bank
from .base import Chain, Drawn, LogmelView, ViewContext, WaveView, draws_of, fit
from .norm import Gather, RunningNorm, SetNorm
from .registry import of_kind


class TwoViews(nn.Module):
    """Make two views of every clip of a batch.

    Args:
        chain: the augmentations, those of waveforms first.
        norm: normalises log-mel.
        shape: of a view, (T, F).
        front_end: computes log-mel from wave crops; None: crops are log-mel.
        gather: collects the clips of all processes in the order of the global batch.
        log_mel: what computes log-mel, see `LogMel`.
    """

    def __init__(
        self,
        chain: Chain,
        norm: SetNorm | RunningNorm,
        shape: tuple[int, int],
        front_end: FrontEnd | None = None,
        device: torch.device | None = None,
        gather: Gather = lambda x: x,
        log_mel: LogMelBackend = "auto",
    ) -> None:
        super().__init__()
        self.waves, self.log_mels = of_kind(chain, WaveView), of_kind(chain, LogmelView)
        self.draws = draws_of(chain, device)
        self.norm, self.gather = norm, gather
        wave_memory, memory = memory_of(self.waves), memory_of(self.log_mels)
        self.memory = max(wave_memory, memory)
        """Number of recent clips on which the next views depend."""
        self.keeps_waves, self.keeps_log_mels = wave_memory > 0, memory > 0
        self.learns = self.keeps_log_mels or isinstance(norm, RunningNorm)
        """Whether log-mel before its augmentation is needed."""
        self.bank = Bank(max(1, memory), shape, device, read=norm)
        self.context = ViewContext(shape=shape, bank=self.bank)
        self.log_mel = None
        if front_end:
            self.log_mel = LogMel(front_end, log_mel).to(device)
            self.n_out = samples_of(shape[0], front_end)
            self.wave_bank = Bank(max(1, wave_memory), (self.n_out,), device)
            self.wave_context = ViewContext(
                shape=(self.n_out,), bank=self.wave_bank, sample_rate=front_end.sample_rate
            )

    @torch.no_grad()
    def forward(self, crops: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Make both views, then store the clips in the banks.

        Args:
            crops: int16 PCM [N, samples], as many as `needed_samples` says, or log-mel [N, T, F].
            keys: of the random streams of every clip's views A and B, int64 [2, N], on the device.

        Returns:
            Views A and B, normalised, each float32 [N, T, F].
        """
        x = self._float(crops)
        with torch.autocast(crops.device.type, enabled=False):
            plain = self._plain(x) if self.learns else None
            views = self.make(x, plain, keys)
        self._keep(x, plain)
        view_a, view_b = views.chunk(2)
        return view_a, view_b

    def make(self, x: Tensor, plain: Tensor | None, keys: Tensor) -> Tensor:
        """Make the views of one batch without changing the banks.

        Args:
            x: waveforms, float32 [N, samples], or log-mel [N, T, F].
            plain: their log-mel before any augmentation, [N, T, F]; None unless `learns`.
            keys: of views A and B, int64 [2, N].

        Returns:
            Views A, then views B, normalised, float32 [2N, T, F].
        """
        both = torch.cat([x, x])
        drawn = self.draws(keys.flatten())
        if self.log_mel:
            both = self.log_mel(apply_chain(self.waves, both, drawn, self.wave_context)[0])
        if plain is not None:
            self.norm.learn(plain)
        views, _ = apply_chain(self.log_mels, self.norm(both), drawn, self.context)
        return self.norm.finish(views)

    @torch.no_grad()
    def prepare(self) -> None:
        """Make the constants that compiled code will look up, by changing a clip of zeros."""
        device = self.bank.ring.device
        if self.log_mel:
            needed = needed_samples(self.waves, self.n_out, self.wave_context.sample_rate)
            drawn = self.draws(torch.zeros(1, dtype=torch.int64, device=device))
            apply_chain(self.waves, torch.zeros(1, needed, device=device), drawn, self.wave_context)

    @property
    def backend(self) -> str:
        """What computed the log-mel: here, or for a set of log-mel, which is made on CPUs."""
        return self.log_mel.backend_on(self.bank.ring.device) if self.log_mel else "fft"

    @torch.no_grad()
    def remember(self, crops: Tensor) -> None:
        """Store a batch of crops in the banks, with those of the other processes."""
        x = self._float(crops)
        self._keep(x, self._plain(x) if self.learns else None)

    def _float(self, crops: Tensor) -> Tensor:
        return crops.float().div_(PCM16_SCALE) if self.log_mel else crops.float()

    def _plain(self, x: Tensor) -> Tensor:
        """Return the log-mel of clips before their augmentation, [N, T, F]."""
        return self.log_mel(x[:, : self.n_out]) if self.log_mel else x

    def _keep(self, x: Tensor, plain: Tensor | None) -> None:
        if self.keeps_waves:
            self.wave_bank.push(self.gather(x[:, : self.n_out]))
        if plain is not None and self.keeps_log_mels:
            self.bank.push(self.gather(plain))


@torch.no_grad()
def apply_chain(
    chain: Chain, x: Tensor, drawn: Mapping[str, Drawn], context: ViewContext
) -> tuple[Tensor, dict[str, Drawn]]:
    """Apply views of one kind one after the other.

    Args:
        x: waveforms, float32 [N, T], of which `needed_samples` are used; or log-mel [N, T, F].
        drawn: the numbers of each view, see `draws_of`.
        context: its shape is that of the result, without N.

    Returns:
        The clips, padded with zeros if x is too short, and what each view derived.
    """
    x = x[:, : needed_samples(chain, context.shape[0], context.sample_rate)]
    derived = {}
    for name, view in chain.items():
        x, derived[name] = view(x, drawn[name], context)
    return fit(x, context.shape[0]), derived


def needed_samples(chain: Chain, n_out: int, sample_rate: int) -> int:
    """Return how many samples a clip needs for `n_out` samples without zeros at the end."""
    for view in reversed(chain.values()):
        n_out = view.needed(n_out, sample_rate)
    return n_out


def samples_of(n_frames: int, front_end: FrontEnd) -> int:
    """Return the number of samples that make `n_frames` frames of log-mel."""
    return (n_frames - 1) * front_end.hop


def memory_of(chain: Chain) -> int:
    """Return from how many earlier clips the views of a chain choose; 0 if none does."""
    return max((view.memory for view in chain.values()), default=0)
