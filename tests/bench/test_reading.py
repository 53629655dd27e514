import pytest

from hapgop.bench import Case, from_text
from hapgop.errors import InputError
from hapgop.shape import ConvShape


def only(line):
    (case,) = from_text(line)
    return case


def test_a_line_with_everything_in_it():
    case = only("a.b ic=6 size=9 oc=4 kernel=3 stride=2 padding=1 dilation=2 groups=2 n=3,1 pool=2 class=mine  # why")
    shape = ConvShape(3, 6, 9, 9, 4, 3, 3, 2, 1, 2, 2)
    assert case == Case("a.b", "conv", shape, "mine", (3, 1), "relu", (2, 2))
    assert case.at(7).shape == shape.with_batch(7)


def test_what_is_not_said_is_the_plainest():
    case = only("a ic=6 size=9 oc=4 kernel=3")
    assert case == Case("a", "conv", ConvShape(1, 6, 9, 9, 4, 3, 3), "3x3", (1,), "relu", None)


def test_comments_and_empty_lines_are_no_cases():
    cases = from_text("# first\n\na ic=1 size=3 oc=1 kernel=1\n   \nb ic=1 size=3 oc=1 kernel=1 # last\n")
    assert [case.name for case in cases] == ["a", "b"]


def test_a_transposed_convolution_is_the_one_whose_input_gradient_it_is():
    shape = only("up ic=256 size=16 oc=128 kernel=4 stride=2 padding=1 transposed=1 n=2").shape
    assert (shape.y_shape, shape.x_shape) == ((2, 256, 16, 16), (2, 128, 32, 32))
    assert shape.w_shape == (256, 128, 4, 4)


@pytest.mark.parametrize(
    ("words", "family"),
    [
        ("ic=64 oc=64 kernel=3", "3x3"),
        ("ic=64 oc=64 kernel=5", "5x5"),
        ("ic=64 oc=64 kernel=1", "1x1"),
        ("ic=4 oc=64 kernel=7 stride=2", "first"),
        ("ic=5 oc=64 kernel=3", "3x3"),
        ("ic=64 oc=64 kernel=3 stride=2", "stride2"),
        ("ic=64 oc=64 kernel=3 groups=64", "depthwise"),
        ("ic=64 oc=128 kernel=3 groups=64", "grouped"),
        ("ic=64 oc=64 kernel=3 groups=2 stride=2", "grouped"),
        ("ic=64 oc=64 kernel=3 dilation=2", "dilated"),
        ("ic=64 oc=64 kernel=2 stride=2 transposed=1", "transposed"),
        ("ic=64 oc=64 kernel=3 pool=2", "conv+pool"),
    ],
)
def test_the_class_follows_from_the_shape(words, family):
    assert only(f"a size=16 {words}").family == family


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a ic=1 size=9 oc=1", "kernel has to be given"),
        ("a", "ic, size, oc, kernel has to be given"),
        ("a ic=1 size=9 oc=1 kernel=x", "kernel=x: a whole number"),
        ("a ic=1 size=9 oc=1 kernel=1_0", "kernel=1_0: a whole number"),
        ("a ic=1 size=9 oc=1 kernel=-3", "kernel=-3: a whole number"),
        ("a ic=1 size=9 oc=1 kernel=3 colour=2", "'colour=2' is not understood"),
        ("a ic=1 size=9 oc=1 kernel=3 kernel=5", "'kernel=5' is not understood"),
        ("a ic=1 size=9 oc=1 kernel=3 fast", "'fast' is not understood"),
        ("a ic=1 size=9 oc=1 kernel=3 n=0", "batch sizes of at least 1"),
        ("a ic=1 size=9 oc=1 kernel=3 n=2,2", "each once"),
        ("a ic=1 size=9 oc=1 kernel=3 n=1,", "n=: a whole number"),
        ("a ic=1 size=3 oc=1 kernel=3 pool=2", "pool=2 does not fit"),
        ("a ic=1 size=2 oc=1 kernel=3", "kernel"),
        ("a ic=3 size=9 oc=3 kernel=3 groups=2", "groups"),
        ('a "ic=1', "No closing quotation"),
    ],
)
def test_a_line_that_does_not_fit_is_shown_with_its_number(line, words):
    with pytest.raises(InputError) as caught:
        from_text(f"good ic=1 size=9 oc=1 kernel=3\n{line}", "my.txt")
    assert "my.txt, line 2, " in str(caught.value)
    assert words in str(caught.value)


def test_two_cases_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"line 2.*another case 'a' above"):
        from_text("a ic=1 size=9 oc=1 kernel=3\na ic=2 size=9 oc=1 kernel=3")


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_no_case_at_all_is_refused(text):
    with pytest.raises(InputError, match="no case in it"):
        from_text(text)
