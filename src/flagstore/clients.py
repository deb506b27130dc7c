"""Clients: one per source, shared by the process.

Not named ``client``: the function :func:`flagstore.client` would hide a module of that name.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from flagstore.cache import FIRST_LOAD_S, TTL_S, SnapshotCache, log
from flagstore.errors import ConfigurationError, FlagNotFoundError, NotLoadedError
from flagstore.evaluation import import_rules, open_engine
from flagstore.evaluation.base import NOT_LOADED, STALE, TOO_OLD, UNSUPPORTED, EngineConfig
from flagstore.flags import CONVERSIONS, PLAIN, EvaluationState, Flags
from flagstore.snapshot import nothing_loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.codec import Json
    from flagstore.evaluation.base import Engine
    from flagstore.flags import Context, Detail, Handler, Observers
    from flagstore.rollout import Rollout
    from flagstore.snapshot import Info, Snapshot
    from flagstore.stores import ReaderStore
    from flagstore.usage import Count

    EvaluationCallback = Callable[[Detail, str], object]
    Made = tuple[Snapshot, Engine | None, Count | None]
    """A flag set, its engine and the function that counts."""

ON_LAMBDA = "AWS_LAMBDA_FUNCTION_NAME"
"""A variable that only AWS Lambda sets."""


class Client(Flags):
    """Reads the flags of one source. Thread-safe and fork-safe."""

    def __init__(  # noqa: PLR0913 - all but the source are optional
        self,
        source: str,
        *,
        store: ReaderStore | None = None,
        ttl_s: float = TTL_S,
        max_age_s: float | None = None,
        defaults_until_loaded: bool = False,
        bootstrap: str = "",
        usage: str = "",
        on_evaluation: EvaluationCallback | None = None,
        app_name: str = "",
        environment: str = "",
        strategies: Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], bool]] | None = None,
        rollout_by: str = "",
        replicas: int | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a client; nothing is read yet.

        Args:
            source: name of the source, such as ``prod``.
            store: the store to read; by default, the one named in the environment.
            ttl_s: minimum seconds between freshness checks.
            max_age_s: return defaults once the store has not confirmed the flags for this many
                seconds; by default, stale flags are served indefinitely.
            defaults_until_loaded: until the first load succeeds, return defaults, no keys, and an
                :meth:`info` of infinite age, instead of raising :class:`NotLoadedError`.
                :meth:`snapshot` and ``flags[key]``, which have no default, still raise it.
            bootstrap: path of a file with flags to serve until the first load succeeds
                (``FLAGSTORE_BOOTSTRAP``): see :mod:`flagstore.stores.file`.
            usage: ``counts`` counts evaluations for the provider's dashboard, ``events`` also
                records exposures and events for its experiments (``FLAGSTORE_USAGE``): see
                docs/usage.md.
            on_evaluation: called with the :class:`Detail` of every evaluation and the key of its
                context; its exceptions are counted (``info().callback_errors``) and ignored.
            app_name: Unleash: compared by rules on ``appName``; by default
                ``FLAGSTORE_APP_NAME``, or the source's option.
            environment: Unleash: the same for ``environment`` and ``FLAGSTORE_ENVIRONMENT``.
            strategies: Unleash: name of a custom strategy → function of its parameters and the
                context.
            rollout_by: AppConfig: who gets the new version during a gradual deployment: by default,
                a growing share of processes; with ``key``, of the contexts' keys; otherwise, of the
                values of this attribute.
            replicas: number of replicas of the snapshot record that the writer keeps
                (``FLAGSTORE_SNAPSHOT_REPLICAS``).
            clock: returns seconds since the epoch.
            monotonic: returns seconds that never go back, for deadlines.

        Raises:
            ConfigurationError: if the source's name, a number or ``usage`` is invalid, or
                ``FLAGSTORE_OVERRIDES`` is not a JSON object.
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
        self._app_name = app_name or os.environ.get("FLAGSTORE_APP_NAME", "")
        self._environment = environment or os.environ.get("FLAGSTORE_ENVIRONMENT", "")
        self._strategies = strategies or {}
        self._rollout_by = rollout_by
        text = os.environ.get("FLAGSTORE_OVERRIDES")
        self._environment_overrides = _parse_overrides(text) if text else {}
        self._overrides: dict[Override, Mapping[str, Any]] = {}
        self._made: Made | None = None
        self._new_made: Made | None = None
        """The same of the new version, while a gradual deployment is in progress."""
        self._rollout: Rollout | None = None
        self._usage = None
        if usage := usage or os.environ.get("FLAGSTORE_USAGE", ""):
            if usage not in {"counts", "events"}:
                message = f"usage (FLAGSTORE_USAGE) must be counts or events, not {usage!r}"
                raise ConfigurationError(message)
            from flagstore.usage import UsageCounter  # noqa: PLC0415 - only where it is used

            self._usage = UsageCounter(source, self._app_name, clock, events=usage == "events")

    # -- the flag set -----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the whole, immutable flag set: keep it to see the same flags throughout a request.

        Once loaded, this never raises: if the store fails, the last known good flag set stays.
        During a gradual deployment, it is the version of this process; with ``rollout_by``, which
        chooses by context, the previous one.

        Raises:
            NotLoadedError: if nothing has been loaded yet; a subclass names the reason.
        """
        return self._of_process(self._cache.snapshot())

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

    def __getitem__(self, key: str) -> Json:
        """Return the provider's JSON of one flag. A copy.

        Raises:
            FlagNotFoundError: if there is no such flag.
            NotLoadedError: if nothing has been loaded yet.
        """
        return self.snapshot()[key]

    def info(self) -> Info:
        """Return information about the flag set, such as its age. The first call may need a read.

        Raises:
            NotLoadedError: if nothing has been loaded yet.
        """
        try:
            info = self._cache.info()
        except NotLoadedError as error:
            if not self._defaults_until_loaded:
                raise
            info = nothing_loaded(self.source, str(error))
        info = info._replace(
            callback_errors=self._callback_errors, throttled=self._cache.throttled()
        )
        snapshot = self._cache.current
        if snapshot is None or not snapshot.two_versions:
            return info
        found = self._rolled_out(snapshot, self._clock())
        return info if found is None else info._replace(deployment=found[0].deployment(found[1]))

    def track(
        self, event: str, context: Context = None, *, value: float | None = None, data: Json = None
    ) -> None:
        """Record an event: see :meth:`Flags.track`. Never raises after the first load."""
        if self._usage is None:
            return
        given, engine = {} if context is None else context, self._state(context).engine
        if engine is None:
            return
        try:
            self._usage.track(event, engine.context(given), given, value, data)
        except Exception as error:  # noqa: BLE001 - a flag client must not break its caller
            log("an event was not recorded: %s", type(error).__name__)

    def flush(self) -> None:
        """Print what has been counted, if ``usage`` is on."""
        if self._usage is not None:
            self._usage.flush()

    def reporting(self, handler: Handler) -> Handler:
        """Decorate a function's handler: see :meth:`Flags.reporting`."""
        if self._usage is None:
            return handler
        from flagstore.usage import reporting  # noqa: PLC0415 - as in __init__

        return reporting(handler)

    def close(self) -> None:
        """Print counts and close the connection; a later read opens another. Idempotent."""
        if self._usage is not None:
            self._usage.flush()
        self._cache.close()

    def current(self) -> Snapshot | None:
        """Return what :meth:`snapshot` would, from memory; None before the first load."""
        snapshot = self._cache.current
        return None if snapshot is None else self._of_process(snapshot)

    def may_block(self) -> bool:
        """Return whether the next call may wait for the store, for 2 s at most. Reads nothing."""
        return self._cache.may_block()

    def health(self) -> str:
        """Return the code of a problem with the flags, or an empty string. Reads nothing.

        ``NOT_LOADED``, ``TOO_OLD`` (see ``max_age_s``) or ``STALE`` (the store failed last time).
        """
        if self._cache.current is None:
            return NOT_LOADED
        if self._max_age_s is not None and self._cache.age_s() > self._max_age_s:
            return TOO_OLD
        return STALE if self._cache.stale else ""

    # -- evaluation -------------------------------------------------------------------------------

    def override(self, values: Mapping[str, Any]) -> Override:
        """Override flags from now on, or for the duration of a ``with`` statement.

        Applies to every context of this client; a :class:`ContextFlags` created earlier keeps its
        values. Where overrides overlap, even across threads or tasks, the latest wins, and each
        removes only its own values.
        """
        override = Override(self._overrides)
        self._overrides[override] = dict(values)
        return override

    def _snapshot(self) -> Snapshot | None:
        """Return the flag set, in the version of :meth:`snapshot`."""
        return None if self._loaded() is None else self.snapshot()

    def _loaded(self) -> Snapshot | None:
        """Return the flag set; None if nothing is loaded and the client returns defaults then."""
        try:
            return self._cache.snapshot()
        except NotLoadedError:
            if not self._defaults_until_loaded:
                raise
            return None

    def _state(self, given: Context = None) -> EvaluationState:
        overrides = self._environment_overrides
        for values in self._overrides.copy().values():
            overrides = {**overrides, **values}
        snapshot, age_s = self._loaded(), 0.0
        deployment: tuple[int | None, str] = None, ""
        engine, conversion, error = None, PLAIN, NOT_LOADED
        report = None if self._on_evaluation is None else self._report
        observers: Observers | None = None if report is None else (None, report)
        keys: Callable[[], list[str]] = list
        if snapshot is not None:
            now = self._clock()
            age_s = self._cache.age_s(now)
            if self._max_age_s is not None and age_s > self._max_age_s:
                error = TOO_OLD
            else:
                conversion = CONVERSIONS.get(snapshot.snapshot_record.provider, PLAIN)
                made = self._engine(snapshot)
                if snapshot.two_versions:
                    made, deployment = self._version(snapshot, given, now)
                snapshot, engine, count = made
                keys, error = snapshot.keys, UNSUPPORTED
                if count is not None and (usage := self._usage) is not None:
                    if usage.first <= now < usage.due:
                        usage.last = now
                    else:
                        usage.tick(now)
                    observers = (count, report)
        return EvaluationState(
            engine,
            conversion,
            keys=keys,
            overrides=overrides,
            observers=observers,
            error=error,
            age_s=age_s,
            stale=self._cache.stale,
            deployment=deployment,
        )

    def _engine(self, snapshot: Snapshot) -> Made:
        """Return a flag set with its engine and the function that counts, cached.

        Two threads may both create them.
        """
        made = self._made
        if made is None or made[0] is not snapshot:
            made = self._made = self._make(snapshot, made)
            if not snapshot.two_versions:
                self._rollout = self._new_made = None
        return made

    def _make(self, snapshot: Snapshot, earlier: Made | None) -> Made:
        items, count = _Items(snapshot), None
        engine = self._open_engine(snapshot, items, earlier)
        if engine is not None and self._usage is not None:
            record = snapshot.snapshot_record
            count = self._usage.counting(record.provider, record.token, engine, items)
        return snapshot, engine, count

    # -- a gradual deployment in progress --

    def _of_process(self, snapshot: Snapshot) -> Snapshot:
        """Return the version of a flag set that :meth:`snapshot` describes."""
        if not snapshot.two_versions or self._rollout_by:
            return snapshot
        made, _ = self._version(snapshot, None, self._clock())
        return made[0]

    def _version(
        self, snapshot: Snapshot, given: Context, now: float
    ) -> tuple[Made, tuple[int | None, str]]:
        """Return the version of a flag set that a context has, and which one it is and why."""
        made, found = self._engine(snapshot), self._rolled_out(snapshot, now)
        if found is None:
            return made, (None, "")
        rollout, percentage = found
        new = rollout.has_new(given, percentage)
        if new:
            new_made = self._new_made
            if new_made is None or new_made[0] is not rollout.new:
                new_made = self._new_made = self._make(rollout.new, made)
            made = new_made
        return made, rollout.describe(percentage, new=new)

    def _rolled_out(self, snapshot: Snapshot, now: float) -> tuple[Rollout, float] | None:
        """Return the deployment in progress and its percentage; None if it is malformed."""
        rollout = self._rollout
        if rollout is None or rollout.snapshot is not snapshot:
            from flagstore.rollout import Rollout  # noqa: PLC0415 - only during a deployment

            try:
                rollout = self._rollout = Rollout(snapshot, self._rollout_by, rollout)
            except Exception as error:  # noqa: BLE001 - a flag client must not break its caller
                snapshot.two_versions = False  # everybody has the previous version
                log("a gradual deployment is malformed: %s", type(error).__name__, level=40)
                return None
        return rollout, rollout.percentage(snapshot.progress, now, stale=self._cache.stale)

    def _open_engine(
        self, snapshot: Snapshot, items: _Items, earlier: Made | None
    ) -> Engine | None:
        """Return the engine of a flag set; after deltas, it keeps what the last one compiled.

        None if the flags cannot be evaluated.
        """
        try:
            if earlier and earlier[1] and snapshot.shares_blocks(earlier[0]):
                differing = snapshot.differing(earlier[0])
                if differing is not None:
                    return earlier[1].changed(items, differing)
            context = items.meta.get("context")
            options = context if isinstance(context, dict) else {}
            config = EngineConfig(
                now=self._clock,
                random=_random,
                app_name=self._app_name or str(options.get("appName", "")),
                environment=self._environment or str(options.get("environment", "")),
                strategies=self._strategies,
            )
            return open_engine(snapshot.snapshot_record.provider, items, config)
        except Exception as error:  # noqa: BLE001 - a flag client must not break its caller
            # Without the exception's message, which may quote flags: they do not belong in a log.
            log("flags cannot be evaluated: %s", type(error).__name__, level=40)
            return None

    def _report(self, detail: Detail, key: str) -> None:
        try:
            self._on_evaluation(detail, key)  # type: ignore[misc] # only called if there is one
        except Exception as error:  # noqa: BLE001 - a callback must not break its caller
            if not self._callback_errors:
                log("on_evaluation failed: %s", type(error).__name__)
            self._callback_errors += 1

    # -- INIT of a Lambda function ----------------------------------------------------------------

    def _start(self, *, loads: bool) -> None:
        """Load during INIT, or prepare for the first read. Never raises: the first use does."""
        global _preload_by  # noqa: PLW0603 - once per process
        try:
            if self._usage is not None:
                from flagstore.usage import flush_before_end  # noqa: PLC0415 - as in __init__

                flush_before_end()
            now = self._monotonic()
            if _preload_by is None:
                _preload_by = now + FIRST_LOAD_S
            if not loads or now >= _preload_by:
                self._cache.prepare()
                return
            try:
                snapshot = self._cache.preload(_preload_by)
                self._engine(snapshot)
                import_rules(snapshot.snapshot_record.provider)
                self._cache.preload_segments(_preload_by)
            finally:
                if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
                    self._cache.expect_restore()
        except Exception as error:  # noqa: BLE001 - a function must start without its flags
            text = "flags of %s could not be loaded during INIT, the first use will retry: %s: %s"
            log(text, self.source, type(error).__name__, error)


