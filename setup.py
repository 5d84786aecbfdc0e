"""Packaging, all of it read from settings.ini (nbdev's own template needs pkg_resources, which setuptools no longer has)."""
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

here = Path(__file__).resolve().parent
ini = ConfigParser(delimiters=["="], comment_prefixes=["#"])
ini.read(here/"settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]


def lines(key):
    "The lines of a setting that has one item a line."
    return [o.strip() for o in cfg.get(key, "").splitlines() if o.strip()]


def on_pypi(readme):
    "The front page, with links and pictures that lead to the repository."
    return re.sub(r"(!?)(\[[^\]\n]*\]\()(?![a-z]+:|#)", lambda m: f"{m[0]}{cfg['git_url']}/{'raw' if m[1] else 'blob'}/{cfg['branch']}/", readme)


suffix = "_requirements"
readme = here/"README.md"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=on_pypi(readme.read_text(encoding="utf-8")) if readme.exists() else "",
    long_description_content_type="text/markdown",
    author=cfg["author"],
    url=cfg["git_url"],
    keywords=cfg["keywords"].split(),
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        *[f"Programming Language :: Python :: 3.{o}" for o in range(10, 14)],
        "Topic :: Multimedia :: Sound/Audio :: MIDI",
    ],
    packages=[cfg["lib_name"]],
    package_data={cfg["lib_name"]: ["weights/*.npz", "weights/pieces/*", "weights/transcription/*", "**/*.csv", "**/*.mid", "page/*"]},
    python_requires=f">={cfg['min_python']},<3.14",
    install_requires=lines("requirements"),
    extras_require={k[:-len(suffix)]: lines(k) for k in cfg if k.endswith(suffix)},
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]},
    zip_safe=False,
)
