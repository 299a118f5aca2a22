"""One writer of an output in a store: who is refused, and what a killed one leaves."""

import contextlib

import pytest
import stores

from dualrel_jax.data.io import output_lock, remote
from dualrel_jax.data.io.output_lock import output_writer
from dualrel_jax.errors import InputError

MASK = "s3://bucket/held/mask.zarr"


@pytest.fixture
def run(endpoint, monkeypatch, tmp_path):
    """A function: name of a run -> context of its command that writes MASK."""
    stores.use(monkeypatch, endpoint)

    def writer(name):
        return output_writer(remote.as_place(MASK).with_side(tmp_path / name), "--output")

    yield writer
    remote.open_store(remote.as_place("s3://bucket/held")).write("mask.zarr.lock", None).result()


def locks():
    return remote.open_store(remote.as_place("s3://bucket/held")).list().result()


def leave_killed(monkeypatch, command):
    """Enters the context of a command and never leaves it properly, like one that is killed."""
    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(output_lock, "_delete", lambda place: (_ for _ in ()).throw(InputError("the process is gone")))
        with command:
            raise KeyboardInterrupt


def test_a_second_command_is_refused_until_the_first_has_ended(run, tmp_path):
    with run("a"):
        with run("a"):  # the same thread may
            pass
        assert locks() == [b"mask.zarr.lock"]
        with pytest.raises(
            InputError, match=r"mask.zarr is being written by another command \(that of .*/a on .* UTC\)"
        ):
            run("b").__enter__()
        assert not list((tmp_path / "b").rglob("*"))
    assert locks() == [] and not list((tmp_path / "a").rglob("*"))
    with run("b"):
        pass


def test_a_killed_command_continues_and_others_learn_what_to_delete(run, monkeypatch):
    leave_killed(monkeypatch, run("a"))
    with pytest.raises(InputError, match="or delete s3://bucket/held/mask.zarr.lock"):
        run("b").__enter__()
    with run("a"):
        pass
    with run("b"):
        pass
    assert locks() == []


def test_of_two_that_begin_at_once_one_writes(run, monkeypatch):
    """The second looks, sees no lock, and the first is faster."""
    first, original = run("a"), output_lock.open_store

    class Slow:
        def __init__(self, store):
            self.store = store

        def read(self, name):
            answer = self.store.read(name)
            answer.result()
            monkeypatch.setattr(output_lock, "open_store", original)
            if not output_lock._held:
                first.__enter__()
            return answer

        def write(self, *args, **options):
            return self.store.write(*args, **options)

    monkeypatch.setattr(output_lock, "open_store", lambda place: Slow(original(place)))
    with pytest.raises(InputError, match="another command"):
        run("b").__enter__()
    first.__exit__(None, None, None)
    assert locks() == []


def test_a_mistyped_bucket_is_no_other_writer(run, tmp_path):
    place = remote.as_place("s3://buckte/held/mask.zarr").with_side(tmp_path / "a")
    with pytest.raises(InputError, match="s3://buckte/held/mask.zarr: there is no such bucket"):
        output_writer(place, "--output").__enter__()
    assert not list((tmp_path / "a").rglob("*"))


def test_what_another_program_put_there_is_respected(run):
    remote.open_store(remote.as_place("s3://bucket/held")).write("mask.zarr.lock", b"[]").result()
    with pytest.raises(InputError, match="of an unknown folder on an unknown host"):
        run("a").__enter__()


def test_an_output_on_a_disk_is_held_by_a_file(tmp_path):
    with output_writer(tmp_path / "mask.zarr", "--output"):
        assert [path.name for path in tmp_path.iterdir()] == [".mask.lock"]
