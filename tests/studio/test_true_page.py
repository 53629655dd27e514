"""What the page says at borders, in padding, of colours and of nets that the lesson was not made on."""

import numpy as np
import pytest
import torch
from torch import nn

from hapgop import explain
from hapgop.nn import nets
from hapgop.predict import Preprocessing
from hapgop.studio.look import Sample, Subject

from .browser import Visit, digits, picture, served
from .shown_numbers import read_window

GREY, COLOUR = Preprocessing((8, 8), 1, (0.3,), (0.4,)), Preprocessing((32, 32))


def of(module, rules, classes="abc"):
    random = np.random.default_rng(0)
    size = (*rules.size, rules.channels)
    pixels = [Sample(f"{n}.png", random.integers(0, 256, size, dtype=np.uint8)) for n in range(3)]
    return Subject.of_module("made", module.eval(), rules, list(classes), pixels)


@pytest.fixture
def visit(browser, request):
    """A visit to the page of the net that the test names."""
    torch.manual_seed(0)
    with served(request.param()) as address:
        one = Visit(browser, address, locale="en-US")
        yield one
        one.close()


def with_net(make):
    return pytest.mark.parametrize("visit", [make], indirect=True, ids=[make.__name__])


def padded():
    """Padded poolings over maps that are below zero throughout, and windows of unequal size."""
    first = nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        first.bias.fill_(-50)
    poolings = [nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False)]
    return of(nn.Sequential(first, *poolings, nn.AdaptiveAvgPool2d((3, 5)), nn.Flatten(), nn.Linear(60, 3)), COLOUR)


def unequal():
    """Of seven columns, windows of two and three."""
    rules = Preprocessing((8, 7), 1, (0.3,), (0.4,))
    return of(nn.Sequential(nn.AdaptiveAvgPool2d((4, 5)), nn.Flatten(), nn.Linear(20, 3)), rules)


def branches():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.end = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 3, 3, padding=1), nn.Linear(320, 3)

        def forward(self, x):
            return self.end(torch.cat([self.a(x), self.b(x)], 1).flatten(1))

    return of(Two(), GREY)


def many_labels():
    """No fully connected layer, no pooling that is small, and more labels than a table shows."""
    layers = [nn.Conv2d(3, 30, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return of(nn.Sequential(*layers), COLOUR, [f"label {n}" for n in range(30)])


def small_padded():
    return of(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 3)), GREY)


def no_windows():
    return of(nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False)), GREY)


def plain_colour():
    return of(nets.build("lenet5", classes=3, input_shape=(3, 32, 32)), COLOUR)


def window(visit, layer, c, y=0, x=0):
    """The page on one number, once it is there."""
    page = visit.go(f"window?layer={layer}&c={c}&y={y}&x={x}")
    page.wait_for_selector(f".pointed[aria-label^='{layer}, channel {c}, row {y}, column {x}:']")
    return page


@with_net(digits)
def test_the_field_is_counted_at_the_border(visit):
    page = visit.go("window?layer=conv2&y=0&x=0")
    page.wait_for_selector("text=This value depends on 9 pixels of the image, in 3 × 3; 64.0 %")
    page = visit.go("window?layer=conv2&y=4&x=4")
    page.wait_for_selector("text=This value depends on 25 pixels of the image, in 5 × 5.")


def cells(page):
    return page.evaluate(
        "[...document.querySelectorAll('.equation td')].map((cell) => [cell.textContent, cell.className, cell.title])"
    )


@with_net(padded)
def test_padding_takes_no_part_in_a_pooling(visit):
    page = window(visit, "1", 0, 0, 0)
    shown = cells(page)
    assert [text == "" for text, _, _ in shown] == [True, True, True, True, False, False, True, False, False]
    assert all("takes no part" in title for text, _, title in shown if not text)
    assert page.eval_on_selector_all(".triptych .frame", "all => [all[1].style.width, all[1].style.height]") == [
        "6.25%", "6.25%",
    ]  # fmt: skip
    counted = cells(window(visit, "2", 0, 0, 0))
    assert [kind for _, kind, _ in counted].count("padded") == 5
    uncounted = cells(window(visit, "3", 0, 0, 0))
    assert [text for text, _, _ in uncounted].count("") == 5


