"""Whether what runs on a cluster gets a GPU."""

from .errors import UserError


def on_gpu(device: str, gpus: int) -> bool:
    """Decide whether the processes of a cluster with so many GPUs get one.

    Args:
        device: cpu, cuda, or auto, which takes a GPU if there is one.
        gpus: how many the cluster has.
    """
    if device == "cuda" and not gpus:
        raise UserError(
            "device is cuda, but the Ray cluster has no GPU; add nodes, or use --device cpu or auto"
        )
    return device != "cpu" and gpus > 0
