import json

import pytest

from hapgop.shape import ConvShape


def test_a_run_layer_by_layer(hapgop, run):
    done = hapgop("shapes", run)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == [
        "layer", "operation", "input", "filter", "formula", "output", "parameters", "MACs", "sees",
    ]  # fmt: skip
    for line in ConvShape(1, 1, 4, 6, 1, 3, 3, stride=3).formula().splitlines():
        assert line in done.out
    assert "1×1×2" in done.out
    # 9 weights at two places; 2 outputs of 2 inputs.
    assert [line.split() for line in lines if line.startswith("total")] == [["total", "13", "22"]]
    assert lines[-1] == "conv does not read its whole input: 1 row at the bottom is never read."


def test_json_is_complete_and_alone(hapgop, run):
    done = hapgop("shapes", run, "--json")
    conv, flat, head = json.loads(done.out)["layers"]
    assert done.err == ""
    assert (conv["input"], conv["output"], conv["unread"]) == ([1, 4, 6], [1, 1, 2], [1, 0])
    assert conv["receptive_field"] == {"size": [3, 3], "jump": [3, 3], "start": [0, 0]}
    assert (conv["parameters"], conv["macs"]) == (9, 18)
    assert flat["output"] == [2]
    assert head["filter"] == "2 of 2"


def test_another_input(hapgop, run):
    done = hapgop("shapes", run, "--input", "1x7x12", "--json")
    assert json.loads(done.out)["layers"][0]["output"] == [1, 2, 4]


@pytest.mark.parametrize("text", ["3x32", "3 32 32", "axbxc", "3x-1x4", ""])
def test_an_input_that_is_none(hapgop, run, text):
    done = hapgop("shapes", run, "--input", text)
    assert done.code == 2
    assert "channels, height and width are wanted" in done.err


@pytest.mark.parametrize("text", ["3x99999999x99999999", "3x99999999999x9", "3x0x32"])
def test_an_input_that_no_image_has(hapgop, text):
    done = hapgop("shapes", "lenet5", "--input", text)
    assert done.code == 2
    assert done.err == f"hapgop: --input {text}: sizes from 1 to 65,536 are wanted, as in 3x32x32.\n"


def test_a_net_needs_no_memory_for_its_sizes(hapgop):
    done = hapgop("shapes", "lenet5", "--input", "3x65536x65536", "--json")
    assert done.code == 0, done.err
    # Two pools of 2 after filters of 5, the first of which keeps the size; 16 channels, 120 units: terabytes.
    fc1 = next(layer for layer in json.loads(done.out)["layers"] if layer["name"] == "fc1")
    assert fc1["macs"] == 120 * fc1["input"][0] > 10**11


def test_a_size_that_does_not_fit_names_the_layer(hapgop, run):
    done = hapgop("shapes", run, "--input", "1x2x9")
    assert done.code == 2
    assert "hapgop: conv (conv2d) on 1×2×9: kernel" in done.err


def test_a_name_needs_an_input(hapgop):
    done = hapgop("shapes", "lenet")
    assert done.code == 2
    assert "--input 3x32x32" in done.err


def test_a_damaged_run_is_named(hapgop, run):
    (run / "config.json").write_text("{}")
    done = hapgop("shapes", run)
    assert done.code == 2
    assert f"{run / 'config.json'}: format None" in done.err
    (run / "config.json").write_text('{"format": 1, "graph": {}}')
    done = hapgop("shapes", run)
    assert f"{run}/config.json: The graph needs a list" in done.err
