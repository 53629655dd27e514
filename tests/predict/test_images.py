import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hapgop.errors import InputError
from hapgop.predict import open_image, plain


def saved(tmp_path, image, name="picture.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def pixels(image):
    return np.asarray(image)


GREY = np.array([[0, 60, 120], [180, 240, 255]], np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp", "tga", "pgm"])
def test_grey_and_colour_come_back_exactly_from_lossless_files(tmp_path, suffix):
    grey = open_image(saved(tmp_path, Image.fromarray(GREY), f"grey.{suffix}", lossless=True))
    assert np.array_equal(pixels(grey.convert("L")), GREY)
    if suffix not in ("gif", "pgm"):
        colour = open_image(saved(tmp_path, Image.fromarray(COLOUR), f"colour.{suffix}", lossless=True))
        assert colour.mode == "RGB"
        assert np.array_equal(pixels(colour), COLOUR)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_rotation_is_followed(tmp_path, orientation, suffix, compression):
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {} if compression is None else {"compression": compression}
    path = saved(tmp_path, Image.fromarray(COLOUR), f"picture.{suffix}", exif=exif, **how)
    assert np.array_equal(pixels(open_image(path)), TURNS[orientation](COLOUR))


def png_16(values):
    """A 16-bit grey PNG by hand, so that no library's idea of scaling comes between."""
    values = np.asarray(values, ">u2")
    height, width = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    path = tmp_path / "xray.png"
    path.write_bytes(png_16([[0, 128, 257, 32768], [65535, 65278, 514, 40000]]))
    image = open_image(path)
    assert image.mode == "L"
    assert pixels(image).tolist() == [[0, 0, 1, 128], [255, 254, 2, 156]]


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.array([[0, 65535, 257 * 7]], np.uint16)),
        Image.fromarray(np.array([[0, 65535, 257 * 7]], np.int32)),
        Image.fromarray(np.array([[0, 1, 7 / 255]], np.float32)),
    ],
    ids=["I;16", "I", "F"],
)
def test_deep_grey_of_every_kind_means_the_same(image, tmp_path):
    assert pixels(plain(image)).tolist() == [[0, 255, 7]]
    assert pixels(open_image(saved(tmp_path, image, "deep.tiff"))).tolist() == [[0, 255, 7]]


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 65536]], np.int32),
        np.array([[-1, 5]], np.int32),
        np.array([[0, 200]], np.float32),
        np.array([[0, np.nan]], np.float32),
    ],
    ids=str,
)
def test_grey_without_an_agreed_white_is_refused_and_named(values, tmp_path):
    path = saved(tmp_path, Image.fromarray(values), "deep.tiff")
    with pytest.raises(InputError, match=r"deep.tiff: grey values .* agreed white"):
        open_image(path)


def test_transparency_lies_on_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    image = open_image(saved(tmp_path, Image.fromarray(rgba)))
    assert image.mode == "RGB"
    assert pixels(image).tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]
    la = Image.fromarray(rgba).convert("LA")
    image = open_image(saved(tmp_path, la, "la.png"))
    assert image.mode == "L"
    assert pixels(image)[0, 1:].tolist() == [255, 204]


def test_palettes_and_their_transparency(tmp_path):
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    plain_palette = open_image(saved(tmp_path, palette, "plain.png"))
    assert pixels(plain_palette).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    see_through = open_image(saved(tmp_path, palette, "clear.png", transparency=1))
    assert pixels(see_through).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_one_bit_pictures(tmp_path):
    image = open_image(saved(tmp_path, Image.fromarray(np.array([[True, False]]))))
    assert (image.mode, pixels(image).tolist()) == ("L", [[255, 0]])


def test_cmyk_becomes_rgb(tmp_path):
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image = open_image(saved(tmp_path, cmyk, "print.jpg", quality=100))
    assert image.mode == "RGB"
    red, green, blue = pixels(image)[4, 4]
    assert red > 240
    assert max(green, blue) < 15


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    first, second = Image.new("L", (2, 2), 10), Image.new("L", (2, 2), 200)
    path = saved(tmp_path, first, "moving.gif", save_all=True, append_images=[second])
    assert pixels(open_image(path).convert("L")).tolist() == [[10, 10], [10, 10]]


def test_a_large_jpeg_is_decoded_small_but_never_below_twice_the_size(tmp_path):
    path = saved(tmp_path, Image.linear_gradient("L").resize((1600, 1200)), "large.jpg")
    assert open_image(path).size == (1600, 1200)
    small = open_image(path, (60, 80))
    assert small.size == (400, 300)
    exact = pixels(open_image(path).resize((80, 60), Image.Resampling.BILINEAR)).astype(int)
    hasty = pixels(small.resize((80, 60), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(exact - hasty).max() <= 3


BAD = {
    "notes.png": (b"Dear diary, this is no picture.\n", r"notes.png: not a picture .* holds text"),
    "empty.jpg": (b"", r"empty.jpg: not a picture .* is empty"),
    "noise.png": (bytes(range(256)), r"noise.png: not a picture .* JPEG, PNG"),
    "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"photo.heic: not a picture .* converted"),
    "cut.png": (png_16(np.arange(4096).reshape(64, 64))[:-60], r"cut.png: a damaged picture"),
    "header.png": (png_16([[1, 2]])[:20], r"header.png: (a damaged|not a) picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_named_with_the_reason(tmp_path, name):
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        open_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_way_to_cut_or_spoil_a_file_is_an_input_error_or_a_picture(tmp_path):
    random = np.random.default_rng(1)
    for name, options in (
        ("a.jpg", {"quality": 90}),
        ("a.png", {}),
        ("a.gif", {}),
        ("a.webp", {}),
        ("a.tiff", {}),
    ):
        whole = saved(tmp_path, Image.fromarray(np.tile(COLOUR, (9, 9, 1))), name, **options).read_bytes()
        path = tmp_path / f"spoilt_{name}"
        for _ in range(60):
            content = bytearray(whole[: random.integers(1, len(whole) + 1)])
            for place in random.integers(0, len(content), random.integers(0, 9)):
                content[place] = random.integers(256)
            path.write_bytes(content)
            try:
                assert open_image(path).mode in ("L", "RGB")
            except InputError as error:
                assert str(path) in str(error)  # noqa: PT017


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"gone.png: there is no such file"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"a folder, not a picture"):
        open_image(tmp_path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_000)
    with pytest.raises(InputError, match=r"picture.png: more than .* million pixels; refused"):
        open_image(path)
