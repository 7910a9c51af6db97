"""A data set as two pairs of tensors, its checksum, and one cache file."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnorder.errors import UserError
from bnorder.files import replacing, write_atomically

if TYPE_CHECKING:
    import numpy as np
    import torch

SPLIT_SEED = 20231101  # of the stratified split, for data sets without one of their own
TEST_FRACTION = 0.3  # of such a split
FOLDER_SIDE = 32  # pixels; the side to which a user's images are resized
FORMAT = 1  # of the cache file
KINDS = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
}  # as torchvision calls them
PARTS = ("train", "test", "val", "valid", "validation")  # names of parts, seldom of classes
SOURCE = ".source"  # beside the cache of a user's images: what their folder looked like


@dataclass(frozen=True)
class Dataset:
    """Images as (n, channels, height, width) uint8, labels as (n,) int64, and a SHA-256 of both."""

    name: str
    train_images: "torch.Tensor"
    train_labels: "torch.Tensor"
    test_images: "torch.Tensor"
    test_labels: "torch.Tensor"
    classes: tuple[str, ...]
    sha256: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    def on(self, device: "torch.device") -> "Dataset":
        """The same on a device, where all trainers share it."""
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def prepare(name: str, data_dirs: Sequence[str] = ()) -> Dataset:
    """Make a data set from local files, or download it; a wrong checksum is never used.

    Looks into the directories of `BNORDER_DATA` (separated as in PATH), then `data_dirs`.
    Raises UserError when there is neither a local copy nor a network.
    """
    kind, _, path = name.partition(":")
    if kind == "digits":
        return _digits()
    if kind == "folder":
        return _folder(name, Path(path).expanduser())
    from_environment = os.environ.get("BNORDER_DATA", "").split(os.pathsep)
    directories = [Path(d).expanduser() for d in [*from_environment, *data_dirs] if d]
    return _torchvision(name, directories)


def _digits() -> Dataset:
    """The 1,797 8x8 digits of scikit-learn; pixels of 0..16 spread over 0..255."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return _split("digits", images, bunch.target, [str(digit) for digit in range(10)])


def _torchvision(name: str, directories: Sequence[Path]) -> Dataset:
    """A data set of torchvision, found in `directories` or downloaded to its cache."""
    with _one_line_for_a_failed_download(name, directories) as root:
        train, test = (_open_torchvision(KINDS[name], root, directories, t) for t in (True, False))
    pairs = [(_as_nchw(split.data), split.targets) for split in (train, test)]
    return _dataset(name, *pairs[0], *pairs[1], [str(c) for c in train.classes])


def _open_torchvision(kind: str, root: Path, directories: Sequence[Path], train: bool) -> Any:
    import torchvision.datasets

    for directory in directories:
        _link_intact_files(kind, directory, root)
    return getattr(torchvision.datasets, kind)(root=str(root), train=train, download=True)