@with_net(unequal)
def test_a_cell_beside_an_adaptive_window_is_empty(visit):
    page = window(visit, "0", 0, 0, 0)
    assert [text == "" for text, _, _ in cells(page)] == [False, False, True] * 2
    assert "padding" not in page.inner_html(".equation")
    across = page.eval_on_selector_all(".triptych .frame", "all => all[1].style.width")
    assert across == f"{200 / 7:.4f}%"[:7] + across[7:]
    assert "".join(text for text, _, _ in cells(window(visit, "0", 0, 0, 1)))


@with_net(digits)
def test_flatten_shows_where_a_value_comes_from(visit):
    page = window(visit, "flatten", 5)
    assert page.inner_text(".triptych figure:nth-child(2) figcaption") == "conv3.pool · 1"
    terms = page.locator(".sum .term b")
    assert terms.nth(0).get_attribute("data-value") == terms.nth(1).get_attribute("data-value")
    page = window(visit, "flatten", 100)
    assert page.inner_text(".triptych figure:nth-child(2) figcaption") == "conv3.pool · 25"
    assert page.inner_text(".sum small >> nth=0") == "conv3.pool · 25"


@with_net(branches)
def test_side_by_side_shows_which_input_a_channel_comes_from(visit):
    name = next(name for name in visit_layers(visit) if name.startswith("cat"))
    page = window(visit, name, 3, 2, 5)
    assert page.inner_text(".triptych figure:nth-child(2) figcaption") == "b · 1"
    terms = page.locator(".sum .term b")
    assert terms.nth(0).get_attribute("data-value") == terms.nth(1).get_attribute("data-value")


def visit_layers(visit):
    page = visit.go("window")
    return page.eval_on_selector_all(".chooser option", "all => all.map((one) => one.value)")


@with_net(digits)
def test_the_number_of_the_channel_follows(visit):
    page = window(visit, "conv1", 0)
    page.focus(".pointed")
    page.keyboard.press("PageDown")
    page.wait_for_function("document.querySelector('.chooser input').value === '1'")
    page.fill(".chooser input", "99")
    last = page.get_attribute(".chooser input", "max")
    page.wait_for_function("last => document.querySelector('.chooser input').value === last", arg=last)


@with_net(plain_colour)
def test_the_products_of_a_colour_picture_add_up(visit):
    page = visit.go("play")
    page.wait_for_selector(".partial button")
    assert page.inner_text(".equation caption >> nth=0") == "Window, red"
    assert "divided by 3" in page.inner_text(".equation caption >> nth=1")
    sums = []
    for k, colour in enumerate(["red", "green", "blue"]):
        page.click(f".partial li:nth-child({k + 1}) button")
        assert page.inner_text(".equation caption >> nth=0") == f"Window, {colour}"
        sums.append(sum(read_window(page)["tables"][2]))
    found = read_window(page)["total"]
    assert found[:3] == pytest.approx(sums, abs=1e-6)
    assert found[3] == pytest.approx(sum(sums), abs=1e-6)
    assert found[4] == pytest.approx(sum(sums), abs=1e-5)


@with_net(plain_colour)
def test_all_75_products_of_the_lesson_are_there(visit):
    page = visit.go("learn?step=7")
    page.wait_for_selector(".learn[data-step='7'] .partial button")
    sums = []
    for k in range(3):
        page.click(f".partial li:nth-child({k + 1}) button")
        sums.append(sum(read_window(page)["tables"][2]))
    total = read_window(page)["total"]
    assert total[:3] == pytest.approx(sums, abs=1e-6)
    assert total[-1] == pytest.approx(sum(sums) + total[3], abs=1e-5)
    assert "28 × 28 × 6" in page.inner_text(".formula.big")
    page.focus(".pointed >> nth=2")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.getElementById('said').textContent.includes('channel 2, row 14, column 11')")


@with_net(digits)
def test_settings_out_of_range_are_brought_into_it(visit):
    page = visit.go("play?size=0&count=0&stride=-3&dilation=99")
    assert page.get_by_label("Filter size").input_value() == "2"
    assert page.get_by_label("Dilation").input_value() == "6"
    assert page.locator(".outputs canvas").count() == 1


