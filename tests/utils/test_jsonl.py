"""JSON files that are missing, damaged or of another kind."""

import json

import pytest

from dualrel_jax.errors import InputError
from dualrel_jax.utils.jsonl import read_json, read_records

FIELDS = {"threshold": float, "of": dict, "pixel_nm": (list, type(None))}
GOOD = {"threshold": 1, "of": {}, "pixel_nm": None, "more": "is kept"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read .it is missing"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (json.dumps(GOOD).encode()[:20], "is not whole JSON"),
        (b"\xff\xfe\x00", "is not text"),
        (b"[1, 2]", "holds a list; expected an object"),
        (b"3", "holds a number"),
        (b"null", "holds null"),
        (b'{"of": {}, "pixel_nm": null}', "lacks 'threshold'"),
        (b'{"threshold": "0.5", "of": {}, "pixel_nm": null}', 'has threshold = "0.5"; expected a number'),
        (b'{"threshold": true, "of": {}, "pixel_nm": null}', "threshold = true; expected a number"),
        (b'{"threshold": 0.5, "of": {}, "pixel_nm": 4}', "pixel_nm = 4; expected a list or null"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_next_step(tmp_path, content, said):
    path = tmp_path / "threshold.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path}.*{said}.*delete it\.$"):
        read_json(path, FIELDS, "delete it")


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert read_json(path, FIELDS, "") == GOOD


def test_records_end_at_the_first_damaged_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_records(path) == []
    for damaged in ('{"step": 2, "lo', "7", '{"loss": 1}', "\x00"):
        path.write_text('{"step": 1}\n' + damaged + "\n")
        assert read_records(path) == [{"step": 1}]
