"""Our adapters at work among the Python SDKs, on a store in memory that a script can change."""

from __future__ import annotations

import json
import logging
import sys
import threading
from typing import Any

TASK = json.load(sys.stdin)
sys.path += TASK["path"]

from flagstore.errors import FlagstoreError  # noqa: E402 - it is there from now on
from simulators import launchdarkly_flags, reader_rig, unleash_flags  # noqa: E402

LARGE = [f"user-{number}" for number in range(5_000)]


class Rig(reader_rig.Rig):
    def renew(self, flags: dict[str, Any], segments: dict[str, Any] | None = None) -> None:
        meta = {"version": 2}  # without it Unleash's engine knows no feature
        self.publish(flags, meta, segments=segments or {})
        self.advance(reader_rig.EXPIRED_S)


def launchdarkly() -> dict[str, Any]:
    """Change values that came back; publish; fail; get what is malformed."""
    from ldclient import Config, Context, LDClient  # noqa: PLC0415 - of this scene
    from ldclient.versioned_data_kind import FEATURES, SEGMENTS  # noqa: PLC0415

    from flagstore.adapters.launchdarkly import SnapshotFeatureStore  # noqa: PLC0415

    rig = Rig(provider="launchdarkly")
    store = SnapshotFeatureStore(rig.client)
    value = {"limits": [1, {"deep": 2}]}
    flag = {
        **launchdarkly_flags.new_flag("json"),
        "variations": [value, [value], "text"],
        "offVariation": 1,
        "fallthrough": {"variation": 0},
    }
    results: dict[str, Any] = {}
    ada = Context.create("ada")
    config = Config("no-key", feature_store=store, use_ldd=True, send_events=False)
    rig.store.error = reader_rig.DOWN
    with LDClient(config, start_wait=0) as client:
        detail = client.variation_detail("json", ada, "default")
        results["down"] = [detail.value, detail.reason, store.initialized]
        results["all down"] = client.all_flags_state(ada).valid
        rig.store.error = None
        rig.renew({"json": flag}, {"s": launchdarkly_flags.new_segment("s")})
        results["up"] = store.initialized
        results["kept"] = [store.get(FEATURES, "json") is store.get(FEATURES, "json")]
        for _ in range(2):
            got = client.variation("json", ada, None)
            detail = client.variation_detail("json", ada, None).value
            every = client.all_flags_state(ada).to_values_map()["json"]
            results.setdefault("values", []).append(json.loads(json.dumps([got, detail, every])))
            for changed in (got, detail, every):
                changed["limits"][1]["deep"] = "corrupt"
                changed["limits"].append("corrupt")
        model = store.get(FEATURES, "json")
        results["kept"] += [
            store.get(FEATURES, "json") is model,
            store.all(FEATURES)["json"] is model,
        ]
        store.all(FEATURES).clear()
        results["all kept"] = sorted(store.all(FEATURES)), sorted(store.all(SEGMENTS))
        store.init({FEATURES: {}})
        store.upsert(FEATURES, {**flag, "on": False, "version": 99})
        store.delete(FEATURES, "json", 99)
        results["written"] = client.variation("json", ada, None)
        gone = {**flag, "key": "gone", "deleted": True}
        rig.renew({"json": {**flag, "on": False}, "bad": {"key": "bad"}, "gone": gone})
        results["changed"] = client.variation("json", ada, None)
        results["missing"] = [store.get(FEATURES, "gone"), store.get(FEATURES, "never")]
        detail = client.variation_detail("bad", ada, "default")
        results["malformed"] = [detail.value, detail.reason]
        state = client.all_flags_state(ada)
        results["all but malformed"] = [state.valid, sorted(state.to_values_map())]
    other = Rig(provider="unleash")
    other.renew({"json": flag})
    results["other"] = _error(lambda: SnapshotFeatureStore(other.client).get(FEATURES, "json"))
    results["threads"] = [thread.name for thread in threading.enumerate()]
    return results


def unleash() -> dict[str, Any]:
    """Fail at first; publish twice; fail again; try a cache of one's own."""
    from UnleashClient.constants import FEATURES_URL  # noqa: PLC0415 - of this scene

    from flagstore.adapters.unleash import SnapshotCache, SnapshotClient  # noqa: PLC0415

    rig = Rig(provider="unleash")
    results: dict[str, Any] = {}
    rig.store.error = reader_rig.DOWN
    client = SnapshotClient(rig.client, "shop", environment="production")
    ada = {"userId": "user-1"}
    results["down"] = [
        client.is_enabled("a", ada),
        client.is_enabled("a", ada, lambda _name, _context: True),
        client.get_variant("a", ada)["name"],
        client.feature_definitions(),
        _error(client.refresh),
    ]
    rig.store.error = None
    feature = unleash_flags.new_flag("a")
    large = unleash_flags.new_segment(1)
    large["constraints"][0]["values"] = LARGE
    rig.renew({"a": feature}, {"1": large})
    results["up"] = [client.is_enabled("a", ada), client.refresh(), client.is_initialized]
    rig.renew({"a": {**feature, "enabled": False}}, {"1": large})
    results["changed"] = [client.refresh(), client.refresh(), client.is_enabled("a", ada)]
    rig.renew({"a": feature, "b": feature | {"name": "b"}}, {"1": large})
    results["changed again"] = [client.is_enabled("a", ada), sorted(client.feature_definitions())]
    rig.store.error = reader_rig.DOWN
    results["stale"] = client.is_enabled("a", ada)
    results["parts"] = len([call for call in rig.store.calls if "chunk" in call])
    cache = SnapshotCache(rig.client)
    document = cache.get(FEATURES_URL)
    cache.set(FEATURES_URL, "{}")
    cache.mset({"etag": "x"})
    results["cache"] = [
        cache.get(FEATURES_URL) is document,
        cache.get("etag"),
        cache.get("never", 5),
        [cache.exists(key) for key in (FEATURES_URL, "etag", "never")],
    ]
    cache.destroy()
    results["destroyed"] = [cache.get("etag"), cache.get(FEATURES_URL) is document]
    client.destroy()
    other = Rig(provider="split")
    other.renew({"a": feature})
    results["other"] = _error(SnapshotClient(other.client, "shop").refresh)
    results["threads"] = [thread.name for thread in threading.enumerate()]
    return results


def _error(call: Any) -> str:
    try:
        call()
    except FlagstoreError as error:
        return f"{type(error).__name__}: {error}"
    return ""


logging.disable()
print(json.dumps({"launchdarkly": launchdarkly, "unleash": unleash}[TASK["scene"]]()))
