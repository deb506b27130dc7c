"""What `doctor` looks at: each check yields findings, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from flagstore import keys
from storesync import rows
from storesync.cli import guidance, parameters
from storesync.cli.preview import fetch
from storesync.cli.problems import judge
from storesync.cli.registration import UNLEASH_EVENTS, Registrar, api_url
from storesync.cli.screen import span
from storesync.cli.signing import harmless, proof
from storesync.cli.status import problems_of
from storesync.cli.web import UnansweredError, send
from storesync.errors import CorruptStoreError
from storesync.published import PublishedReader
from storesync.sources import WEBHOOKS_AGE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from storesync.cli.context import Operator
    from storesync.model import Source, WebhookConfig

OK, WARNING, PROBLEM, SKIPPED = "ok", "warning", "problem", "skipped"
SKEW_S = 2.0
"""By how much two machines' clocks may differ; see ``pipeline.MARGIN_MS``."""
KEYS = {"namespace": "HASH", "key": "RANGE"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: str
    check: str
    what: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return what ``--json`` prints."""
        found = {"level": self.level, "check": self.check, "what": self.what}
        return found | ({"remedy": self.remedy} if self.remedy else {})


def guarded(
    check: str, work: Callable[[], Iterable[Finding]], source: str = "SOURCE"
) -> list[Finding]:
    """Run one check; what it cannot do is a finding, too."""
    try:
        return list(work())
    except Exception as error:
        problem = judge(error)
        if problem is None:
            raise
        return [Finding(PROBLEM, check, problem.what, problem.about(source).remedy)]


# -- the deployment -------------------------------------------------------------------------------


def credentials(operator: Operator) -> Iterator[Finding]:
    """Who asks, and whether this machine's clock agrees with AWS'."""
    response = operator.aws("sts").get_caller_identity()
    yield Finding(OK, "credentials", f"{response['Arn']}")
    date = response["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not date:
        yield Finding(SKIPPED, "clock", "AWS did not say what time it is")
        return
    # The header counts whole seconds, so half of one is added.
    skew = operator.clock.now() - parsedate_to_datetime(date).timestamp() - 0.5
    if abs(skew) > SKEW_S:
        what = f"this machine's clock is {span(abs(skew))} {'ahead' if skew > 0 else 'behind'}"
        yield Finding(
            WARNING, "clock", what, "set it by NTP: sync requests and pins carry its time"
        )
    else:
        yield Finding(OK, "clock", "agrees with AWS")


def table(operator: Operator) -> Iterator[Finding]:
    """Whether the table is ours, and expires what is to expire."""
    name = operator.deployment.table
    found = operator.aws("dynamodb").describe_table(TableName=name)["Table"]
    schema = {key["AttributeName"]: key["KeyType"] for key in found["KeySchema"]}
    if schema != KEYS:
        what = f"{name} has the keys {', '.join(schema)}"
        yield Finding(PROBLEM, "table", what, "it is not flagstore's: check FLAGSTORE_TABLE")
        return
    ttl = operator.aws("dynamodb").describe_time_to_live(TableName=name)
    described = ttl["TimeToLiveDescription"]
    if described.get("AttributeName") != "expires_at":
        remedy = "switch TTL on, for expires_at: old chunks of large sets stay for ever"
        yield Finding(WARNING, "table", f"{name} expires nothing", remedy)
    else:
        yield Finding(OK, "table", name)


def queues(operator: Operator) -> Iterator[Finding]:
    """Whether sync requests wait, or have failed."""
    for check, url in (
        ("queue", operator.deployment.queue_url),
        ("dead letters", operator.deployment.dlq_url),
    ):
        if not url:
            yield Finding(SKIPPED, check, "not known: name the stack with --stack")
            continue
        name = "ApproximateNumberOfMessages"
        response = operator.aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        number = int(response["Attributes"][name])
        if number and check == "dead letters":
            remedy = "the log of SyncFunction says why; then redrive or purge that queue"
            yield Finding(PROBLEM, check, f"{number} sync requests failed on every try", remedy)
        else:
            yield Finding(OK, check, f"{number} waiting")


# -- a source -------------------------------------------------------------------------------------


def of_provider(operator: Operator, source: Source) -> Iterator[Finding]:
    """Whether the key opens the provider's flags, from here."""
    flag_set = fetch(operator, source)
    told = ", ".join(f"{len(flag_set.keys(name))} {name}" for name in flag_set.sections)
    yield Finding(OK, "provider", f"{told} from {source.base_url}")


def of_state(operator: Operator, source: Source) -> Iterator[Finding]:
    """Whether it is kept in sync: what `status` shows."""
    state = operator.open(source).state(source.name)
    found = list(problems_of(source.name, state, operator.now_ms()))
    yield from (Finding(PROBLEM, "sync", text) for text in found)
    if not found:
        yield Finding(OK, "sync", f"version {state.published} is published")


def of_store(operator: Operator, source: Source) -> Iterator[Finding]:
    """Whether snapshot, body and rows are whole: every digest is checked, every row compared."""
    store, name = operator.open(source), source.name
    published_reader, state = PublishedReader(name, store), store.state(name)
    if not state.published:
        yield Finding(SKIPPED, "store", "nothing is published")
        return
    remedy = f"`storesync sync {name} --verify` mends it; while pinned, roll back again"
    try:
        stored = published_reader.current(state.published)
        if stored is None:
            yield Finding(SKIPPED, "store", "published anew meanwhile: look again")
            return
        published_reader.verify_large(stored)
    except CorruptStoreError as error:
        yield Finding(PROBLEM, "store", str(error), remedy)
        return
    size = len(stored.record.body) if stored.record else 0
    yield Finding(OK, "store", f"snapshot record and body match their digests ({size} bytes)")
    for number in range(1, operator.deployment.replicas):
        record = store.read(keys.snapshot_key(name, number)) or {}
        if record.get("token") != state.published:
            yield Finding(
                PROBLEM, "store", f"replica {number} of the snapshot record is another one", remedy
            )
    plan = rows.plan(source, stored, None, store.scan, state.published)
    if plan.writes:
        what = f"{len(plan.writes)} rows differ from the snapshot record"
        yield Finding(PROBLEM, "rows", what, remedy)
    elif source.rows:
        yield Finding(OK, "rows", "show what is published")
    else:
        yield Finding(SKIPPED, "rows", "switched off for this source")


def of_webhook(operator: Operator, source: Source, *, probe: bool) -> Iterator[Finding]:
    """Whether a webhook that is rightly signed gets through, all the way to WebhookFunction."""
    texts = parameters.read(operator, source.name)
    provider = operator.provider(source)
    if not provider.methods:
        return
    webhook = texts.webhook(operator.deployment.prefix, source.name)
    if webhook.provider != source.provider:
        what = f"the webhook is one of {webhook.provider}, the source one of {source.provider}"
        remedy = f"repeat the `storesync source add {source.name} --replace` that was interrupted"
        yield Finding(PROBLEM, "webhook", what, remedy)
        return
    base = operator.deployment.webhook_base_url
    if not (probe and base):
        why = "the URL is not known: name the stack with --stack" if probe else "not asked to"
        yield Finding(SKIPPED, "webhook", why)
        return
    status = _probe(base, webhook)
    if status == provider.accepted_status:
        yield Finding(OK, "webhook", f"a signed one was accepted ({status})")
        return
    soon = span(WEBHOOKS_AGE_S)
    remedies = {
        0: "is this the right --region? is the stack deployed whole?",
        401: f"the secret was changed just now? WebhookFunction sees it within {soon}",
        404: f"WebhookFunction does not know this source: look again in {soon}, then at its log",
    }
    what = f"a signed one got {status}" if status else "its URL does not respond"
    yield Finding(PROBLEM, "webhook", what, remedies.get(status, "see WebhookFunction's log"))


def _probe(base: str, webhook: WebhookConfig) -> int:
    """Return the status of a webhook that is rightly signed; 0 where the URL does not respond."""
    body = harmless(webhook)
    headers, _token = proof(webhook, body)  # the token of a method "url" is in the URL already
    headers = {"content-type": "application/json", **headers}
    try:
        return send("POST", guidance.webhook_url(base, webhook), headers, body).status
    except UnansweredError:
        return 0


def of_registration(operator: Operator, source: Source, token: str, api: str) -> Iterator[Finding]:
    """Whether the provider has the webhook, switched on, with all that it should send."""
    check = "registration"
    if not guidance.guide(source.provider).registers:
        return
    known = api_url(source.provider, source.base_url)
    if not token:
        what = "not looked at: give a token with --admin-token-file, and --api-url"
        yield Finding(SKIPPED, check, what)
        return
    if not api:
        what = "not looked at: an admin token is sent only to an address that is given with it"
        yield Finding(WARNING, check, what, f"add --api-url {known or 'URL'}")
        return
    if known and known != api.rstrip("/"):
        yield Finding(SKIPPED, check, f"not looked at: its API is {known}")
        return
    webhook = parameters.read(operator, source.name).webhook(
        operator.deployment.prefix, source.name
    )
    base = operator.deployment.needs("webhook_base_url", "the URL of webhooks")
    there = Registrar(api, token).find(base, webhook)
    command = f"storesync source add {source.name} --replace --register"
    remedy = f"`{command} --admin-token-file FILE --api-url {api}`"
    if there is None:
        yield Finding(PROBLEM, check, f"{source.provider} has no webhook of ours", remedy)
    elif not there.get("enabled", there.get("on", False)):
        yield Finding(PROBLEM, check, "the webhook is switched off", remedy)
    elif missing := _missing(there):
        what = f"the webhook leaves out {', '.join(missing[:5])}"
        yield Finding(WARNING, check, what, remedy)
    else:
        yield Finding(OK, check, "the webhook is there, switched on")


def _missing(there: dict[str, Any]) -> list[str]:
    """Return the events that a webhook of Unleash leaves out, or LaunchDarkly's policy."""
    if "events" in there:
        return sorted(set(UNLEASH_EVENTS) - set(there["events"]))
    kinds = {"segment/": "segments", "aiconfig/": "AI Configs"}
    statements = str(there.get("statements", list(kinds)))
    return [title for kind, title in kinds.items() if kind not in statements]
