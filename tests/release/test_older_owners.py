"""An owner folder of up to 0.1, which has both keys in it, still grows, verifies and signs, and no other key is drawn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_pictures import picture, write_tree
from PIL import Image

import unlearnable
from release import keyring, layout, sign
from release.check import check
from release.reseal import reseal
from unlearnable import Options
from unlearnable.keys import Key

OLD = sign.from_seed(b"\5" * 32)


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished release whose owner folder is as 0.1 left it: key, signing-key.pem, and no archive.json."""
    monkeypatch.setenv(keyring.FOLDER, str(tmp_path / "config"))
    owner = tmp_path / "out.owner"
    owner.mkdir(mode=0o700)
    Key(b"\3" * 32).save(owner / layout.KEY)
    sign.write_new(owner / layout.SIGNING_KEY, OLD.private_bytes, 0o600)
    protocol = tmp_path / "quick.toml"
    protocol.write_text("victim = 'linear'\nepochs = 1\n")
    write_tree(tmp_path / "in", classes=2, each=14)
    options = Options(preset="r16", verify=str(protocol), seeds=1)
    unlearnable.protect(str(tmp_path / "in"), tmp_path / "out", options)
    assert not (owner / layout.ARCHIVE).exists()
    return tmp_path


def test_it_grows_verifies_and_signs_with_its_own_keys(older: Path) -> None:
    out, owner = older / "out", older / "out.owner"
    before = {path.name: path.read_bytes() for path in (out / "data/across").iterdir()}
    Image.fromarray(picture(0, 100)).save(older / "in/across/100.png")
    options = Options(preset="r16", verify=str(older / "quick.toml"), seeds=1, grow=True)
    assert unlearnable.protect(str(older / "in"), out, options)["images"]["protected"] == 29
    after = {path.name: path.read_bytes() for path in (out / "data/across").iterdir()}
    assert before.items() < after.items()
    found = check(out)
    assert found.ok and found.signer == OLD.public_key.keyid
    assert unlearnable.verify(out, protocol=str(older / "quick.toml"), seeds=1)["arms"]["protected"]
    signed = reseal(out, owner, {layout.CARD: b"# changed\n"})[layout.ATTESTATION]
    assert sign.verified(signed, sign.public_key(sign.public_pem(OLD))) is not None
    assert unlearnable.check(out, source=str(older / "in"))["ok"]
    assert keyring.current() is None, "nothing was drawn for it"
    shutil.rmtree(older / "config", ignore_errors=True)
