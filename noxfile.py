"""Everything that is checked: ``nox`` runs it all, ``nox -l`` lists it."""

import os
from glob import glob
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "stress", "servers", "conformance", "docs", "lowest", "pythons"]
nox.options.reuse_existing_virtualenvs = True
nox.options.download_python = "never"
# pyenv's Pythons, last: its shims on the PATH lead only to those that were chosen there.
VERSIONS = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
OTHERS = sorted(glob(f"{VERSIONS}/3.*/bin"))  # noqa: PTH207  # Path.glob fails where this user may not read
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), *OTHERS])
os.environ["PIP_NO_COMPILE"] = "1"  # what is imported is compiled then; most of what is installed never is
RESULTS = ("build/tests.xml", "build/servers.xml")
fresh: list[str] = []
"""Those that this very run of nox has written, all tests in them."""
PYPROJECT = nox.project.load_toml("pyproject.toml")
PROJECTS = [
    PYPROJECT["project"],
    *(nox.project.load_toml(f"{one}/pyproject.toml")["project"] for one in ("sim", "spec")),
]
FAST = (
    "tests/unit",
    "tests/contrib",
    "tests/conformance/test_examples.py",
    "tests/simulation/test_clock.py",
    "tests/servers/test_redis.py",
)
"""What shows within a minute whether kashvi gets on with another Python or another version of a library."""


def install(session: nox.Session, *groups: str) -> None:
    """The whole clone, and what the session needs."""
    session.install(*nox.project.dependency_groups(PYPROJECT, *groups), "-e", ".[sim]")


def run_all(session: nox.Session, results: str, *arguments: str) -> None:
    """pytest, or what follows ``--``."""
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    Path(results).unlink(missing_ok=True)
    fresh.append(results)
    session.run("pytest", *arguments, f"--junitxml={results}")


@nox.session
def lint(session: nox.Session) -> None:
    """Style."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, and who may import whom."""
    install(session, "types", "example", "lint")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """All but the tests of ``servers`` and ``stress``; or what follows ``--``, as pytest takes it."""
    install(session, "test", "example", "browser")
    run_all(session, RESULTS[0], "-n", "2", "--maxschedchunk", "1", "--ignore=tests/servers", "--ignore=tests/stress")


@nox.session
def stress(session: nox.Session) -> None:
    """Real threads, switched as often as the interpreter can: with each lock all is well, without one it is not."""
    install(session, "test")
    session.run("pytest", "tests/stress", *session.posargs)


@nox.session
def spec(session: nox.Session) -> None:
    """The examples of the specification alone; or what follows ``--``, such as ``-k RETRY``."""
    install(session, "test")
    session.run("pytest", "tests/conformance/test_examples.py", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """The suite for drivers on all of the project's, and the tests that clauses cite; reports are in ``build/``."""
    install(session, "test", "example", "browser")
    known = set(fresh) == set(RESULTS)  # else the cited tests are run first
    session.run("python", "-m", "tests.conformance", *(RESULTS if known else ()))


@nox.session
def docs(session: nox.Session) -> None:
    """The site, in ``build/site``: every link leads somewhere, and no page asks another host for anything."""
    install(session, "docs")
    Path("build").mkdir(exist_ok=True)
    session.run("python", "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs/site", ".", "build/site")
    session.run("python", "docs/site/check.py", "build/site")


@nox.session
def servers(session: nox.Session) -> None:
    """Every server and database, and real processes, killed; or what follows ``--``."""
    install(session, "test", "example")
    run_all(session, RESULTS[1], "-n", "3", "--maxschedchunk", "1", "tests/servers")  # some tests take a minute


@nox.session(python="3.11")  # for a later one, not all of them have wheels
def lowest(session: nox.Session) -> None:
    """The fast tests with the lowest version of each dependency that ``pyproject.toml`` allows."""
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    allowed = [one for some in (*(project["dependencies"] for project in PROJECTS), *extras) for one in some]
    floors = [one.replace(">=", "==") for one in allowed if ">=" in one]
    session.install(*nox.project.dependency_groups(PYPROJECT, "test"), *floors, "-e", ".[sim]")
    session.run("pytest", *(session.posargs or ["-n", "2", *FAST]))


@nox.session(python=["3.12", "3.13"])
def pythons(session: nox.Session) -> None:
    """The fast tests on the other Pythons; left out where there is none, unless ``CI`` is set."""
    install(session, "test")
    servers = {"CI": ""}  # not every server has a wheel for every Python: what there is, is tried
    session.run("pytest", *(session.posargs or ["-n", "2", *FAST]), env=servers)


@nox.session
def bench(session: nox.Session) -> None:
    """Kashvi beside its peers, measured; ``-- --quick`` for a small round, ``-- --help`` for the rest."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
