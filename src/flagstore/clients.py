"""The client of one source: where its flags come from, and what people ask of them."""

from __future__ import annotations

import os
import time
from _thread import allocate_lock  # threading brings more than a lock
from typing import TYPE_CHECKING, Any

from flagstore.cache import FIRST_LOAD_S, TTL_S, SnapshotCache
from flagstore.conversion import BY_PROVIDER, PLAIN
from flagstore.errors import ConfigurationError, FlagNotFoundError, NotLoadedError
from flagstore.evaluation import import_rules, open_engine
from flagstore.evaluation.base import NOT_LOADED, STALE, TOO_OLD, UNSUPPORTED, EngineConfig
from flagstore.flags import EvaluationState, Flags
from flagstore.snapshot import nothing_loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.evaluation.base import Engine
    from flagstore.flags import Detail
    from flagstore.overrides import Override, Overrides
    from flagstore.snapshot import Info, Snapshot
    from flagstore.stores import ReaderStore

    EvaluationCallback = Callable[[Detail, str], object]

ON_LAMBDA = "AWS_LAMBDA_FUNCTION_NAME"
"""A variable that is set on AWS Lambda only."""
_NO_OVERRIDES: Mapping[str, Any] = {}


class Client(Flags):
    """Reads the flags of one source. Safe under threads and after a fork."""

    def __init__(  # noqa: PLR0913 - each may be left out
        self,
        source: str,
        *,
        store: ReaderStore | None = None,
        ttl_s: float = TTL_S,
        max_age_s: float | None = None,
        defaults_until_loaded: bool = False,
        bootstrap: str = "",
        on_evaluation: EvaluationCallback | None = None,
        app_name: str = "",
        environment: str = "",
        strategies: Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], bool]] | None = None,
        replicas: int | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a client; nothing is read yet.

        Args:
            source: the name of the source, such as ``prod``.
            store: where to read from; by default DynamoDB or Redis, as the environment says.
            ttl_s: seconds between two questions whether there is something new.
            max_age_s: flags that the store has not confirmed for so many seconds are no longer
                used, and defaults are given; by default a lost store is served from memory for
                ever.
            defaults_until_loaded: while nothing could be loaded yet, give defaults, no keys, and
                an :meth:`info` of infinite age, instead of raising :class:`NotLoadedError`.
                :meth:`snapshot` and ``flags[key]``, which have no default, still raise it.
            bootstrap: path of a file with flags for as long as nothing could be loaded
                (``FLAGSTORE_BOOTSTRAP``): see :mod:`flagstore.stores.file`.
            on_evaluation: is given the :class:`Detail` of every evaluation and the key of its
                context; what it raises is counted (``info().callback_errors``) and otherwise
                ignored.
            app_name: Unleash: what rules on ``appName`` compare with (``FLAGSTORE_APP_NAME``; the
                source's option ``app_name``).
            environment: Unleash: the same for ``environment`` (``FLAGSTORE_ENVIRONMENT``; the
                source's option ``environment``).
            strategies: Unleash: custom strategies by name, each a function of its parameters and
                the context.
            replicas: replicas of the snapshot record that the writer keeps
                (``FLAGSTORE_SNAPSHOT_REPLICAS``).
            clock: seconds since the epoch.
            monotonic: seconds that never go back, and that deadlines are measured in.

        Raises:
            ConfigurationError: if the name cannot be that of a source, a number is none, or
                ``FLAGSTORE_OVERRIDES`` is no JSON object.
        """
        _check_seconds("ttl_s", ttl_s)
        if max_age_s is not None:
            _check_seconds("max_age_s", max_age_s)
        self._cache = SnapshotCache(
            source,
            store=store,
            ttl_s=ttl_s,
            replicas=replicas,
            clock=clock,
            monotonic=monotonic,
            bootstrap=bootstrap or os.environ.get("FLAGSTORE_BOOTSTRAP", ""),
        )
        self.source = source
        self._clock = clock
        self._monotonic = monotonic
        self._max_age_s = max_age_s
        self._defaults_until_loaded = defaults_until_loaded
        self._on_evaluation = on_evaluation
        self._callback_errors = 0
        self._app_name = app_name
        self._environment = environment
        self._strategies = strategies or {}
        self._overrides: Overrides | None = None
        if text := os.environ.get("FLAGSTORE_OVERRIDES"):
            from flagstore.overrides import Overrides, parse  # noqa: PLC0415 - rarely used

            self._overrides = Overrides(parse(text))
        self._made: tuple[Snapshot, Engine | None] | None = None

    # -- what is in the flag set -----------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return one whole flag set: hold it for a request, and nothing changes under it.

        Asks at most once in a TTL whether there is something new. Once loaded, never raises: a
        store that fails leaves the last known good flag set, and :meth:`info` says so.

        Raises:
            NotLoadedError: if nothing could be loaded yet; one of its subclasses says why.
        """
        return self._cache.snapshot()

    def keys(self) -> list[str]:
        """Return the keys of all flags, sorted."""
        snapshot = self._snapshot()
        return [] if snapshot is None else snapshot.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        snapshot = self._snapshot()
        return 0 if snapshot is None else len(snapshot)

    def __contains__(self, key: object) -> bool:
        snapshot = self._snapshot()
        return snapshot is not None and key in snapshot

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - provider JSON
        """Return the provider's JSON of one flag; the caller's own: changing it changes no flag.

        Raises:
            FlagNotFoundError: if there is no such flag.
            NotLoadedError: if nothing could be loaded yet.
        """
        return self.snapshot()[key]

    def info(self) -> Info:
        """Return what is known of the flag set in hand, its age first of all.

        The snapshot record does not say when the provider was last asked, the source state does:
        where it has not been read yet, this reads it (one small read).
        """
        try:
            info = self._cache.info()
        except NotLoadedError as error:
            if not self._defaults_until_loaded:
                raise
            info = nothing_loaded(self.source, str(error))
        return info._replace(callback_errors=self._callback_errors)

    def close(self) -> None:
        """Close the connection to the store; a later read opens another. Idempotent."""
        self._cache.close()

    def current(self) -> Snapshot | None:
        """Return the flag set in hand, without reading anything; None before there is one."""
        return self._cache.current

    def may_block(self) -> bool:
        """Say whether the next call may wait for the store, for 2 s at most; reads nothing.

        An event loop asks in a thread then, and may ask in its own otherwise.
        """
        return self._cache.may_block()

    def health(self) -> str:
        """Say what is wrong with the flags in hand; reads nothing.

        ``NOT_LOADED``, ``TOO_OLD`` (``max_age_s``: defaults are given), ``STALE`` (the last attempt
        to hear from the store failed) or, if all is well, nothing.
        """
        if self._cache.current is None:
            return NOT_LOADED
        if self._max_age_s is not None and self._cache.age_s() > self._max_age_s:
            return TOO_OLD
        return STALE if self._cache.stale else ""

    def _start(self, *, loads: bool) -> None:
        """Load during INIT, or prepare for the first read. Never raises: the first use does."""
        try:
            now = self._monotonic()
            deadline = _shared_deadline(now)
            if not loads or now >= deadline:
                self._cache.prepare()
                return
            try:
                self._load_during_init(deadline)
            finally:
                if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
                    self._cache.expect_restore()
        except Exception as error:  # noqa: BLE001 - a function must start without its flags
            import logging  # noqa: PLC0415 - 4 ms that a reader without trouble need not pay

            text = "flags of %s could not be loaded during INIT, the first use tries again: %s: %s"
            kind = type(error).__name__
            logging.getLogger("flagstore").warning(text, self.source, kind, error)

    def _load_during_init(self, deadline: float) -> None:
        snapshot = self._cache.preload(deadline)
        self._engine(snapshot)
        import_rules(snapshot.snapshot_record.provider)
        self._cache.preload_segments(deadline)

    # -- what it says -----------------------------------------------------------------------------

    def override(self, values: Mapping[str, Any]) -> Override:
        """Give flags other values from now on, or for as long as a ``with`` statement runs.

        They win over the flag set, and are there without one, for every context of this client.
        What was asked for before stays as it is. Where several overlap, also in other threads or
        tasks, the latest wins, and each takes back its own values alone.
        """
        from flagstore.overrides import Overrides  # noqa: PLC0415 - rarely used

        with _clients_lock:
            if self._overrides is None:
                self._overrides = Overrides({})
        return self._overrides.add(values)

    def _snapshot(self) -> Snapshot | None:
        """Return the flag set, or None if nothing is loaded and the caller wants defaults then.

        Raises:
            NotLoadedError: if nothing is loaded, and the caller does not.
        """
        try:
            return self._cache.snapshot()
        except NotLoadedError:
            if not self._defaults_until_loaded:
                raise
            return None

    def _state(self) -> EvaluationState:
        snapshot = self._snapshot()
        if snapshot is None:
            return self._without_flags(NOT_LOADED)
        age_s = self._cache.age_s()
        if self._max_age_s is not None and age_s > self._max_age_s:
            return self._without_flags(TOO_OLD, age_s)
        return EvaluationState(
            self._engine(snapshot),
            BY_PROVIDER.get(snapshot.snapshot_record.provider, PLAIN),
            keys=snapshot.keys,
            overrides=_NO_OVERRIDES if self._overrides is None else self._overrides.values,
            on_evaluation=self._report if self._on_evaluation else None,
            error=UNSUPPORTED,
            age_s=age_s,
            stale=self._cache.stale,
        )

    def _without_flags(self, error: str, age_s: float = 0.0) -> EvaluationState:
        return EvaluationState(
            None,
            PLAIN,
            keys=tuple,
            overrides=_NO_OVERRIDES if self._overrides is None else self._overrides.values,
            on_evaluation=self._report if self._on_evaluation else None,
            error=error,
            age_s=age_s,
            stale=True,
        )

    def _engine(self, snapshot: Snapshot) -> Engine | None:
        """Return the engine of a flag set, made once; two threads may make the same at once."""
        made = self._made
        if made is None or made[0] is not snapshot:
            made = self._made = (snapshot, self._open_engine(snapshot))
        return made[1]

    def _open_engine(self, snapshot: Snapshot) -> Engine | None:
        """Return an engine, told by the client, the environment or the source who asks."""
        items = _SnapshotItems(snapshot)
        told = items.meta.get("context")
        told = told if isinstance(told, dict) else {}
        settings = EngineConfig(
            now=self._clock,
            random=_random,
            app_name=self._app_name
            or os.environ.get("FLAGSTORE_APP_NAME")
            or str(told.get("appName", "")),
            environment=self._environment
            or os.environ.get("FLAGSTORE_ENVIRONMENT")
            or str(told.get("environment", "")),
            strategies=self._strategies,
        )
        try:
            return open_engine(snapshot.snapshot_record.provider, items, settings)
        except Exception as error:  # noqa: BLE001 - a flag client must not break its caller
            import logging  # noqa: PLC0415 - 4 ms that a reader without trouble need not pay

            name = type(error).__name__
            # Without the exception's text: nothing of a flag set belongs into a log.
            logging.getLogger("flagstore").error("flags cannot be evaluated: %s", name)  # noqa: TRY400
            return None

    def _report(self, detail: Detail, key: str) -> None:
        try:
            self._on_evaluation(detail, key)  # type: ignore[misc] # only called where there is one
        except Exception as error:  # noqa: BLE001 - a callback must not break their request
            if not self._callback_errors:
                import logging  # noqa: PLC0415 - 4 ms that a reader without trouble need not pay

                name = type(error).__name__
                logging.getLogger("flagstore").warning("on_evaluation failed: %s", name)
            self._callback_errors += 1


class _SnapshotItems:
    """A snapshot as an engine reads it."""

    __slots__ = ("_snapshot", "meta")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.meta = snapshot.meta

    def item(self, section: str, key: str) -> Any:  # noqa: ANN401 - provider JSON
        try:
            return self._snapshot.item(section, key)
        except FlagNotFoundError:
            return None


def _check_seconds(name: str, value: object) -> None:
    """Refuse what a variable holds and nobody made a number of, before it fails at every read."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        message = f"{name} must be a number of seconds from 0 on, not {value!r}"
        raise ConfigurationError(message)


def _random() -> float:
    # From the system: clones of one SnapStart image share Python's, whose import costs besides.
    return int.from_bytes(os.urandom(6), "big") / 2**48


class _Nameless(Client):
    """Raises where it is used, not where a module is imported whose tests bring their own flags."""

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - never returns
        if name.startswith("__"):  # Python's own questions: copy, mock and doctest ask such
            raise AttributeError(name)
        message = 'name a source: flagstore.client("prod"), or set FLAGSTORE_SOURCE'
        raise ConfigurationError(message)


_clients: dict[str, tuple[Client, dict[str, Any]]] = {}
_clients_lock = allocate_lock()


_preload_by: float | None = None
"""When all clients have to be loaded during INIT, in ``time.monotonic()`` seconds."""


def client(
    source: str | None = None,
    *,
    preload: bool | None = None,
    **options: Any,  # noqa: ANN401 - as of Client
) -> Client:
    """Return the client of a source; the same one for the same name.

    On AWS Lambda it loads its flags at once: at module scope that is during INIT, where a function
    has a whole CPU core whatever its memory. A failure is logged, and the first use tries again.
    Elsewhere nothing is read before the first use.

    Args:
        source: the name of the source; by default what ``FLAGSTORE_SOURCE`` says. Where that says
            nothing either, the first use of the client raises :class:`ConfigurationError`.
        preload: whether to load at once; by default on Lambda, unless ``FLAGSTORE_PRELOAD`` is
            ``false``. If not, a function on Lambda still prepares TLS for its first read.
        options: as of :class:`Client`, for the first call with this name.

    Raises:
        ConfigurationError: if the name cannot be that of a source, ``FLAGSTORE_PRELOAD`` is neither
            ``true`` nor ``false``, or the client has been made with other options.
    """
    name = source if source is not None else os.environ.get("FLAGSTORE_SOURCE", "")
    if not name:
        return _Nameless()
    loads = _loads_at_once() if preload is None else preload
    with _clients_lock:
        new = name not in _clients
        if new:
            _clients[name] = Client(name, **options), options
        made, given = _clients[name]
    if new and (loads or ON_LAMBDA in os.environ):
        # Outside the lock: what handles the log may ask for this client.
        made._start(loads=loads)  # noqa: SLF001 - the other half of this function
    if options and options != given:
        message = (
            f"the client of {name!r} has been made with other options: give them where it is "
            "first asked for, or make one of your own with flagstore.Client"
        )
        raise ConfigurationError(message)
    return made


def _loads_at_once() -> bool:
    said = os.environ.get("FLAGSTORE_PRELOAD", "").lower()
    if said not in {"", "true", "false"}:
        message = f"FLAGSTORE_PRELOAD must be true or false, not {said!r}"
        raise ConfigurationError(message)
    return ON_LAMBDA in os.environ if not said else said == "true"


def _shared_deadline(now: float) -> float:
    """Return when clients have to be loaded during INIT; the first one starts the clock."""
    global _preload_by  # noqa: PLW0603 - of the process
    with _clients_lock:
        if _preload_by is None:
            _preload_by = now + FIRST_LOAD_S
        return _preload_by


def _after_fork() -> None:
    global _clients_lock  # noqa: PLW0603 - the parent's may be held for ever
    _clients_lock = allocate_lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
