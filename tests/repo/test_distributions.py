"""What is built of this repository: three distributions, and the library stands alone."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email.message import Message
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from kashvi_spec.clauses import AREAS
from packaging.requirements import Requirement

import kashvi
from kashvi.cli import COMMANDS

ROOT = Path(__file__).parents[2]
FOLDERS = {"kashvi": ROOT, "kashvi_sim": ROOT / "sim", "kashvi_spec": ROOT / "spec"}
KINDS = ("*.py", "*.lua", "web/templates/*", "web/static/*")
BUILD = (
    "import sys; from hatchling import build; [getattr(build, 'build_' + kind)(sys.argv[1]) for kind in sys.argv[2:]]"
)


def build(source: Path, target: Path, *kinds: str) -> None:
    """As pip does it, without an environment of its own."""
    subprocess.run([sys.executable, "-c", BUILD, str(target), *kinds], cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three sdists and the wheels made from them."""
    folder = tmp_path_factory.mktemp("released")
    for name, source in FOLDERS.items():
        build(source, folder, "sdist")
        [sdist] = folder.glob(f"{name}-*.tar.gz")
        with tarfile.open(sdist) as archive:
            # Python 3.11.2, which Debian 12 has, knows no filter yet.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            archive.extractall(folder / "unpacked")
        build(folder / "unpacked" / sdist.name.removesuffix(".tar.gz"), folder, "wheel")
    return folder


def names_in(folder: Path, name: str) -> set[str]:
    """Of the wheel, but for ``.dist-info``."""
    [wheel] = folder.glob(f"{name}-*.whl")
    return {one for one in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in one}


def read(folder: Path, name: str, file: str) -> str:
    [wheel] = folder.glob(f"{name}-*.whl")
    archive = zipfile.ZipFile(wheel)
    [path] = [one for one in archive.namelist() if one.endswith(f".dist-info/{file}")]
    return archive.read(path).decode()


def metadata(folder: Path, name: str) -> Message:
    return Parser().parsestr(read(folder, name, "METADATA"))


def entry_points(folder: Path, name: str) -> dict[str, dict[str, str]]:
    parser = ConfigParser()
    parser.read_string(read(folder, name, "entry_points.txt"))
    return {group: dict(parser[group]) for group in parser.sections()}


def extra(folder: Path) -> set[str]:
    """What ``kashvi[sim]`` requires more than ``kashvi``."""
    needed = [Requirement(one) for one in metadata(folder, "kashvi").get_all("Requires-Dist", [])]
    return {f"{one.name} {one.url or one.specifier}" for one in needed if "'sim'" in str(one.marker).replace('"', "'")}


def venv_with(folder: Path, released: Path, *names: str) -> Path:
    """The Python of a venv with these wheels, and links to what they require."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    for name in names:
        [wheel] = released.glob(f"{name}-*.whl")
        zipfile.ZipFile(wheel).extractall(site)
        for one in metadata(released, name).get_all("Requires-Dist", []):
            link(site, Requirement(one))
    return folder / "bin" / "python"


def link(site: Path, needed: Requirement) -> None:
    """What is installed here for a requirement, and for all that it requires itself."""
    if needed.name.startswith("kashvi") or (needed.marker and not needed.marker.evaluate({"extra": ""})):
        return
    found = distribution(needed.name)
    for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(found.locate_file(top))))
    for one in found.requires or []:
        inner = Requirement(one)
        if not inner.marker or any(inner.marker.evaluate({"extra": name}) for name in ("", *needed.extras)):
            link(site, Requirement(re.sub(r";.*", "", one)))


def run(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line of that venv."""
    return subprocess.run(
        [str(python), "-I", "-m", *words], capture_output=True, text=True, check=False, cwd=python.parents[1]
    )


# -- the library -----------------------------------------------------------------------------------


def test_the_library_holds_the_library_alone(released: Path) -> None:
    """No simulator, no specification and so no planted bug; and every module of its own."""
    names = names_in(released, "kashvi")
    assert {name.partition("/")[0] for name in names} == {"kashvi"}
    there = {str(path.relative_to(ROOT)) for kind in KINDS for path in (ROOT / "kashvi").rglob(kind)}
    assert names == there | {"kashvi/py.typed"}


def test_the_library_brings_no_plugin_and_no_commands_of_others(released: Path) -> None:
    """``pytest11`` would reach into every test run of every user."""
    assert entry_points(released, "kashvi") == {"console_scripts": {"kashvi": "kashvi.cli:main"}}


