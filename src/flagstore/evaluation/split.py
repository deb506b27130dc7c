"""Evaluates Split's flags as splitio_client 10.7.0 does, over a flag set that was read. Pure.

Its reference is the SDK in consumer mode, which reads definitions from a store as this does: what
is damaged is found when a flag that needs it is evaluated. What the SDK calls ``control`` is no
value here, and an error.

A flag is compiled when it is first asked for, with all flags and rule-based segments that it can
lead to: one that is damaged makes those unusable that lead to it, as in the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.errors import NotLoadedError
from flagstore.evaluation.base import (
    ABSENT,
    CONTEXT_INVALID,
    EXCEPTION,
    FLAG_NOT_FOUND,
    MALFORMED_FLAG,
    SEGMENT_UNAVAILABLE,
    UNSUPPORTED,
    Evaluation,
    log_fault,
)
from flagstore.evaluation.split_compiler import CONTROL, UNSUPPORTED_LABEL, compile_flag
from flagstore.evaluation.split_context import DamagedError, context_of
from flagstore.evaluation.split_matchers import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.evaluation.base import EngineConfig, Items
    from flagstore.evaluation.split_compiler import Decide
    from flagstore.evaluation.split_context import Context
    from flagstore.evaluation.split_matchers import Match

    Reference = tuple[str, Any]

_FLAGS, _RULE_BASED, _SEGMENTS = "flags", "rule_based_segments", "segments"
_NOT_FOUND_LABEL, _EXCEPTION_LABEL = "definition not found", "exception"

_NO_NAME = Evaluation(error=FLAG_NOT_FOUND)
_NOT_FOUND = Evaluation(error=FLAG_NOT_FOUND, rule=_NOT_FOUND_LABEL)
_UNREADABLE = Evaluation(error=MALFORMED_FLAG, rule=_NOT_FOUND_LABEL)
_DAMAGED = Evaluation(error=MALFORMED_FLAG, rule=_EXCEPTION_LABEL)
_NO_SEGMENT = Evaluation(error=SEGMENT_UNAVAILABLE, rule=_EXCEPTION_LABEL)
_UNSUPPORTED = Evaluation(error=UNSUPPORTED, rule=UNSUPPORTED_LABEL)
_BAD_CONTEXT = Evaluation(error=CONTEXT_INVALID, rule=_EXCEPTION_LABEL)
_FAULT = Evaluation(error=EXCEPTION, rule=_EXCEPTION_LABEL)


class SplitEngine:
    """Evaluates the flags of one flag set."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._deciders = _Deciders(self)
        self._unreadable: set[str] = set()
        self.nodes: dict[Reference, Any] = {}
        """What was compiled, a :class:`_Flag` or a :class:`RuleBased`; None for what the SDK
        takes as not being there."""
        self.segments: dict[Any, frozenset[str]] = {}
        """The keys of each segment that was needed."""

    def context(self, given: Mapping[str, Any]) -> Context:
        """Take the keys and the attributes out of what a caller gives.

        Raises:
            ContextError: there is no key, or none that the SDK takes.
        """
        return context_of(given)

    def evaluate(self, key: str, context: Context) -> Evaluation:
        """Evaluate one flag; its name is trimmed, as in the SDK."""
        try:
            return self._deciders[key](context)
        except Exception as error:  # noqa: BLE001 - nothing may escape
            return _failed(key, error)

    def prepare(self, name: str) -> Decide | None:
        """Compile a flag and all that it can lead to; returns what responds for it.

        None for a name that no flag has: nothing is kept of what a caller makes up.
        """
        if (_FLAGS, name) not in self.nodes and self._items.item(_FLAGS, name) is None:
            return None
        try:
            seen = self._closure((_FLAGS, name))
        except (DamagedError, TypeError):
            # A TypeError: a list or an object where the name of a flag or a segment should be.
            return lambda _context: _DAMAGED
        root = seen.get((_FLAGS, name))
        if root is None:
            outcome = _UNREADABLE if name in self._unreadable else _NOT_FOUND
            return lambda _context: outcome
        if root.needs:
            _guard_cycles(seen)
        return root.checked if root.bad_label else root.decide  # type: ignore[no-any-return] # Any

    def check(self, section: str, name: str) -> bool:
        """Return whether a flag or a rule-based segment can be read; a segment always can.

        Raises:
            DamagedError, TypeError: it, or what it leads to, cannot be used.
        """
        if section == _SEGMENTS:
            return True
        return self._closure((section, name)).get((section, name)) is not None

    def segment(self, name: object) -> frozenset[str]:
        """Return the keys of a segment; none if it is not there.

        Raises:
            NotLoadedError: it cannot be read now; the next time it is asked for again.
        """
        found = self._items.item(_SEGMENTS, name) if isinstance(name, str) else None
        keys = self.segments[name] = frozenset(() if found is None else found["keys"])
        return keys

    def _closure(self, root: Reference) -> dict[Reference, Any]:
        seen: dict[Reference, Any] = {}
        pending = [root]
        while pending:
            reference = pending.pop()
            if reference in seen or reference[0] == _SEGMENTS:
                continue
            node = self._node(reference)
            if node is not None:
                seen[reference] = node
                pending += node.needs
        return seen

    def _node(self, reference: Reference) -> Any:  # noqa: ANN401 - of either kind, or None
        if reference in self.nodes:
            return self.nodes[reference]
        section, name = reference
        node = None
        raw = self._items.item(section, name) if isinstance(name, str) else None
        if raw is not None:
            try:
                node = self._compiled(section, name, raw)
            except NotLoadedError:
                raise
            except (TypeError, ValueError):
                # These two the SDK takes for a definition that is not there, when it reads one.
                self._unreadable.add(name)
            except Exception as error:
                raise DamagedError(f"{name} cannot be read") from error
        self.nodes[reference] = node
        return node

    def _compiled(self, section: str, name: str, raw: Any) -> Any:  # noqa: ANN401 - of either kind
        links = _Links(self)
        if section == _FLAGS:
            return _Flag(name, raw, links)
        from flagstore.evaluation.split_rule_based import RuleBased  # noqa: PLC0415 - seldom needed

        return RuleBased(name, raw, links)