class Override:
    """Removes its overrides at the end of a ``with`` statement."""

    __slots__ = ("_overrides",)

    def __init__(self, overrides: dict[Override, Mapping[str, Any]]) -> None:
        self._overrides = overrides

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._overrides.pop(self, None)


class _Items:
    """Adapts a snapshot to the engines' interface."""

    __slots__ = ("_snapshot", "meta")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.meta = snapshot.meta

    def item(self, section: str, key: str) -> Json:
        try:
            return self._snapshot.item(section, key)
        except FlagNotFoundError:
            return None


class _Nameless(Client):
    """A client without a source: raises on use, not on import, so that tests can set flags."""

    _usage = None  # a handler may be decorated

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - never returns
        if name.startswith("__"):  # looked up by Python itself: copy, mock, doctest
            raise AttributeError(name)
        raise ConfigurationError('name a source: flagstore.client("prod"), or set FLAGSTORE_SOURCE')


_clients: dict[str, tuple[Client, dict[str, Any]]] = {}
_preload_by: float | None = None
"""The deadline of all clients that load during INIT, set by the first one."""


def client(
    source: str | None = None,
    *,
    preload: bool | None = None,
    **options: Any,  # noqa: ANN401 - as for Client
) -> Client:
    """Return the client of a source; the same one for the same name.

    On AWS Lambda it loads its flags at once: at module scope that is during INIT, when a function
    has a full CPU core regardless of its memory. A failure is logged, and the first use retries.

    Args:
        source: name of the source; by default ``FLAGSTORE_SOURCE``. If that is not set either, the
            first use of the client raises :class:`ConfigurationError`.
        preload: whether to load at once; by default on Lambda, unless ``FLAGSTORE_PRELOAD`` is
            ``false``. Otherwise, a function on Lambda still prepares TLS for its first read.
        options: as for :class:`Client`, in the first call with this name.

    Raises:
        ConfigurationError: if the source's name is invalid, ``FLAGSTORE_PRELOAD`` is neither
            ``true`` nor ``false``, or the client already exists with other options.
    """
    name = source if source is not None else os.environ.get("FLAGSTORE_SOURCE", "")
    if not name:
        return _Nameless()
    loads = _loads_at_once() if preload is None else preload
    entry, new = _clients.get(name), False
    if entry is None:
        added = Client(name, **options), options
        entry = _clients.setdefault(name, added)  # if several threads get here, one adds its client
        new = entry is added
    made, given = entry
    if new and (loads or ON_LAMBDA in os.environ):
        made._start(loads=loads)  # noqa: SLF001 - the other half of this function
    if options and options != given:
        raise ConfigurationError(
            f"the client of {name!r} already exists with other options: pass them where it is "
            "first requested, or create a separate one with flagstore.Client"
        )
    return made


def _loads_at_once() -> bool:
    value = os.environ.get("FLAGSTORE_PRELOAD", "").lower()
    if value not in {"", "true", "false"}:
        raise ConfigurationError(f"FLAGSTORE_PRELOAD must be true or false, not {value!r}")
    return value == "true" if value else ON_LAMBDA in os.environ


def _parse_overrides(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConfigurationError(
            'FLAGSTORE_OVERRIDES must be a JSON object, such as {"new-checkout": true}'
        )
    return values


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise ConfigurationError(f"{name} must be a number of seconds of at least 0, not {value!r}")


def _random() -> float:
    # From the OS: clones of a SnapStart image share Python's generator, also slow to import.
    return int.from_bytes(os.urandom(6), "big") / 2**48
