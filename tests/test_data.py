"""Data sets: made from local files, split, cached, checked."""

import gzip
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnorder import data, whole_study
from bnorder.errors import UserError


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.prepare("digits")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download fails at once, as on a machine without a network."""
    import torchvision.datasets.mnist
    import torchvision.datasets.utils

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.delenv("BNORDER_DATA", raising=False)
    monkeypatch.setattr(torchvision.datasets.utils.urllib.request, "urlopen", refuse)


def test_digits_are_the_1797_images_split_by_class(digits: data.Dataset) -> None:
    assert digits.shape == (1, 8, 8)
    assert len(digits.train_labels) + len(digits.test_labels) == 1797
    assert digits.train_images.dtype == torch.uint8
    assert int(digits.train_images.max()) == 255
    share = torch.bincount(digits.test_labels) / torch.bincount(digits.train_labels)
    assert float(share.max() - share.min()) < 0.03


def test_the_split_is_the_same_every_time(digits: data.Dataset) -> None:
    assert data.prepare("digits").sha256 == digits.sha256


def test_a_cache_file_gives_the_data_back(digits: data.Dataset, tmp_path: Path) -> None:
    data.save(digits, tmp_path / "digits.pt")
    again = data.load(tmp_path / "digits.pt")
    assert again.sha256 == digits.sha256
    assert torch.equal(again.train_images, digits.train_images)
    assert {path.name for path in tmp_path.iterdir()} == {"digits.pt", "digits.json"}


def test_a_flipped_bit_in_the_cache_is_found(digits: data.Dataset, tmp_path: Path) -> None:
    flipped = digits.train_images.clone()
    flipped[5, 0, 3, 3] ^= 1
    wrong = data.Dataset(**{**vars(digits), "train_images": flipped})
    data.save(wrong, tmp_path / "digits.pt")
    with pytest.raises(UserError, match="checksum does not match"):
        data.load(tmp_path / "digits.pt")


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"PK\x03\x04" + bytes(100)])
def test_a_garbage_cache_is_one_line(garbage: bytes, tmp_path: Path) -> None:
    (tmp_path / "digits.pt").write_bytes(garbage)
    with pytest.raises(UserError, match="damaged data cache.*delete it"):
        data.load(tmp_path / "digits.pt")


def test_a_cache_that_carries_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "run"),)

    torch.save({"format": 1, "name": Evil()}, tmp_path / "digits.pt")
    with pytest.raises(UserError, match="damaged data cache"):
        data.load(tmp_path / "digits.pt")
    assert not (tmp_path / "run").exists()


def test_no_network_and_no_copy_is_one_line_that_names_files_and_places(
    offline: None, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        data.prepare("mnist", [str(tmp_path)])
    line = str(caught.value)
    assert "train-images-idx3-ubyte.gz" in line
    assert str(tmp_path) in line
    assert "BNORDER_DATA" in line
    assert "STUDY=quick" in line


def test_a_file_with_a_wrong_checksum_is_never_used(offline: None, tmp_path: Path) -> None:
    for name in data.file_names("mnist"):
        (tmp_path / name).write_bytes(gzip.compress(b"not mnist"))
    with pytest.raises(UserError, match="no intact local copy"):
        data.prepare("mnist", [str(tmp_path)])


def test_a_damaged_file_is_named_with_its_folder_and_intact_ones_are_not(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    import torchvision.datasets

    md5 = hashlib.md5(b"whole").hexdigest()
    names = data.file_names("mnist")
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", [(name, md5) for name in names])
    for name in names:
        (tmp_path / name).write_bytes(b"cut" if name == names[0] else b"whole")
    with pytest.raises(UserError) as caught:
        data.prepare("mnist", [str(tmp_path)])
    assert f"no intact local copy of {names[0]} (looked into {tmp_path}; of another" in str(
        caught.value
    )
    assert f"checksum: {tmp_path / names[0]})" in str(caught.value)


@pytest.mark.parametrize("below", ["", "MNIST/raw", "a/b/c"])
def test_local_files_of_the_right_checksum_are_found_below_a_folder(
    below: str, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    import torchvision.datasets

    place = tmp_path / below
    place.mkdir(parents=True, exist_ok=True)
    resources = []
    for part, count in (("train", 6), ("t10k", 3)):
        for kind, content in (
            ("images-idx3", struct.pack(">4i", 2051, count, 28, 28) + bytes(count * 784)),
            ("labels-idx1", struct.pack(">2i", 2049, count) + bytes(range(count))),
        ):
            file = place / f"{part}-{kind}-ubyte.gz"
            file.write_bytes(gzip.compress(content))
            resources.append((file.name, hashlib.md5(file.read_bytes()).hexdigest()))
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    monkeypatch.setenv("BNORDER_DATA", os.pathsep.join(["/nowhere", str(tmp_path)]))
    dataset = data.prepare("mnist")
    assert dataset.shape == (1, 28, 28)
    assert dataset.test_labels.tolist() == [0, 1, 2]


def test_the_real_mnist_has_its_known_counts() -> None:
    if not os.environ.get("BNORDER_DATA"):
        pytest.skip("BNORDER_DATA does not name a folder with MNIST")
    mnist = data.prepare("mnist")
    assert (len(mnist.train_labels), len(mnist.test_labels)) == (60000, 10000)
    # LeCun's files: mean and spread of the training pixels, in every tutorial as .1307 and .3081
    pixels = mnist.train_images.double() / 255
    assert float(pixels.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(0.3081, abs=5e-5)


def image_folder(root: Path, sizes: dict[str, tuple[int, int]], count: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for name, size in sizes.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def test_a_folder_of_images_of_any_size_is_split_by_class(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", {"cat": (20, 30), "<script>": (50, 10)}, count=10)
    dataset = data.prepare(f"folder:{root}")
    assert dataset.classes == ("<script>", "cat")
    assert dataset.shape == (3, 32, 32)
    assert torch.bincount(dataset.test_labels).tolist() == [3, 3]


def test_a_folder_with_train_and_test_keeps_them(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", {"a": (8, 8), "b": (8, 8)}, count=5)
    image_folder(tmp_path / "test", {"a": (8, 8), "b": (8, 8)}, count=2)
    dataset = data.prepare(f"folder:{tmp_path}")
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (10, 4)
    first = dataset.train_labels[:5].tolist()  # as train_images=5 takes them
    assert set(first) == {0, 1} and first != sorted(first)
    again = data.prepare(f"folder:{tmp_path}")
    assert again.sha256 == dataset.sha256


@pytest.mark.parametrize(
    "parts", ["train val", "Train Test", "TRAIN test", "train validation", "train", "val valid x"]
)
def test_parts_of_other_names_are_no_classes(parts: str, tmp_path: Path) -> None:
    image_folder(tmp_path, dict.fromkeys(parts.split(), (8, 8)))
    with pytest.raises(UserError, match="expected `train` and `test` .in small letters., or one"):
        data.prepare(f"folder:{tmp_path}")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    image_folder(tmp_path, dict.fromkeys(("bus", "train"), (8, 8)))
    assert data.prepare(f"folder:{tmp_path}").classes == ("bus", "train")


def test_bad_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        data.prepare(f"folder:{tmp_path / 'nope'}")
    image_folder(tmp_path, {"only": (8, 8)})
    with pytest.raises(UserError, match="1 class folders"):
        data.prepare(f"folder:{tmp_path}")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="no image in"):
        data.prepare(f"folder:{tmp_path}")
    (tmp_path / "other" / "x.png").write_text("no image")
    with pytest.raises(UserError, match=r"x\.png is no readable image"):
        data.prepare(f"folder:{tmp_path}")
    (tmp_path / "other" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(UserError, match=r"x\.png is no readable image"):
        data.prepare(f"folder:{tmp_path}")


@pytest.mark.parametrize("pixels", [np.full((8, 8), 40_000, np.uint16), np.ones((8, 8), "f4")])
def test_pixels_of_more_than_8_bits_are_refused(tmp_path: Path, pixels: Any) -> None:
    root = image_folder(tmp_path, {"a": (8, 8), "b": (8, 8)})
    Image.fromarray(pixels).save(root / "b" / "deep.tiff")
    with pytest.raises(UserError, match=r"deep\.tiff has pixels of more than 8 bits"):
        data.prepare(f"folder:{root}")


def test_an_image_that_is_too_large_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(tmp_path, {"a": (8, 8), "b": (8, 8)})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError, match=r"0\.png is too large"):
        data.prepare(f"folder:{root}")


def test_a_class_of_one_part_only_is_refused(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", {"a": (8, 8), "b": (8, 8)})
    image_folder(tmp_path / "test", {"a": (8, 8), "b": (8, 8), "c": (8, 8)})
    with pytest.raises(UserError, match="have not the same classes, such as c"):
        data.prepare(f"folder:{tmp_path}")


def test_a_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    image_folder(tmp_path / "pets", {"a": (8, 8), "b": (8, 8)}, count=4)
    assert data.prepare("folder:~/pets").classes == ("a", "b")


@pytest.mark.parametrize("where", ["a/0.png", "a/more/deeper.png"])
def test_a_change_behind_a_link_is_noticed(where: str, tmp_path: Path) -> None:
    kept = image_folder(tmp_path / "kept", {"a": (8, 8), "b": (8, 8)}, count=4)
    root = tmp_path / "pets"
    root.mkdir()
    for label in ("a", "b"):
        (root / label).symlink_to(kept / label)
    (kept / "a" / "more").mkdir()
    (kept / "b" / "again").symlink_to(root)  # without end
    name, cache = f"folder:{root}", tmp_path / "cache.pt"
    before = data.folder_state(name, cache)
    assert before == data.folder_state(name, cache)
    (kept / where).write_bytes(b"another")
    assert data.folder_state(name, cache) != before


def test_a_changed_folder_is_noticed_and_a_lost_one_is_not_needed(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", {"a": (8, 8), "b": (8, 8)}, count=4)
    name, cache = f"folder:{root}", tmp_path / "cache.pt"
    data.save(data.prepare(name), cache)
    before = data.folder_state(name, cache)
    assert before and before == data.folder_state(name, cache)
    (root / "a" / "0.png").rename(root / "a" / "zero.png")
    after = data.folder_state(name, cache)
    assert after != before
    root.rename(tmp_path / "moved")
    assert data.folder_state(name, cache) == before
    assert data.folder_state("mnist", cache) == data.folder_state("folder:/nowhere", root) == ""


def test_a_cache_is_stale_once_its_folder_has_changed(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", {"a": (8, 8), "b": (8, 8)}, count=4)
    name, results = f"folder:{root}", tmp_path / "results"
    before = whole_study.cached_dataset(name, results, ())
    (cache,) = (results / "data").glob("*.pt")
    assert not data.is_stale(name, cache)
    Image.new("RGB", (8, 8)).save(root / "a" / "more.png")
    assert data.is_stale(name, cache)
    after = whole_study.cached_dataset(name, results, ())
    images = [len(d.train_labels) + len(d.test_labels) for d in (before, after)]
    assert images == [8, 9]
    shutil.rmtree(root)  # the cache is all that is left of them
    assert not data.is_stale(name, cache)
