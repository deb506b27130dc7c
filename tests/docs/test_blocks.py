"""Every fenced block of every page is run or checked, or says what it would need."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import run, sam_environment, tool
from tests.docs.pages import Block, RunBy, all_pages, blocks, marks, without_blocks
from tests.docs.verdicts import NEEDS, Verdict, all_verdicts, judge, report

if TYPE_CHECKING:
    from pathlib import Path

MOST_THAT_NEED_SOMETHING = 6
"""What cannot run here is an exception. Before you raise this, look whether it really cannot."""
TEMPLATES = [
    block
    for page in all_pages()
    for block in blocks(page)
    if block.kind == "yaml" and "\nResources:" in f"\n{block.text}"
]


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    """Judge all blocks once."""
    tool(".venv-sam", "sam")
    return all_verdicts()


def test_every_block_is_run_or_checked_or_says_why_not(verdicts: list[Verdict]) -> None:
    """The message has each one's place and what to do."""
    wrong = [
        f"{verdict.block.place}: {problem}" for verdict in verdicts for problem in verdict.problems
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_what_cannot_run_is_a_short_list(verdicts: list[Verdict]) -> None:
    """It is printed (``-s``, or `make docs-blocks`), and each entry has its reason."""
    print("\n".join(report(verdicts)))
    rest = [verdict for verdict in verdicts if verdict.fate == NEEDS]
    assert len(rest) <= MOST_THAT_NEED_SOMETHING, "\n".join(report(rest))


@pytest.mark.parametrize("page", all_pages())
def test_every_mark_belongs_to_a_block(page: str) -> None:
    """A mark that stands elsewhere says something about nothing."""
    marked = [block for block in blocks(page) if block.mark or block.trouble]
    distinct = {(block.mark, block.trouble) for block in marked}
    assert len(distinct) <= marks(page) <= len(marked), (
        f"{page} has a mark that is neither right before a block nor right under the title"
    )


@pytest.mark.build
@pytest.mark.parametrize("block", TEMPLATES, ids=lambda block: block.place)
def test_sam_finds_nothing_in_the_templates_of_the_pages(block: Block, tmp_path: Path) -> None:
    """Whole templates, which the pages give to be copied, pass `sam validate --lint`."""
    (tmp_path / "src").mkdir()
    (tmp_path / "template.yaml").write_text(block.text, encoding="utf-8")
    done = run(
        *(tool(".venv-sam", "sam"), "validate", "--lint"),
        cwd=tmp_path,
        environment=sam_environment(),
    )
    assert "is a valid SAM Template" in done.stdout


@pytest.mark.parametrize("page", all_pages())
def test_all_code_stands_between_fences(page: str) -> None:
    """Nowhere else is it seen by these tests: no `<pre>`, no quotations, no mere indentation."""
    hidden = [
        line
        for before, line in pairwise(without_blocks(page))
        if re.search(r"<pre\b|^\s*>.*```", line)
        or (re.match(r" {4,}(?![-*|] |\d+\. )\S", line) and not before.strip())
    ]
    assert hidden == [], f"{page} has code that is in no fenced block: {hidden}"


# -- the check itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("", "make test", "a block without a kind"),
        ("pyhton", "1", "a block of the kind 'pyhton'"),
        ("python", "def f(:", "this is no python"),
        ("json", "{'a': 1}", "this is no json"),
        ("yaml", "a: [", "this is no yaml"),
        ("toml", "a =", "this is no toml"),
        ("hcl", "resource {}", "nothing runs a block of hcl"),
        ("text", "make test", "looks like code to type"),
        ("json", '{"provider": "launchdarkly", "rowz": true}', "rowz"),
        ("json", '{"sources": {"prod": {"provider": "lunchdarkly"}}}', "provider"),
        ("bash", "make tset", "the Makefile has no target tset"),
        ("bash", "make run PROVDER=split", "the Makefile reads no variable PROVDER"),
        ("bash", "cat a | make tset", "the Makefile has no target tset"),
        ("bash", "echo $(make tset)", "the Makefile has no target tset"),
        ("bash", "terraform apply", "nothing checks `terraform`"),
        ("bash", "echo 'never closed", "a quote is never closed"),
        ("console", "make test", "there is no command in it"),
        ("console", "$ storesync stats", "has no command stats"),
        ("console", "$ storesync status --chek", "No such option"),
        ("console", "$ storesync source add prod --provider aws", "is not one of"),
        ("console", "$ storesync get prod", "needs FLAG"),
        ("bash", "sam deploy --guidded", "`sam deploy` has no option --guidded"),
        ("bash", 'cat > env.json <<END\n{"SyncFunction": {"FLAGSTORE_TABEL": "x"}}\nEND',
         "SyncFunction has no variable FLAGSTORE_TABEL"),
        ("bash", "for name in a b; do make tset > log 2>&1; done", "has no target tset"),
        ("bash", "sam deploi", "there is no `sam deploi`"),
        ("bash", "sam deploy --parameter-overrides Tabel=x", "no template has a parameter Tabel"),
        ("bash", "sam deploy --parameter-overrides SyncTimeout=45", "does not take 45"),
        ("bash", "sam deploy --parameter-overrides HeadReplicas=6", "does not take 6"),
        ("bash", "sam deploy --parameter-overrides ParameterPrefix=flags", "does not take flags"),
        ("bash", "aws sqs receive-messages", "`aws sqs` has no `receive-messages`"),
        ("bash", "aws sqs get-queue-url --queue-nam x", "has no option --queue-nam"),
        ("bash", "aws sqs get-queue-url", "Missing required parameter"),
        ("bash", "aws sqs get-queue-url --queue-name <QueueName>", "<QueueName> is neither"),
        ("bash", "aws ssm put-parameter --name /f/sources/a --type SecureString --value '{}'",
         "/f/sources/a is a String"),
        ("bash", """aws ssm put-parameter --name /f/webhooks/a --type SecureString --value \\
            '{"provider": "launchdarkly", "secrets": ["short"]}'""", "16"),
        ("bash", "aws lambda invoke --function-name SyncFunction --payload '{}' out",
         "SyncFunction does not understand"),
        ("bash", "pip install 'flagstore[openfeatures]'", "the wheel has no extra openfeatures"),
        ("bash", "python -m tools.make_event", "there is no module tools.make_event"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(kind: str, text: str, problem: str) -> None:
    """Each kind of mistake that a page can have, in one line."""
    tool(".venv-sam", "sam")
    found = judge(Block("README.md", 1, kind, f"{text}\n", None)).problems
    assert any(problem in each for each in found), found


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        (RunBy("tests/docs/test_none.py", "test_it"), "does not exist"),
        (RunBy("tests/docs/test_blocks.py", "test_it"), "is not in"),
        (RunBy("tests/unit/test_sigv4.py", "test_it"), "is not in"),
        (RunBy("tests/cli/test_page.py", "test_every_option_has_help"), "does not read README.md"),
    ],
)
def test_a_mark_names_a_test_that_reads_the_page(mark: RunBy, problem: str) -> None:
    """A mark that promises too much is worse than none."""
    (found,) = judge(Block("README.md", 1, "python", "1\n", mark)).problems
    assert problem in found


