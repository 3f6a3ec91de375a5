"""To what size images are scaled where nobody says it."""

from kdjax.data.dataset import DatasetSpec, has_image_files
from kdjax.data.tfds import image_size

SIDE = 32  # pixels: what small convolutional nets train on in minutes on a CPU
LARGEST = 40  # pixels: longer sides are scaled


def suitable_size(spec: DatasetSpec, data_dir: str = "") -> int:
    """The size that `spec` names; else `SIDE` for a folder or a set of TFDS whose images are of
    several sizes, or have a side longer than `LARGEST`; else 0, which leaves them as they are.

    Raises:
      InputError: there is no such set, or an image is none.
    """
    if spec.image_size or not has_image_files(spec.name):
        return spec.image_size
    if not spec.name.endswith("/"):
        sides = image_size(spec.name, data_dir)
        return SIDE if sides is None or max(sides) > LARGEST else 0
    from kdjax.data.folder import image_sizes  # here, for only folders need Pillow

    first = None
    try:
        for sides in image_sizes(spec.name):
            first = first or sides
            if sides != first or max(sides) > LARGEST:
                return SIDE
    except OSError:  # whoever reads the folder says why
        pass
    return 0
