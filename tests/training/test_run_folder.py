"""The run folder: when it may be written to, what is never deleted, and what it reads back."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.errors import InputError
from zoo.training import RunFolder, check_run_folder

OPTIONS: dict[str, Any] = {"data": "a b.txt", "out": "runs/ä", "seed": 3, "learning_rate": 1e-3, "epochs": None}


def make(path: Path, **changes: Any) -> RunFolder:
    kinds = {name: changes.pop(name) for name in ("overwrite", "resume") if name in changes}
    return RunFolder(path, OPTIONS | changes, **kinds)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = make(tmp_path / "run")
    folder.checkpoint.write_bytes(b"")
    return folder


def snapshot(path: Path) -> dict[str, bytes]:
    """But for the lock, which is no part of a run."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != ".lock"]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_a_new_run_is_its_options(tmp_path: Path) -> None:
    make(tmp_path / "deep" / "run")
    assert yaml.safe_load((tmp_path / "deep" / "run" / "config.yaml").read_text("utf-8")) == OPTIONS
    assert list(snapshot(tmp_path)) == ["deep/run/config.yaml"]


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    make(tmp_path)
    assert list(snapshot(tmp_path)) == ["config.yaml"]


def test_a_run_is_not_written_over_unasked(run: RunFolder) -> None:
    before = snapshot(run.path)
    with pytest.raises(InputError, match="holds a run: add --resume to go on with it, or --overwrite to replace it"):
        make(run.path, seed=4)
    assert snapshot(run.path) == before


def test_overwrite_leaves_nothing_of_the_old_run(run: RunFolder) -> None:
    run.log({"step": 1}, "sample")
    (run.path / "tensorboard").mkdir()
    (run.path / "tensorboard" / "events").write_text("old")
    make(run.path, overwrite=True, seed=4)
    assert list(snapshot(run.path)) == ["config.yaml"]
    assert yaml.safe_load((run.path / "config.yaml").read_text("utf-8"))["seed"] == 4


def test_overwrite_of_nothing_is_a_new_run(tmp_path: Path) -> None:
    make(tmp_path / "run", overwrite=True)
    assert list(snapshot(tmp_path)) == ["run/config.yaml"]


@pytest.mark.parametrize(
    "files",
    [
        {"precious.txt": "mine"},
        {".hidden": "mine"},
        {"sub/precious.txt": "mine"},
        {"config.yaml": "database: mine\n", "precious.txt": "mine"},  # a common name
        {"config.yaml": "just words", "precious.txt": "mine"},
        {"config.yaml": "a: [", "precious.txt": "mine"},
        {"config.yaml/precious.txt": "mine"},
        {"model.safetensors": "mine", "config.json": "{}"},  # a saved model is not a run
    ],
)
@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path, files: dict[str, str], how: dict[str, bool]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="not a run folder"):
        make(tmp_path, **how)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_file_in_the_way(tmp_path: Path, how: dict[str, bool]) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="is a file, but a folder for the run was expected"):
        make(tmp_path / "run", **how)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("how", [{}, {"overwrite": True}])
def test_a_file_in_the_place_of_a_parent(tmp_path: Path, how: dict[str, bool]) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises((InputError, OSError)):
        make(tmp_path / "file" / "run", **how)
    assert (tmp_path / "file").read_text() == "mine"


def test_overwrite_of_a_link_keeps_what_it_points_to(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run.path)
    before = snapshot(run.path)
    with pytest.raises((InputError, OSError)):
        make(tmp_path / "link", overwrite=True)
    assert snapshot(run.path) == before


def test_checking_changes_nothing(run: RunFolder, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    check_run_folder(run.path, overwrite=True, resume=False)
    check_run_folder(run.path, overwrite=False, resume=True)
    check_run_folder(tmp_path / "new", overwrite=False, resume=False)
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_resume_needs_a_run(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match="is not a run folder: there is nothing to resume"):
            make(path, resume=True)
    assert not (tmp_path / "nowhere").exists()


def test_resume_needs_a_save(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(InputError, match="the run was not saved once; start it again with --overwrite"):
        make(tmp_path, resume=True)


def test_resume_keeps_the_folder_as_it_is(run: RunFolder) -> None:
    before = snapshot(run.path)
    make(run.path, resume=True)
    assert snapshot(run.path) == before


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"dropout": 0.1}, "dropout was None and is 0.1"),
        ({"seed": 4, "data": "c.txt"}, "data was 'a b.txt' and is 'c.txt'; seed was 3 and is 4"),
        ({"window": 5}, "window was None and is 5"),
    ],
)
def test_resume_with_other_options_names_them(run: RunFolder, change: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=f"cannot be resumed with other options: {match} .*--resume"):
        make(run.path, resume=True, **change)


def test_resume_may_go_elsewhere_and_on_for_longer(run: RunFolder) -> None:
    changes = {"out": "elsewhere", "epochs": 5, "max_steps": 3, "max_minutes": 1.0, "patience": 2, "save_minutes": 1.0}
    changes |= {"learning_rate": 1e-4, "gradient_clip": 0.5}  # as a run must whose loss became infinite
    make(run.path, resume=True, **changes)
    # A second `--config FOLDER/config.yaml --resume` must mean the longer run too.
    assert yaml.safe_load((run.path / "config.yaml").read_text("utf-8")) == OPTIONS | changes