def test_marks_stand_before_a_block_or_under_the_title() -> None:
    """The nearer one wins; one that is misspelled is said to be."""
    text = """# Title

<!-- run by tests/unit/test_a.py::test_a -->

Text.

```python
1
```

<!-- needs AWS: only AWS has it -->
```bash
aws x
```
<!-- needs aws -->
```bash
aws y
```
"""
    first, second, third = blocks("docs/x.md", text)
    assert first.mark == RunBy("tests/unit/test_a.py", "test_a")
    assert (second.line, second.kind, str(second.mark)) == (
        12, "bash", "Needs(what='AWS', why='only AWS has it')",
    )  # fmt: skip
    assert third.trouble == "no such mark: <!-- needs aws -->"


def test_a_block_in_a_list_is_found_and_moved_to_the_margin() -> None:
    """However far it is in; a longer fence may hold a shorter one."""
    (block, other) = blocks(
        "docs/x.md",
        "10. do\n\n    ```python\n    if 1:\n        2\n    ```\n\n````text\n```\n````\n",
    )
    assert (block.kind, block.text) == ("python", "if 1:\n    2\n")
    assert (other.kind, other.text) == ("text", "```\n")


def test_a_block_that_is_never_closed_is_found() -> None:
    """It would swallow the rest of the page."""
    (block,) = blocks("docs/x.md", "````python\n1\n```\n")
    assert block.trouble == "the block is never closed"
