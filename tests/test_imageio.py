"""Promises of the only place that decodes and encodes images."""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from unlearnable import imageio
from unlearnable.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # damaged tags are the subject here

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"
LOSSLESS = ("PNG", "WEBP", "TIFF", "BMP")


def pixels(channels: int = 3, height: int = 24, width: int = 40, seed: int = 0) -> np.ndarray:
    """A smooth picture with a little noise, so that JPEG treats it as it would a photo."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = [(x * (3 + c) + y * (5 - c) + 40 * c) % 256 for c in range(channels)]
    noisy = np.stack(planes, axis=2) // 2 + 60 + rng.integers(-6, 7, (height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def image(channels: int = 3, **kwargs: int) -> Image.Image:
    array = pixels(channels, **kwargs)
    return Image.fromarray(array[:, :, 0] if channels == 1 else array)


def saved(picture: Image.Image, container: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, container, **options)
    return out.getvalue()


def decoded(data: bytes) -> imageio.Picture:
    return imageio.decode(data, "a/b c.img")


def refused(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        decoded(data)
    assert "a/b c.img" in caught.value.message
    assert caught.value.hint, "an error says the way out"


def camera_exif(thumbnail: bytes = b"") -> bytes:
    """EXIF as cameras write it: orientation, place, a maker's note with a preview, a thumbnail in IFD1."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Artist] = "Owner"
    exif[ExifTags.Base.Orientation] = 1
    exif[ExifTags.IFD.Exif] = {0x9003: "2020:01:02 03:04:05", 0x829A: 0.004, 0x927C: b"note" + thumbnail, 0xA002: 9}
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (48.0, 1.0, 2.0), 3: "E", 4: (2.0, 1.0, 0.0)}
    data = exif.tobytes()
    if not thumbnail:
        return data
    tiff = bytearray(data[6:])  # append IFD1 and let IFD0's next pointer lead to it
    first = struct.unpack(">L", tiff[4:8])[0]
    count = struct.unpack(">H", tiff[first : first + 2])[0]
    here = len(tiff)
    struct.pack_into(">L", tiff, first + 2 + 12 * count, here)
    entries = [(0x0103, 3, 1, 6 << 16), (0x0201, 4, 1, here + 42), (0x0202, 4, 1, len(thumbnail))]
    tiff += struct.pack(">H", 3) + b"".join(struct.pack(">HHLL", *e) for e in entries) + struct.pack(">L", 0)
    return b"Exif\0\0" + bytes(tiff) + thumbnail


# --- what is accepted, and as what ---


@pytest.mark.parametrize(
    ("container", "channels"),
    [(container, n) for container in LOSSLESS for n in (1, 2, 3, 4) if container != "BMP" or n in (1, 3)],
)
def test_lossless_encoding_is_the_identity_and_keeps_grey_and_alpha(container: str, channels: int) -> None:
    original = pixels(channels)
    like = decoded(saved(image(channels), "PNG"))
    back = decoded(imageio.encode(original, like, container))
    grey = original[:, :, :1]
    expected = {1: np.repeat(grey, 3, 2), 2: np.concatenate([grey, grey, grey, original[:, :, 1:]], 2)}
    same = original if container != "WEBP" else expected.get(channels, original)  # WebP has no grey
    assert np.array_equal(back.pixels, same)
    assert back.container == container
    assert back.lossless


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_pixels_survive_every_lossless_container(data: st.DataObject) -> None:
    shape = (data.draw(st.integers(8, 20)), data.draw(st.integers(8, 20)), data.draw(st.sampled_from([3, 4])))
    original = data.draw(arrays(np.uint8, shape))
    like = imageio.Picture(original, "PNG", True, "x")
    container = imageio.target_container(like, data.draw(st.sampled_from(["auto", "webp"])))
    assert np.array_equal(decoded(imageio.encode(original, like, container)).pixels, original)


