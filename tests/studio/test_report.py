import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from hapgop import studio
from hapgop.explain import FeatureMap, FilterHealth, Filters
from hapgop.program import Graph, Node, layers
from hapgop.studio import write_report
from hapgop.train import Calibration

VOID = {"meta", "img", "br", "hr", "link", "input"}
SVG_VOID = {"rect", "path", "use"}


class Page(HTMLParser):
    """A page as a test asks about it; it fails where a tag is not closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.ids, self.open, self.words = text, [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> in the wrong place"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def said(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def written(tmp_path, content):
    def write(**settings):
        write_report(tmp_path / "report.html", **content(**settings))
        return Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    return write


def test_one_file_and_nothing_beside_it(written, tmp_path):
    written()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [2, 3, 12, 13, 20, 21, 200])
def test_nothing_comes_from_outside(written, classes, channels):
    page = written(classes=classes, channels=channels)
    assert not re.search(r"(?i)(?:https?|file|ftp)://|@import|javascript:", page.text)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#"))
    for target in re.findall(r"url\((.*?)\)", page.text):
        assert target.startswith("#")
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_every_id_is_one_and_every_link_arrives(written):
    page = written()
    assert len(set(page.ids)) == len(page.ids)
    targets = {attributes["href"][1:] for _, attributes in page.tags if "href" in attributes}
    targets |= set(re.findall(r"url\(#(.*?)\)", page.text))
    assert targets <= set(page.ids)
    for anchor in ("answer", "mistakes", "curves", "confusion", "classes", "filters", "maps", "layers", "recipe"):
        assert anchor in targets


def test_every_picture_has_words(written):
    page = written(classes=30)
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) > 24 + 20 + 20 + 16
    assert all(attributes["alt"].strip() for attributes in pictures)
    plots = [attributes for tag, attributes in page.tags if attributes.get("class") == "plot"]
    assert [one["aria-label"] for one in plots] == [
        "Loss by epoch: training from 2 to 0.667; validation from 2.5 to 0.833",
        "Accuracy by epoch: training from 0.5 to 0.833; validation from 0.4 to 0.8",
        "Learning rate by epoch: learning rate from 0.05 to 0.0125",
    ]


def test_the_answer_comes_first(written, evaluation):
    page, judged = written(), evaluation(10)
    said = page.said()
    right, (low, high) = judged.correct, judged.interval
    assert f"{100 * right / 300:.1f} % of 300 test images: {right} right, {300 - right} wrong." in said
    assert f"right on {100 * low:.1f} % to {100 * high:.1f} % of such images" in said
    assert "Saying “class 0” every time would be right on 10.0 %" in said
    order = [said.index(question) for question in (
        "How often is it right", "Where is it most sure, and wrong?", "Did it learn", "Which classes does it confuse?",
        "Is it weaker on some class?", "What does the first layer look for?", "What does each layer make of one image?",
        "What is it made of?", "How was it made, and how is it made again?",
    )]  # fmt: skip
    assert order == sorted(order)


def test_the_question_fits_the_split(written, evaluation):
    assert "300 validation images" in written(evaluation=evaluation(split="validation")).said()
    seen = written(evaluation=evaluation(split="train")).said()
    assert "images that it has learnt from" in seen
    assert "has not seen" not in seen


def test_mistakes_are_those_of_the_highest_loss_first(written, evaluation):
    judged = evaluation(10)
    names = [attributes["title"] for tag, attributes in written().tags
             if tag == "p" and attributes.get("class") == "name"]  # fmt: skip
    assert names == [judged.names[index] for index in judged.top_losses(24)]


def test_confusions_are_the_matrix(written, evaluation):
    page, judged = written(), evaluation(10)
    cells = re.findall(r'<td class="(?:hit|miss)" style="--v:[\d.]+">(\d*)</td>', page.text)
    assert [int(cell or 0) for cell in cells] == judged.confusion.ravel().tolist()
    largest = np.where(np.eye(10), 0, judged.confusion).max()
    assert f"{largest} of 30" in page.said()


def test_classes_are_the_lowest_first_with_their_intervals(written, evaluation):
    judged = evaluation(10)
    correct, total, low, high = judged.per_class
    rows = re.findall(
        r'class="label" title="class (\d)">'
        r'.*?left:([\d.]+)%;width:([\d.]+)%.*?left:([\d.]+)%.*?class="of">(\d+) of (\d+)<',
        written().text,
        re.DOTALL,
    )
    order = np.argsort(correct / total, kind="stable")
    assert [int(row[0]) for row in rows] == order.tolist()
    for row, index in zip(rows, order, strict=True):
        numbers = (low[index], high[index] - low[index], correct[index] / total[index])
        assert list(row[1:4]) == [f"{100 * number:.2f}" for number in numbers]
        assert (int(row[4]), int(row[5])) == (correct[index], total[index])


def test_layers_say_how_their_size_comes_about(written):
    said = written(channels=1).said()
    assert "(12 - 3 + 0 + 0) / 1 + 1 = 10" in said
    assert "20,190 parameters and 38 k multiplications" in said
    assert "sees 3 × 3 of 12 × 12" in said
    assert "sees 12 × 12 of 12 × 12" in said


def test_no_layer_sees_more_than_the_image(written):
    settings = {"out_channels": 1, "kernel_size": 5, "padding": 2}
    reads = ("input", "c0", "c1", "c2")
    nodes = [Node(f"c{n}", "conv2d", (name,), settings, {"weight": f"w{n}"}) for n, name in enumerate(reads)]
    said = written(layers=layers(Graph((3, 12, 12), nodes, "c3")), feature_maps=[], metrics=[]).said()
    assert "9 × 9" in said
    assert "13 × 13" not in said
    assert "17 × 17" not in said


def test_recipe_says_how_to_make_it_again(written):
    page = written()
    for words in ("hapgop train digits --seed 17", "seed 17", "flip no", "note none", "torch 2.13.0", "size 12, 12"):
        assert words in page.said()


def test_recipe_without_a_command_or_versions(written):
    assert "How was it made" in written(config={"net": {"name": "x"}, "recipe": {"seed": 1}}).said()


def test_what_users_write_stays_text(written, content, evaluation, hostile):
    names = (hostile,) * 300
    config = content()["config"] | {"command": hostile, "data": {hostile: hostile}, "net": {"name": hostile}}
    page = written(
        title=hostile,
        config=config,
        evaluation=evaluation((hostile, "other", "third"), names=names),
        filters=Filters(hostile, np.ones((2, 3, 3, 3), np.float32)),
        feature_maps=[FeatureMap(hostile, hostile, np.ones((2, 4, 4), np.float32))],
        metrics=[{"epoch": 1, hostile: hostile, "train_loss": 0.5}],
    )
    assert "<script" not in page.text
    assert {tag for tag, _ in page.tags}.isdisjoint({"script"})
    for place in ("title", "h1", "pre", "dt", "dd", "code"):
        pattern = rf"<{place}>&lt;script&gt;alert\(&quot;\$x &amp; &#x27;y&#x27;&quot;\)&lt;/script&gt;"
        assert re.search(pattern, page.text), place
    assert page.said().count(hostile) > 24
    assert any(attributes.get("title") == hostile for _, attributes in page.tags)


def test_no_mistakes_no_epochs_no_convolution(written, evaluation):
    said = written(evaluation=evaluation(wrong=0), metrics=[], filters=None, feature_maps=[]).said()
    assert "every image got its own label" in said
    assert "100 % of 300 test images: 300 right, 0 wrong." in said
    assert "None with any other" in said
    assert "No epoch was recorded" in said
    assert "What does the first layer look for?" not in said


def test_links_lead_only_to_what_is_there(written):
    page = written(filters=None, feature_maps=[])
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= set(page.ids)
    assert "filters" not in links


def test_a_class_without_images(written, evaluation):
    page = written(evaluation=evaluation(5, n=4))
    assert "no image" in page.said()


@pytest.mark.parametrize("shape", [(20, 1, 5, 5), (70, 3, 3, 3), (4, 16, 1, 1), (3, 2, 3, 7)])
def test_filters_of_any_shape(written, shape):
    page = written(metrics=[], filters=Filters("stem", np.random.default_rng(0).normal(size=shape).astype(np.float32)))
    shown = [attributes for tag, attributes in page.tags if attributes.get("alt", "").startswith("Filter ")]
    assert len(shown) == min(shape[0], 64)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1000, 1, 1), (3, 224, 200), (40, 9, 9), (300, 2, 2), (5, 1, 30)])
@pytest.mark.parametrize("value", [0.0, 1.5, -2.0, np.nan, np.inf])
def test_maps_of_any_shape_and_value(written, shape, value):
    maps = [FeatureMap("unknown", "Odd", np.full(shape, value, np.float32))]
    assert "Odd" in written(feature_maps=maps, metrics=[]).said()


def test_a_deep_net_shows_layers_from_its_first_to_its_last(written):
    maps = [FeatureMap(f"layer{number}", "Conv2d", np.ones((2, 3, 3), np.float32)) for number in range(101)]
    said = written(feature_maps=maps, metrics=[]).said()
    assert "Of 101 layers, 24 are shown." in said
    assert said.count("Conv2d layer") == 24
    assert "Conv2d layer0 " in said
    assert "Conv2d layer100 " in said


def test_images_without_a_channel_axis_and_large_ones(written):
    image = np.random.default_rng(0).integers(0, 256, (600, 800)).astype(np.uint8)
    page = written(image=image)
    assert "600 × 800, grey" in page.said()
    assert len(page.text) < 600_000, "a large picture is shrunk"


def test_the_same_run_gives_the_same_page(written):
    assert written().text == written().text


def test_a_failed_write_leaves_the_old_page(tmp_path, content, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def broken(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="the disk is full"):
        write_report(path, **content())
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_pages_need_no_pytorch():
    code = "import sys, hapgop.studio; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_surface():
    assert studio.__all__ == ["write_card", "write_report"]


def test_calibration_says_what_was_found(written):
    bins = ((0.55, 0.4, 10), (0.95, 0.8, 90))
    page = written(calibration=Calibration(1.7, 0.15, 0.021, bins))
    said = page.said()
    assert "expected calibration error is 15.0 %" in said
    assert "too sure of itself" in said
    assert "temperature of 1.70" in said
    assert "2.1 % on these" in said
    assert 'aria-label="Sureness and accuracy by epoch' not in page.text
    assert "0.95 sure, 0.80 right" in page.text


def test_filters_over_time_have_a_row_for_each_snapshot(written):
    random = np.random.default_rng(0)
    snapshots = {epoch: random.normal(size=(20, 3, 3, 3)).astype(np.float32) for epoch in (0, 2, 10)}
    page = written(snapshots=snapshots)
    assert [word for word in page.words if word.startswith(("before training", "after epoch"))] == [
        "before training", "after epoch 2", "after epoch 10",
    ]  # fmt: skip
    tiles = [attributes for tag, attributes in page.tags if tag == "img" and "of epoch" in attributes["alt"]]
    assert len(tiles) == 3 * 16


def test_dead_and_doubled_filters_are_counted_and_named(written):
    found = [
        FilterHealth("features.0", "features.1", (3, 7), ((0, 1), (0, 2)), (), 64),
        FilterHealth("other", "other", (), (), (), 64),
    ]
    said = written(health=found).said()
    assert "Of 20 filters , 2 never answered to any of 64 images, and 2 point the same way" in said
    assert "features.0 20 3, 7 0 = 1, 0 = 2" in said
    healthy = written(health=found[1:]).said()
    assert "0 never answered" in healthy
    assert "the same as another" not in healthy


def test_without_them_the_page_has_no_such_sections(written):
    page = written()
    assert not {"calibration", "over-time", "health"} & set(page.ids)
