"""Cows, samples of boxes and fortunes are cut out of files like those of the packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aelab.ascii.data.packaged_ascii import SOURCES, box_pictures, cow_pictures
from aelab.ascii.glyphs import to_lines
from aelab.data import DATASETS
from aelab.errors import ConfigError, DataError

TUX = r"""##
## a penguin
##
$extra = chop($eyes);
$the_cow = <<"EOC";
   $thoughts
    $thoughts
       |${eyes} |
      //   \\ \\  \$5 \@
      $tongue$unknown(_)
EOC
print "not this";
"""
PLAIN = "$the_cow = <<'EOC'\n  \\\\ $eyes\n  (__)\n  U  U ---------\nEOC\n"
BOXES = r"""
BOX one

author "somebody"
sample
    /*************/
    /*           */
    /*************/
ends

shapes { n ("*") }
SAMPLE
    +----------+
    |  sample  |
    +----------+
ENDS
END one
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the packages' formats, and no others."""
    folder = tmp_path / "usr"
    (folder / "cows" / "more").mkdir(parents=True)
    (folder / "cows" / "tux.cow").write_text(TUX, encoding="ascii")
    (folder / "cows" / "more" / "plain.cow").write_text(PLAIN, encoding="ascii")
    (folder / "cows" / "readme").write_text("no cow", encoding="ascii")
    (folder / "boxes-config").write_text(BOXES, encoding="ascii")
    (folder / "ascii-art").write_text(
        "  __\n (oo)\n/------\\\n||  ||\n%\nprose\n", encoding="ascii"
    )
    places = {"cowsay": "cows", "boxes": "boxes-config", "fortunes": "ascii-art"}
    for name, place in places.items():
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], places=(str(folder / place),)))
    return folder


def test_a_cow_is_what_cowsay_prints() -> None:
    assert cow_pictures(TUX) == ["   \\\n    \\\n       |oo |\n      //   \\ \\  $5 @\n        (_)"]
    assert cow_pictures(PLAIN) == ["  \\\\ $eyes\n  (__)\n  U  U ---------"]
    assert cow_pictures("print <<EOC;\nno cow\nEOC\n") == []


def test_the_samples_of_boxes_are_found() -> None:
    pictures = box_pictures(BOXES)
    assert len(pictures) == 2
    assert pictures[0].split("\n")[1].strip() == "/*           */"
    assert "sample" in pictures[1]


def test_pictures_of_all_packages_make_one_set(packages: Path) -> None:
    images = DATASETS["packaged_ascii_dataset"]((6, 30)).load()
    assert [(entry.name, entry.count) for entry in images.provenance] == [
        ("boxes", 2),
        ("cowsay", 2),
        ("fortunes", 1),
    ]
    assert images.facts["label_names"] == ["boxes", "cowsay", "fortunes"]
    assert images.facts["left_out"] == {"fewer than 3 lines": 1}
    assert images.labels is not None and images.labels.tolist() == [0, 0, 1, 1, 2]
    assert "(oo)" in "\n".join(to_lines(images.pixels[4, 0]))


def test_sides_are_disjoint_and_complete(packages: Path) -> None:
    lines = [f"+----+\n|{number:04d}|\n+----+\n|####|" for number in range(60)]
    (packages / "ascii-art").write_text("\n%\n".join(lines), encoding="ascii")
    sides = [
        DATASETS["packaged_ascii_dataset"](8, ["fortunes"], 0.3, validation=held).load()
        for held in (False, True)
    ]
    texts = [{tuple(to_lines(grid)) for grid in side.pixels[:, 0]} for side in sides]
    assert not texts[0] & texts[1] and sum(map(len, texts)) == 60
    assert 8 <= len(texts[1]) <= 28


def test_what_is_missing_is_told_with_the_command(packages: Path) -> None:
    (packages / "cows").rename(packages / "gone")
    dataset = DATASETS["packaged_ascii_dataset"](24, ["cowsay"])
    with pytest.raises(DataError) as caught:
        dataset.verify()
    assert "apt install cowsay" in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean 'cowsay'"):
        DATASETS["packaged_ascii_dataset"](packages=["cowsy"])
    with pytest.raises(ConfigError, match="validation_prop is between"):
        DATASETS["packaged_ascii_dataset"](validation_prop=2)
    with pytest.raises(ConfigError, match="add validation_prop"):
        DATASETS["packaged_ascii_dataset"](validation=True)
