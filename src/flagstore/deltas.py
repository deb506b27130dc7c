"""The last changes of a flag set, as the source state carries them, for readers. No I/O.

A reader that holds one of these versions applies what came after it, with no further read; the
others load the snapshot. Deflated JSON, the oldest change first, after the publication before it::

    [[token, nonce], [token, nonce, digest, published_at, revision,
                      {section: {key: changed or added item}}, {section: [removed key]}], …]

:func:`flagstore.encode.extend_deltas` writes them. The content digest after each change proves that
the set is the one that was published.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flagstore.codec import dumps
from flagstore.encode import DAMAGED_DELTAS, content_digest, read_deltas

if TYPE_CHECKING:
    from flagstore.keys import SourceState
    from flagstore.snapshot import Snapshot

    Texts = dict[str, dict[str, str | None]]
    """Section → key → item as JSON, None if there is none."""


def apply(snapshot: Snapshot, state: SourceState) -> Snapshot | None:
    """Return the published set if the deltas lead to it from this one, otherwise None."""
    try:
        return _apply(snapshot, state)
    except DAMAGED_DELTAS:
        return None


def _apply(snapshot: Snapshot, state: SourceState) -> Snapshot | None:
    links = read_deltas(state.deltas)
    record, places = snapshot.snapshot_record, [tuple(link[:2]) for link in links]
    if record.publication not in places or places[-1] != state.publication:
        return None
    found: Texts = {}
    for link in links[places.index(record.publication) + 1 :]:
        items, removed = link[5:]
        for section in items:
            texts = {key: dumps(item) for key, item in items[section].items()}
            found.setdefault(section, {}).update(texts)
        for section in removed:
            found.setdefault(section, {}).update(dict.fromkeys(removed[section]))
    before = {
        section: {key: snapshot.held(section, key) for key in texts}
        for section, texts in found.items()
    }
    digest = content_digest(_items(found), digest=record.digest, replaced=_items(before))
    token, nonce, expected, published_at, revision = links[-1][:5]
    if not digest == expected == state.digest:
        return None
    later = record._replace(
        token=token, nonce=nonce, digest=digest, published_at=published_at, revision=revision
    )
    return snapshot.changed(found, later)


def _items(sections: Texts) -> dict[str, dict[str, Any]]:
    return {
        section: {key: json.loads(text) for key, text in texts.items() if text is not None}
        for section, texts in sections.items()
    }
