"""Releases that older versions sealed verify for ever: tests/golden holds one of each manifest version and layout.

They were made by `protect` of the version that their name says and are never made again. Add one, with its signer, whenever the
manifest, the checksums or the signature changes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from release import layout
from release.check import check
from release.manifest import SCHEMA_VERSION, Manifest

GOLDEN = Path(__file__).parent / "golden"
SIGNERS = {
    "v1-folder": "ded57c68695f2fc972a725e26f0cd1278a303871d7e7c9bb7d4cc01ca228f97f",
    "v1-parquet": "977ef642611d172864d9265450810f7e47d4fe471e5898d6e6dc635aafd94c08",
    "v2-folder": "1e3fd257be38c8a3c217df1bdd3aec6e5287dc416eb6789553235f1fcad48b83",
    "v2-parquet": "1e3fd257be38c8a3c217df1bdd3aec6e5287dc416eb6789553235f1fcad48b83",
}
DOCS = Path(__file__).resolve().parents[1] / "docs/publishing.md"


@pytest.fixture(params=SIGNERS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with zipfile.ZipFile(GOLDEN / f"{request.param}.zip") as archive:
        archive.extractall(tmp_path / request.param)
    return tmp_path / request.param


def test_every_version_and_every_file_is_there() -> None:
    assert {path.stem for path in GOLDEN.glob("*.zip")} == set(SIGNERS)
    assert {int(name[1]) for name in SIGNERS} == set(range(1, SCHEMA_VERSION + 1))
    assert all(path.stat().st_size < 20_000 for path in GOLDEN.iterdir())


def test_an_old_release_verifies(golden: Path) -> None:
    found = check(golden)
    assert found.ok and found.signer == SIGNERS[golden.name]
    data = (golden / layout.MANIFEST).read_bytes()
    manifest = Manifest.from_bytes(data)
    assert manifest.schema_version == json.loads(data)["schema_version"] == int(golden.name[1])
    assert manifest.to_bytes() == data, "written again as it was"


def test_a_changed_byte_of_an_old_release_is_named(golden: Path) -> None:
    path = next(path for path in sorted(golden.rglob("*")) if path.suffix in (".png", ".parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert check(golden).changed == (path.relative_to(golden).as_posix(),)


def test_an_old_release_verifies_with_the_documented_script_and_coreutils_alone(golden: Path, tmp_path: Path) -> None:
    """The few lines of docs/publishing.md, which import nothing of this project."""
    script = re.search(r"```python\n(import base64.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert script is not None and not re.search(r"(?:import|from) (?:release|unlearnable)", script[1])
    (tmp_path / "verify.py").write_text(script[1])

    def verified(fingerprint: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", tmp_path / "verify.py", golden, fingerprint]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert verified(SIGNERS[golden.name]).returncode == 0, verified(SIGNERS[golden.name]).stderr
    assert verified("0" * 64).returncode != 0
    listed = subprocess.run(["sha256sum", "-c", "--quiet", layout.SUMS], cwd=golden, capture_output=True, check=False)
    assert listed.returncode == 0
    (golden / layout.MANIFEST).write_bytes((golden / layout.MANIFEST).read_bytes() + b" ")
    assert verified(SIGNERS[golden.name]).returncode != 0


def test_an_old_release_verifies_with_securesystemslib(golden: Path) -> None:
    """Another reader of DSSE envelopes, as docs/publishing.md says."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    public = load_pem_public_key((golden / layout.PUBLIC_KEY).read_bytes())
    key = SSlibKey.from_crypto(public, keyid=SIGNERS[golden.name])
    envelope = Envelope.from_dict(json.loads((golden / layout.ATTESTATION).read_bytes()))
    assert envelope.verify([key], threshold=1)
    assert json.loads(envelope.payload)["_type"] == "https://in-toto.io/Statement/v1"
