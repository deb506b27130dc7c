"""The pages say what the code does: providers, make targets, links and variables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_protocol_members

import pytest

from local.providers import PROVIDERS
from local.stores import STORES
from simulators import faults
from storesync import providers, sources
from storesync.providers.base import Provider
from tests.docs.commands import targets
from tests.docs.pages import REPOSITORY, all_pages, anchors, links, slug

if TYPE_CHECKING:
    from pathlib import Path

README = REPOSITORY / "README.md"
PAGES = [REPOSITORY / page for page in all_pages()]
NAMES = providers.names()
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
EXTERNAL = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/\S*)?|mailto:\S+@\S+")
MAKE = re.compile(r"\bmake ([a-z.][a-z0-9.-]*)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
READ = re.compile(r"\benviron(?:ment)?(?:\.get\(|\[)\"([A-Z][A-Z0-9_]+)\"")
VARIABLE = re.compile(r"\bFLAGSTORE_[A-Z0-9_]+")


def read(path: Path) -> str:
    """Return a file's text."""
    return path.read_text(encoding="utf-8")


def docs(name: str) -> str:
    """Return the text of a page in docs."""
    return read(REPOSITORY / "docs" / name)


def section(title: str) -> str:
    """Return what docs/sources.md says about a provider; empty where it has no such section."""
    found = re.search(rf"^## {title}\b.*?(?=^## |\Z)", docs("sources.md"), re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def variables(*paths: Path) -> set[str]:
    """Return the variables that files name."""
    return {name for path in paths for name in VARIABLE.findall(read(path))}


@pytest.mark.parametrize("name", NAMES)
def test_every_provider_is_documented(name: str) -> None:
    """It has a row in README and a section with its methods, its address and its options."""
    provider = providers.get(name)
    assert re.search(rf"^\| {provider.title}\b.* \|$", read(README), re.MULTILINE)
    text = section(provider.title)
    fields = re.findall(r"^\| `(\w+)`", text, re.MULTILINE)
    assert fields[:2] == ["key", "base_url"]
    assert {"method", "options"} <= set(fields)
    for method in provider.methods:
        assert f"`{method}`" in text
    assert provider.default_base_url in text
    source = read(REPOSITORY / "src" / "storesync" / "providers" / f"{name}.py")
    options = set(re.findall(r"""options(?:\.get\(|\[)"(\w+)\"""", source))
    assert options
    assert {option for option in options if f"`{option}`" not in text} == set()


def test_every_provider_can_be_shown() -> None:
    """`make run` knows all, and the pages name no other."""
    assert {name: make().name for name, make in PROVIDERS.items()} == {name: name for name in NAMES}
    assert {name: make().title for name, make in PROVIDERS.items()} == {
        name: providers.get(name).title for name in NAMES
    }
    named = {name for page in PAGES for name in re.findall(r"PROVIDER=(\w+)", read(page))}
    assert named <= set(NAMES)
    assert named >= set(NAMES) - {"launchdarkly"}


def test_every_store_can_be_shown() -> None:
    """`make run` knows all, and the pages name no other."""
    assert set(STORES) == set(sources.STORES)
    named = {name for page in PAGES for name in re.findall(r"STORE=(\w+)", read(page))}
    assert named == set(STORES) - {"dynamodb"}


def test_the_page_for_another_provider_names_every_part() -> None:
    """The members of the protocol, and the faults of the simulators."""
    page = docs("adding-a-provider.md")
    played = {
        name
        for name, made in vars(faults).items()
        if getattr(made, "__annotations__", {}).get("return") == "Fault"
    }
    assert len(played) > 10
    missing = {
        name
        for name in get_protocol_members(Provider) | played
        if not re.search(rf"`{name}\b", page)
    }
    assert missing == set()


def test_every_threat_has_tests_that_exist() -> None:
    """Each row of the threat model names what is done, and tests by file and name."""
    text = read(REPOSITORY / "SECURITY.md").partition("## Threats")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 20
    for threat, done, tests in rows:
        assert threat
        assert done
        named = TEST.findall(tests)
        assert named, threat
        for path, name in named:
            assert f"def {name}(" in read(REPOSITORY / path), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_exists(page: Path) -> None:
    """What a page says to type, `make` knows."""
    named = {target for code in CODE.findall(read(page)) for target in MAKE.findall(code)}
    assert named <= targets()


@pytest.mark.parametrize("page", all_pages())
def test_every_link_leads_somewhere(page: str) -> None:
    """To a file, and to a heading where it names one; others' addresses at least look like some."""
    wrong = [link for link in links(page) if not _leads_somewhere(page, link)]
    assert not wrong, f"{page} has links that lead nowhere: {wrong}"


def _leads_somewhere(page: str, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return EXTERNAL.fullmatch(link) is not None
    target, _, anchor = link.partition("#")
    path = (REPOSITORY / page).parent.joinpath(target).resolve() if target else REPOSITORY / page
    if not path.exists() or not path.is_relative_to(REPOSITORY):
        return False
    if not anchor:
        return True
    return path.suffix == ".md" and anchor in anchors(path.relative_to(REPOSITORY).as_posix())


@pytest.mark.parametrize("page", [page for page in all_pages() if page != "README.md"])
def test_every_page_can_be_reached(page: str) -> None:
    """Whoever begins with README comes to it from link to link."""
    reached, waiting = {"README.md"}, ["README.md"]
    while waiting:
        here = waiting.pop()
        for link in links(here):
            path = (REPOSITORY / here).parent.joinpath(link.partition("#")[0]).resolve()
            found = path.relative_to(REPOSITORY).as_posix() if path.suffix == ".md" else here
            if found not in reached and path.exists():
                reached.add(found)
                waiting.append(found)
    assert page in reached, f"no page that README leads to links to {page}"


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("What is read", "what-is-read"),
        ("LaunchDarkly's SDKs", "launchdarklys-sdks"),
        ("source: add, list, remove", "source-add-list-remove"),
        ("What do `enabled` and `value` mean?", "what-do-enabled-and-value-mean"),
        ("`FLAGSTORE_TABLE` — a *table*", "flagstore_table--a-table"),
        ("See [the page](other.md)", "see-the-page"),
        ("0.1.0 (not released)", "010-not-released"),
    ],
)
def test_anchors_are_githubs(heading: str, anchor: str) -> None:
    """Lower case, no punctuation but underscores and hyphens, a hyphen for each space."""
    assert slug(heading) == anchor


def test_every_variable_is_documented_and_none_is_made_up() -> None:
    """What the sources read, a page or the template names; what those name, the sources read."""
    sources = variables(*(REPOSITORY / "src").rglob("*.py"))
    assert "FLAGSTORE_TABLE" in sources
    assert variables(*PAGES, REPOSITORY / "template.yaml") == sources


def test_every_other_variable_is_of_aws_or_in_the_template() -> None:
    """What Lambda sets is AWS' own; whatever else is read, somebody has to be told of."""
    code = "".join(read(path) for path in (REPOSITORY / "src").rglob("*.py"))
    named = set(READ.findall(code))
    assert {"AWS_REGION", "FLAGSTORE_TABLE", "POWERTOOLS_SERVICE_NAME"} <= named
    rest = {name for name in named if not name.startswith(("AWS_", "FLAGSTORE_"))}
    assert {
        name for name in rest if f" {name}: " not in read(REPOSITORY / "template.yaml")
    } == set()