def test_history(run: RunFolder) -> None:
    assert run.history() == []
    lines = [{"step": 5, "error": 0.1 + 0.2}, {"step": 10, "error": 1e-30}]
    for line in lines:
        run.log(line, "sample")
    assert run.history() == lines


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_last_line_that_a_kill_cut_short_is_forgotten(run: RunFolder, cut: int) -> None:
    for step in (5, 10, 15):
        run.log({"step": step, "error": 0.123456789}, f"sample {step}")
    file = run.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    whole = [5, 10, 15] if cut == 1 else [5, 10]  # only the line's end is missing
    assert [line["step"] for line in run.history()] == whole
    run.go_back_to(run.checkpoint, 15, run.samples_size())
    run.log({"step": 20}, "sample 20")
    assert [line["step"] for line in run.history()] == [*whole, 20]
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_forgetting_what_a_resumed_run_makes_again(run: RunFolder) -> None:
    sizes = {}
    for step in (5, 10, 15):
        run.log({"step": step}, f"sample {step}\n--- and Zoë ---\nmore")  # as a model of such texts writes it
        sizes[step] = run.samples_size()
    whole = (run.path / "samples.txt").read_bytes()
    run.go_back_to(run.checkpoint, 10, sizes[10])
    assert [line["step"] for line in run.history()] == [5, 10]
    assert (run.path / "samples.txt").read_bytes() == whole[: sizes[10]]
    run.log({"step": 15}, "sample 15\n--- and Zoë ---\nmore")
    assert (run.path / "samples.txt").read_bytes() == whole


def test_a_sample_that_a_kill_cut_short_is_forgotten(run: RunFolder) -> None:
    run.log({"step": 5}, "Zoë")
    whole, size = (run.path / "samples.txt").read_bytes(), run.samples_size()
    for end in ("--- st", "--- step 10 ---\nZo\xc3"):
        (run.path / "samples.txt").write_bytes(whole + end.encode("latin-1"))
        run.go_back_to(run.checkpoint, 5, size)
        assert (run.path / "samples.txt").read_bytes() == whole


def test_a_resumed_run_that_has_no_samples_yet(run: RunFolder) -> None:
    assert run.samples_size() == 0
    run.go_back_to(run.checkpoint, 10, 0)
    assert run.history() == []


def test_going_back_to_the_save_before(run: RunFolder) -> None:
    previous = run.path / "resume.previous.safetensors"
    with pytest.raises(InputError, match="has no save before the last one: use --resume"):
        run.save_to_resume(previous=True)
    assert run.save_to_resume(previous=False) == run.checkpoint
    previous.write_bytes(b"before")
    assert run.save_to_resume(previous=True) == previous
    run.go_back_to(previous, 5, 0)
    assert run.checkpoint.read_bytes() == b"before"
    assert not previous.exists()


def test_a_kill_between_the_two_moves_of_a_save_leaves_the_one_before(run: RunFolder) -> None:
    run.checkpoint.rename(run.path / "resume.previous.safetensors")
    again = make(run.path, resume=True)
    assert again.save_to_resume(previous=False) == run.path / "resume.previous.safetensors"


def test_what_a_kill_left_half_written_goes_when_the_run_goes_on(run: RunFolder) -> None:
    (run.path / ".model.safetensors.partial").write_bytes(b"half")
    make(run.path, resume=True)
    assert list(snapshot(run.path)) == ["config.yaml", "resume.safetensors"]


def test_a_folder_in_which_a_run_was_killed_as_it_began_may_be_used(tmp_path: Path) -> None:
    (tmp_path / ".config.yaml.partial").write_text("out:")
    make(tmp_path)
    assert list(snapshot(tmp_path)) == ["config.yaml"]


def test_a_run_whose_deletion_was_killed_is_still_one(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.path / "tensorboard").mkdir()
    for name in ("tensorboard/events", "a.txt", "z.txt"):
        (run.path / name).write_text("old")
    unlink = Path.unlink
    for kept in ("z.txt", "a.txt"):

        def killed(file: Path, kept: str = kept) -> None:
            if file.name == kept:
                raise KeyboardInterrupt
            unlink(file)

        monkeypatch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            make(run.path, overwrite=True)
        monkeypatch.undo()
        assert not run.checkpoint.exists()
        with pytest.raises(InputError, match="was not saved once"):
            make(run.path, resume=True)
    make(run.path, overwrite=True)
    assert list(snapshot(run.path)) == ["config.yaml"]


def test_best_weights_that_are_damaged_are_named(run: RunFolder) -> None:
    assert run.best_weights() is None
    (run.path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"model.safetensors is not a whole .* or remove it: then the next evaluation"):
        run.best_weights()


def test_the_final_figures(run: RunFolder) -> None:
    run.finish({"validation": {"nats_per_token": 1.5}})
    assert json.loads((run.path / "metrics.json").read_text()) == {"validation": {"nats_per_token": 1.5}}


@pytest.mark.parametrize("more", ["\nday: 2024-13-45\n", "\na: &a [x]\nb: *a\n", "\na: " + "[" * 5000])
def test_options_that_were_made_to_do_harm_are_no_run(run: RunFolder, more: str) -> None:
    config = run.path / "config.yaml"
    config.write_text(config.read_text("utf-8") + more, "utf-8")
    with pytest.raises(InputError, match="is not a run folder: there is nothing to resume"):
        make(run.path, resume=True)


@pytest.mark.parametrize("line", [b"[1]", b'{"loss": 1}', b'{"step": "1"}', b"[" * 5000, b"\xff", b"9" * 5000])
def test_metrics_that_something_else_wrote_end_the_history(run: RunFolder, line: bytes) -> None:
    (run.path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    assert run.history() == [{"step": 1}]