def test_installed_alone_it_has_its_own_commands_and_runs_the_demo(released: Path, tmp_path: Path) -> None:
    """And says where the others are."""
    python = venv_with(tmp_path / "venv", released, "kashvi")
    helped = run(python, "kashvi", "--help").stdout
    assert set(re.findall(r"^  ([a-z]+(?::[a-z]+)?)  ", helped.partition("Commands:")[2], re.MULTILINE)) == set(
        COMMANDS
    )
    assert run(python, "kashvi", "demo", "--json").stdout.startswith('{"succeeded":3,"failed":1,"rows":1')
    assert "pip install 'kashvi[sim]'" in run(python, "kashvi", "sim:run", "storm").stderr


def test_the_source_distribution_has_no_ballast(released: Path) -> None:
    """The library, and what builds it."""
    [sdist] = released.glob("kashvi-*.tar.gz")
    with tarfile.open(sdist) as archive:
        inner = {name.partition("/")[2].partition("/")[0] for name in archive.getnames()}
    files = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "hatch_build.py", "pyproject.toml", ".gitignore"}
    assert inner - {""} == {"kashvi"} | files


def test_the_page_on_an_index_shows_no_broken_link_or_picture(released: Path) -> None:
    """It has no files beside it. The rest of README is there."""
    page = str(metadata(released, "kashvi").get_payload())
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    assert re.findall(r"\]\((?!https?://|#)", text) == []
    assert re.findall(r"<(?:img|a|picture)\b", text) == []
    headings = re.findall(r"^## .*", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert re.findall(r"^## .*", page, re.MULTILINE) == headings


def test_every_tested_python_is_a_classifier() -> None:
    """``nox`` tries the lowest that is allowed and those of the session ``pythons``; GitHub has all of them."""
    tried = set(re.findall(r'"(3\.\d+)"', (ROOT / "noxfile.py").read_text()))
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert set(re.findall(r"^ +(3\.\d+)$", workflow, re.MULTILINE)) == tried
    assert re.search(r"run: \.ci/run$", workflow, re.MULTILINE)
    for folder in FOLDERS.values():
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        named = {one.rpartition(" ")[2] for one in project["classifiers"] if re.search(r"Python :: 3\.\d+$", one)}
        assert named == tried
        assert project["requires-python"] == f">={min(tried, key=lambda one: int(one[2:]))}"


# -- its companions --------------------------------------------------------------------------------


def test_all_three_have_one_version_and_ask_for_it() -> None:
    """They are released together: the simulator reads what is private to the library."""
    for name in ("sim", "spec"):
        project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
        assert project["version"] == kashvi.__version__
        pins = [one for one in project["dependencies"] if one.startswith("kashvi")]
        assert len(pins) == 2
        assert all(one.endswith(f"=={kashvi.__version__}") for one in pins)
        assert (ROOT / name / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_installed_with_them_everything_works(released: Path, tmp_path: Path) -> None:
    """Clauses, workloads and pages are found without a clone."""
    assert {f"kashvi_spec/text/{area}.md" for area in AREAS} <= names_in(released, "kashvi_spec")
    assert entry_points(released, "kashvi_sim")["pytest11"] == {"kashvi_sim": "kashvi_sim.pytest_plugin"}
    python = venv_with(tmp_path / "venv", released, *FOLDERS)
    ran = run(python, "kashvi", "sim:run", "storm", "--seed", "3", "--report", str(tmp_path / "page.html"))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert run(python, "kashvi", "spec:show", "RETRY-2").stdout.startswith("RETRY-2 MUST")


def test_the_extra_needs_an_index_only_where_there_is_no_clone(released: Path, tmp_path: Path) -> None:
    """From an index, those of the same version; from a clone, its own; editable, as they stand there."""
    version = kashvi.__version__
    assert extra(released) == {f"kashvi-sim =={version}", f"kashvi-spec =={version}"}
    build(ROOT, tmp_path, "wheel")
    uris = {name: (ROOT / name).as_uri() for name in ("sim", "spec")}
    assert extra(tmp_path) == {f"kashvi-{name} {uri}" for name, uri in uris.items()}
    assert names_in(tmp_path, "kashvi") == names_in(released, "kashvi")


def test_an_editable_install_is_of_the_whole_clone(tmp_path: Path) -> None:
    """With the commands and fixtures of all three, and with what they require."""
    build(ROOT, tmp_path, "editable")
    [path_file] = names_in(tmp_path, "kashvi")
    [wheel] = tmp_path.glob("*.whl")
    paths = zipfile.ZipFile(wheel).read(path_file).decode().split()
    assert paths == [str(ROOT), str(ROOT / "sim"), str(ROOT / "spec")]
    points = entry_points(tmp_path, "kashvi")
    for name in ("sim", "spec"):
        project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
        for group, own in project["entry-points"].items():
            assert own.items() <= points[group].items()
        needed = {Requirement(one) for one in project["dependencies"] if not one.startswith("kashvi")}
        assert {f"{one.name} {one.specifier}" for one in needed} <= extra(tmp_path)
