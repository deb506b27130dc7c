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

from simulators.clock import FakeClock
from simulators.ssm import QUOTA, Ssm
from storesync import telemetry
from storesync.config import (
    LOAD_S,
    MISSING_AGE_S,
    PAUSE_S,
    WEBHOOKS_AGE_S,
    Parameters,
    Sources,
    SyncSettings,
    WebhookConfigs,
    WebhookSettings,
)
from storesync.config_json import MIN_SECRET, parse_source, parse_webhook
from storesync.errors import ConfigurationError, ParametersError, UnknownSourceError
from storesync.model import Secret, Source, WebhookConfig

PUBLIC = "/flagstore/sources/prod"
PRIVATE = "/flagstore/credentials/prod"
WEBHOOK_PATH = "/flagstore/webhooks/prod"
KEY = "canary-provider-key-0011"
SECRET = "canary-webhook-secret-0012"
REDIS = "rediss://sync:pass-word@cache.internal:6379/0"
APPCONFIG, LAUNCHDARKLY, UNLEASH = (
    {"provider": name} for name in ("appconfig", "launchdarkly", "unleash")
)
CREDENTIALS = {**LAUNCHDARKLY, "key": KEY}
WEBHOOK = {"provider": "launchdarkly", "secrets": [SECRET]}


def holding(ssm: Ssm | None = None, /, **parameters: object) -> Ssm:
    """Put parameters into an SSM, each named by its kind and its source: ``sources__prod``."""
    ssm = ssm or Ssm()
    for name, value in parameters.items():
        text = value if isinstance(value, str) else json.dumps(value)
        ssm.parameters[f"/flagstore/{name.replace('__', '/')}"] = text
    return ssm


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def parameters(ssm: Any, clock: FakeClock, seed: int = 1) -> Parameters:
    return Parameters(ssm, "/flagstore/sources", clock, random.Random(seed))


def parse(*parameters: object) -> Any:
    """Parse a webhook's parameter or a source's two, each a string, None, or written as JSON."""
    first, *private = (
        text if isinstance(text, str | None) else json.dumps(text) for text in parameters
    )
    if private:
        return parse_source("prod", PUBLIC, first or "", PRIVATE, *private)
    return parse_webhook("prod", WEBHOOK_PATH, first or "")


def problems(*parameters: object) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(*parameters)
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value).split("; ")


@pytest.mark.parametrize("seed", range(3))
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


def test_first_reading_is_retried(clock: FakeClock) -> None:
    """Throttled, it is retried with random pauses for 3 s, and not again for 5 s."""
    ssm = holding(sources__a=1)
    ssm.down = "ThrottlingException"
    read = parameters(ssm, clock)
    for _ in range(20):
        with pytest.raises(ParametersError, match=r"under /flagstore/sources: .*Throttling"):
            read.values()
    assert 1 <= sum(clock.slept) <= LOAD_S
    assert len(set(clock.slept)) == len(clock.slept) == ssm.refused - 1 >= 3
    clock.advance(PAUSE_S)
    ssm.down = ""
    assert read.values() == {"a": "1"}


def test_first_event_retries_whatever_failed_in_init(clock: FakeClock) -> None:
    """It does not pause after a failure that no event saw."""
    bugs = [OSError("not botocore's")]

    def wait() -> None:
        if bugs:
            raise bugs.pop()

    read = parameters(holding(Ssm(wait=wait), sources__a=1), clock)
    with pytest.raises(OSError, match="not botocore's"):
        read.load()
    assert read.values() == {"a": "1"}


def test_throttled_page_is_retried_alone(clock: FakeClock) -> None:
    """With 60 parameters and six calls, a refusal does not start over."""
    ssm = holding(Ssm(clock, quota=3), **{f"sources__s{number}": 1 for number in range(60)})
    assert len(parameters(ssm, clock).values()) == 60
    assert len(ssm.asked) - ssm.refused == 6
    assert ssm.refused > 0


