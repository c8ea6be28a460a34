from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from takd.data import folder
from takd.data.cache import read_arrays
from takd.data.catalogue import available_datasets
from takd.data.folder import carve_test, import_folder
from takd.data.loading import load_training
from takd.data.meta import DataError, data_root, read_meta
from takd.data.table import RGB_32
from takd.data.test_part import load_test
from takd.stage import DataSpec


def picture(path: Path, seed: int, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """train/ with 2 x 12 and test/ with 2 x 6 pictures of 32 x 32."""
    top = tmp_path / "pictures"
    seed = 0
    for part, count in (("train", 12), ("test", 6)):
        for name in ("dog", "cat"):
            for i in range(count):
                picture(top / part / name / f"{i}.png", seed)
                seed += 1
    return top


def direct(tmp_path: Path, counts: dict[str, int]) -> Path:
    top = tmp_path / "flat"
    seed = 1000
    for name, count in counts.items():
        for i in range(count):
            picture(top / name / f"{i}.png", seed)
            seed += 1
    return top


def refused(path: Path, match: str, name: str = "pets", side: int = 32) -> None:
    """import_folder refuses with this sentence and leaves the cache untouched."""
    with pytest.raises(DataError, match=match):
        import_folder(path, name, side=side)
    assert not data_root().exists()


def test_import_and_use(tree: Path) -> None:
    meta = import_folder(tree, "pets")
    assert (meta["name"], meta["class_names"], meta["train"], meta["test"]) == ("folder-pets", ["cat", "dog"], 24, 12)
    assert "note" not in meta
    row = available_datasets()["folder-pets"]
    assert (row.families, row.validation, row.test) == (RGB_32, 2, 0)
    data = DataSpec("folder-pets", meta["fingerprint"], 2, 22, 0.0, 0)
    arrays = load_training(data, 0)
    assert arrays.train_x.shape == (22, 32, 32, 3)
    assert arrays.val_x.shape == (2, 32, 32, 3)
    assert load_test(data)[0].shape == (12, 32, 32, 3)


def test_pixels_of_the_right_size_are_kept_exactly(tree: Path) -> None:
    pixels = picture(tree / "train" / "cat" / "new.png", 999)
    import_folder(tree, "pets")
    x, y = read_arrays("folder-pets", None, "train")
    match = [i for i, image in enumerate(x) if np.array_equal(image, pixels)]
    assert len(match) == 1
    assert y[match[0]] == 0  # cat


def test_names_of_files_and_import_again_do_not_matter(tree: Path) -> None:
    first = import_folder(tree, "pets")
    (tree / "train" / "cat" / "0.png").rename(tree / "train" / "cat" / "zzz.png")
    assert import_folder(tree, "pets") == first
    picture(tree / "train" / "cat" / "more.png", 5000)
    assert import_folder(tree, "pets")["fingerprint"] != first["fingerprint"]
    assert read_meta("folder-pets")["train"] == 25  # type: ignore[index]


def test_shorter_side_then_middle(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, :8], wide[:, 8:16], wide[:, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    for name, image in (("wide", wide), ("tall", wide.transpose(1, 0, 2))):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        got = folder._read_image(tmp_path / f"{name}.png", 16)
        assert got.shape == (16, 16, 3)
        assert (got[3:-3, 3:-3] == (0, 255, 0)).all()  # the green middle; only the filter's edge sees the sides
        size, corner = ((48, 16), (16, 0)) if name == "wide" else ((16, 48), (0, 16))
        resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        expected = np.asarray(resized.crop((*corner, corner[0] + 16, corner[1] + 16))).astype(int)
        assert np.abs(expected - got).max() <= 1


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    picture(tmp_path / f"x.{suffix}", 0, (40, 50), mode)
    assert folder._read_image(tmp_path / f"x.{suffix}", 32).shape == (32, 32, 3)


def test_class_folders_directly(tmp_path: Path) -> None:
    meta = import_folder(direct(tmp_path, {"a": 40, "b": 25}), "flat")
    assert (meta["train"], meta["test"]) == (32 + 20, 8 + 5)
    assert "a fifth of every class" in meta["note"]
    _, y = read_arrays("folder-flat", None, "test")
    assert np.bincount(y).tolist() == [8, 5]


def test_train_alone(tree: Path) -> None:
    for file in (tree / "test").rglob("*.png"):
        file.rename(tree / "train" / file.parent.name / f"t{file.name}")
    for empty in (tree / "test" / "cat", tree / "test" / "dog", tree / "test"):
        empty.rmdir()
    refused(tree, "test part .* has 8 images; at least 10")
    for i in range(10):
        picture(tree / "train" / "cat" / f"more{i}.png", 700 + i)
    meta = import_folder(tree, "pets")
    assert (meta["class_names"], meta["train"], meta["test"]) == (["cat", "dog"], 46 - 10, 10)


def test_carving_looks_at_pixels_only_and_keeps_copies_together() -> None:
    g = np.random.default_rng(0)
    x = g.integers(0, 256, (50, 2, 2, 3), dtype=np.uint8)
    x = np.concatenate([x, x])  # every picture twice
    y = np.tile(np.repeat([0, 1], 25), 2)
    mask = carve_test(x, y)
    assert mask.sum() == 20
    assert [int(mask[y == c].sum()) for c in (0, 1)] == [10, 10]
    np.testing.assert_array_equal(mask[:50], mask[50:])
    order = g.permutation(100)
    np.testing.assert_array_equal(carve_test(x[order], y[order]), mask[order])


def test_no_such_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "There is no folder")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "There is no folder")


