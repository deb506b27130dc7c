"""Configuration: settings from the environment, sources and webhooks from SSM parameters."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from simulators.clock import FakeClock
from simulators.ssm import QUOTA, Ssm
from storesync.config import (
    LOAD_S,
    MIN_SECRET,
    MISSING_AGE_S,
    PAUSE_S,
    WEBHOOKS_AGE_S,
    Parameters,
    Sources,
    SyncSettings,
    WebhookConfigs,
    WebhookSettings,
    parse_source,
    parse_webhook,
)
from storesync.errors import ConfigurationError, ParametersError, UnknownSourceError
from storesync.model import Secret, Source

PUBLIC = "/flagstore/sources/prod"
PRIVATE = "/flagstore/credentials/prod"
WEBHOOK_PATH = "/flagstore/webhooks/prod"
KEY = "canary-provider-key-0011"
SECRET = "canary-webhook-secret-0012"
CREDENTIALS = {"provider": "launchdarkly", "key": KEY}
WEBHOOK = {"provider": "launchdarkly", "secrets": [SECRET]}


def holding(ssm: Ssm | None = None, /, **parameters: object) -> Ssm:
    """Put parameters into an SSM, each named by its kind and its source: ``sources__prod``."""
    ssm = ssm or Ssm()
    by_kind: dict[str, dict[str, object]] = {}
    for name, value in parameters.items():
        kind, _, source = name.partition("__")
        by_kind.setdefault(kind, {})[source] = value
    for kind, values in by_kind.items():
        ssm.put(f"/flagstore/{kind}", values)
    return ssm


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that tests control."""
    return FakeClock()


def parameters(ssm: Any, clock: FakeClock, seed: int = 1) -> Parameters:
    """Make the parameters of the sources."""
    return Parameters(ssm, "/flagstore/sources", clock, random.Random(seed))


def _parse(text: str | None, *private: str | None) -> object:
    if private:
        return parse_source("prod", PUBLIC, text or "", PRIVATE, private[0])
    return parse_webhook("prod", WEBHOOK_PATH, text or "")


def problems(*texts: object) -> list[str]:
    """Return the problems of a source's two parameters (or of a webhook's one)."""
    raw = [text if isinstance(text, str) or text is None else json.dumps(text) for text in texts]
    with pytest.raises(ConfigurationError) as caught:
        _parse(*raw)
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value).split("; ")


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_parameters_are_read_once_and_kept(clock: FakeClock, seed: int) -> None:
    """All pages are read, and again at a random moment in the second half of the maximum age."""
    ssm = holding(Ssm(page=2), sources__a=1, sources__b=2, sources__c=3, credentials__d=4)
    read = parameters(ssm, clock, seed)
    for _ in range(15):
        assert read.values() == {"a": "1", "b": "2", "c": "3"}
        clock.advance(0.99)
    assert len(ssm.asked) == 2
    ssm.put("/flagstore/sources", {})
    clock.advance(15.5)
    assert read.values() == {}
    assert len(ssm.asked) == 3


@pytest.mark.parametrize("seed", range(10))
def test_first_reading_is_retried(clock: FakeClock, seed: int) -> None:
    """Throttled, it is retried with random pauses for 3 s, and not again for 5 s."""
    ssm = holding(sources__a=1)
    ssm.down = "ThrottlingException"
    read = parameters(ssm, clock, seed)
    for _ in range(20):
        with pytest.raises(ParametersError, match=r"under /flagstore/sources: .*Throttling"):
            read.values()
    assert 1 <= sum(clock.slept) <= LOAD_S
    assert len(set(clock.slept)) == len(clock.slept) == ssm.refused - 1 >= 3
    clock.advance(PAUSE_S)
    ssm.down = ""
    assert read.values() == {"a": "1"}


def test_throttled_page_is_retried_alone(clock: FakeClock) -> None:
    """With 60 parameters and six calls, a refusal does not start over."""
    ssm = holding(Ssm(clock, quota=3), **{f"sources__s{number}": 1 for number in range(60)})
    assert len(parameters(ssm, clock).values()) == 60
    assert len(ssm.asked) - ssm.refused == 6
    assert ssm.refused > 0


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        ("ThrottlingException", True),
        ("InternalServerError", True),
        ("", True),
        ("AccessDeniedException", False),
        ("ValidationException", False),
    ],
)
def test_only_transient_errors_are_retried(clock: FakeClock, error: str, *, passes: bool) -> None:
    """A missing permission stays missing; a broken connection may recover."""

    def wait() -> None:
        if not error:
            raise EndpointConnectionError(endpoint_url="https://ssm")

    ssm = Ssm(wait=wait)
    ssm.down = error
    with pytest.raises(ParametersError):
        parameters(ssm, clock).values()
    assert (len(ssm.asked) > 1) is passes


