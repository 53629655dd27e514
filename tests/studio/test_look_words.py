"""Two languages, one set of words: no view asks for words that there are not, and no words are left over."""

import json
import re
import shutil
import subprocess
from importlib import resources

import pytest

from hapgop.program.ops import OPS

STATIC = resources.files("hapgop.studio.look") / "static"
CODE = {
    entry.name: entry.read_text(encoding="utf-8")
    for entry in STATIC.iterdir()
    if entry.name.endswith(".js") and not re.match(r"(words|lesson)\.(en|ko)", entry.name)
}


def keys(language):
    return re.findall(r'"([\w.]+)": (?=")', (STATIC / f"words.{language}.js").read_text(encoding="utf-8"))


def words(language):
    text = (STATIC / f"words.{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'"([\w.]+)": ("(?:[^"\\]|\\.)*")', text))


def test_both_languages_say_the_same_things():
    assert keys("en") == keys("ko")
    assert len(set(keys("en"))) == len(keys("en"))


def test_both_fill_in_the_same_names():
    korean = words("ko")
    for key, text in words("en").items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", korean[key])), key
        assert json.loads(text)


def test_every_key_that_is_asked_for_is_there_and_none_is_left_over():
    code = "\n".join(CODE.values())
    asked = set(re.findall(r'\bt\("([\w.]+)"', code)) | set(re.findall(r'"([\w.]+)"', code)) & set(keys("en"))
    families = tuple(re.findall(r"t\(`([\w.]+)\$\{", code))
    missing = {key for key in re.findall(r'\bt\("([\w.]+)"', code) if key not in keys("en")}
    assert not missing
    left_over = [key for key in keys("en") if key not in asked and not key.startswith(families)]
    assert not left_over


def test_every_operation_has_a_word():
    assert {f"op.{op}" for op in OPS} <= set(keys("en"))


def test_no_sentence_is_written_into_the_code():
    """A few proper names apart, what people read comes from the tables."""
    for name, text in CODE.items():
        found = re.findall(r'h\("\w+", \{[^}]*\}, "([A-Za-z][a-z]+ [^"]*)"', text)
        assert not found, (name, found)


def test_the_lesson_has_the_same_chapters_in_both_languages():
    chapters = [
        re.findall(r'key: "(\w+)"', (STATIC / f"lesson.{language}.js").read_text(encoding="utf-8"))
        for language in ("en", "ko")
    ]
    assert chapters[0] == chapters[1]
    titles = (STATIC / "lesson.en.js").read_text(encoding="utf-8").count("  { key:")
    assert titles == 12
    widgets = re.search(r"export const widgets = \{([^}]*)\}", CODE["widgets.js"])
    assert set(chapters[0]) == set(re.findall(r"\w+", widgets[1]))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("name", sorted(CODE))
def test_every_module_is_javascript(name, tmp_path):
    copy = tmp_path / f"{name}.mjs"
    copy.write_text(CODE[name], encoding="utf-8")
    done = subprocess.run(["node", "--check", str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
