"""What is promised, and which tests hold it: the table of docs/guarantees.md, without its figures.

The numbers are those of the plan that the tests were written from; a promise that is kept in
another issue's tests names them as well. Tests are named by file, and by function where not all
of a file's belong to it.
"""

from __future__ import annotations

from typing import NamedTuple


class Promise(NamedTuple):
    """One row."""

    number: str
    text: str
    tests: tuple[str, ...]
    """``tests/…/test_x.py`` or ``tests/…/test_x.py::test_y``."""


def within(file: str, test: str) -> str:
    """Name a test by its file and its function."""
    return f"{file}::{test}"


PROMISES = (
    Promise(
        "T1",
        "After a storm of webhooks, 10 % of them lost, the store shows the provider's final state; "
        "few fetches, nothing forged accepted",
        (
            "tests/torture/test_storm.py::test_a_storm_ends_at_the_providers_state",
            within(
                "tests/torture/test_storm.py",
                "test_a_change_whose_webhook_is_lost_comes_with_the_tick",
            ),
            "tests/faults/test_burst.py",
            "tests/faults/test_cold_burst.py",
        ),
    ),
    Promise(
        "T2",
        "A change that lands during a fetch is not lost, in any interleaving of three syncs",
        (
            within(
                "tests/faults/test_interleavings.py",
                "test_every_interleaving_of_three_syncs_ends_at_the_providers_state",
            ),
            "tests/faults/test_interleavings.py::test_a_pin_holds_against_every_interleaving",
            "tests/faults/test_interleavings.py::test_chunks_of_the_current_body_never_expire",
        ),
    ),
    Promise(
        "T3",
        "Why the queue is a standard one: FIFO deduplication loses the last sync request",
        (
            within(
                "tests/torture/test_storm.py",
                "test_deduplication_by_a_fifo_queue_would_lose_the_last_request",
            ),
        ),
    ),
    Promise(
        "T4",
        "Killed before or after any call, readers see the old set or the new one, and the next "
        "sync heals",
        (
            "tests/faults/test_kill_points.py",
            "tests/torture/test_kills.py",
            within(
                "tests/unit/test_pipeline.py",
                "test_killed_at_any_step_readers_see_the_old_set_or_the_new",
            ),
        ),
    ),
    Promise(
        "T5",
        "Of syncs that overlap, no older set wins: by a scheduler, and in threads on both stores",
        (
            "tests/faults/test_races.py",
            "tests/torture/test_writes.py::test_races_of_threads_end_at_the_providers_state",
        ),
    ),
    Promise(
        "T6",
        "Readers during publications see whole sets, never an older one after a newer one",
        ("tests/torture/test_readers.py::test_readers_during_publications",),
    ),
    Promise(
        "T7",
        "Unprocessed items, throttling, conflicts and broken connections lose nothing",
        (
            "tests/torture/test_writes.py::test_throttled_writes_lose_nothing",
            "tests/faults/test_partial_writes.py",
            "tests/faults/test_redis_faults.py",
        ),
    ),
    Promise(
        "T8",
        "When the function's time runs out at any stage, nothing half is published, and nobody "
        "sleeps past the end",
        (
            within(
                "tests/torture/test_writes.py",
                "test_time_that_runs_out_at_any_stage_changes_nothing_half",
            ),
            "tests/torture/test_writes.py::test_a_deadline_that_is_over_begins_nothing",
        ),
    ),
    Promise(
        "T9",
        "Every fault of a provider is told apart, in time, in one request, to no other host",
        (
            "tests/contract/test_providers.py",
            "tests/unit/test_http.py",
        ),
    ),
    Promise(
        "T10",
        "A set that loses more than max(10, 30 %) is refused until a person allows that very set",
        (
            "tests/torture/test_writes.py::test_a_shrinking_set_waits_for_a_person",
            "tests/torture/test_writes.py::test_a_refusal_is_noted_where_everybody_looks",
            "tests/torture/test_responses.py::test_what_a_provider_may_lose",
            "tests/unit/test_guard.py",
        ),
    ),
    Promise(
        "T11",
        "No forged webhook is accepted, and nothing that a stranger sends is an error of ours",
        (
            "tests/fuzz/test_webhooks.py::test_nothing_forged_is_accepted",
            "tests/unit/test_signature.py::test_nothing_forged_passes_and_nothing_raises",
        ),
    ),
    Promise(
        "T12",
        "While a secret is rotated, the current and the previous one are good, and no other",
        (
            "tests/fuzz/test_webhooks.py::test_a_secret_is_good_exactly_while_it_is_active",
            "tests/functions/test_webhook.py::test_ssm_down_leaves_what_was_read",
            "tests/functions/test_webhook.py::test_ssm_down_at_the_start_costs_few_calls",
        ),
    ),
    Promise(
        "T13",
        "Secrets are compared in constant time, in one place",
        (
            "tests/unit/test_signature.py::test_no_secret_is_compared_elsewhere",
            within(
                "tests/torture/test_timing.py",
                "test_the_time_of_a_comparison_tells_nothing_about_what_was_right",
            ),
        ),
    ),
    Promise(
        "T14",
        "A damaged response of a provider is refused, or whole: read back and evaluated",
        ("tests/torture/test_responses.py::test_damaged_responses",),
    ),
    Promise(
        "T15",
        "Any JSON is read as it was written, from one item or in chunks",
        (
            "tests/torture/test_values.py::test_any_json_comes_back",
            "tests/unit/test_body.py::test_any_json_comes_back_byte_for_byte",
        ),
    ),
    Promise(
        "T16",
        "An hour without the store raises nothing into the application, and is said",
        ("tests/faults/test_reader_outage.py",),
    ),
    Promise(
        "T17",
        "Five hundred threads, cold or expired, make one load or one question",
        ("tests/torture/test_readers.py::test_a_herd_of_cold_and_expired_readers",),
    ),
    Promise(
        "T18",
        "Old and new layouts beside each other: read, or a clear error with the last known good",
        (
            "tests/torture/test_values.py::test_what_a_newer_writer_adds_disturbs_nobody",
            "tests/torture/test_values.py::test_a_layout_that_goes_leaves_the_last_known_good",
            "tests/torture/test_values.py::test_a_newer_reader_beside_an_older_writer",
            "tests/torture/test_values.py::test_a_source_has_one_snapshot_for_each_layout",
        ),
    ),
    Promise(
        "T19",
        "No secret in a log line, a metric, a message or a response",
        (
            "tests/functions/test_canaries.py",
            "tests/fuzz/test_webhooks.py::test_no_secret_in_a_hundred_thousand_lines",
        ),
    ),
    Promise(
        "T20",
        "Every AWS call is in the template's policies, and every right there is used",
        ("tests/functions/test_least_privilege.py",),
    ),
    Promise(
        "T21",
        "Function, layer and wheel hold the same flagstore; a package with another hash stops "
        "the build",
        ("tests/build/test_artefacts.py", "tests/build/test_strays.py", "tests/build/test_sbom.py"),
    ),
    Promise(
        "T23",
        "A first flag imports no more than it needs and calls the store once or twice; times are "
        "in benchmarks.md, P1",
        ("tests/contract/test_cold_path.py",),
    ),
    Promise(
        "T24",
        "What a sync, a first read and a refresh cost in requests, up to 5 MB of flags; times, "
        "units and bytes for 10 to 10,000 are in benchmarks.md, P4 and P5",
        ("tests/contract/test_costs.py",),
    ),
    Promise(
        "T25",
        "A failed sync request comes again; after the ninth failure it is in the dead-letter queue",
        ("tests/functions/test_redelivery.py",),
    ),
    Promise(
        "T26",
        "A rollback among syncs that overlap keeps what it pinned until it is unpinned",
        (
            "tests/torture/test_rollback.py",
            "tests/faults/test_people.py",
            within(
                "tests/faults/test_interleavings.py",
                "test_a_rollback_holds_against_every_interleaving",
            ),
            within(
                "tests/faults/test_interleavings.py",
                "test_after_a_pin_every_interleaving_ends_at_the_providers_state",
            ),
        ),
    ),
    Promise(
        "T27",
        "Clocks that are ten minutes off and jump order nothing",
        ("tests/torture/test_clocks.py",),
    ),
    Promise(
        "T28",
        "The same faults for the providers' own stores: the table below",
        (
            "tests/torture/test_side_by_side.py",
            "tests/torture/test_start_without_provider.py",
        ),
    ),
    Promise(
        "T29",
        "A response that is damaged inside replaces no flags that could be evaluated; a new "
        "operator is not damage",
        (
            "tests/contract/test_judged_sets.py::test_flags_that_are_damaged_replace_none",
            "tests/contract/test_judged_sets.py::test_a_person_may_allow_a_damaged_set",
            "tests/contract/test_judged_sets.py::test_what_no_engine_here_knows_is_no_damage",
            "tests/contract/test_judged_sets.py::test_no_recorded_set_is_refused",
        ),
    ),
    Promise(
        "T30",
        "Segments and flags that others refer to do not vanish within minutes, nor all at once "
        "without a person",
        (
            within(
                "tests/contract/test_judged_sets.py",
                "test_segments_that_flags_need_do_not_vanish_at_once",
            ),
            within(
                "tests/contract/test_judged_sets.py",
                "test_a_parent_that_a_feature_needs_does_not_vanish_at_once",
            ),
            within(
                "tests/contract/test_judged_sets.py",
                "test_more_segments_than_the_guard_lets_go_need_a_person",
            ),
        ),
    ),
    Promise(
        "T31",
        "A changed large segment that cannot be read takes nothing from a warm reader: the earlier "
        "one serves until it is read, and info() shows the trouble",
        (
            within(
                "tests/torture/test_history.py",
                "test_the_earlier_segment_serves_until_the_new_one_is_read",
            ),
        ),
    ),
    Promise(
        "T32",
        "Readers follow a store that has lost its history, also where a number comes twice, and "
        "follow no replica that lags",
        (
            within(
                "tests/torture/test_history.py",
                "test_readers_follow_a_store_that_lost_its_history",
            ),
            within(
                "tests/torture/test_history.py",
                "test_a_token_that_is_issued_twice_is_another_publication",
            ),
            within(
                "tests/faults/test_interleavings.py",
                "test_a_reader_of_a_forgetful_store_ends_at_the_published_set",
            ),
        ),
    ),
    Promise(
        "T33",
        "A stale cache of the provider does not undo a kill switch",
        ("tests/contract/test_judged_sets.py::test_a_stale_cache_does_not_undo_a_kill_switch",),
    ),
    Promise(
        "T34",
        "A credential is used only with the provider and the address that it was stored with, "
        "wherever adding, changing or removing a source is interrupted",
        ("tests/cli/test_interrupted.py",),
    ),
    Promise(
        "T35",
        "A small response that takes much memory fails its own source: 20 MiB of JSON in 100 KB, "
        "from three providers at once, in 512 MB",
        ("tests/faults/test_heavy_responses.py",),
    ),
)
