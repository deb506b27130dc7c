"use strict";

/** Flag sets of AppConfig in memory, as a client of the reader returns them. */

/**
 * Return a snapshot.
 *
 * @param {object} meta
 * @param {Record<string, Map<string, string>>} sections section → key → JSON
 */
function snapshotOf(meta, sections, provider = "appconfig") {
  const texts = new Map(Object.entries(sections));
  return {
    meta,
    provider,
    progress: "",
    twoVersions: texts.get("deployments")?.size > 0,
    keys: (section) => [...(texts.get(section)?.keys() ?? [])],
    text: (section, key) => texts.get(section)?.get(key),
    item: (section, key) => JSON.parse(texts.get(section).get(key)),
    changed: (items) => snapshotOf(meta, changed(sections, items), provider),
  };
}

function changed(sections, items) {
  const result = { ...sections };
  for (const [name, texts] of Object.entries(items)) {
    const merged = new Map([...(sections[name] ?? []), ...Object.entries(texts)]);
    result[name] = new Map([...merged].filter(([, text]) => text !== undefined));
  }
  return result;
}

/** Return the `flags` of a snapshot; each is JSON or a value. */
function flagsOf(flags) {
  const entries = Object.entries(flags).map(([key, flag]) => [
    key,
    typeof flag === "string" ? flag : JSON.stringify(flag),
  ]);
  return new Map(entries);
}

module.exports = { flagsOf, snapshotOf };