def test_threads_share_one_reading(clock: FakeClock) -> None:
    """Sources that are synced at once do not each read SSM."""
    ssm = holding(Ssm(wait=lambda: time.sleep(0.02)), sources__a=1)
    read = parameters(ssm, clock)
    start = threading.Barrier(8)

    def ask(_: int) -> Any:
        start.wait()
        return dict(read.values())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [{"a": "1"}] * 8
    assert len(ssm.asked) == 1


def webhooks(ssm: Any, clock: FakeClock, seed: int = 1) -> WebhookConfigs:
    """Make the webhooks of a process."""
    return WebhookConfigs(ssm, "/flagstore", clock, random.Random(seed))


def test_unknown_names_cost_no_call(clock: FakeClock) -> None:
    """Missing names are looked up in memory, which only its age renews."""
    ssm = holding(webhooks__prod=WEBHOOK)
    known = webhooks(ssm, clock)
    known.load()
    for _ in range(int(WEBHOOKS_AGE_S / 2)):
        for name in ["nobody", "", "prod/..", "Prod"]:
            with pytest.raises(UnknownSourceError):
                known.get(name)
        clock.advance(0.99)
    assert ssm.asked == ["/flagstore/webhooks"]


@pytest.mark.parametrize("strangers", [0, 20])
def test_a_thousand_warm_processes_leave_half_of_the_quota(
    clock: FakeClock, strangers: int
) -> None:
    """Processes that read at the same moment spread their next calls.

    They also do under a flood of 20 requests per second from strangers.
    """
    ssm = holding(webhooks__prod=WEBHOOK)
    processes = [webhooks(ssm, clock, seed) for seed in range(1_000)]
    for process in processes:
        process.load()
    ssm.limit(clock, QUOTA)
    begun = len(ssm.asked)
    most, asked = 0, begun
    for second in range(600):
        clock.advance(1)
        for process in processes[second % 10 :: 10]:
            process.get("prod")
        for number in range(strangers):
            with suppress(UnknownSourceError):
                processes[(strangers * second + number) % 1_000].get("nobody")
        most, asked = max(most, len(ssm.asked) - asked), len(ssm.asked)
    print(f"at most {most} calls a second, {(asked - begun) / 600:.1f} on average")
    assert ssm.refused == 0
    assert asked - begun <= 600 * QUOTA / 2


def test_new_source_is_found_within_5_s(clock: FakeClock) -> None:
    """Both parameters of a source that was just added are read."""
    ssm = holding(sources__a={"provider": "launchdarkly"}, credentials__a=CREDENTIALS)
    sources = Sources(ssm, "/flagstore", clock)
    assert sources.names() == ["a"]
    assert sources.get("a").credential == Secret(KEY)
    ssm.put("/flagstore/sources", {name: {"provider": "launchdarkly"} for name in "ab"})
    ssm.put("/flagstore/credentials", dict.fromkeys("ab", CREDENTIALS))
    with pytest.raises(UnknownSourceError, match="/flagstore/sources/b does not exist"):
        sources.get("b")
    clock.advance(MISSING_AGE_S)
    assert sources.get("b").credential == Secret(KEY)
    assert len(ssm.asked) == 4


def test_fresh_source(clock: FakeClock) -> None:
    """A manual sync reads both parameters again, once each."""
    ssm = holding(
        sources__a={"provider": "launchdarkly"}, credentials__a={**CREDENTIALS, "key": "old"}
    )
    sources = Sources(ssm, "/flagstore", clock)
    sources.get("a")
    ssm.put("/flagstore/credentials", {"a": CREDENTIALS})
    assert sources.get("a").credential == Secret("old")
    assert sources.get("a", fresh=True).credential == Secret(KEY)
    assert len(ssm.asked) == 4
    with pytest.raises(UnknownSourceError):
        sources.get("b", fresh=True)
    assert len(ssm.asked) == 5


def test_load(clock: FakeClock) -> None:
    """After INIT no event needs SSM, and a wrong parameter affects its own source only."""
    ssm = holding(
        sources__a={"provider": "launchdarkly"}, sources__b="{not JSON", credentials__a=CREDENTIALS
    )
    sources = Sources(ssm, "/flagstore", clock)
    sources.load()
    assert sources.get("a").credential == Secret(KEY)
    assert sources.names() == ["a", "b"]
    assert len(ssm.asked) == 2