@pytest.mark.parametrize("container", ["JPEG", *LOSSLESS])
def test_containers_are_told_by_content_and_encoded_to_the_same_bytes_twice(container: str) -> None:
    like = decoded(saved(image(), container))
    assert like.container == container
    assert like.lossless == (container not in ("JPEG", "WEBP"))
    assert imageio.encode(like.pixels, like, container) == imageio.encode(like.pixels, like, container)


def test_jpeg_is_written_without_chroma_subsampling_at_95_or_as_asked() -> None:
    like = decoded(saved(image(), "JPEG", quality=50))
    for quality in (95, 80):
        out = Image.open(io.BytesIO(imageio.encode(like.pixels, like, "JPEG", quality)))
        assert {tuple(layer[1:3]) for layer in out.layer} == {(1, 1)}
        assert out.quantization == Image.open(io.BytesIO(saved(image(), "JPEG", quality=quality))).quantization


def test_palettes_and_bilevel_images_become_grey_or_colour() -> None:
    palette = image().quantize(16)
    assert np.array_equal(decoded(saved(palette, "PNG")).pixels, np.asarray(palette.convert("RGB")))
    bilevel = image(1).convert("1")
    assert np.array_equal(decoded(saved(bilevel, "PNG")).pixels[:, :, 0], np.asarray(bilevel) * 255)
    assert decoded(saved(bilevel, "TIFF", compression="group4")).pixels.shape[2] == 1


