"""LaunchDarkly's API for SDKs in browsers, from flags to JSON. Pure.

Source of the format: ``launchdarkly-js-client-sdk`` 3.9.5 and ``@launchdarkly/js-client-sdk``
4.10.3, which the tests run.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any

from flagserve.gateway import RequestError, Response
from flagserve.views import LAUNCHDARKLY, TRANSIENT, weak
from flagstore.codec import dumps
from flagstore.evaluation import base

if TYPE_CHECKING:
    from flagserve.gateway import Request
    from flagserve.views import View
    from flagstore.evaluation.base import Evaluation
    from flagstore.flags import ContextFlags
    from flagstore.snapshot import Snapshot

PROVIDER = LAUNCHDARKLY
REPORT = "REPORT"
ERROR_KINDS = {base.MALFORMED_FLAG: "MALFORMED_FLAG"}
"""flagstore's error → LaunchDarkly's. Any other is EXCEPTION."""


def asked(request: Request) -> bytes:
    """Return the JSON of the context: base64 in the path, or the body of a REPORT.

    Raises:
        RequestError: if it is malformed.
    """
    if request.route.startswith("GET"):
        text = request.parameter("context")
        try:
            return urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError as error:
            raise RequestError(400, "the context is not base64") from error
    if request.method() != REPORT:
        raise RequestError(405, f"this path takes {REPORT}")
    return request.body()


def read_context(text: bytes) -> dict[str, Any]:
    """Return a context, as for ``Flags.for_context``.

    Raises:
        RequestError: if it is malformed.
    """
    try:
        given = json.loads(text)
        json.dumps(given, ensure_ascii=False).encode()  # rejects half a surrogate pair
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "the context is not JSON") from error
    if not isinstance(given, dict):
        raise RequestError(400, "the context must be an object")
    return given


def evaluations(
    flags: ContextFlags, view: View, snapshot: Snapshot, etag: str, *, reasons: bool
) -> Response:
    """Return all flags of a view; by default, the ETag is the body's.

    Raises:
        RequestError: if no flag can be evaluated for this context.
    """
    if flags.evaluation("").error != base.FLAG_NOT_FOUND:
        raise RequestError(400, "the context is invalid")
    found, errors = [], set()
    for name in view.known:
        evaluation = flags.evaluation(name)
        if evaluation.error != base.FLAG_NOT_FOUND:
            errors.add(evaluation.error)
            reason = f',"reason":{dumps(_reason(evaluation))}' if reasons else ""
            found.append(f"{_result(name, evaluation)}{reason}{_tail(name, view, snapshot)}")
    body = f"{{{','.join(found)}}}".encode()
    return Response(200, body, (etag or weak(body)) if TRANSIENT.isdisjoint(errors) else "")


def _result(name: str, evaluation: Evaluation) -> str:
    value = None if evaluation.value is base.ABSENT else evaluation.value
    return f'{dumps(name)}:{{"value":{dumps(value)},"variation":{dumps(evaluation.variant)}'


def _tail(name: str, view: View, snapshot: Snapshot) -> str:
    """Return the part of a flag's JSON that does not depend on the context."""
    tail = view.known[name]
    if tail is None:
        flag = json.loads(snapshot.text("flags", name))
        version = flag.get("version")
        version = version if type(version) is int else 0
        tracked = "true" if flag.get("trackEvents") is True else "false"
        tail = f',"version":{version},"flagVersion":{version},"trackEvents":{tracked}}}'
        view.known[name] = tail
    return tail


def _reason(evaluation: Evaluation) -> dict[str, Any]:
    """Return a reason without the names of rules and other flags, which browsers must not see."""
    if evaluation.error:
        return {"kind": "ERROR", "errorKind": ERROR_KINDS.get(evaluation.error, "EXCEPTION")}
    reason: dict[str, Any] = {"kind": evaluation.reason}
    return {**reason, "inExperiment": True} if evaluation.in_experiment else reason