def test_no_class_folders(tmp_path: Path) -> None:
    top = tmp_path / "flat"
    picture(top / "loose.png", 0)
    (top / ".hidden").mkdir()
    refused(top, "holds no class folders")


def test_one_class(tmp_path: Path) -> None:
    refused(direct(tmp_path, {"a": 60}), "holds one class, a;")


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_class(tree: Path, part: str) -> None:
    for file in (tree / part / "dog").iterdir():
        file.unlink()
    (tree / part / "dog" / "notes.txt").write_text("no image")
    refused(tree, rf"{part}/dog holds no images")


@pytest.mark.parametrize("kind", ["text", "cut", "disguise"])
def test_corrupt_image_is_named(tree: Path, kind: str) -> None:
    bad = tree / "train" / "dog" / "7.png"
    if kind == "text":
        bad.write_text("not a picture")
    elif kind == "cut":
        bad.write_bytes(bad.read_bytes()[:200])
    else:  # a format that no decoder here is allowed to see
        Image.new("RGB", (32, 32)).save(bad, format="EPS")
    refused(tree, r"dog/7\.png cannot be read as an image")


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "words"), [((10_000, 6_000), "10000 x 6000 pixels"), ((60_000, 60_000), "decompression bomb")]
)
def test_decompression_bomb(tree: Path, size: tuple[int, int], words: str) -> None:
    (tree / "train" / "dog" / "bomb.png").write_bytes(png_claiming(*size))
    refused(tree, rf"dog/bomb\.png .*{words}")


def test_class_only_in_test(tree: Path) -> None:
    picture(tree / "test" / "horse" / "0.png", 0)
    refused(tree, "class horse is in test but not in train")


def test_class_only_in_train_is_fine(tree: Path) -> None:
    picture(tree / "train" / "ant" / "0.png", 12345)
    meta = import_folder(tree, "pets")
    assert meta["class_names"] == ["ant", "cat", "dog"]
    _, y = read_arrays("folder-pets", None, "test")
    assert np.bincount(y, minlength=3).tolist() == [0, 6, 6]


@pytest.mark.parametrize(("part", "word"), [("train", "training"), ("test", "test")])
def test_too_few_images(tree: Path, part: str, word: str) -> None:
    for name in ("cat", "dog"):
        for file in sorted((tree / part / name).iterdir())[4:]:
            file.unlink()
    refused(tree, f"The {word} part .* has 8 images; at least 10")


@pytest.mark.parametrize("name", ["", "Pets", "a b", "../x", "x" * 41, "ä", "a\n"])
def test_bad_names(tree: Path, name: str) -> None:
    refused(tree, "cannot name a data set", name=name)


@pytest.mark.parametrize("side", [0, 7, 257])
def test_bad_sides(tree: Path, side: int) -> None:
    refused(tree, "not supported", side=side)


def test_other_side(tree: Path) -> None:
    import_folder(tree, "pets", side=8)
    assert read_arrays("folder-pets", None, "train")[0].shape == (24, 8, 8, 3)


def test_links_that_leave_the_tree_are_ignored(tree: Path, tmp_path: Path) -> None:
    before = import_folder(tree, "pets")
    outside = tmp_path / "outside"
    picture(outside / "secret.png", 77)
    (tree / "train" / "dog" / "link.png").symlink_to(outside / "secret.png")
    (tree / "train" / "dog" / "folder").symlink_to(outside, target_is_directory=True)
    (tree / "train" / "stolen").symlink_to(outside, target_is_directory=True)
    (tree / "train" / "dog" / "broken.png").symlink_to(tree / "nothing.png")
    (tree / "train" / "dog" / "circle.png").symlink_to(tree / "train" / "dog" / "circle.png")
    assert import_folder(tree, "pets") == before


def test_links_inside_the_tree_are_followed(tree: Path) -> None:
    (tree / "train" / "dog" / "again.png").symlink_to(tree / "train" / "dog" / "0.png")
    assert import_folder(tree, "pets")["train"] == 25