@with_net(digits)
def test_typed_weights_outlive_language_and_count(visit):
    page = visit.go("play")
    first = picture(page, ".outputs canvas")
    page.locator(".editor input").first.fill("7.5")
    page.wait_for_function("b => document.querySelector('.outputs canvas')?.toDataURL() !== b", arg=first)
    page.get_by_label("Filters", exact=True).fill("2")
    page.wait_for_function("document.querySelectorAll('.outputs canvas').length === 2")
    assert page.locator(".editor input").first.input_value() == "7.5"
    page.get_by_role("button", name="한국어").click()
    page.wait_for_selector("text=합성곱 실험실")
    assert page.locator(".editor input").first.input_value() == "7.5"
    page.locator(".editor select").select_option("edge")
    page.locator(".editor select").select_option("blur")
    page.locator(".editor select").select_option("edge")
    page.wait_for_function("document.querySelector('.editor input').value === '-1'")


@with_net(digits)
def test_arrows_in_play_are_told(visit):
    page = visit.go("play")
    page.focus(".outputs canvas")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("document.getElementById('said').textContent.includes('row 1, column 0')")
    assert "row 1, column 0" in page.get_attribute(".outputs canvas", "aria-label")


@with_net(digits)
def test_a_chapters_sliders_outlive_the_light(visit):
    page = visit.go("learn?step=5")
    page.get_by_label("Stride", exact=True).fill("2")
    page.wait_for_function("document.querySelector('.formula.big').innerText.includes('3')")
    assert "+ 0" not in page.inner_text(".formula.big")
    page.get_by_role("button", name="Light or dark").click()
    page.wait_for_selector(".learn[data-step='5']")
    page.wait_for_function("document.querySelectorAll('.slider input')[2].value === '2'")


@with_net(digits)
def test_the_filter_walks_on_under_a_resting_pointer(visit):
    page = visit.go("learn?step=4")
    page.wait_for_selector(".grid")
    box = page.locator(".pointed .grid").bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.get_by_role("button", name="Slide slowly").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.pointed').getAttribute('aria-label').includes('column 2')")
    page.wait_for_function("document.querySelector('.pointed').getAttribute('aria-label').includes('column 3')")


@with_net(small_padded)
def test_the_pooling_chapter_reads_no_padding(visit):
    page = visit.go("learn?step=9")
    page.wait_for_selector(".learn[data-step='9'] .grid")
    text = page.inner_text(".widget .caption.figure")
    assert text.count(",") == 3, "of a window at the corner, four values of nine"


@with_net(many_labels)
def test_the_lesson_on_a_net_without_small_maps_or_a_linear_layer(visit):
    page = visit.go("learn?step=9")
    page.wait_for_selector(".learn[data-step='9'] .grid")
    assert page.locator(".grid >> nth=0").locator("span").count() == 12 * 12
    page = visit.go("learn?step=10")
    page.wait_for_selector(".learn[data-step='10'] tbody tr")
    assert page.locator("tbody tr").count() == 12
    assert page.inner_text("tbody th >> nth=0") == likeliest(visit)
    assert page.locator("tbody a").count() == 0
    assert page.locator("tbody td[style*='--accent']").count() == 1


@with_net(no_windows)
def test_the_lesson_on_a_net_without_windows(visit):
    page = visit.go("learn?step=8")
    page.wait_for_selector("text=This net has no layer that reads windows.")


@pytest.mark.parametrize(
    ("visit", "count"),
    [(small_padded, "3 · (32 + 1) = 99"), (no_windows, "3 · 64 = 192")],
    indirect=["visit"],
    ids=["with a bias", "without"],
)
def test_the_weights_of_the_last_layer_are_counted(visit, count):
    page = visit.go("learn?step=10")
    page.wait_for_selector(".learn[data-step='10'] tbody tr")
    assert page.inner_text(".widget .caption code") == count


def likeliest(visit):
    page = visit.page
    return page.evaluate(
        "async () => { const [net, answer] = await Promise.all(['net', 'sample?n=0'].map(async (q) =>"
        " (await fetch(`/api/${q}`)).json())); const p = answer.probabilities;"
        " return net.classes[p.indexOf(Math.max(...p))]; }"
    )