class _one_line_for_a_failed_download:
    """A scratch folder for torchvision, and one clear line for whatever goes wrong in it."""

    def __init__(self, name: str, directories: Sequence[Path]) -> None:
        import tempfile

        self.name, self.directories = name, directories
        self.folder = tempfile.TemporaryDirectory(prefix="bnorder-data-")

    def __enter__(self) -> Path:
        return Path(self.folder.name)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.folder.cleanup()
        if isinstance(error, (OSError, RuntimeError)):
            looked = ", ".join(map(str, self.directories)) or "nowhere: BNORDER_DATA is not set"
            lacking = _lacking_files(KINDS[self.name], self.directories)
            damaged = [str(path) for paths in lacking.values() for path in paths][:4]
            looked += f"; of another checksum: {', '.join(damaged)}" if damaged else ""
            raise UserError(
                f"data set {self.name}: not downloaded ({_first_line(error)}) and no intact local "
                f"copy of {', '.join(lacking or file_names(self.name))} (looked into {looked}); "
                "set BNORDER_DATA to a folder that holds them, or run STUDY=quick, which needs none"
            ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _resources(kind: str) -> list[tuple[str, str]]:
    """(file name, MD5) of what torchvision downloads for a data set."""
    import torchvision.datasets

    cls = getattr(torchvision.datasets, kind)
    if kind == "CIFAR10":
        return [(cls.filename, cls.tgz_md5)]
    return [(file, md5) for file, md5 in cls.resources]


def file_names(name: str) -> list[str]:
    """The files that a downloadable data set consists of."""
    return [file for file, _ in _resources(KINDS[name])]


def _link_intact_files(kind: str, directory: Path, root: Path) -> None:
    """Make files of the right checksum, wherever under `directory`, visible to torchvision."""
    target = root if kind == "CIFAR10" else root / kind / "raw"
    for file, md5 in _resources(kind):
        for found in sorted(p for p in _find(directory, file) if not (target / file).exists()):
            if _is_intact(found, md5):
                target.mkdir(parents=True, exist_ok=True)
                (target / file).symlink_to(found.resolve())
                break


def _lacking_files(kind: str, directories: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of which `directories` hold no intact copy, each with its damaged ones."""
    lacking = {}
    for file, md5 in _resources(kind):
        copies = [path for directory in directories for path in _find(directory, file)]
        if not any(_is_intact(path, md5) for path in copies):
            lacking[file] = copies
    return lacking


def _is_intact(path: Path, md5: str) -> bool:
    return hashlib.md5(path.read_bytes()).hexdigest() == md5


def _find(directory: Path, file: str) -> list[Path]:
    """`file` in `directory` or at most three folders below it."""
    patterns = ("", "*/", "*/*/", "*/*/*/")
    return [path for p in patterns for path in directory.glob(p + file) if path.is_file()]


def _as_nchw(data: Any) -> "np.ndarray[Any, Any]":
    import numpy as np

    images = np.asarray(data)
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def _folder(name: str, path: Path) -> Dataset:
    """A user's images: PATH/class/image, or PATH/train/class/image and PATH/test/class/image.

    Training images come in a fixed mixed order, for `train_images` takes the first of them.
    """
    import numpy as np

    if not path.is_dir():
        raise UserError(f"data set {name}: no such folder; expected one folder of images a class")
    parts = [path / "train", path / "test"]
    if all(part.is_dir() for part in parts):
        classes, others = (_class_names(name, part) for part in parts)
        if others != classes:
            odd = min(set(classes) ^ set(others))
            raise UserError(
                f"data set {name}: train and test have not the same classes, such as {odd}; "
                "expected a folder of each in both"
            )
        (images, labels), test = (_read_classes(name, part, classes) for part in parts)
        mixed = np.random.default_rng(SPLIT_SEED).permutation(len(labels))  # read class by class
        return _dataset(name, images[mixed], np.array(labels)[mixed], *test, classes)
    classes = _class_names(name, path)
    return _split(name, *_read_classes(name, path, classes), classes)


def _class_names(name: str, path: Path) -> list[str]:
    classes = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    parts = [c for c in classes if c.lower() in PARTS]
    if parts and (len(parts) > 1 or parts == classes):  # one among others may be a class: a train
        raise UserError(
            f"data set {name}: {path} has {', '.join(parts)} as class folders; expected `train` "
            "and `test` (in small letters), or one folder a class"
        )
    if len(classes) < 2:
        raise UserError(f"data set {name}: {path} has {len(classes)} class folders; expected two")
    return classes


def _read_classes(name: str, path: Path, classes: Sequence[str]) -> tuple[Any, list[int]]:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    files = [
        (file, label)
        for label, class_name in enumerate(classes)
        for file in sorted((path / class_name).rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    ]
    images = []
    for file, _ in files:
        try:
            image = Image.open(file)
            if image.mode[0] in "IF":  # their values would be cut off at 255, not scaled
                raise UserError(
                    f"data set {name}: {file} has pixels of more than 8 bits (mode {image.mode}); "
                    "expected 8 bits a channel"
                )
            small = image.convert("RGB").resize((FOLDER_SIDE, FOLDER_SIDE))
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise UserError(f"data set {name}: {file} is no readable image ({error})") from None
        except Image.DecompressionBombError as error:
            raise UserError(f"data set {name}: {file} is too large ({error})") from None
        images.append(np.asarray(small, dtype=np.uint8).transpose(2, 0, 1))
    missing = set(range(len(classes))) - {label for _, label in files}
    if missing:
        raise UserError(f"data set {name}: no image in {path / classes[min(missing)]}")
    return np.stack(images), [label for _, label in files]


def _split(name: str, images: Any, labels: Any, classes: Sequence[str]) -> Dataset:
    """A stratified split by a fixed seed, the same on every machine."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    labels = np.asarray(labels)
    try:
        train, test = train_test_split(
            np.arange(len(labels)),
            test_size=TEST_FRACTION,
            random_state=SPLIT_SEED,
            stratify=labels,
        )
    except ValueError as error:
        raise UserError(f"data set {name}: cannot be split by class ({error})") from None
    return _dataset(name, images[train], labels[train], images[test], labels[test], classes)


def _dataset(
    name: str,
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    classes: Sequence[str],
) -> Dataset:
    import numpy as np
    import torch

    images = [np.ascontiguousarray(i, dtype=np.uint8) for i in (train_images, test_images)]
    labels = [np.asarray(i, dtype=np.int64) for i in (train_labels, test_labels)]
    tensors = [torch.from_numpy(i) for i in (images[0], labels[0], images[1], labels[1])]
    return _from_tensors(name, tensors, classes, _checksum(tensors))


def _from_tensors(
    name: str, tensors: "Sequence[torch.Tensor]", classes: Sequence[str], sha256: str
) -> Dataset:
    train_images, train_labels, test_images, test_labels = tensors
    return Dataset(
        name, train_images, train_labels, test_images, test_labels, tuple(classes), sha256
    )


def _checksum(tensors: "Sequence[torch.Tensor]") -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(dataset: Dataset, path: Path) -> None:
    """Write the cache file and, beside it, the summary (.json) by which the workflow knows it."""
    import torch

    content = {
        "format": FORMAT,
        "name": dataset.name,
        "train_images": dataset.train_images,
        "train_labels": dataset.train_labels,
        "test_images": dataset.test_images,
        "test_labels": dataset.test_labels,
        "classes": list(dataset.classes),
        "sha256": dataset.sha256,
    }
    with replacing(path) as partial:
        torch.save(content, partial)
    summary = {
        "dataset": dataset.name,
        "sha256": dataset.sha256,
        "shape": list(dataset.shape),
        "classes": list(dataset.classes),
        "n_train": len(dataset.train_labels),
        "n_test": len(dataset.test_labels),
    }
    text = json.dumps(summary, indent=1) + "\n"
    write_atomically(path.with_suffix(".json"), text.encode())
    state = folder_state(dataset.name, path)
    if state:
        write_atomically(path.with_suffix(SOURCE), state.encode())


def folder_state(name: str, cache: Path) -> str:
    """Digest of names, sizes and times of a user's images, by which a change is noticed.

    Where their folder is gone, that of the images in `cache`, which is all that is left of them.
    Empty for other data sets: their files' checksums are known.
    """
    kind, _, path = name.partition(":")
    if kind != "folder":
        return ""
    folder, source = Path(path).expanduser(), cache.with_suffix(SOURCE)
    if not folder.is_dir():
        return source.read_text() if source.exists() else ""
    digest = hashlib.sha256()
    for file in _files_below(folder):
        seen = file.stat()
        line = f"{file.relative_to(folder)}\0{seen.st_size}\0{seen.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def is_stale(name: str, cache: Path) -> bool:
    """Has a user's folder of images changed since `cache` was made of it?"""
    source = cache.with_suffix(SOURCE)
    return folder_state(name, cache) != (source.read_text() if source.exists() else "")


def _files_below(folder: Path) -> list[Path]:
    """All files, also behind links: a class may be a link to a folder elsewhere."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in map(os.path.realpath, Path(place).parents):
            folders.clear()  # a link to a folder that holds it
        else:
            found += [Path(place, name) for name in names]
    return sorted(file for file in found if file.is_file())


def load(path: Path) -> Dataset:
    """Read a cache file back; raises UserError unless its content has its checksum."""
    import torch

    again = f"{path}: a damaged data cache (%s); delete it, and the next run makes it again"
    try:
        content = torch.load(path, weights_only=True)
        tensors = [
            content[key] for key in ("train_images", "train_labels", "test_images", "test_labels")
        ]
        dataset = _from_tensors(
            content["name"], tensors, content["classes"], str(content["sha256"])
        )
        intact = content["format"] == FORMAT and _checksum(tensors) == dataset.sha256
    except FileNotFoundError:
        raise UserError(f"{path}: no such data cache; make it with scripts/data.py") from None
    except Exception as error:  # torch.load raises many kinds on garbage
        raise UserError(again % _first_line(error)) from None
    if not intact:
        raise UserError(again % "its checksum does not match its content")
    return dataset
