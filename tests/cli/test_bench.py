import json

import pytest

from hapgop.bench.drawn import draw

TINY = "tiny ic=4 size=6 oc=5 kernel=3 padding=1 n=2"


@pytest.fixture
def cases(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(TINY)
    return path


@pytest.fixture
def measured(hapgop, cases, tmp_path):
    options = ["--against", "torch", "--threads", "1", "--repeats", "2"]
    done = hapgop("bench", "layers", "--cases", cases, *options, "--json", tmp_path / "out.json")
    assert done.code == 0, done.err
    return done, tmp_path / "out.json"


def test_cases_of_ones_own_are_measured_and_written(measured):
    done, path = measured
    assert "3 rows, about" in done.err
    assert f"Wrote {path}." in done.err
    lines = done.out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["tiny", op] for op in ("forward", "grad_x", "grad_w")]
    rows = json.loads(path.read_text())["rows"]
    assert [(row["case"], row["op"], row["batch"], row["threads"]) for row in rows] == [
        ("tiny", op, 2, 1) for op in ("forward", "grad_x", "grad_w")
    ]


def test_what_was_written_is_drawn_without_measuring(measured, hapgop, tmp_path):
    before, path = measured
    done = hapgop("bench", "layers", "--from", path, "--picture", tmp_path / "out.svg")
    assert done.code == 0, done.err
    assert done.out == before.out
    assert (tmp_path / "out.svg").read_text().count('id="row-tiny-') == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threads", "0"], "--threads 0: whole numbers of at least 1"),
        (["--threads", "1,1"], "each once"),
        (["--threads", "two"], "--threads two"),
        (["--batch", "1,x"], "--batch 1,x"),
        (["--case", "nonsense"], "--case nonsense: no case starts so"),
        (["--class", "9x9"], "--class 9x9: no case has this class"),
        (["--op", "sideways"], "--op sideways"),
        (["--against", "tensorflow"], "--against tensorflow"),
        (["--allocator", "jemalloc"], "--allocator jemalloc"),
        (["--repeats", "0"], "--repeats"),
        (["--json", "nowhere/out.json"], "--json nowhere/out.json: there is no folder nowhere"),
        (["--json", "."], "--json .: that is a folder"),
        (["--picture", "a.jpg"], "--picture a.jpg: the name has to end with .svg or .png"),
        (["--cases", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--from", "nowhere.json"], "nowhere.json: cannot be read"),
    ],
)
def test_what_cannot_be_used_exits_with_2(hapgop, cases, arguments, words):
    given = [] if arguments[0] in ("--cases", "--from") else ["--cases", cases]
    done = hapgop("bench", "layers", *given, *arguments)
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_a_broken_file_of_cases_or_results_exits_with_2(hapgop, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("a ic=1")
    done = hapgop("bench", "layers", "--cases", broken)
    assert (done.code, done.err) == (2, f"hapgop: {broken}, line 1, 'a ic=1': size, oc, kernel has to be given\n")
    done = hapgop("bench", "layers", "--from", broken)
    assert done.code == 2
    assert "not what `hapgop bench --json` writes" in done.err
    broken.write_bytes(b"\xff\xfe")
    done = hapgop("bench", "layers", "--cases", broken)
    assert (done.code, done.err) == (2, f"hapgop: {broken}: not a text file\n")


def test_an_unknown_thing_to_measure_exits_with_2(hapgop):
    done = hapgop("bench", "dreams")
    assert done.code == 2
    assert "dreams" in done.err


def test_random_layers(hapgop, tmp_path, monkeypatch):
    one = min(draw(50, 7), key=lambda layer: layer.shape.flops)
    monkeypatch.setattr("hapgop.bench.surveys.draw", lambda count, seed: [one])
    options = ["--threads", "1", "--repeats", "1", "--op", "forward"]
    done = hapgop("bench", "random", "--shapes", "1", *options, "--json", tmp_path / "out.json")
    assert done.code == 0, done.err
    assert done.out.startswith("1 threads, 1 random layers, seed 0")
    assert "all: 1 rows, geometric mean " in done.out
    assert len(json.loads((tmp_path / "out.json").read_text())["rows"]) == 1
    assert hapgop("bench", "random", "--op", "sideways").code == 2
    assert hapgop("bench", "random", "--shapes", "0").code == 2


def test_what_is_stopped_is_shown_and_written(hapgop, tmp_path, monkeypatch):
    one = min(draw(50, 7), key=lambda layer: layer.shape.flops)

    def layers(count, seed):
        yield one
        raise KeyboardInterrupt

    monkeypatch.setattr("hapgop.bench.surveys.draw", layers)
    options = ["--threads", "1,2", "--repeats", "1", "--op", "forward"]
    done = hapgop("bench", "random", "--shapes", "3", *options, "--json", tmp_path / "out.json")
    assert (done.code, done.err.splitlines()[-1]) == (130, "hapgop: stopped; these are the rows until then.")
    assert done.out.startswith("1 threads, 1 of 3 random layers, seed 0")
    assert len(json.loads((tmp_path / "out.json").read_text())["rows"]) == 1


def test_what_one_number_of_threads_gave_is_kept_when_the_next_is_stopped_at_once(hapgop, tmp_path, monkeypatch):
    one = min(draw(50, 7), key=lambda layer: layer.shape.flops)
    drawn = iter([[one], None])

    def layers(count, seed):
        found = next(drawn)
        if found is None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr("hapgop.bench.surveys.draw", layers)
    options = ["--threads", "1,2", "--repeats", "1", "--op", "forward", "--json", tmp_path / "out.json"]
    done = hapgop("bench", "random", "--shapes", "1", *options)
    assert done.code == 130
    assert [row["threads"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]] == [1]


def test_training_steps_are_compared(hapgop, tmp_path):
    options = ["--against", "torch eager", "--threads", "1", "--repeats", "1", "--batch", "2", "--profile"]
    done = hapgop("bench", "train", "--case", "lenet5", *options, "--json", tmp_path / "out.json")
    assert done.code == 0, done.err
    assert "lenet5, a step of ours:" in done.out
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (row["net"], row["batch"], row["threads"]) == ("lenet5", 2, 1)


def test_nets_whose_steps_are_not_compared_are_named(hapgop):
    done = hapgop("bench", "train", "--case", "alexnet")
    assert done.code == 2
    assert "--case alexnet: wanted is one of lenet5" in done.err


@pytest.fixture
def nothing_measured(monkeypatch):
    def measured(*_, **__):
        raise AssertionError("it was measured")

    for name in ("bench_layers", "bench_nets", "bench_train", "bench_start", "survey"):
        monkeypatch.setattr(f"hapgop.bench.{name}", measured)
    monkeypatch.setattr("hapgop.cli.accuracy.in_processes", measured)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("layers --net resnet18", "--net: bench layers does not know it, as these do: accuracy. It knows --case,"),
        ("layers --profile", "--profile: bench layers does not know it, as these do: train."),
        ("layers --seed 0", "--seed: bench layers does not know it, as these do: random, accuracy."),
        ("layers --from a.json --case vgg", "--case: bench layers --from does not know it"),
        ("nets --class 3x3", "--class: bench nets does not know it, as these do: layers. It knows --case, --against"),
        ("train --op forward", "--op: bench train does not know it, as these do: layers, random."),
        ("train --from a.json", "--from: bench train does not know it"),
        ("random --allocator tuned", "--allocator: bench random does not know it"),
        ("accuracy --quick --case lenet5", "--case: bench accuracy does not know it"),
        ("accuracy --no-quick", "--quick: bench accuracy does not know it"),
        ("start --threads 1,2", "--threads: bench start does not know it, as these do: layers, nets, train, random,"),
        ("start --from a.json", "--from: bench start does not know it"),
    ],
)
def test_an_option_that_would_do_nothing_exits_with_2(hapgop, nothing_measured, arguments, words):
    done = hapgop("bench", *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert words in done.err


# --set is what the command gives the process of each side.
@pytest.mark.parametrize(("arguments", "seed"), [([], 0), (["--seed", "3"], 3), (["--set", "seed=3"], 3)])
def test_a_seed_is_the_recipes_however_it_is_given(hapgop, monkeypatch, arguments, seed):
    seen = []

    def measured(data, recipe, net, side):
        seen.append(recipe.seed)
        raise KeyboardInterrupt

    monkeypatch.setattr("hapgop.cli.accuracy.measured", measured)
    assert hapgop("bench", "accuracy", "digits", "--threads", "1", "--side", "hapgop", *arguments).code == 130
    assert seen == [seed]


def test_nets_are_measured_from_the_command_line(hapgop, tmp_path):
    options = ["--case", "digits", "--batch", "1", "--against", "torch", "--threads", "1", "--repeats", "2", "--quick"]
    done = hapgop("bench", "nets", *options, "--json", tmp_path / "nets.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "nets.json").read_text())["rows"][0]["case"] == "digits"


def test_starts_are_real_processes(hapgop, tmp_path):
    done = hapgop("bench", "start", "--case", "digits", "--repeats", "1", "--json", tmp_path / "out.json")
    assert done.code == 0, done.err
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (row["net"], len(row["warm"]), len(row["cold"])) == ("digits", 1, 3)
    assert 0 < row["warm_median"] < row["cold_median"]
    assert "digits" in done.out


def test_a_start_of_an_unknown_net_is_an_error(hapgop):
    done = hapgop("bench", "start", "--case", "nonsense")
    assert done.code == 2
    assert "there is no such net" in done.err