class _Deciders(dict[str, "Decide"]):
    """What responds for each flag that was asked for."""

    def __init__(self, engine: SplitEngine) -> None:
        super().__init__()
        self._engine = engine

    def __missing__(self, key: str) -> Decide:
        name = key.strip() if isinstance(key, str) else ""
        if not name:
            return lambda _context: _NO_NAME
        if name != key:
            return self[name]
        response = self._engine.prepare(name)
        if response is None:
            return lambda _context: _NOT_FOUND
        self[name] = response
        return response


class _Links:
    """What one flag or rule-based segment looks up, and the names of it."""

    def __init__(self, engine: SplitEngine) -> None:
        self._engine = engine
        self.needs: list[Reference] = []

    def treatment(self, flag: Any) -> Callable[[Context], Any]:  # noqa: ANN401 - a text, mostly
        """Return what evaluates another flag."""
        reference, nodes = (_FLAGS, flag), self._engine.nodes
        self.needs.append(reference)

        def treatment(context: Context) -> Any:  # noqa: ANN401 - a text, mostly
            node = nodes[reference]
            if node is None:
                return CONTROL
            value = node.decide(context).value
            return CONTROL if value is ABSENT else value

        return treatment

    def segment(self, name: Any) -> Match:  # noqa: ANN401 - a text, mostly
        """Return what says whether a context's key is in a segment."""
        segments, read = self._engine.segments, self._engine.segment
        self.needs.append((_SEGMENTS, name))

        def within(context: Context) -> bool:
            keys = segments.get(name)
            return context.key in (read(name) if keys is None else keys)

        return within

    def rule_based(self, name: Any) -> Match:  # noqa: ANN401 - a text, mostly
        """Return what says whether a context is in a rule-based segment."""
        find = self.find(name)

        def within(context: Context) -> bool:
            node = find()
            if context.key in node.keys or node.shuts_out(context):
                return False
            return node.matches(context)  # type: ignore[no-any-return] # Any

        return within

    def find(self, name: Any) -> Callable[[], Any]:  # noqa: ANN401 - a text, mostly
        """Return what returns a rule-based segment; it fails if that is not there."""
        reference, nodes = (_RULE_BASED, name), self._engine.nodes
        self.needs.append(reference)

        def find() -> Any:  # noqa: ANN401 - a RuleBased
            node = nodes[reference]
            if node is None:
                raise DamagedError(f"there is no rule-based segment {name}")
            return node

        return find

    def forget(self) -> None:
        """Take back what was asked for: it will not be needed."""
        self.needs.clear()


class _Flag:
    """A flag that was compiled."""

    def __init__(self, name: str, raw: Any, links: _Links) -> None:  # noqa: ANN401 - provider JSON
        self._name = name
        self._plain, self.bad_label = compile_flag(raw, links)
        self.needs = links.needs
        self.decide = self._plain

    def guard(self) -> None:
        """Notice when the flag comes back to itself; twice is as good as once."""
        plain, token = self._plain, (_FLAGS, self._name)
        self.decide = lambda context: plain(context.within(token))

    def checked(self, context: Context) -> Evaluation:
        """Fail on a label that is no text, as the SDK does where it reports an evaluation."""
        outcome = self.decide(context)
        if not isinstance(outcome.rule, str):
            raise DamagedError("the label is no text")
        return outcome


def _guard_cycles(nodes: dict[Reference, Any]) -> None:
    """Guard what leads back to itself, or to what does: the SDK would go round in it."""
    left = {
        reference: [need for need in node.needs if need in nodes]
        for reference, node in nodes.items()
    }
    before = 0
    while len(left) != before:
        before = len(left)
        # What was found last leads nowhere most often.
        for reference in reversed(list(left)):
            if not any(need in left for need in left[reference]):
                del left[reference]
    for reference in left:
        nodes[reference].guard()


def _failed(key: object, error: Exception) -> Evaluation:
    if not isinstance(key, str):
        return _NO_NAME
    if isinstance(error, NotLoadedError):
        return _NO_SEGMENT
    if isinstance(error, UnsupportedError):
        return _UNSUPPORTED
    # A TypeError: it compares with null, say. A RecursionError: a chain of thousands.
    if isinstance(error, (DamagedError, TypeError, RecursionError)):
        return _DAMAGED
    # Half a character to hash, or an attribute that contains itself.
    if isinstance(error, ValueError):
        return _BAD_CONTEXT
    log_fault(key, error)
    return _FAULT


def engine(items: Items, settings: EngineConfig) -> SplitEngine:  # noqa: ARG001 - as other engines
    """Return the engine of a flag set."""
    return SplitEngine(items)