def test_transparency_of_palettes_and_colour_keys_becomes_alpha() -> None:
    palette = image().quantize(16)
    got = decoded(saved(palette, "PNG", transparency=bytes([0, 128] + [255] * 14))).pixels
    alpha = np.where(np.asarray(palette) == 0, 0, np.where(np.asarray(palette) == 1, 128, 255))
    assert np.array_equal(got[:, :, 3], alpha)
    two = image(1).convert("1")
    clear = decoded(saved(two, "PNG", transparency=0)).pixels
    assert np.array_equal(clear[:, :, 1] == 255, np.asarray(two))
    flat = image(1)
    keyed = decoded(saved(flat, "PNG", transparency=90)).pixels
    assert keyed.shape[2] == 2
    assert np.array_equal(keyed[:, :, 1] == 0, np.asarray(flat) == 90)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pixels_are_upright_and_the_tag_agrees(orientation: int, container: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    options = {"WEBP": {"lossless": True}}.get(container, {})
    data = saved(image(), container, exif=exif.tobytes(), **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    like = decoded(data)
    assert np.array_equal(like.pixels, upright)
    shipped = imageio.encode(like.pixels, like, container if container != "JPEG" else "PNG")
    plain, turned = Image.open(io.BytesIO(shipped)), ImageOps.exif_transpose(Image.open(io.BytesIO(shipped)))
    assert plain.getexif()[ExifTags.Base.Make] == "Maker"
    for reader in (plain, turned):  # trainers who honour the tag and trainers who do not see the same
        assert np.array_equal(np.asarray(reader), upright)


def test_the_first_picture_of_an_mpo_is_taken_and_the_second_does_not_survive() -> None:
    first, second = image(), image(seed=1, height=32)
    data = saved(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    like = decoded(data)
    assert like.container == "JPEG"
    assert like.pixels.shape[:2] == (24, 40)
    assert np.array_equal(like.pixels, np.asarray(Image.open(io.BytesIO(data))))
    shipped = imageio.encode(like.pixels, like, "JPEG")
    assert shipped.count(b"\xff\xd8\xff") == 1
    assert b"MPF" not in shipped


def test_a_jpeg_with_a_film_behind_it_loses_the_film() -> None:
    data = saved(image(), "JPEG") + b"\0\0\0\x18ftypmp42" + bytes(500)
    like = decoded(data)
    assert b"ftyp" not in imageio.encode(like.pixels, like, "JPEG")


# --- metadata ---


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_survives_without_thumbnail_and_makers_note(container: str) -> None:
    small = saved(image().resize((16, 10)), "JPEG")
    like = decoded(saved(image(), "JPEG", exif=camera_exif(small)))
    shipped = imageio.encode(like.pixels, like, container)
    exif = Image.open(io.BytesIO(shipped)).getexif()
    photo = exif.get_ifd(ExifTags.IFD.Exif)
    assert exif[ExifTags.Base.Artist] == "Owner"
    assert photo[0x9003] == "2020:01:02 03:04:05"
    assert photo[0xA002] == 40, "the pixel dimensions are those of the picture"
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    assert 0x927C not in photo
    assert not exif.get_ifd(ExifTags.IFD.IFD1)
    assert small[2:60] not in shipped
    assert shipped.count(b"\xff\xd8\xff") == (container == "JPEG")


def test_no_gps_drops_the_place_only_and_strip_drops_all_but_the_colour_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    like = decoded(saved(image(), "JPEG", exif=camera_exif(), icc_profile=profile, dpi=(300, 300)))
    no_gps = Image.open(io.BytesIO(imageio.encode(like.pixels, like, "JPEG", metadata="no-gps")))
    assert not no_gps.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    assert no_gps.getexif().get_ifd(ExifTags.IFD.Exif)[0x9003]
    assert no_gps.info["dpi"] == (300, 300)
    stripped = Image.open(io.BytesIO(imageio.encode(like.pixels, like, "JPEG", metadata="strip")))
    assert not dict(stripped.getexif())
    assert stripped.info["icc_profile"] == profile
    with pytest.raises(ValueError, match="metadata"):
        imageio.encode(like.pixels, like, "JPEG", metadata="all")


@pytest.mark.parametrize("container", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_colour_profile_survives(container: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    like = decoded(saved(image(), container, icc_profile=profile))
    shipped = imageio.encode(like.pixels, like, container)
    assert Image.open(io.BytesIO(shipped)).info["icc_profile"] == profile


def test_xmp_comments_text_and_photoshop_blocks_do_not_survive() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x>thumbnail</x>")
    text.add_text("Comment", "preview")
    png = decoded(saved(image(), "PNG", pnginfo=text))
    shipped = imageio.encode(png.pixels, png, "PNG")
    assert b"thumbnail" not in shipped
    assert b"preview" not in shipped
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x0c" + b"resource thumbnail"
    jpeg = saved(image(), "JPEG", comment=b"preview", xmp=b"<x>thumbnail</x>")
    jpeg = jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
    like = decoded(jpeg)
    shipped = imageio.encode(like.pixels, like, "JPEG")
    assert not any(word in shipped for word in (b"thumbnail", b"preview", b"8BIM", b"xpacket"))


@pytest.mark.parametrize(
    "broken",
    [
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        camera_exif()[:60],
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x07" * 90,
    ],
)
def test_broken_exif_never_fails_the_image(broken: bytes) -> None:
    data = saved(image(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken
    like = decoded(data[:2] + segment + data[2:])
    assert np.array_equal(like.pixels, decoded(data).pixels)
    assert imageio.encode(like.pixels, like, "JPEG")


@settings(max_examples=150, deadline=None)
@given(st.integers(12, len(camera_exif()) - 1), st.integers(0, 255))
def test_one_wrong_byte_of_exif_never_fails_the_image(at: int, value: int) -> None:
    exif = bytearray(camera_exif())
    exif[at] = value
    like = decoded(saved(image(), "JPEG", exif=bytes(exif)))
    assert imageio.encode(like.pixels, like, "PNG")


def test_one_bad_tag_costs_itself_and_not_the_others() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Artist] = "x" * 9000  # longer than any setting
    like = decoded(saved(image(), "JPEG", exif=exif.tobytes()))
    kept = Image.open(io.BytesIO(imageio.encode(like.pixels, like, "JPEG"))).getexif()
    assert kept[ExifTags.Base.Make] == "Maker"
    assert ExifTags.Base.Artist not in kept


# --- what is refused ---


@pytest.mark.parametrize("container", ["JPEG", *LOSSLESS])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused_even_where_pillow_was_told_to_mend_them(
    container: str, part: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = saved(image(height=200, width=200), container)
    refused(data[: int(len(data) * part)], "damaged or cut short")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["JPEG", "GIF", "AVIF", *LOSSLESS]), st.floats(0, 1), st.binary(min_size=1, max_size=30))
def test_damage_anywhere_is_an_image_error_or_an_image(container: str, where: float, junk: bytes) -> None:
    data = bytearray(saved(image(), container))
    at = int(where * len(data))
    data[at : at + len(junk)] = junk
    try:
        decoded(bytes(data))
    except ImageError as why:
        assert "a/b c.img" in why.message


def test_images_deeper_than_16_bits_are_refused() -> None:
    refused(saved(Image.fromarray(pixels(1)[:, :, 0].astype(np.int32)), "TIFF"), "32 bits")
    refused(saved(Image.fromarray(pixels(1)[:, :, 0].astype(np.float32)), "TIFF"), "32 bits")


def png_of_16_bit_colour() -> bytes:
    """Pillow cannot write it, and reads it as 8 bits in silence."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(16 * 6) for _ in range(16))
    header = struct.pack(">LLBBBBB", 16, 16, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_lab_colours_are_refused() -> None:
    refused(saved(image().convert("LAB"), "TIFF"), "LAB")


def test_other_containers_empty_files_and_text_are_refused_by_name() -> None:
    refused(b"", "empty")
    refused(b"hello, this is no image at all, only text", "not an image")
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC|damaged")
    refused(b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL")
    refused(saved(image(), "JPEG2000"), "JPEG 2000")


def test_previews_of_camera_raw_files_are_not_taken_for_the_photo() -> None:
    refused(saved(image(), "TIFF", tiffinfo={254: 1}), "camera raw")


def test_bombs_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(ImageError, match="megapixels"):
        imageio.decode(saved(image(height=100, width=100), "PNG"), "x", limit_megapixels=0.009)
    huge = bytearray(png_of_16_bit_colour())
    huge[16:25] = struct.pack(">LLB", 60_000, 60_000, 8)
    huge[29:33] = struct.pack(">L", zlib.crc32(bytes(huge[12:29])))
    refused(bytes(huge), "3600 megapixels")
    webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2
    refused(webp, "megapixels")


def test_the_limit_is_ours_and_leaves_pillows_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    large = saved(Image.new("L", (12_000, 9_000)), "PNG")  # 108 megapixels: above Pillow's warning
    assert decoded(large).pixels.shape == (9_000, 12_000, 1)
    assert before == Image.MAX_IMAGE_PIXELS


def test_tiny_images_are_refused() -> None:
    refused(saved(image(height=7, width=30), "PNG"), "30 x 7")
    assert decoded(saved(image(height=8, width=8), "PNG")).pixels.shape == (8, 8, 3)


def test_every_camera_file_decodes_or_says_why_not() -> None:
    if not PHOTOS.is_dir():
        pytest.skip("needs ../shared/data/photos")
    files = [p for p in sorted(PHOTOS.rglob("*")) if p.is_file()]
    decodable = 0
    for path in files:
        try:
            like = imageio.decode(path.read_bytes(), path.name)
        except ImageError as why:
            assert path.suffix.lower() not in (".jpg", ".tiff"), why
            assert "pillow-heif" in str(why.hint + why.message) or path.name == "README", why
            continue
        decodable += 1
        shipped = imageio.encode(like.pixels, like, imageio.target_container(like, "auto"))
        again = imageio.decode(shipped, path.name)
        assert again.pixels.shape == like.pixels.shape
        assert again.exif == like.exif, path
        assert again.xmp == like.xmp, path
        assert shipped.count(b"\xff\xd8\xff") <= 1, path
    assert decodable == 96 + 5 * (importlib.util.find_spec("pillow_heif") is not None)


# --- names and containers ---


def test_the_container_is_kept_unless_asked_or_unable() -> None:
    jpeg, alpha = decoded(saved(image(), "JPEG")), decoded(saved(image(4), "PNG"))
    assert [imageio.target_container(jpeg, w) for w in ("auto", "png", "jpeg", "webp")] == [
        "JPEG",
        "PNG",
        "JPEG",
        "WEBP",
    ]
    assert [imageio.target_container(alpha, w) for w in ("auto", "jpeg", "webp")] == ["PNG", "PNG", "WEBP"]
    wide = imageio.Picture(np.zeros((8, 20_000, 3), np.uint8), "WEBP", True, "x")
    assert imageio.target_container(wide, "auto") == "PNG"
    with pytest.raises(ValueError, match="format"):
        imageio.target_container(jpeg, "jpeg2000")
    with pytest.raises(ImageError, match="transparency"):
        imageio.encode(alpha.pixels, alpha, "JPEG")


def test_names_change_only_where_the_extension_no_longer_fits() -> None:
    assert imageio.suffix_for("a b/Photo.JPG", "JPEG") == "a b/Photo.JPG"
    assert imageio.suffix_for("a/photo.jpeg", "JPEG") == "a/photo.jpeg"
    assert imageio.suffix_for("a/photo.JPG", "PNG") == "a/photo.png"
    assert imageio.suffix_for("wrong.png", "JPEG") == "wrong.jpg"
    assert imageio.suffix_for("train/17", "PNG") == "train/17.png"
    assert imageio.suffix_for("holiday.2020", "JPEG") == "holiday.2020.jpg"


@given(
    st.text(min_size=1).filter(lambda t: "/" not in t and "\0" not in t), st.sampled_from(sorted(imageio.EXTENSIONS))
)
def test_a_fitted_name_fits_and_is_stable(name: str, container: str) -> None:
    fitted = imageio.suffix_for(name, container)
    assert imageio.suffix_for(fitted, container) == fitted
    assert "/" not in fitted


# --- what poisons and trainers look at ---


def test_square_and_view_are_the_identity_at_their_own_size() -> None:
    original = pixels(3, 32, 32)
    assert imageio.square(original, 32) is original
    assert np.array_equal(imageio.trainer_view(original, 32), original)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_square_and_view_are_rgb_of_the_asked_size_without_transparency(channels: int) -> None:
    original = pixels(channels, 50, 91)
    colour = original[:, :, :3] if channels > 2 else np.repeat(original[:, :, :1], 3, 2)
    for view in (imageio.square, imageio.trainer_view):
        assert view(original, 32).shape == (32, 32, 3)
        assert np.array_equal(view(original, 32), view(np.ascontiguousarray(colour), 32))


@pytest.mark.parametrize("shape", [(50, 91), (91, 50), (33, 32), (10, 300)])
def test_the_view_is_the_one_torchvision_makes(shape: tuple[int, int]) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    original = pixels(3, *shape)
    trainer = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32)])
    assert np.array_equal(imageio.trainer_view(original, 32), np.asarray(trainer(Image.fromarray(original))))


@pytest.mark.parametrize("shape", [(200_000, 8, 3), (8, 200_000, 1)])
def test_the_view_of_a_long_strip_takes_little_memory(shape: tuple[int, int, int]) -> None:
    strip = np.full(shape, 7, dtype=np.uint8)
    child = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    program = f"import numpy as np; from unlearnable import imageio; {child}; " + (
        f"view = imageio.trainer_view(np.full({shape}, 7, dtype=np.uint8), 224); {child}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())  # kilobytes on Linux
    assert after - before < 100_000
    assert (imageio.trainer_view(strip, 32) == 7).all()