# -- a source -------------------------------------------------------------------------------------


def test_source_defaults() -> None:
    """A provider and a key are sufficient if the provider has one address for all."""
    source = parse_source(
        "prod",
        PUBLIC,
        '{"provider": "launchdarkly"}',
        PRIVATE,
        json.dumps({**CREDENTIALS, "key": f" {KEY}\n"}),
    )
    assert source == Source(
        name="prod",
        provider="launchdarkly",
        base_url="https://sdk.launchdarkly.com",
        credential=Secret(KEY),
    )
    assert KEY not in repr(source)


def test_all_source_fields() -> None:
    """Options, rows, plain http, and an address without its last slash."""
    public = {
        "provider": "unleash",
        "options": {"app_name": "shop"},
        "rows": False,
        "document": True,
        "allow_http": True,
    }
    private = {"provider": "unleash", "key": KEY, "base_url": "http://unleash.internal:4242/"}
    source = parse_source("prod", PUBLIC, json.dumps(public), PRIVATE, json.dumps(private))
    assert source == Source(
        name="prod",
        provider="unleash",
        base_url="http://unleash.internal:4242",
        credential=Secret(KEY),
        options={"app_name": "shop"},
        rows=False,
        allow_http=True,
        document=True,
    )


APPCONFIG = {"provider": "appconfig"}


def test_source_without_key() -> None:
    """AppConfig accepts the function's role: credentials are only for an address."""
    source = parse_source("prod", PUBLIC, json.dumps(APPCONFIG), PRIVATE, None)
    assert source.credential == Secret("")
    assert source.base_url == "https://appconfig.{region}.amazonaws.com"
    private = json.dumps({**APPCONFIG, "base_url": "https://appconfig.cn-north-1.amazonaws.com.cn"})
    source = parse_source("prod", PUBLIC, json.dumps(APPCONFIG), PRIVATE, private)
    assert source.base_url == "https://appconfig.cn-north-1.amazonaws.com.cn"
    (unused,) = problems({**APPCONFIG}, {**APPCONFIG, "key": KEY})
    assert unused.startswith(f'{PRIVATE}: "key" is not used')
    (missing,) = problems({**APPCONFIG, "store": "redis"}, None)
    assert missing.startswith(f"{PRIVATE}: is missing")


def test_webhook_of_provider_without_webhooks() -> None:
    """The parameter is reported as useless."""
    (problem,) = problems({**APPCONFIG, "secrets": [SECRET]})
    assert problem == f"{WEBHOOK_PATH}: AWS AppConfig sends no webhooks: remove this parameter"


LAUNCHDARKLY = {"provider": "launchdarkly"}
UNLEASH = {"provider": "unleash"}
UNLEASH_KEY = {**UNLEASH, "key": KEY}
NO_PROVIDER = "\"provider\": no provider '': known are appconfig, launchdarkly, split"