@pytest.mark.parametrize(
    ("error", "passes"),
    [("InternalServerError", True), ("", True), ("AccessDeniedException", False)],
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


def test_a_thousand_warm_processes_leave_half_of_the_quota(clock: FakeClock) -> None:
    """Those that read at the same moment spread their next calls, also while strangers knock."""
    ssm = holding(webhooks__prod=WEBHOOK)
    processes = [webhooks(ssm, clock, seed) for seed in range(1_000)]
    for process in processes:
        process.load()
    ssm.limit(clock, QUOTA)
    begun = len(ssm.asked)
    for second in range(600):
        clock.advance(1)
        for process in processes[second % 10 :: 10]:
            process.get("prod")
        for process in processes[second % 50 :: 50]:
            with suppress(UnknownSourceError):
                process.get("nobody")
    assert ssm.refused == 0
    assert len(ssm.asked) - begun <= 600 * QUOTA / 2


def test_parameters_of_a_source(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """After INIT no event needs SSM, and a wrong parameter affects its own source only.

    A new source is found within 5 s, and a manual sync reads both parameters again, once each.
    """
    ssm = holding(sources__a=LAUNCHDARKLY, sources__b="{not JSON", credentials__a=CREDENTIALS)
    sources = Sources(ssm, "/flagstore", clock)
    sources.load()
    assert sources.names() == ["a", "b"]
    assert sources.get("a").credential == Secret(KEY)
    assert len(ssm.asked) == 2

    holding(ssm, sources__c=LAUNCHDARKLY, credentials__c=CREDENTIALS)
    with pytest.raises(UnknownSourceError, match="/flagstore/sources/c does not exist"):
        sources.get("c")
    clock.advance(MISSING_AGE_S)
    assert sources.get("c").credential == Secret(KEY)
    assert len(ssm.asked) == 4

    holding(ssm, credentials__a={**CREDENTIALS, "key": "new"})
    assert sources.get("a").credential == Secret(KEY)
    assert sources.get("a", fresh=True).credential == Secret("new")
    assert len(ssm.asked) == 6

    monkeypatch.setattr(telemetry, "_known", {})  # as after thousands of other secrets
    sources.get("c")
    assert telemetry.redact(KEY) == "***"


@pytest.mark.parametrize("other", ["relay", "b"])
def test_prefix_belongs_to_one_source(clock: FakeClock, other: str) -> None:
    """The other source may have it by option or by name; only the source with the option fails."""
    taken = {**LAUNCHDARKLY, "rows_prefix": "relay"}
    ssm = holding(sources__a=taken, credentials__a=CREDENTIALS)
    more: dict[str, object] = {f"sources__{other}": taken if other == "b" else LAUNCHDARKLY}
    holding(ssm, **more, **{f"credentials__{other}": CREDENTIALS})
    sources = Sources(ssm, "/flagstore", clock)
    with pytest.raises(ConfigurationError, match=f"sources/a: source '{other}' stores its rows"):
        sources.get("a")
    if other == "relay":
        assert sources.get(other).rows_prefix is None


def test_sources_know_the_places_of_others(clock: FakeClock) -> None:
    """They know those in the same store, with any user; a source's own name is a place, too."""
    ssm = holding(
        sources__a=LAUNCHDARKLY | {"store": "redis"},
        sources__b=LAUNCHDARKLY | {"store": "redis", "rows_prefix": "relay"},
        sources__d=LAUNCHDARKLY | {"rows_prefix": "e"},
        sources__e=LAUNCHDARKLY | {"rows_prefix": "d"},
        credentials__a={**CREDENTIALS, "store_url": REDIS},
        credentials__b={**CREDENTIALS, "store_url": REDIS.replace("sync:", "other:")},
        credentials__d=CREDENTIALS,
        credentials__e=CREDENTIALS,
    )
    sources = Sources(ssm, "/flagstore", clock)

    def other_at(name: str, rows_at: str) -> str:
        source = sources.get(name)
        assert source.other_at
        return source.other_at(source, rows_at)

    assert [other_at("a", f"launchdarkly {prefix}") for prefix in ("relay", "e")] == ["b", ""]
    assert [other_at("d", rows_at) for rows_at in ("", "launchdarkly relay")] == ["e", ""]


LD_URL = "https://sdk.launchdarkly.com"
SHAPE = {"options": {"app_name": "shop"}, "rows": False, "document": True, "allow_http": True}


@pytest.mark.parametrize(
    ("public", "private", "expected"),
    [
        (LAUNCHDARKLY, {**LAUNCHDARKLY, "key": f" {KEY}\n"}, {"base_url": LD_URL}),
        (
            {**UNLEASH, **SHAPE},
            {**UNLEASH, "key": KEY, "base_url": "http://unleash.internal:4242/"},
            {"base_url": "http://unleash.internal:4242", **SHAPE},
        ),
        (
            {**LAUNCHDARKLY, "store": "redis"},
            {**CREDENTIALS, "store_url": REDIS},
            {"base_url": LD_URL, "store": "redis", "store_url": Secret(REDIS)},
        ),
        (
            {**LAUNCHDARKLY, "rows_prefix": "", "adopt": True},
            CREDENTIALS,
            {"base_url": LD_URL, "rows_prefix": "", "adopt": True},
        ),
        (
            {"provider": "split", "store": "redis", "drain": True},
            {"provider": "split", "key": KEY, "store_url": REDIS},
            {
                "base_url": "https://sdk.split.io/api",
                "store": "redis",
                "store_url": Secret(REDIS),
                "drain": True,
            },
        ),
    ],
    ids=["defaults", "all fields", "redis", "empty prefix", "drain"],
)
def test_source(public: Any, private: Any, expected: dict[str, Any]) -> None:
    """A provider and a key are sufficient if the provider has one address for all."""
    source = parse(public, private)
    assert source == Source("prod", public["provider"], credential=Secret(KEY), **expected)
    assert KEY not in repr(source)
    assert "pass-word" not in repr(source)


def test_source_without_key() -> None:
    """AppConfig accepts the function's role: credentials are only for an address."""
    source = parse(APPCONFIG, None)
    assert (source.credential, source.base_url) == (
        Secret(""),
        "https://appconfig.{region}.amazonaws.com",
    )
    address = "https://appconfig.cn-north-1.amazonaws.com.cn"
    assert parse(APPCONFIG, {**APPCONFIG, "base_url": address}).base_url == address
    (unused,) = problems({**APPCONFIG}, {**APPCONFIG, "key": KEY})
    assert unused.startswith(f'{PRIVATE}: "key" must be removed')
    (missing,) = problems({**APPCONFIG, "store": "redis"}, None)
    assert missing.startswith(f"{PRIVATE}: is missing")


UNLEASH_KEY = {**UNLEASH, "key": KEY}
NO_PROVIDER = "\"provider\": no provider '': use one of appconfig, launchdarkly, split"


@pytest.mark.parametrize(
    ("public", "private", "expected"),
    [
        ("{", CREDENTIALS, ["S is not JSON"]),
        pytest.param("[" * 99_999, CREDENTIALS, ["S is not JSON"], id="deep"),
        (LAUNCHDARKLY, {**LAUNCHDARKLY, "key": "\ud800"}, ["C holds a lone surrogate"]),
        ([], CREDENTIALS, ["S must be a JSON object"]),
        ({}, CREDENTIALS, [f"S {NO_PROVIDER}"]),
        ({**LAUNCHDARKLY, "document": True}, CREDENTIALS, ['S "document" is for Unleash only']),
        (
            {**LAUNCHDARKLY, "store": "redis", "drain": True},
            {**CREDENTIALS, "store_url": REDIS},
            ['S "drain" is for Split in Redis only'],
        ),
        (
            {"provider": "split", "drain": True},
            {"provider": "split", "key": KEY},
            ['S "drain" is for Split in Redis only'],
        ),
        (
            {**LAUNCHDARKLY, "adopt": True},
            CREDENTIALS,
            ['S "adopt" is for rows under a "rows_prefix"'],
        ),
        (
            {**LAUNCHDARKLY, "rows_prefix": "a/b"},
            CREDENTIALS,
            ['S "rows_prefix" may have up to 64'],
        ),
        (
            {**LAUNCHDARKLY, "store": "redis", "rows_prefix": ""},
            {**CREDENTIALS, "store_url": REDIS},
            ['S "rows_prefix" is empty, which LaunchDarkly\'s SDKs replace with "launchdarkly"'],
        ),
        *(
            (
                {"provider": provider, "rows_prefix": "x"},
                {"provider": provider, "key": KEY, "base_url": "https://unleash.example"},
                ['S "rows_prefix" is for SDKs that read rows of LaunchDarkly, or of Split'],
            )
            for provider in ("split", "unleash")
        ),
        ({**LAUNCHDARKLY, "k" * MIN_SECRET: "key"}, CREDENTIALS, ["S a field is unknown"]),
        (
            {**LAUNCHDARKLY, "options": {"filtr": "team", KEY: "x"}},
            CREDENTIALS,
            [
                'S "options": a name is unknown: use one of filter',
                'S "options": "filtr" is unknown: use one of filter',
            ],
        ),
        (
            {**LAUNCHDARKLY, "options": {"a": 1}, "rows": "no", "allow_http": 1, "sdk_key": "x"},
            {**CREDENTIALS, KEY: KEY},
            [
                'S "sdk_key" is unknown: use one of provider, options, rows, document, store',
                "C a field is unknown: use one of provider, key, base_url, store_url",
                'S "allow_http" must be true or false',
                'S "options" must be an object of strings',
                'S "rows" must be true or false',
            ],
        ),
        (LAUNCHDARKLY, json.dumps(KEY), ["C must be a JSON object"]),
        (LAUNCHDARKLY, None, ['C is missing: create it as a SecureString with {"provider": "…", ']),
        (LAUNCHDARKLY, {}, ['C "provider" is missing', 'C "key" is missing']),
        (LAUNCHDARKLY, LAUNCHDARKLY, ['C "key" is missing: the provider\'s server-side SDK key']),
        (LAUNCHDARKLY, {**LAUNCHDARKLY, "key": None}, ['C "key" must be a string']),
        ({**LAUNCHDARKLY, "store": "redis"}, CREDENTIALS, ['C "store_url" is missing: rediss://']),
        (
            {**LAUNCHDARKLY, "store": "consul"},
            CREDENTIALS,
            ['S "store" must be one of dynamodb, r'],
        ),
        ({"provider": "split"}, CREDENTIALS, ['C "provider" is not split, which the source names']),
        (UNLEASH, UNLEASH_KEY, ['C "base_url" is missing: the address of your Unleash server']),
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


@pytest.mark.parametrize(
    ("text", "method", "header"),
    [
        (LAUNCHDARKLY, "signature", ""),
        (UNLEASH, "authorization", ""),
        ({**UNLEASH, "method": "header", "header": "X-My-Secret"}, "header", "x-my-secret"),
    ],
)
def test_webhook(text: dict[str, Any], method: str, header: str) -> None:
    """By default, the method is the provider's recommended one."""
    secrets, options = [SECRET, SECRET[::-1]], {"environment": "production"}
    webhook = parse({**text, "secrets": secrets, "options": options})
    assert webhook == WebhookConfig(
        "prod", text["provider"], method, tuple(map(Secret, secrets)), header, {"prod": options}
    )
    assert SECRET not in repr(webhook)


@pytest.mark.parametrize("text", [LAUNCHDARKLY, {"provider": "split"}, UNLEASH])
def test_webhook_of_several_sources(text: dict[str, Any]) -> None:
    """Each has its options, or none; the webhook's own name need not be a source."""
    sources = {"shop": {"environment": "production"}, "pay": {}}
    webhook = parse({**text, "secrets": [SECRET], "sources": sources})
    assert (webhook.name, webhook.sources) == ("prod", sources)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"secrets": SECRET}, ['"secrets" must be a list']),
        ({"secrets": [7]}, ['"secrets" must be a list']),
        ({"secrets": []}, ['"secrets" must hold at least one, and none shorter than 16']),
        (
            {"secrets": [SECRET, "short"]},
            ['"secrets" must hold at least one, and none shorter than 16'],
        ),
        ({"secrets": [f"{SECRET}\n"]}, ['"secrets" must not begin or end with white space']),
        ({"method": "url"}, ['"method" must be one of signature']),
        ({"provider": "unleash", "method": "header"}, ['"header" is missing: the name of the']),
        (APPCONFIG, ["AWS AppConfig sends no webhooks: remove this parameter"]),
        ({"provider": "x", "method": "y"}, ["\"provider\": no provider 'x'"]),
        ({"options": {"environment": ["a"]}}, ['"options" must be an object of strings']),
        ({"options": {"env": "a"}}, ['"options": "env" is unknown: use one of project, env']),
        ({"sources": {}}, ['"sources" must be an object: the options of each source']),
        ({"sources": ["shop"]}, ['"sources" must be an object: the options of each source']),
        ({"sources": {"Shop": {}}}, ['"sources": a name is not a valid source name']),
        ({"sources": {"shop": "production"}}, ['the options of "shop" must be an object of']),
        (
            {"options": {}, "sources": {"shop": {"env": "a"}, "pay": {"project": 7}}},
            [
                '"options" must be given for each source in "sources"',
                'the options of "shop": "env" is unknown: use one of project, env',
                'the options of "pay" must be an object of strings',
            ],
        ),
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


QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"
SYNC_ENV = {
    "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
    "FLAGSTORE_QUEUE_URL": QUEUE_URL,
    "FLAGSTORE_TABLE": "flags",
}


def test_settings() -> None:
    """The function that faces the internet has parameters and queue, and no table."""
    assert WebhookSettings.from_env(SYNC_ENV) == WebhookSettings("/flagstore", QUEUE_URL)
    expected = SyncSettings("/flagstore", QUEUE_URL, "flags", 30, 1)
    assert SyncSettings.from_env(SYNC_ENV) == expected


def test_all_problems_of_the_environment() -> None:
    wrong = {
        "FLAGSTORE_PARAMETER_PREFIX": "/flagstore/",
        "FLAGSTORE_FOLLOWUP_SYNC_SECONDS": "901",
        "FLAGSTORE_SNAPSHOT_REPLICAS": "²",
        "FLAGSTORE_MONITORING": "some",
    }
    with pytest.raises(ConfigurationError) as caught:
        SyncSettings.from_env(wrong)
    assert str(caught.value).split("; ") == [
        "FLAGSTORE_PARAMETER_PREFIX must start with '/' and not end with it",
        "FLAGSTORE_TABLE is not set",
        "FLAGSTORE_FOLLOWUP_SYNC_SECONDS must be a whole number from 0 to 900",
        "FLAGSTORE_SNAPSHOT_REPLICAS must be a whole number from 1 to 5",
        "FLAGSTORE_MONITORING must be essential or full",
    ]
