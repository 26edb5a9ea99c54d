"""Rules of the repository: layers, sizes, exports, the contents of the wheel, and names in the documents."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import click
import pytest
import soundfile
from xlsr_live import streaming
from xlsr_live.client.cli import cli
from xlsr_live.client.sources.clips import FOLDER, load_clips
from xlsr_live.streaming.recognizer import Recognizer

from tests.support.paths import ROOT

PACKAGES = ("streaming", "server", "client", "training")
RECIPE = ROOT / "training" / "recipe"  # of the packaged model; not part of an installed package
MODULES = [
    path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if RECIPE not in path.parents
]

# A module imports from its own layer and from the layers before it. A layer is a folder, or a set of modules at the
# root of a package; layers in one tuple import nothing from each other.
BASE, TOP = "base", "top"
LAYERS: dict[str, list[str | tuple[str, ...]]] = {
    "streaming": [
        BASE,
        "protocol",
        "audio",
        "ctc",
        "commands",
        "captions",
        ("session", "engine", "model"),
        "translation",
        TOP,
    ],
    "server": [BASE, "net", "access", "models", "processes", "sessions", "dialects", "operations", TOP, "cluster"],
    "client": [BASE, "options", "remote", "sources", "output", "captions", "bench", "commands", TOP],
    "training": [BASE, TOP],
}
TOPS = {
    "streaming": {"driver", "feed", "live", "model_languages", "model_parts", "offline", "recognizer"},
    "server": {"app", "private", "web", "front", "supervisor", "run"},
    "client": {"cli"},
    "training": {"run"},
}
MAY_IMPORT = {
    "streaming": {"streaming"},
    "server": {"server", "streaming"},
    "client": set(PACKAGES),
    "training": {"training", "streaming"},
}

# Time, audio and log-probabilities are arguments of the core. Only its edges do I/O.
IO = {"asyncio", "logging", "socket", "soundfile", "threading", "time", "torch", "transformers", "websockets"}
ALLOWED_IO = {
    "streaming/protocol": set[str](),
    "streaming/audio": {"soundfile"},
    "streaming/ctc": set[str](),
    "streaming/commands": set[str](),
    "streaming/captions": set[str](),
    "streaming/session": set[str](),
    "streaming/engine": {"logging", "threading", "time"},
    "client/remote": IO - {"torch", "transformers"},
}


def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def names(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]


def imported_modules(path: Path) -> Iterator[Path]:
    """The project's own modules that a module imports, also for types only."""
    for node in imports(path):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for target in (folder.with_suffix(".py"), *(folder / f"{alias.name}.py" for alias in node.names)):
            if target.is_file():
                yield target
                break
        else:
            yield folder / "__init__.py"


def layer(path: Path) -> str:
    package, *folders = path.relative_to(ROOT).parent.parts
    if folders:
        return folders[0]
    return TOP if path.stem in {*TOPS[package], "__init__"} else BASE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_its_own_layer_and_those_before(path: Path):
    package = path.relative_to(ROOT).parts[0]
    order = [each if isinstance(each, tuple) else (each,) for each in LAYERS[package]]
    height = {name: at for at, each in enumerate(order) for name in each}
    for target in imported_modules(path):
        other, here, there = target.relative_to(ROOT).parts[0], layer(path), layer(target)
        assert other in MAY_IMPORT[package], target
        if other == package and here != there:
            assert height[there] < height[here], f"{here} imports {there}: {target.relative_to(ROOT)}"
    for node in imports(path):  # an absolute import of a folder would make a second copy of every class in it
        if isinstance(node, ast.Import) or not node.level:
            assert not {name.split(".")[0] for name in names(node)} & {*PACKAGES, "xlsr_live"}, ast.unparse(node)


