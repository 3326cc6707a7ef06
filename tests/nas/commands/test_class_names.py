"""--class-names: a text file as any editor writes it, or one sentence on why it is none."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fastvit import FastViTConfig
from nas.commands.export import _class_names
from nas.errors import UsageError
from nas.export.variant import find
from search import main

SMALL = FastViTConfig(depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), mlp_ratios=(2, 2, 2, 2), mixers=("repmixer",) * 4)


@pytest.mark.parametrize(("content", "names"), [
    (b"cat\ndog\n", ("cat", "dog")),
    (b"\xef\xbb\xbfcat\r\ndog", ("cat", "dog")),
    (" cat \n\n chien é\n".encode(), ("cat", "chien é")),
    ("cat\nchien e\u0301".encode(), ("cat", "chien é")),
    (b"cat\ndog\ncat\n", "the name 'cat' is there 2 times"),
    (b"\n \n", "holds no names"),
    (b"\xff\xfec\x00a\x00t\x00", "it is not UTF-8"),
    (None, "cannot be read"),
])
def test_files_of_names(tmp_path: Path, content: bytes | None, names: tuple[str, ...] | str) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    args = argparse.Namespace(class_names=str(path))
    if isinstance(names, tuple):
        assert _class_names(args, find("t8")) == names
    else:
        with pytest.raises(UsageError, match=names):
            _class_names(args, find("t8"))


def test_names_do_not_replace_a_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, names = tmp_path / "config.json", tmp_path / "names.txt"
    config.write_text(SMALL.to_json())
    names.write_text("a\nb\nc\n")
    words = ["--to", str(tmp_path), "--formats", "timm", "--resolution", "32"]
    assert main(["export", str(config), "--name", "three", "--class-names", str(names), *words]) == 0
    names.write_text("a\nb\n")
    assert main(["export", str(tmp_path / "three"), "--name", "two", "--class-names", str(names), *words]) == 2
    assert "2 names for 3 classes" in capsys.readouterr().err
