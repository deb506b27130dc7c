"""Reads an item with all flags, compressed, through boto3; evaluates nothing."""

import phases  # isort: skip - begins to count

import json
import os
import zlib

import boto3

client = boto3.client("dynamodb")
key = {"namespace": {"S": "bench"}, "key": {"S": "all"}}


def handle() -> None:
    """Read the item."""
    item = client.get_item(TableName=os.environ["FLAGSTORE_TABLE"], Key=key)["Item"]
    json.loads(zlib.decompress(item["body"]["B"]))


phases.serve(handle)
