"""docs/compatibility.md says what was found, and only that."""

import pytest

import page


@pytest.fixture
def ideal():
    return page.Facts(page.ideal())


@pytest.fixture
def here(tmp_path, monkeypatch):
    copy = tmp_path / "page.md"
    copy.write_text(page.PAGE.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(page, "PAGE", copy)
    return copy


def test_what_was_written_is_read_back(here, ideal):
    page.write(ideal)
    assert page.written() == page.render(ideal) and page.difference(ideal) is None
    assert here.read_text("utf-8").startswith("# What works with what\n")


def test_a_word_by_hand_is_noticed(here):
    here.write_text(here.read_text("utf-8").replace("| waitress |", "| Waitress |", 1), "utf-8")
    with pytest.raises(ValueError, match="by hand"):
        page.written()


@pytest.mark.parametrize("fact", [
    {"kind": "library", "stack": "flask", "server": "uwsgi", "library": "openai", "mode": "relay", "passed": False},
    {"kind": "held", "stack": "django-4.2", "server": "granian", "passed": False},
    {"kind": "program", "key": "puma", "version": "Ruby 3, puma 5", "passed": False},
])
def test_a_failure_is_on_the_page_and_a_difference(here, ideal, fact):
    page.write(ideal)
    facts = page.Facts([*page.ideal(), fact])
    assert page.render(facts).count(page.FAILS) == page.render(ideal).count(page.FAILS) + 1
    assert page.difference(facts)


def test_what_was_not_run_is_no_success(here, ideal):
    page.write(ideal)
    assert page.WORKS not in page.render(page.Facts([])).split("###", 1)[1] and page.difference(page.Facts([]))


def test_numbers_alone_are_no_difference(here, ideal):
    page.write(ideal)
    found = {"kind": "limits", "key": "waitress", "size": 12345, "size_beyond": "431", "fields": 67, "fields_beyond": "431", "passed": True}
    assert page.difference(page.Facts([*page.ideal(), found])) is None
