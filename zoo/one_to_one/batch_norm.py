"""Sizes of batches with which an encoder's batch norms cannot be trained."""

from torch import nn

from zoo.errors import InputError
from zoo.one_to_one.image_encoder import ImageEncoder


def check_batch_size(encoder: ImageEncoder, images: int, batch_size: int, processes: int, device: str) -> None:
    """Batch norm has no statistics of a batch of one image where the network makes one place of it.

    Args:
        encoder: the network.
        images: how many there are to train on, each once an epoch.
        batch_size: the images of a batch; the last one of an epoch has what is left.
        processes: how many share each batch.
        device: the type of theirs: on GPUs, batch norms have the statistics of the whole batch.

    Raises:
        InputError: there would be such a batch.
    """
    is_normed = any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    if not is_normed or encoder.fixed or encoder.grid != (1, 1):
        return
    place = f"of which {encoder.backbone} makes one place at image_size {encoder.image_size}, too little for batch norm"
    if (images % batch_size or batch_size) == 1:
        raise InputError(
            f"with batch_size {batch_size} the last batch of an epoch has one image, {place}: choose others of these"
        )
    sizes = {min(batch_size, images), images % batch_size or batch_size}
    if device == "cpu" and processes > 1 and any(1 <= size // processes < 2 for size in sizes):
        raise InputError(
            f"with batch_size {batch_size} one of {processes} processes has a single image of a batch, {place} "
            "on a CPU: choose others of these"
        )