def test_every_folder_is_a_layer_with_a_docstring():
    for package in PACKAGES:
        known = {name for each in LAYERS[package] for name in ((each,) if isinstance(each, str) else each)}
        inits = [path for path in MODULES if path.name == "__init__.py" and ROOT / package in path.parents]
        folders = {path.parent.relative_to(ROOT / package) for path in inits}
        assert {folder.parts[0] for folder in folders if folder.parts} == known - {BASE, TOP}
    for path in (path for path in MODULES if path.name == "__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_only_commands_import_the_trainer_and_the_command_line_starts_without_it():
    trainer, commands = ROOT / "training", ROOT / "client" / "commands"
    for path in MODULES:
        if trainer in path.parents:
            continue
        if any(trainer in target.parents for target in imported_modules(path)):
            assert commands in path.parents, path
    code = "import sys, xlsr_live.client.cli; print([name for name in sys.modules if 'xlsr_live.training' in name])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_no_import_cycle():
    graph = {path: set(imported_modules(path)) - {path} for path in MODULES}
    while leaves := {path for path, targets in graph.items() if not targets & graph.keys()}:
        graph = {path: targets for path, targets in graph.items() if path not in leaves}
    assert not graph, sorted(str(path.relative_to(ROOT)) for path in graph)


@pytest.mark.parametrize("folder", ALLOWED_IO)
def test_the_core_does_no_io(folder: str):
    for path in (ROOT / folder).rglob("*.py"):
        used = {name.split(".")[0] for node in imports(path) for name in names(node)}
        assert not used & (IO - ALLOWED_IO[folder]), path


def test_files_and_functions_are_short():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES if path.name != "__init__.py"}
    assert {str(path): length for path, length in lines.items() if length > 350} == {}
    assert median(lines.values()) < 150
    long: list[str] = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                long += [f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"] if length > 60 else []
    assert long == []


def test_no_two_classes_have_one_name():
    found = Counter(
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in found.items() if count > 1} == set()


def test_every_exported_name_exists():
    assert sorted(streaming.__all__) == list(streaming.__all__)
    assert set(streaming.__all__) == set(streaming._MODULE) | {"__version__"}
    for name, module in streaming._MODULE.items():
        assert getattr(streaming, name) is getattr(importlib.import_module(f"xlsr_live.streaming.{module}"), name)
    with pytest.raises(AttributeError, match="no attribute 'Recogniser'"):
        streaming.Recogniser  # noqa: B018


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests", "docs", "recipe")
    shutil.copytree(ROOT, source, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_exactly_the_modules_and_data_files(wheel: Path):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True)
    if not tracked.stdout:
        pytest.skip("not a git checkout: nothing to compare the wheel with")
    kept = [
        name for name in tracked.stdout.splitlines() if not name.startswith(("training/recipe/", "training/README"))
    ]
    assert inside == {f"xlsr_live/{name}" for name in kept}
    assert wheel.stat().st_size < 40e6
    for part in zipfile.ZipFile(wheel).infolist():
        assert part.file_size <= {".safetensors": 25e6, ".binary": 20e6}.get(Path(part.filename).suffix, 2e6), (
            part.filename
        )


def test_the_wheel_works_alone(wheel: Path, tmp_path: Path, packaged: Recognizer):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.meta_path = [f for f in sys.meta_path"
        " if 'editable' not in type(f).__module__ + getattr(f, '__module__', '')];"
        "from xlsr_live.client.sources.clips import load_clips; from xlsr_live.streaming import Recognizer, __file__;"
        "assert __file__.startswith(sys.argv[1]), __file__;"
        "clip = load_clips()[0]; r = Recognizer.load(lm='none');"
        "print(*(f.text for f in r.transcribe(clip.path)), sep=' '); r.close()"
    )
    run = subprocess.run([sys.executable, "-c", code, site], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    expected = [final.text for final in packaged.transcribe(load_clips()[0].path)]
    assert run.stdout == " ".join(expected) + "\n" != "\n"


def test_every_packaged_clip_is_listed_small_and_has_a_licence():
    clips, licences = load_clips(), (FOLDER / "LICENSES.md").read_text(encoding="utf-8")
    assert sorted(clip.path for clip in clips) == sorted(FOLDER.glob("*.flac"))
    for clip in clips:
        assert (soundfile.info(clip.path).samplerate, soundfile.info(clip.path).channels) == (16_000, 1)
        assert f"`{clip.path.name}`" in licences
        assert clip.source.split(",")[0] in licences
    assert clips[0].text  # the input of `doctor`
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 400_000


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_in_the_documents_exist(path: Path):
    for line in re.findall(r"^\s*(?:\$ )?(xlsr-live [^\n]*)", path.read_text(encoding="utf-8"), re.MULTILINE):
        words = line.split("#")[0].split()[1:]
        command = cli.commands.get(words[0])
        if isinstance(command, click.Group) and words[1:] and not words[1].startswith("-"):
            command = command.commands.get(words[1])
        assert command is not None or words[0].startswith("-"), line
        assert not isinstance(command, click.Group), line  # a group without a command
        assert all((ROOT / word).exists() for word in words if word.startswith("client/")), line
        known = {
            option for parameter in (command or cli).params for option in parameter.opts + parameter.secondary_opts
        }
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known | {"--help", "--version"}, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_the_documents_have_a_target(path: Path):
    for target, anchor in re.findall(r"\]\((?!https:)([^)#]*)#?([^)]*)\)", _without_code(path)):
        page = path.parent / target if target else path
        assert page.exists(), target
        assert not anchor or anchor in _anchors(page), f"{target}#{anchor}"


def _without_code(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_the_documents_compiles_and_imports_existing_names(path: Path):
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        tree = compile(block, path.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xlsr_live"):
                exec(ast.unparse(node), {})


def test_the_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "pace=1.0" in example
    exec(example.replace("pace=1.0", "pace=0"), {})
    with Recognizer.load(device="cpu") as recognizer:
        (final,) = recognizer.transcribe("client/clips/digits.flac")
    first, *events = capsys.readouterr().out.splitlines()
    assert first == f"{final.start} {final.text} {final.confidence}"
    assert [events[0].split("(")[0], events[-1].split("(")[0]] == ["SessionStarted", "SessionEnded"]
    assert any(event.startswith("Partial(") for event in events)


def test_the_readme_has_the_two_commands_and_ci_runs_the_second():
    readme, ci = (ROOT / "README.md").read_text(encoding="utf-8"), (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    first, second = 'pip install -e ".[all]" && xlsr-live demo', 'pip install -e ".[all,dev]" && pytest'
    assert first in readme
    assert second in readme
    assert ci.rstrip().splitlines()[-1].replace("-q ", "") == second
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