@with_net(padded)
def test_health_of_a_layer_without_a_relu(visit):
    page = visit.go("window?layer=0")
    page.wait_for_selector("text=No ReLU follows")


def test_the_pages_padded_means_are_explains():
    looked = padded()
    shown = looked.sample(0)
    for layer in ("2", "3"):
        found = explain.taken_apart(looked.net, looked.maps(shown), layer, 0, 0, 0)
        assert abs(found.difference) < 1e-4


def normed():
    """A batch norm after a convolution of its own, one without weights after a skip, and a mean of all that is left."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.plain, self.end = nn.BatchNorm2d(4, affine=False), nn.Linear(4, 3)

        def forward(self, x):
            y = self.norm(self.conv(x))
            return self.end(self.plain(torch.relu(y) + y).mean((2, 3)))

    made = Normed()
    for norm in (made.norm, made.plain):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(made.norm.weight, 0.5, 2)
    nn.init.uniform_(made.norm.bias, -1, 1)
    return of(made, GREY)


def terms(page, line):
    numbers = "sum => [...sum.querySelectorAll('b')].map((one) => Number(one.dataset.value))"
    return page.eval_on_selector(f".inspect .sum >> nth={line}", numbers)


@with_net(normed)
def test_a_batch_norm_is_taken_apart_and_folded(visit):
    torch.manual_seed(0)
    subject = normed()
    net, maps = subject.net, subject.maps(subject.sample(0))
    name = next(one for one in net.layers if net.nodes[one].op == "batch_norm2d")
    conv = net.nodes[name].inputs[0]
    page = window(visit, name, 2, 3, 5)
    given = {role: net.tensors[tensor] for role, tensor in net.nodes[name].params.items()}
    deviation = np.sqrt(given["running_var"][2] + 1e-5)
    x, mean, spread, gamma, beta, made, engine = terms(page, 0)
    assert np.float32(x) == maps[conv][2, 3, 5]
    assert (mean, gamma, beta) == tuple(pytest.approx(given[role][2]) for role in ("running_mean", "weight", "bias"))
    assert spread == pytest.approx(deviation, rel=1e-6)
    assert np.float32(engine) == maps[name][2, 3, 5]
    assert made == pytest.approx(engine, abs=1e-5)
    factor, shift = terms(page, 1)
    weight, bias = (net.tensors[net.nodes[conv].params[role]] for role in ("weight", "bias"))
    tables = read_window(page)["tables"]
    assert np.array_equal(np.float32(tables[0]), weight[2, 0].ravel())
    new_bias = terms(page, 3)[-1]
    window_ = explain.taken_apart(net, maps, conv, 2, 3, 5)
    folded_ = float((window_.values[0].ravel() * np.array(tables[1])).sum()) + new_bias
    assert folded_ == pytest.approx(engine, abs=1e-5), "the folded filter and bias give the same"
    assert new_bias == pytest.approx(bias[2] * factor + shift, abs=1e-6)


@with_net(normed)
def test_a_batch_norm_without_weights_behind_a_skip_has_no_filter_to_fold_into(visit):
    torch.manual_seed(0)
    net = normed().net
    name = [one for one in net.layers if net.nodes[one].op == "batch_norm2d"][-1]
    page = window(visit, name, 1, 0, 0)
    assert terms(page, 0)[3:5] == [1, 0]
    assert page.locator(".inspect .sum").count() == 2


@with_net(normed)
def test_a_mean_is_framed_whole_and_its_numbers_shown(visit):
    torch.manual_seed(0)
    subject = normed()
    net, maps = subject.net, subject.maps(subject.sample(0))
    name = next(one for one in net.layers if net.nodes[one].op == "mean")
    page = window(visit, name, 3)
    frames = page.eval_on_selector_all(
        ".triptych .frame", "all => all.map((one) => [one.style.width, one.style.height])"
    )
    assert frames == [["100%", "100%"]] * 3
    found = read_window(page)
    assert len(found["tables"][0]) == 64
    assert np.mean(found["tables"][0]) == pytest.approx(maps[name].ravel()[3], abs=1e-6)
    assert explain.taken_apart(net, maps, name, 3, 0, 0).difference == pytest.approx(0, abs=1e-6)
