"""What pages have from the template is what it says; test_figures.py holds the pages to it."""

from __future__ import annotations

import re

from simulators.template import read_template
from tests.docs.pages import read
from tools import doc_tables

TEMPLATE = read_template()


def test_what_is_said_beside_the_template_is_about_what_is_in_it() -> None:
    """Costs are of parameters; and each statement that is explained is there."""
    assert set(doc_tables.COST) <= set(TEMPLATE["Parameters"])
    sids = set(re.findall(r"'Sid': '(\w+)'", str(TEMPLATE)))
    assert set(doc_tables.WHY) == sids


def test_every_role_and_policy_of_the_template_has_its_table() -> None:
    """A right that is added is on the page at once."""
    with_rights = {
        name
        for name, resource in TEMPLATE["Resources"].items()
        if {"PolicyDocument", "Policies"} & set(resource["Properties"])
    }
    page = "".join(doc_tables.of_rights().values())
    for name in with_rights:
        sids = re.findall(r"'Sid': '(\w+)'", str(TEMPLATE["Resources"][name]["Properties"]))
        assert [sid for sid in sids if f"| `{sid}`: " not in page] == [], name


def test_what_no_parameter_changes_is_what_the_template_says() -> None:
    """The page's last table has figures of the template."""
    text = read("docs/parameters.md").partition("## What no parameter changes")[2]
    webhook = TEMPLATE["Resources"]["WebhookFunction"]["Properties"]
    assert f"WebhookFunction's {webhook['MemorySize']} MB and {webhook['Timeout']} s" in text
    rings = TEMPLATE["Resources"]["SyncFunction"]["Properties"]["Events"]["Rings"]["Properties"]
    assert rings["ScalingConfig"] == {"MaximumConcurrency": 5}
    assert "| five runs of SyncFunction at a time for the queue |" in text
    redrive = TEMPLATE["Resources"]["Queue"]["Properties"]["RedrivePolicy"]
    assert redrive["maxReceiveCount"] == 9
    assert "| nine tries of a ring, over 36 minutes |" in text
    table = TEMPLATE["Resources"]["Table"]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"]
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
