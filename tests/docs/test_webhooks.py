"""docs/webhooks.md says what the code says: the policy, the answers, the lines of the log."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from storesync import providers
from storesync.cli.guidance import policy
from storesync.errors import BadRequestError, SignatureError
from storesync.model import Hook, Secret, WebhookRequest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "webhooks.md").read_text(encoding="utf-8")
SECRET = "a-long-random-secret"
BODY = b'{"kind": "flag"}'


def part(title: str) -> str:
    """Return what the page says below a heading."""
    return PAGE.partition(f"\n## {title}")[2].partition("\n## ")[0]


def symptoms() -> list[str]:
    """Return the first column of the table of what goes wrong."""
    rows = [line for line in part("What goes wrong").splitlines() if line.startswith("| ")]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows[2:]]


def quoted(status: int) -> list[str]:
    """Return the words of the log that the page gives for a status."""
    found = [re.search(rf"^{status}, `([^`]+)`$", each) for each in symptoms()]
    return [each[1] for each in found if each]


def hook(provider: str) -> Hook:
    """Return the webhook of a source, checked as is the default."""
    return Hook("prod", provider, providers.get(provider).methods[0], (Secret(SECRET),))


@pytest.mark.parametrize("name", providers.names())
def test_every_provider_has_its_steps(name: str) -> None:
    """A section of its own, with numbered steps."""
    text = part(providers.get(name).title)
    assert re.findall(r"^1\. ", text, re.MULTILINE)
    assert re.findall(r"^3\. ", text, re.MULTILINE)


def test_the_policy_is_the_one_that_storesync_gives() -> None:
    """Flags and segments of one environment, word for word."""
    block = re.search(r"```json\n(.*?)```", part("LaunchDarkly"), re.DOTALL)
    assert block
    assert json.loads(block[1]) == policy({"project": "default", "environment": "production"})


@pytest.mark.parametrize(
    ("provider", "request_"),
    [
        ("launchdarkly", WebhookRequest({}, BODY)),
        ("launchdarkly", WebhookRequest({"x-ld-signature": "0" * 64}, BODY)),
        ("split", WebhookRequest({}, BODY, "")),
        ("split", WebhookRequest({}, BODY, "another secret of someone")),
        ("unleash", WebhookRequest({}, BODY)),
        ("unleash", WebhookRequest({"authorization": "another secret"}, BODY)),
    ],
)
def test_every_refusal_is_a_symptom_of_the_page(provider: str, request_: WebhookRequest) -> None:
    """With its status and the words that stand in the log."""
    with pytest.raises(SignatureError) as caught:
        providers.get(provider).verify(request_, hook(provider))
    assert [text for text in quoted(SignatureError.status) if text in str(caught.value)]


def test_a_body_that_is_not_json_is_a_symptom_of_the_page() -> None:
    """LaunchDarkly's is the only one that has to be JSON."""
    with pytest.raises(BadRequestError) as caught:
        providers.get("launchdarkly").ring(WebhookRequest({}, b"no JSON"), hook("launchdarkly"))
    assert quoted(BadRequestError.status) == [str(caught.value)]


def test_every_log_line_of_the_page_is_one_of_the_code() -> None:
    """Word for word, in the functions that the page names."""
    code = "".join(
        (REPOSITORY / "src" / "storesync" / f"{name}.py").read_text(encoding="utf-8")
        for name in ("webhook", "sync", "reporting", "pipeline", "model")
    )
    table = part("How do I see that it works?").partition("| log line ")[2]
    lines = [row.split(" | ")[0] for row in table.splitlines()[2:] if row.startswith("| ")]
    named = [text for line in lines for text in re.findall(r"`([^`]+)`", line)]
    assert len(named) > 5
    assert [text for text in named if f'"{text}"' not in code] == []