@pytest.mark.parametrize(
    ("public", "private", "expected"),
    [
        ("{", CREDENTIALS, ["S is not JSON"]),
        ("[" * 4096, CREDENTIALS, ["S is not JSON"]),
        ([], CREDENTIALS, ["S must be a JSON object"]),
        ({}, CREDENTIALS, [f"S {NO_PROVIDER}"]),
        ({"provider": 7}, CREDENTIALS, ['S "provider" must be a string', f"S {NO_PROVIDER}"]),
        ({**LAUNCHDARKLY, "document": True}, CREDENTIALS, ['S "document" is for Unleash only']),
        ({**LAUNCHDARKLY, "k" * MIN_SECRET: "key"}, CREDENTIALS, ["S a field is unknown"]),
        (
            {**LAUNCHDARKLY, "options": {"filtr": "team", KEY: "x"}},
            CREDENTIALS,
            [
                'S "options": a name is unknown: known are filter',
                'S "options": "filtr" is unknown: known are filter',
            ],
        ),
        (
            {**LAUNCHDARKLY, "options": {"a": 1}, "rows": "no", "allow_http": 1, "sdk_key": "x"},
            {**CREDENTIALS, KEY: KEY},
            [
                'S "sdk_key" is unknown: known are provider, options, rows, document, store',
                "C a field is unknown: known are provider, key, base_url, store_url",
                'S "allow_http" must be true or false',
                'S "options" must be an object of strings',
                'S "rows" must be true or false',
            ],
        ),
        (LAUNCHDARKLY, KEY, ["C is not JSON"]),
        (LAUNCHDARKLY, json.dumps(KEY), ["C must be a JSON object"]),
        (LAUNCHDARKLY, None, ['C is missing: create it as a SecureString with {"provider": "…", ']),
        (LAUNCHDARKLY, {}, ['C "provider" is missing', 'C "key" is missing']),
        (
            LAUNCHDARKLY,
            {"key": KEY},
            ['C "provider" is missing: the provider that the key belongs to'],
        ),
        (LAUNCHDARKLY, LAUNCHDARKLY, ['C "key" is missing: the provider\'s server-side SDK key']),
        (LAUNCHDARKLY, {**LAUNCHDARKLY, "key": " "}, ['C "key" is missing']),
        (LAUNCHDARKLY, {**LAUNCHDARKLY, "key": None}, ['C "key" must be a string']),
        ({**LAUNCHDARKLY, "store": "redis"}, CREDENTIALS, ['C "store_url" is missing: rediss://']),
        (
            {**LAUNCHDARKLY, "store": "consul"},
            CREDENTIALS,
            ['S "store" must be one of dynamodb, r'],
        ),
        ({"provider": "split"}, CREDENTIALS, ['C "provider" is not split, unlike in the source']),
        (UNLEASH, UNLEASH_KEY, ['C "base_url" is missing: the address of your Unleash server']),
        (UNLEASH, {**UNLEASH_KEY, "base_url": [KEY]}, ['C "base_url" must be a string']),
        (UNLEASH, {**UNLEASH_KEY, "base_url": KEY}, ['C "base_url" must start with https://']),
        (UNLEASH, {**UNLEASH_KEY, "base_url": f"http://{KEY}"}, ['C "base_url" is plain http']),
        ("{", None, ["S is not JSON", "C is missing: create it as a "]),
    ],
)
def test_all_problems_of_a_source(public: object, private: object, expected: list[str]) -> None:
    """Each problem names its parameter (S or C) and the remedy; no secret is quoted."""
    found = problems(public, private)
    where = {"S": PUBLIC, "C": PRIVATE}
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(f"{where[start[0]]}: {start[2:]}")


# -- a webhook ------------------------------------------------------------------------------------


def test_webhook_defaults() -> None:
    """The method is the provider's recommended one."""
    for provider, method in (("launchdarkly", "signature"), ("unleash", "authorization")):
        webhook = parse_webhook(
            "prod", WEBHOOK_PATH, json.dumps({"provider": provider, "secrets": [SECRET]})
        )
        assert (webhook.provider, webhook.method, webhook.secrets) == (
            provider,
            method,
            (Secret(SECRET),),
        )
        assert SECRET not in repr(webhook)


def test_all_webhook_fields() -> None:
    """Two secrets while rotating, a custom header, and options."""
    text = {
        "provider": "unleash",
        "method": "header",
        "header": "X-My-Secret",
        "secrets": [SECRET, SECRET[::-1]],
        "options": {"environment": "production"},
    }
    webhook = parse_webhook("prod", WEBHOOK_PATH, json.dumps(text))
    assert (webhook.method, webhook.header, len(webhook.secrets)) == ("header", "x-my-secret", 2)
    assert webhook.options == {"environment": "production"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"secrets": None}, ['"secrets" must be a list']),
        ({"secrets": SECRET}, ['"secrets" must be a list']),
        ({"secrets": [SECRET, 7]}, ['"secrets" must be a list']),
        ({"secrets": []}, ['"secrets" must hold at least one, each of 16']),
        ({"secrets": [SECRET, "short"]}, ['"secrets" must hold at least one, each of 16']),
        ({"secrets": [" " * 16 + "x"]}, ['"secrets" must hold', '"secrets" must not begin']),
        ({"secrets": [f"{SECRET}\n"]}, ['"secrets" must not begin or end with white space']),
        ({"method": "url"}, ['"method" must be one of signature']),
        ({"method": []}, ['"method" must be a string']),
        ({"provider": "unleash", "method": "header"}, ['"header" is missing: the name of the']),
        ({"provider": "x", "method": "y"}, ["\"provider\": no provider 'x'"]),
        ({"options": {"environment": ["a"]}}, ['"options" must be an object of strings']),
        ({"options": {"env": "a"}}, ['"options": "env" is unknown: known are project, env']),
        (
            {"key": KEY, "options": [], "secrets": []},
            ['"key" is unknown', '"secrets" must hold', '"options" must be an object'],
        ),
    ],
)
def test_all_problems_of_a_webhook(fields: dict[str, object], expected: list[str]) -> None:
    """A check that would be weaker than it looks is refused, with the remedy."""
    found = problems({"provider": "launchdarkly", "secrets": [SECRET], **fields})
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(f"{WEBHOOK_PATH}: {start}")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=10),
    st.lists(st.text(max_size=20), max_size=2),
    st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5), max_size=2),
    st.sampled_from(["launchdarkly", "unleash", "header", "url", "https://x", "http://x"]),
)
OBJECTS = st.dictionaries(
    st.sampled_from(["provider", "options", "rows", "document", "allow_http", "key", "base_url"])
    | st.sampled_from(["method", "secrets", "header"]),
    VALUES,
    max_size=5,
)


