"""Packaging. Tool settings live in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "unlearnable/version.py").read_text(encoding="utf-8"))
assert VERSION

setup(
    name="unlearnable",
    version=VERSION[1],
    description="Protects image data sets against training on their public copies, and proves it",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # the user fixed these names; tests and samples are not installed
    packages=find_packages(include=["unlearnable", "unlearnable.*", "release", "release.*"]),
    package_data={"release": ["templates/*", "*.json"]},
    py_modules=["cli"],
    entry_points={"console_scripts": ["unlearnable = cli:cli"]},
    install_requires=[
        "click>=8.2",
        "cryptography>=44",
        "datasets>=4",
        "fsspec>=2025.3",
        "huggingface-hub>=1.20,<3",
        "jinja2>=3.1",
        "numpy>=2",
        "pillow>=12",
        "rich>=14",
        "safetensors>=0.5",
        "securesystemslib[crypto]>=1.3",
        "torch>=2.11",
        "torchvision>=0.26",
    ],
    extras_require={
        "dev": [
            *("hypothesis", "mlcroissant", "moto[server]", "mypy", "onnxruntime", "onnxscript", "opacus>=1.6"),
            *("pytest", "ray", "ruff", "s3fs", "timm>=1.0.16"),
        ],
        "docs": ["mkdocs-material>=9.7"],
        "dp": ["opacus>=1.6"],
        "gs": ["gcsfs"],
        "heif": ["pillow-heif>=1.1"],
        "onnx": ["onnxruntime"],
        "ray": ["ray>=2.50"],
        "s3": ["s3fs"],
        "timm": ["timm>=1.0.16"],
    },
)