@given(st.text(max_size=20), OBJECTS, OBJECTS | st.none())
def test_any_parameter(name: str, public: Any, private: Any) -> None:
    """Any content is a source or a clear error."""
    texts = json.dumps(public), None if private is None else json.dumps(private)
    for parse in (
        lambda: parse_source(name, PUBLIC, texts[0], PRIVATE, texts[1]),
        lambda: parse_webhook(name, WEBHOOK_PATH, texts[0]),
    ):
        try:
            message = f"/flagstore/{parse().provider}"
        except ConfigurationError as error:
            message = str(error)
        assert message.startswith("/flagstore/")


def test_source_in_redis() -> None:
    """The URL holds a password, so it is stored with the key."""
    public = '{"provider": "launchdarkly", "store": "redis"}'
    url = "rediss://sync:pass-word@cache.internal:6379/0"
    source = parse_source("prod", "/s", public, "/c", json.dumps({**CREDENTIALS, "store_url": url}))
    assert (source.store, source.store_url.reveal()) == ("redis", url)
    assert "pass-word" not in repr(source)


# -- the environment -------------------------------------------------------------------------------

WEBHOOK_ENV = {
    "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
    "FLAGSTORE_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/requests",
}
SYNC_ENV = {**WEBHOOK_ENV, "FLAGSTORE_TABLE": "flags"}


def test_webhook_settings() -> None:
    """The function that faces the internet has parameters and queue, and no table."""
    settings = WebhookSettings.from_env({**SYNC_ENV, "SOMETHING_ELSE": "x"})
    assert settings == WebhookSettings("/flagstore", WEBHOOK_ENV["FLAGSTORE_QUEUE_URL"])


def test_sync_settings() -> None:
    """By default, a follow-up comes after 30 s and there is one snapshot record."""
    settings = SyncSettings.from_env(SYNC_ENV)
    assert (settings.table, settings.followup_s, settings.snapshot_replicas) == ("flags", 30, 1)


def test_all_problems_of_the_environment() -> None:
    """All variables that are missing or wrong are reported together."""
    wrong = {"FLAGSTORE_FOLLOWUP_SYNC_SECONDS": "901", "FLAGSTORE_SNAPSHOT_REPLICAS": "none"}
    with pytest.raises(ConfigurationError) as caught:
        SyncSettings.from_env(wrong)
    assert str(caught.value).split("; ") == [
        "FLAGSTORE_PARAMETER_PREFIX is not set",
        "FLAGSTORE_TABLE is not set",
        "FLAGSTORE_FOLLOWUP_SYNC_SECONDS must be a whole number from 0 to 900",
        "FLAGSTORE_SNAPSHOT_REPLICAS must be a whole number from 1 to 5",
    ]


@pytest.mark.parametrize("prefix", ["flagstore", "/flagstore/", "/", " /flagstore"])
def test_invalid_prefix(prefix: str) -> None:
    """A prefix that no parameter could have is an error."""
    with pytest.raises(ConfigurationError, match="must start with '/' and not end with it"):
        WebhookSettings.from_env({**WEBHOOK_ENV, "FLAGSTORE_PARAMETER_PREFIX": prefix})


@given(st.text(max_size=30))
def test_any_number(text: str) -> None:
    """Any string is a number within the bounds or an error."""
    environ = {**SYNC_ENV, "FLAGSTORE_FOLLOWUP_SYNC_SECONDS": text}
    with suppress(ConfigurationError):
        assert 0 <= SyncSettings.from_env(environ).followup_s <= 900
